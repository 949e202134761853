//! Fields that do not pass as they came: taken out, or changed, by rules of the configuration.

use regex::bytes::{Captures, Regex};

use crate::field::Name;

/// What is done to the fields of a message. Nearly every field is told apart from those that are
/// edited by one look at its length and first letter.
#[derive(Debug, Default)]
pub struct FieldEdits {
    /// A bit for each length and first letter that a rule is about.
    filter: u64,
    rules: Vec<Rule>,
    cookies: Vec<CookieEdit>,
}

#[derive(Debug)]
struct Rule {
    name: Box<[u8]>,
    is_dropped: bool,
    replacements: Vec<Replacement>,
}

/// What an expression finds first is replaced.
#[derive(Clone, Debug)]
pub struct Replacement {
    /// What is looked for.
    pub pattern: Regex,
    /// What takes its place, with `$1` for the first group.
    pub with: Box<[u8]>,
}

impl Replacement {
    /// Appends `text` with what the expression finds replaced; false, and nothing appended, when it
    /// finds nothing.
    pub fn write(&self, text: &[u8], out: &mut Vec<u8>) -> bool {
        // Looking first spares what does not match the memory that groups take.
        if !self.pattern.is_match(text) {
            return false;
        }
        let Some(found) = self.pattern.captures(text) else {
            return false;
        };
        let whole = found.get_match().range();
        out.extend_from_slice(text.get(..whole.start).unwrap_or_default());
        self.expand(&found, out);
        out.extend_from_slice(text.get(whole.end..).unwrap_or_default());
        true
    }

    fn expand(&self, found: &Captures<'_>, out: &mut Vec<u8>) {
        found.expand(&self.with, out);
    }
}

/// How attributes of a cookie are changed; what is not said stays.
#[derive(Clone, Debug, Default)]
pub struct CookieEdit {
    /// The name; nothing is every cookie.
    pub name: Option<Box<[u8]>>,
    /// Attributes that are taken out, in lower case.
    pub dropped: Vec<&'static [u8]>,
    /// What is written behind the others: `; Secure` and the like.
    pub added: Box<[u8]>,
}

impl FieldEdits {
    /// Takes every line called `name` out, and forgets what was to be replaced in them.
    pub fn remove(&mut self, name: &[u8]) {
        let rule = self.rule(name);
        rule.is_dropped = true;
        rule.replacements.clear();
    }

    /// Replaces in every line called `name`, after what is replaced there already.
    pub fn replace(&mut self, name: &[u8], replacement: Replacement) {
        let rule = self.rule(name);
        if !rule.is_dropped {
            rule.replacements.push(replacement);
        }
    }

    /// Changes attributes of cookies, after what is changed already.
    pub fn change_cookie(&mut self, edit: CookieEdit) {
        self.filter |= bit(b"set-cookie");
        self.cookies.push(edit);
    }

    fn rule(&mut self, name: &[u8]) -> &mut Rule {
        self.filter |= bit(name);
        let known = self
            .rules
            .iter()
            .position(|rule| rule.name.eq_ignore_ascii_case(name));
        let at = known.unwrap_or(self.rules.len());
        if known.is_none() {
            self.rules.push(Rule {
                name: name.into(),
                is_dropped: false,
                replacements: Vec::new(),
            });
        }
        // invariant: the place was found, or has just been filled
        #[expect(clippy::indexing_slicing, reason = "see the invariant")]
        &mut self.rules[at]
    }

    /// Tells whether every field passes as it came.
    pub fn is_empty(&self) -> bool {
        self.filter == 0
    }

    /// Tells whether lines called `name` are taken out.
    pub fn drops(&self, name: &[u8]) -> bool {
        self.find(name).is_some_and(|rule| rule.is_dropped)
    }

    /// Appends a line if rules say what becomes of it; false when it passes as it came.
    pub fn write(&self, name: &[u8], value: &[u8], out: &mut Vec<u8>) -> bool {
        if self.filter & bit(name) == 0 {
            return false;
        }
        if !self.cookies.is_empty() && Name::from_bytes(name) == Name::SetCookie {
            return self.write_cookie(name, value, out);
        }
        let Some(rule) = self.find(name) else {
            return false;
        };
        if !rule.is_dropped {
            begin(name, out);
            let start = out.len();
            out.extend_from_slice(value);
            rule.replace(start, out);
            out.extend_from_slice(b"\r\n");
        }
        true
    }

    /// Changes the lines that stand in `out` from `start` on, which are Plimsoll's own.
    pub fn change_lines(&self, start: usize, out: &mut Vec<u8>) {
        let mut at = start;
        while let Some(line) = out.get(at..).filter(|rest| !rest.is_empty()) {
            let length = memchr::memchr(b'\n', line).map_or(line.len(), |end| end + 1);
            let name = memchr::memchr(b':', line).and_then(|end| line.get(..end));
            match name.and_then(|name| self.find(name)) {
                Some(rule) if rule.is_dropped => drop(out.drain(at..at + length)),
                Some(rule) if !rule.replacements.is_empty() => {
                    let rest = out.split_off(at + length);
                    out.truncate(out.len().saturating_sub(2));
                    rule.replace(at + rule.name.len() + 2, out);
                    out.extend_from_slice(b"\r\n");
                    at = out.len();
                    out.extend_from_slice(&rest);
                }
                _ => at += length,
            }
        }
    }

    fn find(&self, name: &[u8]) -> Option<&Rule> {
        if self.filter & bit(name) == 0 {
            return None;
        }
        let mut rules = self.rules.iter();
        rules.find(|rule| rule.name.eq_ignore_ascii_case(name))
    }

