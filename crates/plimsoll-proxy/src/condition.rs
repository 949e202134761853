//! Conditions of routes, compiled: what a request must have beside its path.

use std::sync::Arc;

use ipnet::IpNet;
use plimsoll_config::model::{self, BodyPart, CertificatePart, JsonStep, NamedMatch, TimeSpan};
use plimsoll_http::request;
use regex::bytes::Regex;
use serde_json::Value;

use crate::seen::Seen;
use crate::tls::certificate::Certificate;

/// What is known of a body when a route asks for it.
#[derive(Clone, Copy, Debug)]
pub enum Body<'a> {
    /// This much of it has come, and perhaps there is more.
    Part(&'a [u8]),
    /// All of it.
    Whole(&'a [u8]),
}

impl<'a> Body<'a> {
    /// The body, unless it is longer than `most`.
    fn within(self, most: usize) -> Look<'a> {
        match self {
            Self::Whole(body) if body.len() <= most => Look::At(body),
            Self::Part(part) if part.len() <= most => Look::Later,
            Self::Whole(_) | Self::Part(_) => Look::TooLong,
        }
    }
}

enum Look<'a> {
    At(&'a [u8]),
    /// More of it has to come before.
    Later,
    TooLong,
}

/// Whether a route takes a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It does.
    Takes,
    /// It does not.
    Passes,
    /// That depends on a body, of which this much has to be read.
    Depends(u32),
}

/// Something that a request has or has not.
#[derive(Clone, Debug)]
pub(crate) struct Condition {
    negated: bool,
    asked: Asked,
}

#[derive(Clone, Debug)]
enum Asked {
    Method(Vec<Box<[u8]>>),
    Path(Test),
    Host(Arc<[Host]>),
    Header(Box<[u8]>, Test),
    Query(Box<[u8]>, Test),
    Cookie(Box<[u8]>, Test),
    Body(BodyPart, Test),
    Certificate(CertificatePart, Test),
    Fingerprint(Test),
    Client(Vec<IpNet>),
    Port(Vec<u16>),
    Scheme(&'static str),
    Time(Vec<TimeSpan>),
    Grpc(Vec<Box<str>>),
    Is(Arc<Named>),
}

/// A match: one of its alternatives must hold, and of it all conditions.
#[derive(Debug)]
pub(crate) struct Named(Vec<Vec<Condition>>);

impl Named {
    fn holds(&self, seen: &Seen<'_>) -> bool {
        self.0
            .iter()
            .any(|conditions| conditions.iter().all(|condition| condition.holds(seen)))
    }
}

#[derive(Debug)]
enum Host {
    Any,
    Exact(Box<[u8]>),
    Suffix(Box<[u8]>),
    Expression(Test),
}

#[derive(Clone, Debug)]
enum Test {
    Present,
    OneOf(Vec<Box<[u8]>>),
    Matches(Regex),
    /// An expression that did not compile, which the model does not have.
    Never,
}

/// The matches of a configuration, compiled when a condition refers to them first.
pub(crate) struct Matches<'a> {
    models: &'a [NamedMatch],
    compiled: Vec<Option<Arc<Named>>>,
}

impl<'a> Matches<'a> {
    pub(crate) fn new(models: &'a [NamedMatch]) -> Self {
        Self {
            models,
            compiled: vec![None; models.len()],
        }
    }

    /// The match with this number. The model has none that refers to itself.
    fn get(&mut self, number: usize) -> Arc<Named> {
        if let Some(Some(named)) = self.compiled.get(number) {
            return Arc::clone(named);
        }
        let models = self.models;
        let model = models.get(number);
        let alternatives = model.map_or(&[][..], |model| &model.alternatives);
        let alternatives = alternatives.iter().map(|conditions| {
            let conditions = conditions.iter();
            conditions
                .map(|condition| Condition::new(condition, self))
                .collect()
        });
        let named = Arc::new(Named(alternatives.collect()));
        if let Some(place) = self.compiled.get_mut(number) {
            *place = Some(Arc::clone(&named));
        }
        named
    }
}

