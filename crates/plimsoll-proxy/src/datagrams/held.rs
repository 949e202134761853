//! The last datagrams that were sent to servers, for the case that nobody was there.

/// How many bytes are held.
const HELD_BYTES: usize = 256 * 1024;

/// Longer datagrams are not held: whoever sends them sends many.
const LONGEST: usize = 2048;

/// Where a datagram is held, for as long as no others have taken its place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spot {
    /// How many bytes had been held before it.
    at: u64,
    len: usize,
}

/// A ring of datagrams.
#[derive(Debug)]
pub(super) struct Held {
    ring: Vec<u8>,
    /// How many bytes have been held so far, with those that were left out at its end.
    written: u64,
}

impl Default for Held {
    fn default() -> Self {
        Self {
            ring: vec![0; HELD_BYTES],
            written: 0,
        }
    }
}

impl Held {
    /// Holds a datagram, unless it is too long.
    pub(super) fn put(&mut self, bytes: &[u8]) -> Option<Spot> {
        let len = bytes.len();
        if len > LONGEST {
            return None;
        }
        let mut begin = place(self.written);
        if begin + len > HELD_BYTES {
            self.written += (HELD_BYTES - begin) as u64; // one piece, at the beginning
            begin = 0;
        }
        self.ring
            .get_mut(begin..begin + len)?
            .copy_from_slice(bytes);
        let at = self.written;
        self.written += len as u64;
        Some(Spot { at, len })
    }

    /// The datagram there, if it still is.
    pub(super) fn get(&self, spot: Spot) -> Option<&[u8]> {
        let begin = place(spot.at);
        let is_there = self.written - spot.at <= HELD_BYTES as u64;
        self.ring.get(begin..begin + spot.len).filter(|_| is_there)
    }
}

fn place(at: u64) -> usize {
    usize::try_from(at % HELD_BYTES as u64).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_what_was_sent_or_nothing() {
        let mut held = Held::default();
        let bytes = |number: usize| vec![number.to_le_bytes()[0]; 1 + number * 7 % LONGEST];
        let spots: Vec<_> = (0..1000)
            .map(|number| held.put(&bytes(number)).unwrap())
            .collect();
        let is_there = |(number, spot): (usize, &Spot)| match held.get(*spot) {
            Some(found) => {
                assert_eq!(found, bytes(number));
                true
            }
            None => false,
        };
        let there = spots.iter().enumerate().map(is_there).collect::<Vec<_>>();
        assert!(there.ends_with(&[true; 100]) && there.starts_with(&[false; 100]));
        assert!(held.put(&[0; LONGEST + 1]).is_none());
        assert_eq!(held.put(&[]).and_then(|spot| held.get(spot)), Some(&[][..]));
    }
}