    fn write_cookie(&self, name: &[u8], value: &[u8], out: &mut Vec<u8>) -> bool {
        let rule = self.find(name);
        if rule.is_some_and(|rule| rule.is_dropped) {
            return true;
        }
        begin(name, out);
        let start = out.len();
        out.extend_from_slice(value);
        if let Some(rule) = rule {
            rule.replace(start, out);
        }
        for edit in &self.cookies {
            edit.change(start, out);
        }
        out.extend_from_slice(b"\r\n");
        true
    }
}

impl Rule {
    /// Replaces in what stands in `out` from `start` on.
    fn replace(&self, start: usize, out: &mut Vec<u8>) {
        for replacement in &self.replacements {
            let value = out.split_off(start);
            if !replacement.write(&value, out) {
                out.extend_from_slice(&value);
            }
        }
    }
}

impl CookieEdit {
    /// Changes the cookie that stands in `out` from `start` on.
    fn change(&self, start: usize, out: &mut Vec<u8>) {
        let cookie = out.split_off(start);
        let name = cookie.split(|b| *b == b'=').next().unwrap_or_default();
        let is_mine = self
            .name
            .as_ref()
            .is_none_or(|mine| **mine == *name.trim_ascii());
        if !is_mine {
            return out.extend_from_slice(&cookie);
        }
        let mut parts = cookie.split(|b| *b == b';');
        out.extend_from_slice(parts.next().unwrap_or_default().trim_ascii());
        for part in parts.map(<[u8]>::trim_ascii) {
            let attribute = part.split(|b| *b == b'=').next().unwrap_or_default();
            let attribute = attribute.trim_ascii();
            let is_dropped = self
                .dropped
                .iter()
                .any(|dropped| dropped.eq_ignore_ascii_case(attribute));
            if !is_dropped && !part.is_empty() {
                out.extend_from_slice(b"; ");
                out.extend_from_slice(part);
            }
        }
        out.extend_from_slice(&self.added);
    }
}

fn begin(name: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
}

/// The bit of a name: its length and first letter mixed.
fn bit(name: &[u8]) -> u64 {
    let first = name.first().map_or(0, |first| first | 0x20);
    1 << ((name.len() + 7 * usize::from(first)) & 63)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(edits: &FieldEdits, name: &str, value: &str) -> Option<String> {
        let mut out = Vec::new();
        let is_edited = edits.write(name.as_bytes(), value.as_bytes(), &mut out);
        is_edited.then(|| String::from_utf8(out).unwrap())
    }

    fn replacement(pattern: &str, with: &str) -> Replacement {
        Replacement {
            pattern: Regex::new(pattern).unwrap(),
            with: with.as_bytes().into(),
        }
    }

    #[test]
    fn fields_are_taken_out_and_changed_in_any_case() {
        let mut edits = FieldEdits::default();
        assert!(edits.is_empty());
        edits.remove(b"X-Powered-By");
        edits.replace(b"accept", replacement("text/([a-z]+)", "app/$1"));
        edits.replace(b"Accept", replacement("plain$", "PLAIN"));
        edits.replace(b"X-Gone", replacement("a", "b"));
        edits.remove(b"x-gone");
        let line = |name, value| written(&edits, name, value);
        assert_eq!(line("x-powered-by", "PHP"), Some(String::new()));
        assert_eq!(line("X-GONE", "a"), Some(String::new()));
        assert_eq!(
            line("Accept", "a, text/html, text/plain").unwrap(),
            "Accept: a, app/html, text/PLAIN\r\n"
        );
        assert_eq!(line("Accept", "*/*").unwrap(), "Accept: */*\r\n");
        assert_eq!(line("X-Powered-Bx", "PHP"), None);
        assert_eq!(line("Host", "a"), None);
        assert!(edits.drops(b"X-powered-by") && !edits.drops(b"Accept") && !edits.drops(b"Via"));
    }

    #[test]
    fn lines_of_our_own_are_changed_in_place() {
        let mut edits = FieldEdits::default();
        edits.remove(b"via");
        edits.replace(b"x-forwarded-proto", replacement("^http$", "https"));
        let mut out =
            b"Via: kept\r\nVia: 1.1 plimsoll\r\nX-Forwarded-Proto: http\r\nForwarded: a:b\r\n"
                .to_vec();
        edits.change_lines(11, &mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "Via: kept\r\nX-Forwarded-Proto: https\r\nForwarded: a:b\r\n"
        );
    }

    #[test]
    fn attributes_of_cookies_are_changed_and_others_kept() {
        let mut edits = FieldEdits::default();
        edits.change_cookie(CookieEdit {
            name: None,
            dropped: vec![b"secure", b"samesite", b"domain"],
            added: b"; Secure; SameSite=Lax"[..].into(),
        });
        edits.change_cookie(CookieEdit {
            name: Some(b"sid"[..].into()),
            dropped: vec![b"path"],
            added: b"; Path=/app"[..].into(),
        });
        let line = |value| written(&edits, "Set-Cookie", value).unwrap();
        assert_eq!(
            line("a=1; Path=/; SAMESITE = None ;Domain=x;secure"),
            "Set-Cookie: a=1; Path=/; Secure; SameSite=Lax\r\n"
        );
        assert_eq!(
            line("sid=x=y;; Path=/; Max-Age=5"),
            "Set-Cookie: sid=x=y; Max-Age=5; Secure; SameSite=Lax; Path=/app\r\n"
        );
        assert_eq!(line(""), "Set-Cookie: ; Secure; SameSite=Lax\r\n");
    }
}
