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

/// A number below 100 in two digits.
pub fn two_digits(n: u8) -> [u8; 2] {
    [b'0' + n / 10 % 10, b'0' + n % 10]
}

#[cfg(test)]
mod tests {
    use super::*;

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
