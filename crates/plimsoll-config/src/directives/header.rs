//! Changing fields: `request-header`, `response-header`, `response-cookie`.

use crate::arguments::Value;
use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::directive::{Context, Directive};
use crate::draft::Scope;
use crate::model::{self, Change, CookieEdit, HeaderEdit, Rewrite, Stage, Step};
use crate::read::Reader;
use crate::suggest::nearest;
use crate::syntax::{Stmt, Word};

pub(crate) static ROWS: &[Directive] = &[
    Directive {
        name: "request-header",
        within: &[Context::Site, Context::Route],
        usage: "request-header set|add NAME VALUE, request-header remove NAME, or: request-header replace NAME REGEX TEXT",
        default: "none: fields pass as they came, but for those that end here",
        doc: "Changes a field of the request on its way to a server. `set` gives it this value alone, `add` this value too, \
              `remove` takes it out, `replace` replaces what REGEX finds first in each of its values by TEXT, in which `$1` is \
              the first group. VALUE may hold variables; they speak of the request as it came, whatever is changed, and a value \
              that comes out empty leaves the field out. Those of the site come before those of the route, in written order. \
              `Host` can only be set; servers are told the client's host in `X-Forwarded-Host`. Fields that say how long \
              a message is or belong to one connection cannot be changed.",
        words: (2, 4),
        variables: true,
        block: None,
        set: request_header,
    },
    Directive {
        name: "response-header",
        within: &[Context::Site, Context::Route],
        usage: "response-header set|add NAME VALUE, response-header remove NAME, or: response-header replace NAME REGEX TEXT",
        default: "none: fields pass as they came, but for those that end here",
        doc: "Changes a field of the answer on its way to the client, as `request-header` does for the request. Answers that \
              Plimsoll makes itself are changed too, errors among them, once a request has its site. VALUE may also say \
              `${response.status}`, `${response.header.NAME}` and `${server.name}`.",
        words: (2, 4),
        variables: true,
        block: None,
        set: response_header,
    },
    Directive {
        name: "response-cookie",
        within: &[Context::Site, Context::Route],
        usage: "response-cookie NAME|* [secure[=no]] [http-only[=no]] [same-site=strict|lax|none] [domain=NAME|none] [path=PATH]",
        default: "none: cookies pass as servers set them",
        doc: "Changes attributes of the cookies that servers set: of the one called NAME, or of all. What is not said stays. \
              `domain=none` takes the attribute out, so that the cookie belongs to the host alone.",
        words: (2, 6),
        variables: false,
        block: None,
        set: response_cookie,
    },
];

