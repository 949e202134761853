//! Conditions of a route: what a request must have beside its path.

use crate::arguments::Value;
use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::model::{
    Asked, BodyPart, CertificatePart, Condition, Host, JsonStep, Part, Test, TimeSpan,
};
use crate::read::Reader;
use crate::source::Span;
use crate::suggest::nearest;
use crate::syntax::Word;
use ipnet::{IpNet, Ipv4Net};

const KINDS: [&str; 14] = [
    "path",
    "host",
    "header",
    "query",
    "cookie",
    "body",
    "certificate",
    "ja4",
    "client",
    "port",
    "scheme",
    "time",
    "grpc",
    "is",
];

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
        ("method", Some('=')) => Asked::Method(methods(reader, value)?),
        ("path", Some('~')) => Asked::Path(reader.expression(value)?),
        ("host", Some('~')) => Asked::Host(vec![Host::Expression(reader.expression(value)?)]),
        ("host", Some('=')) => Asked::Host(list(value, |host| reader.host(host))?),
        ("header", Some(':')) => of_part(reader, value, |name| Some(Part::Header(name)))?,
        ("query", Some(':')) => of_part(reader, value, |name| Some(Part::Query(name)))?,
        ("cookie", Some(':')) => of_part(reader, value, |name| Some(Part::Cookie(name)))?,
        ("body", Some(':')) => body(reader, value)?,
        ("body", Some('~')) => {
            Asked::Body(BodyPart::Whole, Test::Matches(reader.expression(value)?))
        }
        ("certificate", Some(':')) => certificate(reader, value)?,
        ("ja4", Some('=' | '~')) => {
            reader.fingerprints = true;
            Asked::Fingerprint(test(reader, rest, word.span)?)
        }
        ("client", Some('=')) => Asked::Client(list(value, |net| network(reader, net))?),
        ("port", Some('=')) => Asked::Port(list(value, |port| reader.number(port, 1, 65_535))?),
        ("scheme", Some('=')) if value.text == "http" => Asked::Https(false),
        ("scheme", Some('=')) if value.text == "https" => Asked::Https(true),
        ("time", Some('=')) => Asked::Time(list(value, |span| time_span(reader, span))?),
        ("grpc", Some('=')) => Asked::Grpc(list(value, |method| grpc(reader, method))?),
        ("is", Some(':')) if !value.text.is_empty() => Asked::Is(reader.matches.refer(value)),
        _ => return unknown(reader, word, kind),
    };
    Some(Condition {
        text: word.text.as_str().into(),
        negated,
        asked,
    })
}

/// Methods between commas, as they can be matched.
pub(crate) fn methods(reader: &mut Reader<'_>, value: Value<'_>) -> Option<Vec<Box<str>>> {
    list(value, |method| {
        let text = method.text;
        let known_shape = !text.is_empty()
            && text
                .chars()
                .all(|c| c.is_ascii_uppercase() || "-_".contains(c));
        if known_shape && !matches!(text, "CONNECT" | "TRACE") {
            return Some(text.into());
        }
        let message = format!("`{text}` is not a method that can be matched");
        let problem = Diagnostic::new(&codes::METHOD, value.span, message);
        let upper = text.to_ascii_uppercase();
        reader.problem(match upper != text && !upper.is_empty() {
            true => problem.help(format!("methods are written in capitals: `{upper}`")),
            false => problem.help("write it like `method=GET,HEAD`"),
        });
        None
    })
}

fn of_part(
    reader: &mut Reader<'_>,
    value: Value<'_>,
    part: impl FnOnce(Box<str>) -> Option<Part>,
) -> Option<Asked> {
    let (name, test) = named(reader, value)?;
    Some(Asked::Part(part(name.into())?, test))
}

/// A name, and what is to be there.
fn named<'a>(reader: &mut Reader<'_>, value: Value<'a>) -> Option<(&'a str, Test)> {
    let end = value.text.find(['=', '~']).unwrap_or(value.text.len());
    let (name, rest) = value.text.split_at_checked(end)?;
    if name.is_empty() {
        let problem = Diagnostic::new(&codes::VALUE, value.span, "the condition names nothing");
        reader.problem(problem.help("write it like `header:x-canary=yes`"));
        return None;
    }
    Some((name, test(reader, rest, value.span)?))
}

/// What is to be there: nothing said, `=VALUE,...` or `~EXPRESSION`.
fn test(reader: &mut Reader<'_>, said: &str, span: Span) -> Option<Test> {
    let text = said.get(1..).unwrap_or_default();
    Some(match said.chars().next() {
        None => Test::Present,
        Some('~') => Test::Matches(reader.expression(Value { text, span })?),
        Some(_) => Test::OneOf(text.split(',').map(Into::into).collect()),
    })
}

