//! How lines for syslog begin.

use std::time::Duration;

use plimsoll_http::date::{Civil, two_digits};

use crate::access_log::Dates;

/// How a line begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// RFC 5424.
    Rfc5424,
    /// RFC 3164, sent over a network: it names the host.
    Rfc3164,
    /// RFC 3164 on the own machine, where the daemon knows the host.
    Local,
}

/// What is the same in all lines of a program.
#[derive(Clone, Debug)]
pub struct Header {
    /// How they begin.
    pub form: Form,
    /// Facility and severity.
    pub priority: u8,
    /// The name of the machine.
    pub host: String,
    /// The name of the program.
    pub tag: String,
    /// The number of the process.
    pub process: u32,
}

impl Header {
    /// Appends `line`, written at `at` since 1970. Times are UTC, for want of a zone in RFC 3164.
    pub fn write(&self, at: Duration, dates: &mut Dates, line: &[u8], out: &mut Vec<u8>) {
        let Self {
            priority,
            host,
            tag,
            process,
            ..
        } = self;
        let start = format!("<{priority}>");
        out.extend_from_slice(start.as_bytes());
        let head = match self.form {
            Form::Rfc5424 => {
                out.extend_from_slice(b"1 ");
                out.extend_from_slice(dates.iso(at));
                format!(
                    ".{:06}Z {host} {tag} {process} access - ",
                    at.subsec_micros()
                )
            }
            Form::Rfc3164 => {
                date(at, out);
                format!(" {host} {tag}[{process}]: ")
            }
            Form::Local => {
                date(at, out);
                format!(" {tag}[{process}]: ")
            }
        };
        out.extend_from_slice(head.as_bytes());
        out.extend_from_slice(line);
    }
}

/// `Nov  8 06:34:04` (RFC 3164 §4.1.2)
fn date(at: Duration, out: &mut Vec<u8>) {
    let civil = Civil::from_unix(at.as_secs());
    let [ten, one] = two_digits(civil.day);
    let ten = if ten == b'0' { b' ' } else { ten };
    out.extend_from_slice(civil.month_name());
    out.extend_from_slice(&[b' ', ten, one]);
    for (before, number) in [
        (b' ', civil.hour),
        (b':', civil.minute),
        (b':', civil.second),
    ] {
        out.push(before);
        out.extend_from_slice(&two_digits(number));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_begin_as_the_standards_have_it() {
        let written = |form| {
            let header = Header {
                form,
                priority: 134,
                host: "lb1".to_owned(),
                tag: "plimsoll".to_owned(),
                process: 42,
            };
            let mut out = Vec::new();
            // 2026-11-08T06:34:04.000789Z
            let at = Duration::new(1_794_119_644, 789_000);
            header.write(at, &mut Dates::default(), b"{\"a\":1}", &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(
            written(Form::Rfc5424),
            "<134>1 2026-11-08T06:34:04.000789Z lb1 plimsoll 42 access - {\"a\":1}"
        );
        assert_eq!(
            written(Form::Rfc3164),
            "<134>Nov  8 06:34:04 lb1 plimsoll[42]: {\"a\":1}"
        );
        assert_eq!(
            written(Form::Local),
            "<134>Nov  8 06:34:04 plimsoll[42]: {\"a\":1}"
        );
    }
}