/// What says how long a message is, or speaks to the next hop only.
const UNTOUCHABLE: [&str; 11] = [
    "connection",
    "content-length",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

fn request_header(reader: &mut Reader<'_>, stmt: &Stmt, mut scope: Scope<'_>) {
    let Some(edit) = edit(reader, stmt, Stage::Server) else {
        return;
    };
    if edit.name.eq_ignore_ascii_case("host") && !matches!(edit.change, Change::Set(_)) {
        let message = "a request has one `Host`: it can only be set";
        let problem = Diagnostic::new(&codes::VALUE, stmt.span, message);
        return reader.problem(problem.help("write `request-header set Host NAME`"));
    }
    if let Some(steps) = scope.steps() {
        steps.push(Step::RequestHeader(edit));
    }
}

fn response_header(reader: &mut Reader<'_>, stmt: &Stmt, mut scope: Scope<'_>) {
    let edit = edit(reader, stmt, Stage::Response);
    if let (Some(edit), Some(steps)) = (edit, scope.steps()) {
        steps.push(Step::ResponseHeader(edit));
    }
}

fn edit(reader: &mut Reader<'_>, stmt: &Stmt, stage: Stage) -> Option<HeaderEdit> {
    let [verb, name, rest @ ..] = stmt.words.as_slice() else {
        return None;
    };
    let name = field_name(reader, name);
    let change = match (verb.text.as_str(), rest) {
        ("set", [value]) => Change::Set(reader.field_template(value, stage)),
        ("add", [value]) => Change::Add(reader.field_template(value, stage)),
        ("remove", []) => Change::Remove,
        ("replace", [pattern, with]) => Change::Replace(replacement(reader, pattern, with)?),
        ("set" | "add" | "remove" | "replace", _) => {
            let rest = match verb.text.as_str() {
                "remove" => "NAME",
                "replace" => "NAME REGEX TEXT",
                _ => "NAME VALUE` with a value of several words in quotes, as in `set X-A \"b c\"",
            };
            let usage = format!("{} {} {rest}", stmt.name.text, verb.text);
            reader.usage(stmt, &usage);
            return None;
        }
        (other, _) => {
            let message = format!("`{other}` is nothing to do with a field");
            let mut problem = Diagnostic::new(&codes::VALUE, verb.span, message);
            if let Some(near) = nearest(other, ["set", "add", "remove", "replace"]) {
                problem = problem.label(format!("did you mean `{near}`?"));
            }
            reader.problem(problem.help("known: set, add, remove, replace"));
            return None;
        }
    };
    Some(HeaderEdit {
        name: name?,
        change,
    })
}

/// The name of a field that may be changed.
pub(crate) fn field_name(reader: &mut Reader<'_>, word: &Word) -> Option<Box<str>> {
    let name = word.text.as_str();
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_|~".contains(c);
    if name.is_empty() || !name.chars().all(is_token) {
        let message = format!("`{name}` is not the name of a field");
        let problem = Diagnostic::new(&codes::VALUE, word.span, message);
        reader.problem(problem.help("write it without a colon, like `X-Team`"));
        return None;
    }
    if UNTOUCHABLE.contains(&&*name.to_ascii_lowercase()) {
        let message = format!("`{name}` cannot be changed: it is about one connection alone");
        let problem = Diagnostic::new(&codes::VALUE, word.span, message);
        reader.problem(problem.help("remove the statement: Plimsoll writes what is due"));
        return None;
    }
    Some(name.into())
}

/// An expression, and a text with its groups.
pub(crate) fn replacement(reader: &mut Reader<'_>, pattern: &Word, with: &Word) -> Option<Rewrite> {
    let expression = reader.expression(pattern.into())?;
    // invariant: it has just compiled
    let groups = model::expression(&expression).map_or(1, |regex| regex.captures_len());
    if with.text.chars().any(char::is_control) {
        let message = "the text holds a control character";
        reader.problem(Diagnostic::new(&codes::VALUE, with.span, message));
        return None;
    }
    let numbers = with.text.split('$').skip(1).filter_map(|part| {
        let digits = part.trim_start_matches('{');
        let end = digits.find(|c: char| !c.is_ascii_digit());
        digits.get(..end.unwrap_or(digits.len()))?.parse().ok()
    });
    if let Some(group) = numbers.into_iter().find(|group: &usize| *group >= groups) {
        let message = format!("the expression has no group {group}");
        let problem = Diagnostic::new(&codes::VALUE, with.span, message);
        reader.problem(problem.help(match groups {
            1 => "put what is to be kept in parentheses".to_owned(),
            groups => format!("it has {} of them", groups - 1),
        }));
        return None;
    }
    Some(Rewrite {
        pattern: expression,
        with: with.text.as_str().into(),
    })
}

fn response_cookie(reader: &mut Reader<'_>, stmt: &Stmt, mut scope: Scope<'_>) {
    let Some((name, options)) = stmt.words.split_first() else {
        return;
    };
    let mut edit = CookieEdit {
        name: name.text.as_str().into(),
        ..CookieEdit::default()
    };
    let known = ["secure", "http-only", "same-site", "domain", "path"];
    reader.options(options, &known, |reader, name, value| match name {
        "secure" => edit.secure = yes_no(reader, value),
        "http-only" => edit.http_only = yes_no(reader, value),
        "same-site" => edit.same_site = same_site(reader, value),
        "domain" if value.text == "none" => edit.domain = Some("".into()),
        "domain" => edit.domain = attribute(reader, value),
        _ => edit.path = attribute(reader, value),
    });
    if let Some(steps) = scope.steps() {
        steps.push(Step::Cookie(edit));
    }
}

fn yes_no(reader: &mut Reader<'_>, value: Value<'_>) -> Option<bool> {
    match value.text {
        "" | "yes" => Some(true),
        "no" => Some(false),
        other => {
            let message = format!("`{other}` is neither `yes` nor `no`");
            reader.problem(Diagnostic::new(&codes::VALUE, value.span, message));
            None
        }
    }
}

fn same_site(reader: &mut Reader<'_>, value: Value<'_>) -> Option<Box<str>> {
    let known = ["strict", "lax", "none"];
    if known.contains(&value.text) {
        return Some(value.text.into());
    }
    let message = format!("`{}` is no value of `same-site`", value.text);
    let problem = Diagnostic::new(&codes::VALUE, value.span, message);
    reader.problem(problem.help("known: strict, lax, none"));
    None
}

fn attribute(reader: &mut Reader<'_>, value: Value<'_>) -> Option<Box<str>> {
    let is_plain = |c: char| c.is_ascii_graphic() && c != ';' && c != ',';
    if !value.text.is_empty() && value.text.chars().all(is_plain) {
        return Some(value.text.into());
    }
    let message = format!("`{}` cannot stand in an attribute of a cookie", value.text);
    reader.problem(Diagnostic::new(&codes::VALUE, value.span, message));
    None
}
