//! What rules do to the fields of messages, folded: whatever was written about one name, and in how
//! many statements, is one decision for each line.

use plimsoll_config::model::{self, Change, HeaderEdit};
use plimsoll_http::edit::{CookieEdit, FieldEdits, Replacement};

use crate::seen::Values;
use crate::template::Template;

/// What is done to the fields of requests, or of answers.
#[derive(Debug, Default)]
pub(crate) struct Edits {
    fields: FieldEdits,
    added: Vec<Added>,
    /// What `Host` says.
    host: Option<Template>,
}

/// A line that is added.
#[derive(Debug)]
struct Added {
    name: Box<str>,
    /// Whether it is for clients alone that came over https.
    is_secure: bool,
    value: Template,
    replacements: Vec<Replacement>,
}

impl Edits {
    /// Adds what a statement says to what those before it said.
    pub(crate) fn push(&mut self, edit: &HeaderEdit) {
        let name = edit.name.as_bytes();
        match &edit.change {
            Change::Set(value) if name.eq_ignore_ascii_case(b"host") => {
                self.host = Some(Template::new(value));
            }
            Change::Set(value) => {
                self.remove(&edit.name);
                self.add(&edit.name, value);
            }
            Change::Add(value) => self.add(&edit.name, value),
            Change::Remove => self.remove(&edit.name),
            Change::Replace(rewrite) => {
                let Some(replacement) = replacement(rewrite) else {
                    return;
                };
                self.fields.replace(name, replacement.clone());
                for added in self.added_as(&edit.name) {
                    added.replacements.push(replacement.clone());
                }
            }
        }
    }

    /// Adds how cookies are changed.
    pub(crate) fn push_cookie(&mut self, edit: &model::CookieEdit) {
        self.fields.change_cookie(cookie(edit));
    }

    fn add(&mut self, name: &str, value: &model::Template) {
        self.added.push(Added {
            name: name.into(),
            is_secure: false,
            value: Template::new(value),
            replacements: Vec::new(),
        });
    }

    /// Has browsers be careful.
    pub(crate) fn secure(&mut self, strict: bool) {
        let usual = [
            ("X-Content-Type-Options", "nosniff"),
            ("X-Frame-Options", "SAMEORIGIN"),
            ("Referrer-Policy", "strict-origin-when-cross-origin"),
            ("Strict-Transport-Security", "max-age=31536000"),
        ];
        let strictly = [
            ("X-Frame-Options", "DENY"),
            ("Referrer-Policy", "no-referrer"),
            ("Cross-Origin-Opener-Policy", "same-origin"),
            ("Cross-Origin-Resource-Policy", "same-origin"),
            (
                "Strict-Transport-Security",
                "max-age=31536000; includeSubDomains",
            ),
        ];
        let more = strictly.iter().filter(|_| strict);
        for (name, value) in usual.iter().chain(more) {
            self.remove(name);
            self.add(name, &model::Template::from(*value));
            if let Some(added) = self.added.last_mut() {
                added.is_secure = name.starts_with("Strict");
            }
        }
    }

    /// Takes every line of this name out.
    pub(crate) fn remove(&mut self, name: &str) {
        self.fields.remove(name.as_bytes());
        self.added
            .retain(|added| !added.name.eq_ignore_ascii_case(name));
    }

    fn added_as(&mut self, name: &str) -> impl Iterator<Item = &mut Added> {
        self.added
            .iter_mut()
            .filter(move |added| added.name.eq_ignore_ascii_case(name))
    }

    /// What is done to lines that are there; nothing when they all pass as they came.
    pub(crate) fn fields(&self) -> Option<&FieldEdits> {
        (!self.fields.is_empty()).then_some(&self.fields)
    }

    /// Appends what `Host` is to say; nothing where it says what the client asked for.
    pub(crate) fn write_host(&self, values: &Values<'_>, out: &mut Vec<u8>) {
        if let Some(host) = &self.host {
            let start = out.len();
            host.write(values, out);
            make_one_line(out.get_mut(start..).unwrap_or_default());
        }
    }

    /// Appends the lines that are added. A value that comes out empty leaves its line out.
    pub(crate) fn write(&self, values: &Values<'_>, out: &mut Vec<u8>) {
        let is_secure = values.seen.origin.scheme == "https";
        let due = |added: &&Added| is_secure || !added.is_secure;
        for added in self.added.iter().filter(due) {
            let line = out.len();
            out.extend_from_slice(added.name.as_bytes());
            out.extend_from_slice(b": ");
            let start = out.len();
            added.value.write(values, out);
            for replacement in &added.replacements {
                let value = out.split_off(start);
                if !replacement.write(&value, out) {
                    out.extend_from_slice(&value);
                }
            }
            match out.get_mut(start..) {
                Some([]) | None => out.truncate(line),
                Some(value) => {
                    make_one_line(value);
                    out.extend_from_slice(b"\r\n");
                }
            }
        }
    }
}

/// Nothing that fills a variable ends a line: heads and names hold no control characters. What does
/// all the same ends no line here.
fn make_one_line(value: &mut [u8]) {
    for b in value {
        if (*b < b' ' && *b != b'\t') || *b == 0x7f {
            *b = b' ';
        }
    }
}

/// An expression and what takes the place of what it finds. The model holds none that does not
/// compile.
pub(crate) fn replacement(rewrite: &model::Rewrite) -> Option<Replacement> {
    let pattern = model::expression(&rewrite.pattern).ok()?;
    Some(Replacement {
        pattern,
        with: rewrite.with.as_bytes().into(),
    })
}

fn cookie(edit: &model::CookieEdit) -> CookieEdit {
    let mut dropped: Vec<&'static [u8]> = Vec::new();
    let mut added = String::new();
    let mut flag = |is: Option<bool>, name: &'static str, text: &str| {
        let Some(is) = is else { return };
        dropped.push(name.as_bytes());
        if is {
            added.push_str(text);
        }
    };
    flag(edit.secure, "secure", "; Secure");
    flag(edit.http_only, "httponly", "; HttpOnly");
    let mut value = |value: &Option<Box<str>>, name: &'static str, text: &str| {
        let said = value.as_deref();
        let text = format!("; {text}={}", said.unwrap_or_default());
        flag(said.map(|said| !said.is_empty()), name, &text);
    };
    let same_site = edit.same_site.as_deref().map(|value| match value {
        "strict" => "Strict".into(),
        "none" => "None".into(),
        _ => "Lax".into(),
    });
    value(&same_site, "samesite", "SameSite");
    value(&edit.domain, "domain", "Domain");
    value(&edit.path, "path", "Path");
    CookieEdit {
        name: (&*edit.name != "*").then(|| edit.name.as_bytes().into()),
        dropped,
        added: added.into_bytes().into(),
    }
}
