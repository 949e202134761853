//! What a peer makes us do beside carrying requests.
//!
//! Frames that ask for work and bring nothing are free to send: resets, pings, settings, changes of priority, data
//! without any (CVE-2019-9512 to 9518, CVE-2023-44487). Each kind has an allowance a second.

use super::frame::{Head, flag, kind};

/// How many frames of each type a peer may send in one second; the rest is bounded by windows, or by what a head may
/// hold.
const ALLOWED: [(u8, u32); 6] = [
    (kind::DATA, 1_000), // of those that hold none, and do not end their stream
    (kind::PRIORITY, 1_000),
    (kind::RST_STREAM, 200),
    (kind::SETTINGS, 50),
    (kind::PING, 100),
    (kind::WINDOW_UPDATE, 20_000),
];

/// Counts frames.
#[derive(Debug, Default)]
pub(super) struct Meter {
    /// The second that is counted.
    second: u64,
    counts: [u32; ALLOWED.len()],
}

/// A peer asks for too much work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Excess;

impl Meter {
    /// Counts a frame that came in the given second; `data` is what a frame of data holds.
    pub(super) fn count(&mut self, head: Head, data: usize, second: u64) -> Result<(), Excess> {
        let is_data = head.kind == kind::DATA;
        if is_data && (data > 0 || head.has(flag::END_STREAM)) {
            return Ok(());
        }
        if second != self.second {
            (self.second, self.counts) = (second, Default::default());
        }
        for ((counted, most), count) in ALLOWED.iter().zip(&mut self.counts) {
            if *counted == head.kind {
                *count += 1;
                return if *count > *most { Err(Excess) } else { Ok(()) };
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(kind: u8, flags: u8) -> Head {
        Head {
            length: 0,
            kind,
            flags,
            stream: 1,
        }
    }

    #[test]
    fn each_kind_has_an_allowance_a_second() {
        let mut meter = Meter::default();
        for second in 0..10 {
            for _ in 0..50 {
                assert_eq!(meter.count(head(kind::SETTINGS, 0), 0, second), Ok(()));
                assert_eq!(meter.count(head(kind::PING, 0), 0, second), Ok(()));
            }
        }
        assert_eq!(meter.count(head(kind::SETTINGS, 0), 0, 9), Err(Excess));
        assert_eq!(meter.count(head(kind::PING, 0), 0, 9), Ok(()));
        assert_eq!(meter.count(head(kind::HEADERS, 0), 0, 9), Ok(()));
    }

    #[test]
    fn data_is_free_as_long_as_there_is_some() {
        let mut meter = Meter::default();
        for _ in 0..2_000 {
            assert_eq!(meter.count(head(kind::DATA, 0), 1, 7), Ok(()));
            assert_eq!(
                meter.count(head(kind::DATA, flag::END_STREAM), 0, 7),
                Ok(())
            );
        }
        let counted: Vec<_> = (0..1_001)
            .map(|_| meter.count(head(kind::DATA, 0), 0, 7))
            .collect();
        assert_eq!(counted.iter().filter(|count| count.is_err()).count(), 1);
    }
}
