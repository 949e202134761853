//! Dates as HTTP writes them (RFC 9110 §5.6.7), and as logs do.

/// A moment, split into what a calendar shows. UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Civil {
    /// Year.
    pub year: u32,
    /// Month, from 1.
    pub month: u8,
    /// Day of the month, from 1.
    pub day: u8,
    /// Day of the week, Sunday is 0.
    pub weekday: u8,
    /// Hour.
    pub hour: u8,
    /// Minute.
    pub minute: u8,
    /// Second.
    pub second: u8,
}

const DAYS: [&[u8; 3]; 7] = [b"Sun", b"Mon", b"Tue", b"Wed", b"Thu", b"Fri", b"Sat"];
const MONTHS: [&[u8; 3]; 12] = [
    b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec",
];

impl Civil {
    /// The date and time `seconds` after 1970-01-01T00:00:00Z.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "each value is a remainder below 400 000"
    )]
    pub fn from_unix(seconds: u64) -> Self {
        let days = seconds / 86_400;
        let rest = (seconds % 86_400) as u32;
        // Howard Hinnant's days-to-civil algorithm: years begin in March, eras have 400 years.
        let shifted = days + 719_468;
        let era = shifted / 146_097;
        let day_of_era = (shifted % 146_097) as u32;
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let month = if month_from_march < 10 {
            month_from_march + 3
        } else {
            month_from_march - 9
        };
        Self {
            year: era as u32 * 400 + year_of_era + u32::from(month <= 2),
            month: month as u8,
            day: (day_of_year - (153 * month_from_march + 2) / 5 + 1) as u8,
            weekday: ((days + 4) % 7) as u8,
            hour: (rest / 3_600) as u8,
            minute: (rest / 60 % 60) as u8,
            second: (rest % 60) as u8,
        }
    }

    /// The month's name in three letters.
    pub fn month_name(self) -> &'static [u8; 3] {
        MONTHS
            .get(usize::from(self.month) - 1)
            .copied()
            .unwrap_or(b"Jan")
    }
}

/// Length of an HTTP date.
pub const HTTP_DATE_BYTES: usize = 29;

/// `Sun, 06 Nov 1994 08:49:37 GMT`
pub fn http_date(seconds: u64) -> [u8; HTTP_DATE_BYTES] {
    let at = Civil::from_unix(seconds);
    let mut out = *b"Sun, 06 Nov 1994 08:49:37 GMT";
    let mut put = |start: usize, text: &[u8]| {
        if let Some(place) = out.get_mut(start..start + text.len()) {
            place.copy_from_slice(text);
        }
    };
    put(
        0,
        DAYS.get(usize::from(at.weekday)).copied().unwrap_or(b"Sun"),
    );
    put(5, &two_digits(at.day));
    put(8, at.month_name());
    put(12, &two_digits((at.year / 100 % 100) as u8));
    put(14, &two_digits((at.year % 100) as u8));
    put(17, &two_digits(at.hour));
    put(20, &two_digits(at.minute));
    put(23, &two_digits(at.second));
    out
}

/// Reads a date in any of the three forms that HTTP has had (RFC 9110 §5.6.7), as seconds since 1970. The day of
/// the week is not compared with the date. A year of two digits is in this century up to 69, else in the last.
pub fn parse(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?;
    if !text.is_ascii() {
        return None;
    }
    let (weekday, rest) = text.split_at_checked(text.find([',', ' '])?)?;
    match rest.strip_prefix(", ") {
        Some(rest) => {
            let rest = rest.strip_suffix(" GMT")?;
            let is_short = rest.as_bytes().get(2) == Some(&b'-');
            let mut parts = rest.split(if is_short { ['-', ' '] } else { [' ', ' '] });
            let (day, month, year) = (parts.next()?, parts.next()?, parts.next()?);
            let time = parts.next().filter(|_| parts.next().is_none())?;
            check_weekday(
                weekday,
                if is_short {
                    Weekday::Long
                } else {
                    Weekday::Short
                },
            )?;
            let year = match is_short {
                true => century(number(year, 2)?),
                false => number(year, 4)?,
            };
            seconds((year, month_number(month)?, number(day, 2)?), time)
        }
        None => {
            check_weekday(weekday, Weekday::Short)?;
            let (month, rest) = rest.get(1..)?.split_at_checked(3)?;
            let day = rest.get(1..3)?;
            let day = day
                .strip_prefix(' ')
                .map_or_else(|| number(day, 2), |day| number(day, 1))?;
            let (time, year) = rest.get(4..)?.split_once(' ')?;
            let is_spaced = rest.starts_with(' ') && rest.get(3..4) == Some(" ");
            seconds((number(year, 4)?, month_number(month)?, day), time).filter(|_| is_spaced)
        }
    }
}

