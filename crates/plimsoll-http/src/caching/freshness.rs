//! For how long a stored answer is fresh, and how old it is (RFC 9111 §4.2).

use std::time::Duration;

use crate::caching::directives::digits;
use crate::caching::{Directives, SECONDS_MAX};
use crate::conditional::date;
use crate::field::{self, Name};
use crate::head::Fields;

/// On what terms an answer is stored. Seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// For how long it is fresh, from when it was made.
    pub lifetime: u32,
    /// How old it was when it came.
    pub age: u32,
    /// For how long it answers, once stale, while the server is asked.
    pub while_revalidate: u32,
    /// For how long it answers, once stale, in place of an error.
    pub if_error: u32,
    /// Whether the server is asked each time.
    pub is_checked: bool,
}

/// What a stored answer is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It answers.
    Fresh,
    /// It answers while the server is asked.
    WhileRevalidating,
    /// It answers when the server cannot.
    IfError,
    /// It does not answer.
    Stale,
}

impl Terms {
    /// How old it is after it has been here for so long.
    pub fn age_after(&self, here: Duration) -> u32 {
        let here = u32::try_from(here.as_secs()).unwrap_or(SECONDS_MAX);
        self.age.saturating_add(here).min(SECONDS_MAX)
    }

    /// How long it is still fresh then; below zero when it is not.
    pub fn left_after(&self, here: Duration) -> i64 {
        i64::from(self.lifetime) - i64::from(self.age_after(here))
    }

    /// What it is good for then.
    pub fn state_after(&self, here: Duration) -> State {
        let stale_for = -self.left_after(here);
        match stale_for {
            // RFC 9111 §4.2: fresh as long as the lifetime exceeds the age.
            ..0 if !self.is_checked => State::Fresh,
            0.. if stale_for < i64::from(self.while_revalidate) => State::WhileRevalidating,
            0.. if stale_for < i64::from(self.if_error) => State::IfError,
            _ => State::Stale,
        }
    }

    /// Tells whether it answers when the server cannot.
    pub fn answers_errors_after(&self, here: Duration) -> bool {
        !self.is_checked && -self.left_after(here) < i64::from(self.if_error)
    }

    /// How long it may be of use at all, counted from when it came.
    pub fn keeps_for(&self) -> Duration {
        let longest = self.while_revalidate.max(self.if_error);
        let whole = u64::from(self.lifetime) + u64::from(longest);
        Duration::from_secs(whole.saturating_sub(u64::from(self.age)))
    }
}

/// The lifetime that an answer says it has (RFC 9111 §4.2.1); `now` is when it came.
pub(super) fn explicit(said: &Directives, fields: &Fields, head: &[u8], now: u64) -> Option<u32> {
    if let Some(seconds) = said.s_maxage.or(said.max_age) {
        return Some(seconds);
    }
    let mut lines = fields.all_by_text(head, b"expires");
    let expires = lines.next()?;
    // One that cannot be read, or more than one, is in the past (RFC 9111 §5.3).
    let at = date(expires.value.of(head)).filter(|_| lines.next().is_none());
    let made = made(fields, head).unwrap_or(now);
    let seconds = at.map_or(0, |at| at.saturating_sub(made));
    Some(
        u32::try_from(seconds)
            .unwrap_or(SECONDS_MAX)
            .min(SECONDS_MAX),
    )
}

/// A tenth, or whatever percentage, of the time since the last change (RFC 9111 §4.2.2): a day at most.
pub(super) fn heuristic(fields: &Fields, head: &[u8], now: u64, percent: u8) -> Option<u32> {
    let changed = fields.by_text(head, b"last-modified")?;
    let changed = date(changed.value.of(head))?;
    let unchanged = made(fields, head).unwrap_or(now).checked_sub(changed)?;
    let seconds = unchanged.saturating_mul(u64::from(percent)) / 100;
    u32::try_from(seconds.min(86_400)).ok()
}

/// How old an answer is when it comes, at `now`, `delay` seconds after it was asked for (RFC 9111 §4.2.3).
pub(super) fn initial_age(fields: &Fields, head: &[u8], now: u64, delay: u32) -> u32 {
    let apparent = made(fields, head).map_or(0, |made| now.saturating_sub(made));
    let apparent = u32::try_from(apparent).unwrap_or(SECONDS_MAX);
    let told = fields.by_text(head, b"age");
    let told = told.and_then(|line| digits(field::list(line.value.of(head)).next()?));
    let corrected = told.unwrap_or(0).saturating_add(delay);
    apparent.max(corrected).min(SECONDS_MAX)
}

