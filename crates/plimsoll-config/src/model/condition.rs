//! What routes ask of requests beside their path and method.

use ipnet::IpNet;
use regex::bytes::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};

use super::{CertificatePart, Host};

/// What a compiled expression may take, so that no file can take all memory.
const REGEX_BYTES_MAX: usize = 1 << 20;

/// Compiles an expression as it is meant wherever one may stand: about bytes. With characters, or with
/// lines, a byte that is no text, or an escaped line end, would hide from a `.` what stands before it.
///
/// # Errors
/// The text is no expression, or a very large one.
pub fn expression(text: &str) -> Result<Regex, regex::Error> {
    let mut builder = RegexBuilder::new(text);
    builder.unicode(false).dot_matches_new_line(true);
    builder.size_limit(REGEX_BYTES_MAX).build()
}

/// Something that a request has or has not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// As written.
    pub text: Box<str>,
    /// Whether it must not hold.
    pub negated: bool,
    /// What is asked.
    pub asked: Asked,
}

/// What a condition asks of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Asked {
    /// Whether this regular expression is found in its path; it compiles.
    Path(Box<str>),
    /// Whether its method is one of these.
    Method(Vec<Box<str>>),
    /// Whether its host is one of these.
    Host(Vec<Host>),
    /// For a part of it.
    Part(Part, Test),
    /// For its body.
    Body(BodyPart, Test),
    /// For a part of the client's certificate.
    Certificate(CertificatePart, Test),
    /// For the fingerprint of how its client begins TLS.
    Fingerprint(Test),
    /// Whether its client is in one of these networks.
    Client(Vec<IpNet>),
    /// Whether it came on one of these ports.
    Port(Vec<u16>),
    /// Whether its client came over https, or not.
    Https(bool),
    /// Whether it came at one of these times.
    Time(Vec<TimeSpan>),
    /// Whether it calls one of these gRPC services (`app.v1.Users`) or methods (`app.v1.Users/Get`).
    Grpc(Vec<Box<str>>),
    /// Whether one of the alternatives of a match holds, by index into `Config::matches`.
    Is(usize),
}

/// A `match`: conditions that have a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedMatch {
    /// Its name.
    pub name: Box<str>,
    /// It holds when all conditions of one of these hold: one for each line that was written.
    pub alternatives: Vec<Vec<Condition>>,
}

/// A part of a request that has a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Part {
    /// A field of the head.
    Header(Box<str>),
    /// A parameter of the query.
    Query(Box<str>),
    /// A cookie.
    Cookie(Box<str>),
}

/// A part of a body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BodyPart {
    /// All of it, as text.
    Whole,
    /// A field of a form.
    Field(Box<str>),
    /// What a path leads to in a JSON text.
    Json(Vec<JsonStep>),
}

/// A step into a JSON value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum JsonStep {
    /// Into the member of this name.
    Member(Box<str>),
    /// Into this element, from 0.
    Element(usize),
    /// Into every element.
    Each,
}

/// What a part must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Test {
    /// There.
    Present,
    /// One of these.
    OneOf(Vec<Box<str>>),
    /// Something that this regular expression is found in; it compiles.
    Matches(Box<str>),
}

/// A time that comes again, or that comes once; all in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TimeSpan {
    /// From one minute of the day to before another; over midnight when the second is smaller.
    Daily(u16, u16),
    /// From one day of the week to another, both included; Monday is 0.
    Weekly(u8, u8),
    /// From one day to another, both included, counted from 1970-01-01.
    Dates(u32, u32),
}

impl TimeSpan {
    /// Tells whether a time, in seconds since 1970, is in it.
    pub fn contains(self, unix: u64) -> bool {
        let (days, minute) = (unix / 86_400, unix / 60 % 1440);
        match self {
            Self::Daily(from, to) if from <= to => (from.into()..to.into()).contains(&minute),
            Self::Daily(from, to) => minute >= from.into() || minute < to.into(),
            Self::Weekly(from, to) => {
                let weekday = (days + 3) % 7; // 1970-01-01 was a Thursday
                let (from, to) = (u64::from(from), u64::from(to));
                match from <= to {
                    true => (from..=to).contains(&weekday),
                    false => weekday >= from || weekday <= to,
                }
            }
            Self::Dates(from, to) => (from.into()..=to.into()).contains(&days),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-27 was a Friday.
    const FRIDAY: u64 = 20_784 * 86_400;

    #[test]
    fn times_come_again() {
        let at = |hour: u64, minute: u64| FRIDAY + hour * 3600 + minute * 60;
        for (span, time, holds) in [
            (TimeSpan::Daily(8 * 60, 18 * 60), at(8, 0), true),
            (TimeSpan::Daily(8 * 60, 18 * 60), at(7, 59), false),
            (TimeSpan::Daily(8 * 60, 18 * 60), at(18, 0), false),
            (TimeSpan::Daily(22 * 60, 6 * 60), at(23, 0), true),
            (TimeSpan::Daily(22 * 60, 6 * 60), at(5, 59), true),
            (TimeSpan::Daily(22 * 60, 6 * 60), at(6, 0), false),
            (TimeSpan::Weekly(0, 4), at(12, 0), true),
            (TimeSpan::Weekly(5, 6), at(12, 0), false),
            (TimeSpan::Weekly(5, 6), at(36, 0), true),
            (TimeSpan::Weekly(4, 0), at(12, 0), true),
            (TimeSpan::Weekly(6, 3), at(12, 0), false),
            (TimeSpan::Dates(20_784, 20_784), at(23, 59), true),
            (TimeSpan::Dates(20_784, 20_784), at(24, 0), false),
        ] {
            assert_eq!(span.contains(time), holds, "{span:?} {time}");
        }
    }
}