impl Condition {
    pub(crate) fn new(condition: &model::Condition, matches: &mut Matches<'_>) -> Self {
        use model::Part;
        let name = |name: &str| name.as_bytes().into();
        let names = |names: &[Box<str>]| names.iter().map(|text| name(text)).collect();
        let asked = match &condition.asked {
            model::Asked::Method(methods) => Asked::Method(names(methods)),
            model::Asked::Part(part, test) => match (part, Test::new(test)) {
                (Part::Header(header), test) => Asked::Header(name(header), test),
                (Part::Query(parameter), test) => Asked::Query(name(parameter), test),
                (Part::Cookie(cookie), test) => Asked::Cookie(name(cookie), test),
            },
            model::Asked::Path(text) => Asked::Path(Test::expression(text)),
            model::Asked::Host(hosts) => Asked::Host(hosts.iter().map(Host::new).collect()),
            model::Asked::Body(part, test) => Asked::Body(part.clone(), Test::new(test)),
            model::Asked::Certificate(part, test) => Asked::Certificate(*part, Test::new(test)),
            model::Asked::Fingerprint(test) => Asked::Fingerprint(Test::new(test)),
            model::Asked::Client(nets) => Asked::Client(nets.clone()),
            model::Asked::Https(is_it) => Asked::Scheme(if *is_it { "https" } else { "http" }),
            model::Asked::Port(ports) => Asked::Port(ports.clone()),
            model::Asked::Time(spans) => Asked::Time(spans.clone()),
            model::Asked::Grpc(methods) => Asked::Grpc(methods.clone()),
            model::Asked::Is(number) => Asked::Is(matches.get(*number)),
        };
        Self {
            negated: condition.negated,
            asked,
        }
    }

    /// What the expression for the path found, if this is one that must hold and it did.
    pub(crate) fn path_group<'a>(&self, seen: &Seen<'a>, group: usize) -> Option<&'a [u8]> {
        match &self.asked {
            Asked::Path(Test::Matches(expression)) if !self.negated => {
                let found = expression.captures(seen.path())?;
                found.get(group).map(|found| found.as_bytes())
            }
            _ => None,
        }
    }

    /// Tells whether it asks for a body.
    pub(crate) fn asks_for_body(&self) -> bool {
        matches!(self.asked, Asked::Body(..))
    }

    /// Tells whether it holds for a body, of which `most` is looked at.
    pub(crate) fn judge_body(&self, seen: &Seen<'_>, body: Body<'_>, most: u32) -> Verdict {
        let Asked::Body(part, test) = &self.asked else {
            return Verdict::Takes;
        };
        // What is coded cannot be looked at, and what cannot be looked at is not taken.
        let mut encodings = seen
            .head
            .fields
            .all_by_text(seen.bytes, b"content-encoding");
        let is_coded =
            encodings.any(|line| !line.value.of(seen.bytes).eq_ignore_ascii_case(b"identity"));
        match body.within(most as usize) {
            _ if is_coded => Verdict::Passes,
            Look::At(body) if test.of_body(part, body) != self.negated => Verdict::Takes,
            Look::Later => Verdict::Depends(most),
            Look::At(_) | Look::TooLong => Verdict::Passes,
        }
    }

    /// Tells whether it holds, as far as it does not ask for a body.
    pub(crate) fn holds(&self, seen: &Seen<'_>) -> bool {
        let Seen { head, bytes, .. } = *seen;
        let found = match &self.asked {
            Asked::Method(methods) => {
                let method = head.method_span.of(bytes);
                methods.iter().any(|allowed| **allowed == *method)
            }
            Asked::Path(test) => test.holds(seen.path()),
            Asked::Host(hosts) => {
                let host = seen.host();
                hosts.iter().any(|asked| asked.holds(host))
            }
            Asked::Header(name, test) => {
                let lines = head.fields.all_by_text(bytes, name);
                test.any(lines.map(|line| line.value.of(bytes)))
            }
            Asked::Query(name, test) => {
                let values = request::query_parameters(seen.query().unwrap_or_default(), name);
                test.any_escaped(values)
            }
            Asked::Cookie(name, test) => test.any(request::cookies(head, bytes, name)),
            Asked::Body(..) => return true,
            Asked::Certificate(part, test) => test.of_certificate(*part, seen.certificate),
            Asked::Fingerprint(test) => test.any(seen.fingerprint.map(str::as_bytes).into_iter()),
            Asked::Client(nets) => {
                let client = seen.origin.client.to_canonical();
                nets.iter().any(|net| net.contains(&client))
            }
            Asked::Scheme(scheme) => seen.origin.scheme == *scheme,
            Asked::Port(ports) => ports.contains(&seen.origin.port),
            Asked::Time(spans) => spans.iter().any(|span| span.contains(seen.origin.unix)),
            Asked::Grpc(methods) => is_grpc(seen) && methods.iter().any(|m| calls(seen.path(), m)),
            Asked::Is(named) => named.holds(seen),
        };
        found != self.negated
    }
}