/// How the name of a day is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Weekday {
    Short,
    Long,
}

fn check_weekday(text: &str, form: Weekday) -> Option<()> {
    let short = text.as_bytes().get(..3)?;
    let is_known = DAYS.iter().any(|day| day.as_slice() == short);
    let is_sound = match form {
        Weekday::Short => text.len() == 3,
        Weekday::Long => text.len() > 5 && text.ends_with("day"),
    };
    (is_known && is_sound).then_some(())
}

fn century(year: u64) -> u64 {
    if year < 70 { 2000 + year } else { 1900 + year }
}

fn month_number(text: &str) -> Option<u64> {
    let place = MONTHS
        .iter()
        .position(|month| month.as_slice() == text.as_bytes())?;
    Some(place as u64 + 1)
}

/// A number of exactly so many digits.
fn number(text: &str, digits: usize) -> Option<u64> {
    let is_plain = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_plain)
}

/// Seconds since 1970 of a date that has been, and a time of the day.
fn seconds((year, month, day): (u64, u64, u64), time: &str) -> Option<u64> {
    let mut parts = time.split(':').map(|part| number(part, 2));
    let (hour, minute, second) = (parts.next()??, parts.next()??, parts.next()??);
    let is_day = (1..=31).contains(&day) && parts.next().is_none();
    // A leap second counts as the one behind it.
    if year < 1970 || !is_day || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    // Howard Hinnant's civil-to-days algorithm: years begin in March, eras have 400 years.
    let shifted = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (shifted / 400, shifted % 400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = (era * 146_097 + day_of_era).checked_sub(719_468)?;
    Some(days * 86_400 + hour * 3_600 + minute * 60 + second)
}

/// A number below 100 in two digits.
pub fn two_digits(n: u8) -> [u8; 2] {
    [b'0' + n / 10 % 10, b'0' + n % 10]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn dates_are_read_in_their_three_forms() {
        for text in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
            "Mon, 06 Nov 1994 08:49:37 GMT",
        ] {
            assert_eq!(parse(text.as_bytes()), Some(784_111_777), "{text}");
        }
        assert_eq!(parse(b"Sun Nov 16 08:49:37 1994"), Some(784_975_777));
        assert_eq!(
            parse(b"Tuesday, 01-Jan-69 00:00:00 GMT"),
            Some(3_124_224_000)
        );
        for text in [
            "",
            "0",
            "-1",
            "Sun",
            "Sun, 06 Nov 1994 08:49:37",
            "Sun, 06 Nov 1994 08:49:37 UTC",
            "Sun, 6 Nov 1994 08:49:37 GMT",
            "Sun, 06 nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 94 08:49:37 GMT",
            "Sun, 06 Nov 1994 8:49:37 GMT",
            "Sun, 06 Nov 1994 08:49 GMT",
            "Sun, 06 Nov 1994 24:49:37 GMT",
            "Sun, 00 Nov 1994 08:49:37 GMT",
            "Sun, 32 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1969 08:49:37 GMT",
            "Sun,  06 Nov 1994 08:49:37 GMT",
            "Sun, 06  Nov 1994 08:49:37 GMT",
            "Sunday, 06 Nov 1994 08:49:37 GMT",
            "Sun, 06-Nov-94 08:49:37 GMT",
            "Xxx, 06 Nov 1994 08:49:37 GMT",
            "Sun Nov 6 08:49:37 1994",
            "Sun Nov  6 08:49:37 94",
            "Sun, 06 Nov 1994 08:49:37 GMT ",
        ] {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(at in 0_u64..253_402_300_800) {
            prop_assert_eq!(parse(&http_date(at)), Some(at));
        }

        #[test]
        fn no_text_is_too_much(text in "[A-Za-z0-9,: -]{0,40}") {
            let _ = parse(text.as_bytes());
        }
    }

    #[test]
    fn dates_are_right() {
        for (seconds, text) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (1_709_251_199, "Thu, 29 Feb 2024 23:59:59 GMT"),
            (4_102_444_800, "Fri, 01 Jan 2100 00:00:00 GMT"),
        ] {
            assert_eq!(std::str::from_utf8(&http_date(seconds)), Ok(text));
        }
    }
}
