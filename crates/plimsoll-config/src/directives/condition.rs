//! Conditions of a route: what a request must have beside its path.

use crate::arguments::Value;
use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::model::{Asked, Condition, Part, Test};
use crate::read::Reader;
use crate::suggest::nearest;
use crate::syntax::Word;
use ipnet::IpNet;

const KINDS: [&str; 6] = ["path", "header", "query", "cookie", "client", "port"];

/// Words of the language that this version does not have.
const LATER: [&str; 4] = ["body", "host", "scheme", "time"];

/// Reads `header:NAME=VALUE`, `not:client=10.0.0.0/8` and the like.
pub(crate) fn condition(reader: &mut Reader<'_>, word: &Word) -> Option<Condition> {
    let (negated, text) = match word.text.strip_prefix("not:") {
        Some(rest) => (true, rest),
        None => (false, word.text.as_str()),
    };
    let end = text.find([':', '=', '~']).unwrap_or(text.len());
    let (kind, rest) = text.split_at_checked(end)?;
    let value = Value {
        text: rest.get(1..).unwrap_or_default(),
        span: word.span,
    };
    let asked = match (kind, rest.chars().next()) {
        ("path", Some('~')) => Asked::Path(reader.expression(value)?),
        ("header", Some(':')) => of_part(reader, value, Part::Header)?,
        ("query", Some(':')) => of_part(reader, value, Part::Query)?,
        ("cookie", Some(':')) => of_part(reader, value, Part::Cookie)?,
        ("client", Some('=')) => Asked::Client(list(value, |net| network(reader, net))?),
        ("port", Some('=')) => Asked::Port(list(value, |port| reader.number(port, 1, 65_535))?),
        _ => return unknown(reader, word, kind),
    };
    Some(Condition {
        text: word.text.as_str().into(),
        negated,
        asked,
    })
}

fn of_part(
    reader: &mut Reader<'_>,
    value: Value<'_>,
    part: impl FnOnce(Box<str>) -> Part,
) -> Option<Asked> {
    let end = value.text.find(['=', '~']).unwrap_or(value.text.len());
    let (name, rest) = value.text.split_at_checked(end)?;
    if name.is_empty() {
        let problem = Diagnostic::new(&codes::VALUE, value.span, "the condition names nothing");
        reader.problem(problem.help("write it like `header:x-canary=yes`"));
        return None;
    }
    let text = rest.get(1..).unwrap_or_default();
    let test = match rest.chars().next() {
        None => Test::Present,
        Some('~') => Test::Matches(reader.expression(Value { text, ..value })?),
        Some(_) => Test::OneOf(text.split(',').map(Into::into).collect()),
    };
    Some(Asked::Part(part(name.into()), test))
}

/// Every value between commas; nothing when one of them is none.
fn list<T>(value: Value<'_>, mut read: impl FnMut(Value<'_>) -> Option<T>) -> Option<Vec<T>> {
    let parts = value.text.split(',');
    let parts: Vec<_> = parts.map(|text| read(Value { text, ..value })).collect();
    parts.into_iter().collect()
}

fn network(reader: &mut Reader<'_>, value: Value<'_>) -> Option<IpNet> {
    if let Ok(net) = value.text.parse::<IpNet>() {
        return Some(net.trunc());
    }
    if value.text.contains('/') {
        let message = format!("`{}` is not a network", value.text);
        let problem = Diagnostic::new(&codes::ADDRESS, value.span, message);
        reader.problem(problem.help("write it like `10.0.0.0/8` or `2001:db8::/32`"));
        return None;
    }
    reader.ip(value).map(IpNet::from)
}

fn unknown(reader: &mut Reader<'_>, word: &Word, kind: &str) -> Option<Condition> {
    let text = &word.text;
    if text.starts_with('/') {
        let message = format!("the path `{text}` stands behind a condition");
        let problem = Diagnostic::new(&codes::OPTION, word.span, message);
        reader.problem(problem.help("write the path first; a route has one path"));
        return None;
    }
    let problem = if LATER.contains(&kind) && text.contains([':', '=', '~']) {
        let message = format!("matching by `{kind}` is not in this version");
        Diagnostic::new(&codes::NOT_YET, word.span, message)
    } else {
        let message = format!("`{text}` is neither a path nor a condition");
        let problem = Diagnostic::new(&codes::OPTION, word.span, message);
        match nearest(kind, KINDS.into_iter().chain(["method"])) {
            Some(near) if text.contains([':', '=', '~']) => {
                problem.label(format!("did you mean `{near}`?"))
            }
            _ => problem,
        }
    };
    reader.problem(problem.help(
        "a path begins with a slash; conditions are method=, path~, header:NAME, query:NAME, cookie:NAME, client= and port=",
    ));
    None
}
