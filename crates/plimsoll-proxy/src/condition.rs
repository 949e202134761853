//! Conditions of routes, compiled: what a request must have beside its path.

use ipnet::IpNet;
use plimsoll_config::model;
use plimsoll_http::request;
use regex::bytes::Regex;

use crate::seen::Seen;

/// Something that a request has or has not.
#[derive(Debug)]
pub(crate) struct Condition {
    negated: bool,
    asked: Asked,
}

#[derive(Debug)]
enum Asked {
    Path(Test),
    Header(Box<[u8]>, Test),
    Query(Box<[u8]>, Test),
    Cookie(Box<[u8]>, Test),
    Client(Vec<IpNet>),
    Port(Vec<u16>),
}

#[derive(Debug)]
enum Test {
    Present,
    OneOf(Vec<Box<[u8]>>),
    Matches(Regex),
    /// An expression that did not compile, which the model does not have.
    Never,
}

impl Condition {
    pub(crate) fn new(condition: &model::Condition) -> Self {
        use model::Part;
        let name = |name: &str| name.as_bytes().into();
        let asked = match &condition.asked {
            model::Asked::Part(part, test) => match (part, Test::new(test)) {
                (Part::Header(header), test) => Asked::Header(name(header), test),
                (Part::Query(parameter), test) => Asked::Query(name(parameter), test),
                (Part::Cookie(cookie), test) => Asked::Cookie(name(cookie), test),
            },
            model::Asked::Path(text) => Asked::Path(Test::expression(text)),
            model::Asked::Client(nets) => Asked::Client(nets.clone()),
            model::Asked::Port(ports) => Asked::Port(ports.clone()),
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

    pub(crate) fn holds(&self, seen: &Seen<'_>) -> bool {
        let Seen { head, bytes, .. } = *seen;
        let found = match &self.asked {
            Asked::Path(test) => test.holds(seen.path()),
            Asked::Header(name, test) => {
                let lines = head.fields.all_by_text(bytes, name);
                test.any(lines.map(|line| line.value.of(bytes)))
            }
            Asked::Query(name, test) => {
                let values = request::query_parameters(seen.query().unwrap_or_default(), name);
                test.any_escaped(values)
            }
            Asked::Cookie(name, test) => test.any(request::cookies(head, bytes, name)),
            Asked::Client(nets) => {
                let client = seen.origin.client.to_canonical();
                nets.iter().any(|net| net.contains(&client))
            }
            Asked::Port(ports) => ports.contains(&seen.origin.port),
        };
        found != self.negated
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
        Regex::new(text).map_or(Self::Never, Self::Matches)
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
