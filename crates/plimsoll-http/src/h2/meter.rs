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

/// The type of the frames that carry bodies, and their flags of which the meter knows (RFC 9113 §6.1).
const DATA: u8 = 0;
const END_STREAM: u8 = 1;
const PADDED: u8 = 8;

/// What a piece of a body costs at least while it waits, whatever it holds.
const PIECE_BYTES: usize = 256;

/// What pieces that wait may cost beside what they hold, before they are put together.
const OVERHEAD_MAX: usize = 128 * 1024;

/// The type of the frame with which a peer begins (RFC 9113 §3.4).
const SETTINGS: u8 = 4;

/// The type of the frame with which a peer leaves.
const GOAWAY: u8 = 7;

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
    /// What pieces of bodies cost beside what they hold, if all of them wait.
    overhead: usize,
    /// The last stream that a peer who leaves will look at; the bytes of it that have come.
    last_stream: [u8; 4],
    last_stream_len: Option<usize>,
    has_begun: bool,
    /// Whether all of the first frame has come, and is the one that it must be.
    is_settled: bool,
}

/// A peer asks for too much work, or does not begin as it must.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Excess;

impl Meter {
    /// One for a client, which says something else first (RFC 9113 §3.4).
    pub fn of_client() -> Self {
        Self {
            payload: b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".len(),
            ..Self::default()
        }
    }

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
            self.note_last_stream(bytes.get(..skipped).unwrap_or_default());
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
        self.is_settled |= self.has_begun && self.payload == 0;
        Ok(())
    }

    /// The last stream that the peer will look at, if it has said that it leaves (RFC 9113 §6.8). The
    /// library says so only to those behind it, and not only to them.
    pub fn last_stream(&self) -> Option<u32> {
        let is_known = self.last_stream_len == Some(self.last_stream.len());
        is_known.then(|| u32::from_be_bytes(self.last_stream) & 0x7fff_ffff)
    }

    /// Tells whether the settings have come with which the peer begins.
    pub fn is_settled(&self) -> bool {
        self.is_settled
    }

    /// Tells whether small pieces of bodies may have piled up since it last said so.
    pub fn have_piled_up(&mut self) -> bool {
        let have = self.overhead >= OVERHEAD_MAX;
        if have {
            self.overhead = 0;
        }
        have
    }

    fn note_last_stream(&mut self, payload: &[u8]) {
        let Some(len) = &mut self.last_stream_len else {
            return;
        };
        for (place, byte) in self.last_stream.iter_mut().skip(*len).zip(payload) {
            *place = *byte;
            *len += 1;
        }
    }

    fn begin_frame(&mut self) -> Result<(), Excess> {
        let [a, b, c, kind, flags, ..] = self.head;
        self.head_len = 0;
        self.payload = u32::from_be_bytes([0, a, b, c]) as usize;
        if std::mem::replace(&mut self.has_begun, true) {
            self.is_settled = true;
        } else if kind != SETTINGS {
            return Err(Excess);
        }
        if kind == DATA && flags & END_STREAM == 0 {
            let is_padded = flags & PADDED != 0;
            let held = if is_padded { 0 } else { self.payload };
            self.overhead += PIECE_BYTES.saturating_sub(held);
        }
        if kind == GOAWAY {
            self.last_stream_len = Some(0);
        }
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

    /// One of a peer that has begun.
    fn begun() -> Meter {
        Meter {
            has_begun: true,
            ..Meter::default()
        }
    }

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
            let mut meter = begun();
            for bytes in pings.chunks(piece) {
                assert_eq!(meter.see(bytes, 7), Ok(()));
            }
            let mut other = frame(6, 8);
            assert_eq!(meter.see(&other, 7), Err(Excess), "the 101st");
            other.clear();
        }
    }

    #[test]
    fn a_peer_that_leaves_says_what_it_will_look_at() {
        let mut goaway = frame(7, 8);
        goaway.splice(9..13, [0x80, 0, 1, 3]);
        let all = [frame(0, 3), goaway, frame(0, 3)].concat();
        for piece in [1, 2, 5, 11, 100] {
            let mut meter = begun();
            assert_eq!(meter.last_stream(), None);
            for bytes in all.chunks(piece) {
                assert_eq!(meter.see(bytes, 7), Ok(()));
            }
            assert_eq!(meter.last_stream(), Some(0x103));
        }
    }

    #[test]
    fn small_pieces_pile_up() {
        let last = [0, 0, 1, 0, END_STREAM, 0, 0, 0, 1, b'x'];
        let padded = [0, 1, 0, 0, PADDED, 0, 0, 0, 1];
        let padded = [padded.to_vec(), vec![254; 256]].concat();
        for (piece, most) in [(frame(0, 0), 512), (frame(0, 128), 1024), (padded, 512)] {
            let mut meter = begun();
            for _ in 0..2 {
                meter.see(&piece.repeat(most - 1), 7).unwrap();
                meter.see(&last.repeat(1_000), 7).unwrap();
                meter.see(&frame(0, 255).repeat(10), 7).unwrap();
                assert!(!meter.have_piled_up());
                meter.see(&piece, 7).unwrap();
                assert!(meter.have_piled_up());
                assert!(!meter.have_piled_up());
            }
        }
    }

    #[test]
    fn what_a_client_says_first_is_no_frame() {
        let mut meter = Meter::of_client();
        let said = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        assert_eq!(meter.see(said, 7), Ok(()));
        assert_eq!(meter.see(&frame(4, 6), 7), Ok(()));
        assert_eq!(meter.see(&frame(6, 8).repeat(100), 7), Ok(()));
        assert_eq!(meter.see(&frame(6, 8), 7), Err(Excess));
    }

    #[test]
    fn a_peer_begins_with_its_settings() {
        let begin = |kind| Meter::default().see(&frame(kind, 6), 7);
        assert_eq!(begin(4), Ok(()));
        for kind in [0, 1, 6, 7, 99] {
            assert_eq!(begin(kind), Err(Excess));
        }
        let mut meter = Meter::default();
        let said = b"HTTP/1.1 400 Bad Request\r\n\r\n";
        assert_eq!(meter.see(said, 7), Err(Excess));
        assert!(!meter.is_settled());
        for settings in [frame(4, 0), frame(4, 6)] {
            for piece in [1, 8, 9, 100] {
                let mut meter = Meter::default();
                for bytes in settings.chunks(piece) {
                    assert!(!meter.is_settled());
                    meter.see(bytes, 7).unwrap();
                }
                assert!(meter.is_settled());
            }
        }
        let mut meter = Meter::default();
        meter
            .see(&[frame(4, 6), frame(6, 8)[..12].to_vec()].concat(), 7)
            .unwrap();
        assert!(meter.is_settled());
    }

    #[test]
    fn each_second_is_a_new_one() {
        let mut meter = begun();
        let settings = frame(4, 6).repeat(50);
        for second in 0..10 {
            assert_eq!(meter.see(&settings, second), Ok(()));
        }
        assert_eq!(meter.see(&settings, 9), Err(Excess));
    }
}