fn made(fields: &Fields, head: &[u8]) -> Option<u64> {
    date(fields.first(Name::Date)?.value.of(head))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::caching::tests::answer;

    /// 784_111_777
    const NOW: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const AT: u64 = 784_111_777;

    #[test]
    fn lifetimes_are_what_is_said_first_for_shared_caches() {
        for (lines, expected) in [
            ("Cache-Control: max-age=10\r\n", Some(10)),
            ("Cache-Control: max-age=10, s-maxage=20\r\n", Some(20)),
            ("Cache-Control: s-maxage=20, max-age=10\r\n", Some(20)),
            ("Cache-Control: s-maxage=0, max-age=10\r\n", Some(0)),
            ("Cache-Control: public\r\n", None),
            ("Expires: Sun, 06 Nov 1994 08:50:37 GMT\r\n", Some(60)),
            ("Expires: Sunday, 06-Nov-94 08:50:37 GMT\r\n", Some(60)),
            ("Expires: Sun Nov  6 08:50:37 1994\r\n", Some(60)),
            ("Expires: Sun, 06 Nov 1994 08:48:37 GMT\r\n", Some(0)),
            ("Expires: 0\r\n", Some(0)),
            ("Expires: -1\r\n", Some(0)),
            ("Expires: \r\n", Some(0)),
            ("Expires: now\r\n", Some(0)),
            ("Expires: Sun, 06 Nov 1994 08:50:37 UTC\r\n", Some(0)),
            (
                "Expires: Thu, 06 Nov 2994 08:50:37 GMT\r\n",
                Some(SECONDS_MAX),
            ),
            (
                "Expires: Sun, 06 Nov 1994 08:50:37 GMT\r\nExpires: Sun, 06 Nov 1994 08:50:37 GMT\r\n",
                Some(0),
            ),
            ("Cache-Control: max-age=5\r\nExpires: 0\r\n", Some(5)),
            (
                "Cache-Control: max-age=x\r\nExpires: Sun, 06 Nov 1994 08:50:37 GMT\r\n",
                Some(0),
            ),
            (
                "Date: Sun, 06 Nov 1994 08:49:07 GMT\r\nExpires: Sun, 06 Nov 1994 08:50:37 GMT\r\n",
                Some(90),
            ),
            ("A: b\r\n", None),
        ] {
            let (head, bytes) = answer(&format!("HTTP/1.1 200 OK\r\n{lines}\r\n"));
            let said = Directives::read(&head.fields, &bytes).0;
            let lifetime = explicit(&said, &head.fields, &bytes, AT);
            assert_eq!(lifetime, expected, "{lines}");
        }
    }

    #[test]
    fn ages_are_the_larger_of_what_clocks_and_caches_say() {
        for (lines, delay, expected) in [
            ("", 0, 0),
            ("", 2, 2),
            ("Age: 30\r\n", 0, 30),
            ("Age: 30\r\n", 2, 32),
            ("Age: 30, 40\r\n", 0, 30),
            ("Age: 30\r\nAge: 40\r\n", 0, 30),
            ("Age: -1\r\n", 0, 0),
            ("Age: abc\r\n", 0, 0),
            ("Age: 1.5\r\n", 0, 0),
            ("Age: \"30\"\r\n", 0, 0),
            ("Age: 4294967296\r\n", 0, SECONDS_MAX),
            ("Age: 4294967296\r\n", 9, SECONDS_MAX),
            ("Date: Sun, 06 Nov 1994 08:49:07 GMT\r\n", 0, 30),
            ("Date: Sun, 06 Nov 1994 08:49:07 GMT\r\nAge: 10\r\n", 0, 30),
            ("Date: Sun, 06 Nov 1994 08:49:07 GMT\r\nAge: 50\r\n", 0, 50),
            ("Date: Sun, 06 Nov 1994 08:59:07 GMT\r\n", 0, 0),
            ("Date: yesterday\r\n", 0, 0),
        ] {
            let (head, bytes) = answer(&format!("HTTP/1.1 200 OK\r\n{lines}\r\n"));
            assert_eq!(
                initial_age(&head.fields, &bytes, AT, delay),
                expected,
                "{lines}"
            );
        }
    }

    #[test]
    fn guesses_need_a_last_change_and_end_after_a_day() {
        let age = |lines: &str, percent| {
            let (head, bytes) = answer(&format!("HTTP/1.1 200 OK\r\n{lines}\r\n"));
            heuristic(&head.fields, &bytes, AT, percent)
        };
        assert_eq!(
            age("Last-Modified: Sun, 06 Nov 1994 08:33:57 GMT\r\n", 10),
            Some(94)
        );
        assert_eq!(
            age("Last-Modified: Sun, 06 Nov 1904 08:33:57 GMT\r\n", 10),
            None
        );
        assert_eq!(
            age("Last-Modified: Sun, 06 Nov 1988 08:33:57 GMT\r\n", 10),
            Some(86_400)
        );
        assert_eq!(age(&format!("Last-Modified: {NOW}\r\n"), 10), Some(0));
        assert_eq!(
            age("Last-Modified: Sun, 06 Nov 1999 08:33:57 GMT\r\n", 10),
            None
        );
        assert_eq!(age("Last-Modified: x\r\n", 10), None);
        assert_eq!(age("", 10), None);
    }

    #[test]
    fn states_follow_one_another_and_have_no_gap() {
        let terms = Terms {
            lifetime: 100,
            age: 10,
            while_revalidate: 20,
            if_error: 50,
            is_checked: false,
        };
        for (here, expected) in [
            (0, State::Fresh),
            (89, State::Fresh),
            (90, State::WhileRevalidating),
            (109, State::WhileRevalidating),
            (110, State::IfError),
            (139, State::IfError),
            (140, State::Stale),
            (u64::MAX, State::Stale),
        ] {
            assert_eq!(
                terms.state_after(Duration::from_secs(here)),
                expected,
                "{here}"
            );
        }
        let second = Duration::from_secs;
        assert!(terms.answers_errors_after(second(0)) && terms.answers_errors_after(second(139)));
        assert!(!terms.answers_errors_after(second(140)));
        assert_eq!(
            (terms.left_after(second(80)), terms.left_after(second(95))),
            (10, -5)
        );
        assert_eq!(terms.keeps_for(), second(140));
        let checked = Terms {
            while_revalidate: 0,
            if_error: 0,
            is_checked: true,
            ..terms
        };
        assert_eq!(checked.state_after(second(0)), State::Stale);
    }
}