fn certificate(reader: &mut Reader<'_>, value: Value<'_>) -> Option<Asked> {
    let (name, test) = named(reader, value)?;
    let Some(part) = CertificatePart::named(name) else {
        let message = format!("a certificate has no `{name}`");
        let problem = Diagnostic::new(&codes::VALUE, value.span, message);
        let known = CertificatePart::NAMES.map(|(name, _)| name).join(", ");
        reader.problem(problem.help(format!("known: {known}")));
        return None;
    };
    Some(Asked::Certificate(part, test))
}

fn body(reader: &mut Reader<'_>, value: Value<'_>) -> Option<Asked> {
    let (name, test) = named(reader, value)?;
    let part =
        match name.strip_prefix('$') {
            None => BodyPart::Field(name.into()),
            Some(path) => match json_steps(path) {
                Some(steps) => BodyPart::Json(steps),
                None => {
                    let message = format!("`{name}` does not lead into a JSON text");
                    let problem = Diagnostic::new(&codes::VALUE, value.span, message);
                    reader.problem(problem.help(
                        "write it like `$.user.roles[0]`, or `$.items[*].kind` for any of them",
                    ));
                    return None;
                }
            },
        };
    Some(Asked::Body(part, test))
}

/// The steps of `.a.b[0][*]`; nothing when it is something else.
fn json_steps(path: &str) -> Option<Vec<JsonStep>> {
    let mut steps = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        let step = if let Some(after) = rest.strip_prefix('.') {
            let end = after.find(['.', '[']).unwrap_or(after.len());
            let (name, after) = after.split_at_checked(end)?;
            rest = after;
            (!name.is_empty()).then(|| JsonStep::Member(name.into()))?
        } else {
            let (index, after) = rest.strip_prefix('[')?.split_once(']')?;
            rest = after;
            match index {
                "*" => JsonStep::Each,
                index => JsonStep::Element(index.parse().ok()?),
            }
        };
        steps.push(step);
    }
    Some(steps)
}

fn grpc(reader: &mut Reader<'_>, value: Value<'_>) -> Option<Box<str>> {
    let (service, method) = value.text.split_once('/').unwrap_or((value.text, "Method"));
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
    let is_good = |name: &str| !name.is_empty() && name.chars().all(is_name);
    if is_good(service) && is_good(method) {
        return Some(value.text.into());
    }
    let message = format!("`{}` is neither a gRPC service nor a method", value.text);
    let problem = Diagnostic::new(&codes::VALUE, value.span, message);
    reader.problem(problem.help("write it like `app.v1.Users` or `app.v1.Users/Get`"));
    None
}

fn time_span(reader: &mut Reader<'_>, value: Value<'_>) -> Option<TimeSpan> {
    let span = times(value.text);
    if span.is_none() {
        let message = format!("`{}` is no time", value.text);
        let problem = Diagnostic::new(&codes::VALUE, value.span, message);
        reader
            .problem(problem.help(
                "write it like `08:00-18:00`, `mon-fri` or `2026-12-24..2026-12-26`, in UTC",
            ));
    }
    span
}

fn times(text: &str) -> Option<TimeSpan> {
    if let Some((from, to)) = text.split_once("..") {
        let (from, to) = (day(from)?, day(to)?);
        return (from <= to).then_some(TimeSpan::Dates(from, to));
    }
    if let Some(day) = day(text) {
        return Some(TimeSpan::Dates(day, day));
    }
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    if let (Some(from), Some(to)) = (weekday(from), weekday(to)) {
        return Some(TimeSpan::Weekly(from, to));
    }
    let daily = TimeSpan::Daily(minute(from)?, minute(to)?);
    (from != to).then_some(daily)
}

fn weekday(text: &str) -> Option<u8> {
    let days = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
    let at = days.iter().position(|day| *day == text)?;
    u8::try_from(at).ok()
}

fn minute(text: &str) -> Option<u16> {
    let (hour, minute) = text.split_once(':')?;
    let number = |text: &str| text.parse().ok().filter(|_| text.len() == 2);
    let (hour, minute): (u16, u16) = (number(hour)?, number(minute)?);
    let is_time = (hour < 24 && minute < 60) || (hour == 24 && minute == 0);
    is_time.then_some(hour * 60 + minute)
}

