//! When certificates are asked for, and whom: no clock and no randomness but what is passed in.

use std::time::{Duration, SystemTime};

/// The longest pause after attempts that failed.
const PAUSE_MAX: Duration = Duration::from_secs(6 * 60 * 60);

/// The longest pause that an issuer may wish for.
const WISH_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// How long a certificate is used at least, in seconds, whatever its issuer wishes.
const SOON: u64 = 60 * 60;

/// From when to when something holds, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) from: u64,
    pub(super) until: u64,
}

impl Span {
    /// A moment in it.
    fn moment(self, random: u64) -> u64 {
        let length = u128::from(self.until.saturating_sub(self.from));
        let part = (length * u128::from(random)) >> 64;
        self.from + u64::try_from(part).unwrap_or_default()
    }
}

/// When the certificate after one that holds so long is asked for. What its issuer wishes counts; else
/// it is when two thirds of the time are over, or a little later, so that many do not ask at once.
pub(super) fn renewal(holds: Span, wished: Option<Span>, random: u64) -> u64 {
    let life = holds.until.saturating_sub(holds.from);
    let usual = holds.from + life / 3 * 2;
    let usual = Span {
        from: usual,
        until: usual + life / 30,
    };
    // Whoever wishes for what is after the end has made a mistake; who always wishes for now, too.
    let wished = wished.filter(|wished| wished.from < holds.until);
    let least = holds.from + (life / 10).min(SOON);
    wished.unwrap_or(usual).moment(random).max(least)
}

/// How an issuer is asked in an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// At once.
    Straight,
    /// After a trial that nothing depends on.
    AfterTrial,
}

/// How an issuer is asked after so many attempts in a row that failed: what failed is tried where it
/// reaches no limit, if there is such a place.
pub(super) fn way(failures: u32, has_staging: bool) -> Way {
    match has_staging && failures > 0 {
        true => Way::AfterTrial,
        false => Way::Straight,
    }
}

/// How long nothing is asked after so many attempts in a row that failed, the first pause being
/// `first`; an issuer may have wished for a longer one.
pub(super) fn pause(
    first: Duration,
    failures: u32,
    wished: Option<Duration>,
    random: u64,
) -> Duration {
    let doubled = first.saturating_mul(1 << failures.saturating_sub(1).min(20));
    let pause = doubled.min(PAUSE_MAX);
    let thousandths = u32::try_from(random % 1001).unwrap_or_default();
    let pause = pause - pause / 4 * thousandths / 1000;
    wished.map_or(pause, |wished| pause.max(wished.min(WISH_MAX)))
}

/// How long somebody wishes to be left alone who has said so at `now`, which is counted from 1970: in
/// seconds, or with a date (RFC 9110 §10.2.3).
pub(super) fn wish(said: &str, now: Duration) -> Option<Duration> {
    let said = said.trim();
    if let Ok(seconds) = said.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(said).ok()?;
    let date = date.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    Some(date.saturating_sub(now))
}

/// Tells whether a certificate for `certified` is one for all of `wanted`.
pub(super) fn covers(certified: &[String], wanted: &[Box<str>]) -> bool {
    let mut wanted = wanted.iter();
    wanted.all(|name| {
        certified
            .iter()
            .any(|known| known.eq_ignore_ascii_case(name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 24 * 60 * 60;

    #[test]
    fn a_certificate_is_renewed_when_two_thirds_are_over_or_as_its_issuer_says() {
        let holds = Span {
            from: 100 * DAY,
            until: 190 * DAY,
        };
        assert_eq!(renewal(holds, None, 0), 160 * DAY);
        let late = renewal(holds, None, u64::MAX);
        assert!((163 * DAY - 1..=163 * DAY).contains(&late), "{late}");
        let wished = Span {
            from: 110 * DAY,
            until: 112 * DAY,
        };
        assert_eq!(renewal(holds, Some(wished), 0), 110 * DAY);
        assert_eq!(renewal(holds, Some(wished), u64::MAX / 2 + 1), 111 * DAY);
        let past = Span { from: 0, until: 1 };
        assert_eq!(renewal(holds, Some(past), 0), 100 * DAY + SOON);
        let absurd = Span {
            from: 300 * DAY,
            until: 301 * DAY,
        };
        assert_eq!(renewal(holds, Some(absurd), 0), 160 * DAY);
        // What ends before it begins is over.
        let nothing = Span { from: 5, until: 1 };
        assert_eq!(renewal(nothing, None, u64::MAX), 5);
    }

    #[test]
    fn any_random_number_renews_before_the_end() {
        for life in [1, 3, 10, 60, 90 * DAY] {
            let holds = Span {
                from: 1000,
                until: 1000 + life,
            };
            for random in [0, 1, u64::MAX / 3, u64::MAX] {
                let due = renewal(holds, None, random);
                assert!((1000..=1000 + life).contains(&due), "{life} {random}");
            }
        }
    }

    #[test]
    fn pauses_double_up_to_six_hours_unless_the_issuer_wants_a_longer_one() {
        let minute = Duration::from_secs(60);
        let pauses = (1..=11).map(|failures| pause(minute, failures, None, 0).as_secs() / 60);
        let expected = [1, 2, 4, 8, 16, 32, 64, 128, 256, 360, 360];
        assert_eq!(pauses.collect::<Vec<_>>(), expected);
        assert_eq!(pause(minute, u32::MAX, None, 1000), PAUSE_MAX / 4 * 3);
        assert_eq!(pause(minute, 1, Some(minute * 90), 0), minute * 90);
        assert_eq!(pause(minute, 3, Some(minute), 0), minute * 4);
        assert_eq!(pause(minute, 1, Some(Duration::MAX), 0), WISH_MAX);
    }

    #[test]
    fn a_wish_is_told_in_seconds_or_with_a_date() {
        let now = Duration::from_secs(784_111_770);
        for (said, seconds) in [
            ("0", Some(0)),
            (" 120 ", Some(120)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(7)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", Some(7)),
            ("Sun Nov  6 08:49:37 1994", Some(7)),
            ("Sat, 05 Nov 1994 08:49:37 GMT", Some(0)),
            ("Fri, 31 Dec 9999 23:59:59 GMT", Some(252_618_189_029)),
            ("-1", None),
            ("1.5", None),
            ("99999999999999999999", None),
            ("Sun, 06 Nov 1994 08:49:37 CET", None),
            ("soon", None),
            ("", None),
        ] {
            assert_eq!(wish(said, now), seconds.map(Duration::from_secs), "{said}");
        }
    }

    #[test]
    fn what_failed_is_tried_where_it_reaches_no_limit() {
        for (failures, has_staging, expected) in [
            (0, true, Way::Straight),
            (0, false, Way::Straight),
            (1, true, Way::AfterTrial),
            (9, true, Way::AfterTrial),
            (9, false, Way::Straight),
        ] {
            assert_eq!(way(failures, has_staging), expected);
        }
    }

    #[test]
    fn a_certificate_covers_names_that_it_has() {
        let certified = ["a.example".to_owned(), "*.B.example".to_owned()];
        let covered = |names: &[&str]| {
            let names: Vec<Box<str>> = names.iter().map(|name| Box::from(*name)).collect();
            covers(&certified, &names)
        };
        assert!(covered(&[]) && covered(&["a.example"]));
        assert!(covered(&["*.b.example", "a.example"]));
        assert!(!covered(&["x.b.example"]) && !covered(&["a.example", "c.example"]));
    }
}
