//! What a peer makes us do beside carrying requests.
//!
//! Frames that ask for work and bring nothing are free to send: resets, pings, settings, changes of
//! priority (CVE-2019-9512 to 9518, CVE-2023-44487). Each kind has an allowance a second.

/// The size of a frame's head (RFC 9113 §4.1).
const HEAD_BYTES: usize = 9;

/// How many frames of each type a peer may send in one second; the rest is bounded by windows, or by
/// what a head may hold.
const ALLOWED: [(u8, u32); 5] = [
    (2, 1_000),  // PRIORITY
    (3, 200),    // RST_STREAM
    (4, 50),     // SETTINGS
    (6, 100),    // PING
    (8, 20_000), // WINDOW_UPDATE
];

/// Counts frames that go by.
#[derive(Debug, Default)]
pub struct Meter {
    /// The head of a frame, as far as it has come.
    head: [u8; HEAD_BYTES],
    head_len: usize,
    /// What of the frame's payload has yet to come.
    payload: usize,
    /// The second that is counted.
    second: u64,
    counts: [u32; ALLOWED.len()],
}

/// A peer asks for too much work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Excess;

impl Meter {
    /// Looks at bytes that came in the given second.
    ///
    /// # Errors
    /// With them the peer has gone beyond what is allowed.
    pub fn see(&mut self, mut bytes: &[u8], second: u64) -> Result<(), Excess> {
        if second != self.second {
            (self.second, self.counts) = (second, Default::default());
        }
        while !bytes.is_empty() {
            let skipped = self.payload.min(bytes.len());
            self.payload -= skipped;
            bytes = bytes.get(skipped..).unwrap_or_default();
            let wanted = HEAD_BYTES - self.head_len;
            let (now, rest) = bytes.split_at(wanted.min(bytes.len()));
            if let Some(place) = self.head.get_mut(self.head_len..self.head_len + now.len()) {
                place.copy_from_slice(now);
            }
            self.head_len += now.len();
            bytes = rest;
            if self.head_len == HEAD_BYTES {
                self.begin_frame()?;
            }
        }
        Ok(())
    }

    fn begin_frame(&mut self) -> Result<(), Excess> {
        let [a, b, c, kind, ..] = self.head;
        self.head_len = 0;
        self.payload = u32::from_be_bytes([0, a, b, c]) as usize;
        for ((counted, most), count) in ALLOWED.iter().zip(&mut self.counts) {
            if *counted == kind {
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

    fn frame(kind: u8, payload: usize) -> Vec<u8> {
        let length = u8::try_from(payload).unwrap();
        let mut frame = vec![0, 0, length, kind, 0, 0, 0, 0, 1];
        frame.resize(HEAD_BYTES + payload, 6);
        frame
    }

    #[test]
    fn frames_are_counted_however_they_are_cut() {
        let pings: Vec<u8> = [frame(0, 200), frame(6, 8), frame(1, 0)]
            .concat()
            .repeat(100);
        for piece in [1, 2, 9, 10, 1000] {
            let mut meter = Meter::default();
            for bytes in pings.chunks(piece) {
                assert_eq!(meter.see(bytes, 7), Ok(()));
            }
            let mut other = frame(6, 8);
            assert_eq!(meter.see(&other, 7), Err(Excess), "the 101st");
            other.clear();
        }
    }

    #[test]
    fn each_second_is_a_new_one() {
        let mut meter = Meter::default();
        let settings = frame(4, 6).repeat(50);
        for second in 0..10 {
            assert_eq!(meter.see(&settings, second), Ok(()));
        }
        assert_eq!(meter.see(&settings, 9), Err(Excess));
    }
}