/// The number of a date since 1970-01-01.
fn day(text: &str) -> Option<u32> {
    let mut parts = text.splitn(3, '-');
    let mut number = |length: usize| {
        let part = parts.next().filter(|part| part.len() == length)?;
        part.parse::<u32>().ok()
    };
    let (year, month, day) = (number(4)?, number(2)?, number(2)?);
    let is_leap = |year: u32| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let lengths = [
        31,
        28 + u32::from(is_leap(year)),
        31,
        30,
        31,
        30,
        31,
        31,
        30,
        31,
        30,
        31,
    ];
    let at = usize::try_from(month).ok()?.checked_sub(1)?;
    let length = *lengths.get(at)?;
    if year < 1970 || !(1..=length).contains(&day) {
        return None;
    }
    let years: u32 = (1970..year)
        .map(|year| 365 + u32::from(is_leap(year)))
        .sum();
    let months: u32 = lengths.iter().take(at).sum();
    Some(years + months + day - 1)
}

/// Every value between commas; nothing when one of them is none.
fn list<T>(value: Value<'_>, mut read: impl FnMut(Value<'_>) -> Option<T>) -> Option<Vec<T>> {
    let parts = value.text.split(',');
    let parts: Vec<_> = parts.map(|text| read(Value { text, ..value })).collect();
    parts.into_iter().collect()
}

pub(crate) fn network(reader: &mut Reader<'_>, value: Value<'_>) -> Option<IpNet> {
    if let Ok(net) = value.text.parse::<IpNet>() {
        return Some(canonical(net.trunc()));
    }
    if value.text.contains('/') {
        let message = format!("`{}` is not a network", value.text);
        let problem = Diagnostic::new(&codes::ADDRESS, value.span, message);
        reader.problem(problem.help("write it like `10.0.0.0/8` or `2001:db8::/32`"));
        return None;
    }
    reader.ip(value).map(|ip| ip.to_canonical().into())
}

/// A network of IPv4 that is written as one of IPv6 is what it stands for, as addresses of clients are.
fn canonical(net: IpNet) -> IpNet {
    let IpNet::V6(v6) = net else {
        return net;
    };
    let length = v6.prefix_len().checked_sub(96);
    let mapped = v6.network().to_ipv4_mapped().zip(length);
    let v4 = mapped.and_then(|(address, length)| Ipv4Net::new(address, length).ok());
    v4.map_or(net, IpNet::V4)
}

fn unknown(reader: &mut Reader<'_>, word: &Word, kind: &str) -> Option<Condition> {
    let text = &word.text;
    if text.starts_with('/') {
        let message = format!("the path `{text}` stands behind a condition");
        let problem = Diagnostic::new(&codes::OPTION, word.span, message);
        reader.problem(problem.help("write the path first; a route has one path"));
        return None;
    }
    let message = format!("`{text}` is neither a path nor a condition");
    let mut problem = Diagnostic::new(&codes::OPTION, word.span, message);
    if let Some(near) = nearest(kind, KINDS.into_iter().chain(["method"]))
        && near != kind
        && text.contains([':', '=', '~'])
    {
        problem = problem.label(format!("did you mean `{near}`?"));
    }
    reader.problem(problem.help(
        "a path begins with a slash; conditions are method=, path~, host=, header:NAME, query:NAME, cookie:NAME, body:NAME, certificate:PART, ja4=, client=, port=, scheme=http|https, time=, grpc= and is:NAME",
    ));
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_or_refused() {
        for (text, span) in [
            ("08:00-18:30", Some(TimeSpan::Daily(480, 1110))),
            ("22:00-24:00", Some(TimeSpan::Daily(1320, 1440))),
            ("mon-fri", Some(TimeSpan::Weekly(0, 4))),
            ("sun", Some(TimeSpan::Weekly(6, 6))),
            ("2026-11-27", Some(TimeSpan::Dates(20_784, 20_784))),
            (
                "2024-02-29..2024-03-01",
                Some(TimeSpan::Dates(19_782, 19_783)),
            ),
            ("1970-01-01", Some(TimeSpan::Dates(0, 0))),
            ("2026-02-29", None),
            ("2026-12-26..2026-12-24", None),
            ("8:00-18:00", None),
            ("08:00", None),
            ("25:00-26:00", None),
            ("monday", None),
            ("", None),
        ] {
            assert_eq!(times(text), span, "{text}");
        }
    }

    #[test]
    fn paths_into_json_are_read_or_refused() {
        let member = |name: &str| JsonStep::Member(name.into());
        for (path, steps) in [
            ("", Some(vec![])),
            (".a.b-c", Some(vec![member("a"), member("b-c")])),
            (
                "[0][*].a",
                Some(vec![JsonStep::Element(0), JsonStep::Each, member("a")]),
            ),
            (".a[", None),
            (".a[x]", None),
            ("a", None),
            ("..a", None),
        ] {
            assert_eq!(json_steps(path), steps, "{path}");
        }
    }
}
