//! Steps and actions of routes as statements.

use super::{Words, limit, words};
use crate::model::{
    Action, Change, Config, CookieEdit, HeaderEdit, Piece, QueryEdit, Rewrite, Split, Step,
    Template,
};
use crate::text;

/// A step.
pub(crate) fn step(step: &Step) -> Words {
    match step {
        Step::Limit(of) => limit(of),
        Step::RequestHeader(edit) => header("request-header", edit),
        Step::ResponseHeader(edit) => header("response-header", edit),
        Step::Rewrite(Rewrite { pattern, with }) => words(["rewrite", pattern, with]),
        Step::StripPrefix(prefix) => words(["strip-prefix", prefix]),
        Step::Query(edit) => match edit {
            QueryEdit::Set(name, to) => words(["query", "set", name, &to.text]),
            QueryEdit::Add(name, to) => words(["query", "add", name, &to.text]),
            QueryEdit::Remove(name) => words(["query", "remove", name]),
        },
        Step::Cookie(edit) => cookie(edit),
    }
}

fn header(directive: &str, edit: &HeaderEdit) -> Words {
    match &edit.change {
        Change::Set(to) => words([directive, "set", &edit.name, &to.text]),
        Change::Add(to) => words([directive, "add", &edit.name, &to.text]),
        Change::Remove => words([directive, "remove", &edit.name]),
        Change::Replace(Rewrite { pattern, with }) => {
            words([directive, "replace", &edit.name, pattern, with])
        }
    }
}

fn cookie(edit: &CookieEdit) -> Words {
    let yes_no = |name: &str, is: Option<bool>| {
        is.map(|is| format!("{name}={}", if is { "yes" } else { "no" }))
    };
    let said = |name: &str, value: &Option<Box<str>>| {
        value.as_ref().map(|value| format!("{name}={value}"))
    };
    let mut out = words(["response-cookie", &edit.name]);
    out.extend(yes_no("secure", edit.secure));
    out.extend(yes_no("http-only", edit.http_only));
    out.extend(said("same-site", &edit.same_site));
    out.extend(edit.domain.as_deref().map(|domain| match domain {
        "" => "domain=none".to_owned(),
        domain => format!("domain={domain}"),
    }));
    out.extend(said("path", &edit.path));
    out
}

/// What a route does; nothing for what the forms write in a way of their own.
pub(crate) fn action(config: &Config, action: &Action) -> Vec<Words> {
    match action {
        Action::Proxy(_) | Action::Respond { .. } => Vec::new(),
        Action::Redirect { status, to } => {
            vec![words(["redirect", &to.text, &status.to_string()])]
        }
        Action::Split(split) => shares(config, split),
    }
}

fn shares(config: &Config, split: &Split) -> Vec<Words> {
    let share = |(share, pool): &(u32, usize)| {
        let name = config.pools.get(*pool).map_or("", |pool| &*pool.name);
        let mut out = words(["split", &share.to_string(), name]);
        let sticky = split.sticky.as_ref();
        out.extend(sticky.map(|key| format!("sticky={}", text::key(key))));
        out
    };
    split.shares.iter().map(share).collect()
}

/// Makes a template of a text without variables.
impl From<&str> for Template {
    fn from(text: &str) -> Self {
        let pieces = match text {
            "" => Vec::new(),
            _ => vec![Piece::Text(text.into())],
        };
        Self {
            text: text.replace("${", "$${").into(),
            pieces,
        }
    }
}
