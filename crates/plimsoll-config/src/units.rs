//! Values with units: durations, sizes, rates. A number without a unit means nothing.

use std::time::Duration;

/// Why a text is not a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum BadUnit {
    /// Digits without a unit.
    Missing,
    /// Digits with an unknown unit.
    Unknown(String),
    /// No number at all.
    NotANumber,
    /// Over what the type holds.
    TooLarge,
}

/// The units of durations, in milliseconds.
pub(crate) const DURATIONS: &[(&str, u64)] = &[
    ("ms", 1),
    ("s", 1_000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
];

/// The units of sizes, in bytes.
pub(crate) const SIZES: &[(&str, u64)] = &[
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
];

/// Parses `10s`, `1.5h`, `500ms`.
pub(crate) fn duration(text: &str) -> Result<Duration, BadUnit> {
    scaled(text, DURATIONS).map(Duration::from_millis)
}

/// Parses `64KiB`, `1GiB`, `10MB`.
pub(crate) fn size(text: &str) -> Result<u64, BadUnit> {
    scaled(text, SIZES)
}

/// Parses `240B/s`, `1KiB/s`.
pub(crate) fn byte_rate(text: &str) -> Result<u64, BadUnit> {
    match text.strip_suffix("/s") {
        Some(size) => scaled(size, SIZES),
        None if text.bytes().all(|b| b.is_ascii_digit()) && !text.is_empty() => {
            Err(BadUnit::Missing)
        }
        None => Err(BadUnit::Unknown(unit_of(text).to_owned())),
    }
}

/// Writes a duration in its largest unit that is exact.
pub(crate) fn duration_text(duration: Duration) -> String {
    text(
        u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
        DURATIONS,
    )
}

/// Writes a size in its largest binary unit that is exact.
pub(crate) fn size_text(bytes: u64) -> String {
    text(bytes, SIZES.get(..5).unwrap_or_default())
}

fn text(n: u64, units: &[(&str, u64)]) -> String {
    let exact = units
        .iter()
        .rev()
        .find(|(_, scale)| n != 0 && n.is_multiple_of(*scale));
    let (unit, scale) = exact.or_else(|| units.first()).copied().unwrap_or(("", 1));
    format!("{}{unit}", n / scale)
}

fn scaled(text: &str, units: &[(&str, u64)]) -> Result<u64, BadUnit> {
    let unit = unit_of(text);
    let number = text.strip_suffix(unit).unwrap_or(text);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) || number.ends_with('.') {
        return Err(BadUnit::NotANumber);
    }
    if unit.is_empty() {
        return Err(BadUnit::Missing);
    }
    let (_, scale) = units
        .iter()
        .find(|(name, _)| *name == unit)
        .ok_or_else(|| BadUnit::Unknown(unit.to_owned()))?;
    let whole: u64 = whole.parse().map_err(|_| BadUnit::TooLarge)?;
    let value = whole.checked_mul(*scale).ok_or(BadUnit::TooLarge)?;
    // Six digits behind the point are exact enough for anything with a unit.
    let fraction = fraction.get(..6).unwrap_or(fraction);
    let power = 10_u64.pow(u32::try_from(fraction.len()).unwrap_or_default());
    let part = fraction
        .parse::<u64>()
        .unwrap_or_default()
        .saturating_mul(*scale)
        / power;
    value.checked_add(part).ok_or(BadUnit::TooLarge)
}

fn unit_of(text: &str) -> &str {
    text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_with_units() {
        assert_eq!(duration("1.5h"), Ok(Duration::from_secs(5400)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(size("64KiB"), Ok(65_536));
        assert_eq!(size("0.5MiB"), Ok(524_288));
        assert_eq!(byte_rate("240B/s"), Ok(240));
        assert_eq!(duration("10"), Err(BadUnit::Missing));
        assert_eq!(duration("10sec"), Err(BadUnit::Unknown("sec".into())));
        assert_eq!(duration("fast"), Err(BadUnit::NotANumber));
        assert_eq!(duration("-1s"), Err(BadUnit::NotANumber));
        assert_eq!(duration("1.s"), Err(BadUnit::NotANumber));
        assert_eq!(size("99999999999GiB"), Err(BadUnit::TooLarge));
        assert_eq!(byte_rate("240B"), Err(BadUnit::Unknown("B".into())));
    }

    #[test]
    fn what_is_written_is_read() {
        for ms in [0, 1, 999, 1_000, 61_000, 3_600_000, 90_000] {
            let value = Duration::from_millis(ms);
            assert_eq!(duration(&duration_text(value)), Ok(value));
        }
        for bytes in [0, 1, 1024, 1500, 1 << 30] {
            assert_eq!(size(&size_text(bytes)), Ok(bytes));
        }
        assert_eq!(duration_text(Duration::from_secs(90)), "90s");
        assert_eq!(size_text(32 * 1024), "32KiB");
    }
}