/// Tells whether a request is one of gRPC ("gRPC over HTTP2", Requests).
fn is_grpc(seen: &Seen<'_>) -> bool {
    let field = seen.head.fields.by_text(seen.bytes, b"content-type");
    let value = field.map(|field| field.value.of(seen.bytes));
    let rest = value.and_then(|value| value.strip_prefix(b"application/grpc"));
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// Tells whether a path calls a service, or a method of one.
fn calls(path: &[u8], method: &str) -> bool {
    let path = path.strip_prefix(b"/").unwrap_or_default();
    match path.strip_prefix(method.as_bytes()) {
        Some([]) => method.contains('/'),
        Some([b'/', rest @ ..]) => !rest.is_empty() && !method.contains('/'),
        _ => false,
    }
}

impl Host {
    fn new(host: &model::Host) -> Self {
        match host {
            model::Host::Any => Self::Any,
            model::Host::Exact(name) => Self::Exact(name.as_bytes().into()),
            model::Host::Suffix(suffix) => Self::Suffix(suffix.as_bytes().into()),
            model::Host::Expression(text) => Self::Expression(Test::expression(text)),
        }
    }

    fn holds(&self, host: &[u8]) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(name) => host.eq_ignore_ascii_case(name),
            Self::Suffix(suffix) => {
                let end = host.len().checked_sub(suffix.len());
                end.and_then(|at| host.get(at..))
                    .is_some_and(|end| end.eq_ignore_ascii_case(suffix))
            }
            Self::Expression(test) => test.holds(&host.to_ascii_lowercase()),
        }
    }
}

impl Test {
    fn new(test: &model::Test) -> Self {
        match test {
            model::Test::Present => Self::Present,
            model::Test::OneOf(values) => {
                Self::OneOf(values.iter().map(|value| value.as_bytes().into()).collect())
            }
            model::Test::Matches(text) => Self::expression(text),
        }
    }

    fn expression(text: &str) -> Self {
        model::expression(text).map_or(Self::Never, Self::Matches)
    }

    /// Tells whether a part of a client's certificate is what it is to be; one name of several is enough.
    fn of_certificate(&self, part: CertificatePart, certificate: Option<&Certificate>) -> bool {
        match (certificate, part, self) {
            (Some(certificate), part, _) => self.any(certificate.values(part).map(str::as_bytes)),
            (None, _, Self::Present) => false,
            (None, CertificatePart::Verified, _) => self.holds(b"no"),
            (None, ..) => false,
        }
    }

    /// Tells whether a part of a body is what it is to be.
    fn of_body(&self, part: &BodyPart, body: &[u8]) -> bool {
        match part {
            BodyPart::Whole => self.holds(body),
            BodyPart::Field(name) => {
                self.any_escaped(request::query_parameters(body, name.as_bytes()))
            }
            BodyPart::Json(steps) => match serde_json::from_slice(body) {
                Ok(value) => self.of_json(&value, steps),
                Err(_) => false,
            },
        }
    }

    fn of_json(&self, value: &Value, steps: &[JsonStep]) -> bool {
        let Some((step, rest)) = steps.split_first() else {
            return self.of_json_value(value);
        };
        let of_rest = |value: &Value| self.of_json(value, rest);
        match step {
            JsonStep::Member(name) => value.get(&**name).is_some_and(of_rest),
            JsonStep::Element(at) => value.get(at).is_some_and(of_rest),
            JsonStep::Each => value
                .as_array()
                .is_some_and(|each| each.iter().any(of_rest)),
        }
    }

    /// Texts are compared without quotes, numbers and the rest as JSON writes them.
    fn of_json_value(&self, value: &Value) -> bool {
        match value {
            _ if matches!(self, Self::Present) => true,
            Value::String(text) => self.holds(text.as_bytes()),
            Value::Object(_) | Value::Array(_) => false,
            value => self.holds(value.to_string().as_bytes()),
        }
    }

    fn any<'v>(&self, mut values: impl Iterator<Item = &'v [u8]>) -> bool {
        values.any(|value| self.holds(value))
    }

    fn any_escaped<'v>(&self, mut values: impl Iterator<Item = &'v [u8]>) -> bool {
        values.any(|value| match self {
            // Escapes are rare, and an expression needs the whole value.
            Self::Matches(_) if value.contains(&b'%') || value.contains(&b'+') => {
                self.holds(&request::unescaped(value).collect::<Vec<u8>>())
            }
            Self::OneOf(known) => known
                .iter()
                .any(|known| request::unescaped(value).eq(known.iter().copied())),
            _ => self.holds(value),
        })
    }

    fn holds(&self, value: &[u8]) -> bool {
        match self {
            Self::Present => true,
            Self::OneOf(known) => known.iter().any(|known| **known == *value),
            Self::Matches(expression) => expression.is_match(value),
            Self::Never => false,
        }
    }
}
