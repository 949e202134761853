//! How long a client waits for its answer, as far as it says so.

use std::time::Duration;

use crate::field::Name;
use crate::head::RequestHead;

/// Returns how long the client of a request waits from now on: what `grpc-timeout` says, or until
/// the time of `X-Request-Deadline`, whichever ends first. What cannot be read says nothing.
///
/// `now` is the time since 1970, as is `X-Request-Deadline`: seconds, perhaps with a fraction.
#[must_use]
pub fn patience(head: &RequestHead, bytes: &[u8], now: Duration) -> Option<Duration> {
    let value = |name| head.fields.first(name).map(|line| line.value.of(bytes));
    let relative = value(Name::GrpcTimeout).and_then(grpc_timeout);
    let deadline = value(Name::XRequestDeadline).and_then(unix_time);
    let absolute = deadline.map(|deadline| deadline.saturating_sub(now));
    match (relative, absolute) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// At most eight digits and a unit (gRPC over HTTP/2, "Requests").
fn grpc_timeout(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    let count = number(digits, 8)?;
    Some(match unit {
        b'H' => Duration::from_secs(count * 3600),
        b'M' => Duration::from_secs(count * 60),
        b'S' => Duration::from_secs(count),
        b'm' => Duration::from_millis(count),
        b'u' => Duration::from_micros(count),
        b'n' => Duration::from_nanos(count),
        _ => return None,
    })
}

/// `1763900000`, `1763900000.250`.
fn unix_time(value: &[u8]) -> Option<Duration> {
    let mut parts = value.splitn(2, |&b| b == b'.');
    let seconds = Duration::from_secs(number(parts.next()?, 12)?);
    let Some(fraction) = parts.next() else {
        return Some(seconds);
    };
    let scale = 10_u64.checked_pow(9_u32.checked_sub(u32::try_from(fraction.len()).ok()?)?)?;
    Some(seconds + Duration::from_nanos(number(fraction, 9)? * scale))
}

/// Reads one to `most` digits.
fn number(digits: &[u8], most: usize) -> Option<u64> {
    if !(1..=most).contains(&digits.len()) {
        return None;
    }
    digits.iter().try_fold(0, |number: u64, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        Some(number * 10 + digit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::h1::parse::{self, HeadLimits};

    const NOW: Duration = Duration::from_secs(1_700_000_000);

    fn of(fields: &str) -> Option<Duration> {
        let text = format!("GET / HTTP/1.1\r\nHost: x\r\n{fields}\r\n");
        let mut head = RequestHead::default();
        parse::request(text.as_bytes(), &HeadLimits::default(), &mut head).unwrap();
        patience(&head, text.as_bytes(), NOW)
    }

    #[test]
    fn reads_both_fields_and_takes_the_sooner() {
        let ms = Duration::from_millis;
        for (fields, expected) in [
            ("", None),
            ("grpc-timeout: 250m\r\n", Some(ms(250))),
            ("Grpc-Timeout: 2S\r\n", Some(ms(2_000))),
            (
                "grpc-timeout: 99999999H\r\n",
                Some(Duration::from_secs(99_999_999 * 3600)),
            ),
            ("X-Request-Deadline: 1700000003\r\n", Some(ms(3_000))),
            ("X-Request-Deadline: 1700000000.5\r\n", Some(ms(500))),
            ("X-Request-Deadline: 1600000000\r\n", Some(ms(0))),
            (
                "grpc-timeout: 1M\r\nX-Request-Deadline: 1700000001\r\n",
                Some(ms(1_000)),
            ),
        ] {
            assert_eq!(of(fields), expected, "{fields:?}");
        }
    }

    #[test]
    fn what_cannot_be_read_says_nothing() {
        for value in ["", "S", "5", "5 S", "123456789S", "-5S", "5s", "\u{661}S"] {
            assert_eq!(of(&format!("grpc-timeout: {value}\r\n")), None, "{value:?}");
        }
        for value in [
            "",
            ".",
            "1.",
            "1.1234567890",
            "1e9",
            "-1",
            "1234567890123",
            "1.5.5",
        ] {
            let fields = format!("X-Request-Deadline: {value}\r\n");
            assert_eq!(of(&fields), None, "{value:?}");
        }
    }
}
