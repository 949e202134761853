//! What every version of QUIC shows of its packets (RFC 8999): whether a header is long, and the connection ids.

/// The first packet of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// One with a long header, as connections begin with.
    Long {
        /// The id by which its receiver knows the connection; of the first packet of all, what the client has made up.
        destination: &'a [u8],
        /// The id by which its sender wants to be spoken to.
        source: &'a [u8],
    },
    /// One with a short header: what follows its first byte begins with the id of its receiver, whose length only that
    /// knows.
    Short(&'a [u8]),
}

/// Reads the header that a datagram begins with; nothing where it is cut off.
pub fn parse(datagram: &[u8]) -> Option<Packet<'_>> {
    let (first, rest) = datagram.split_first()?;
    if first & 0x80 == 0 {
        return Some(Packet::Short(rest));
    }
    let (_version, rest) = rest.split_first_chunk::<4>()?;
    let (destination, rest) = id(rest)?;
    let (source, _) = id(rest)?;
    Some(Packet::Long {
        destination,
        source,
    })
}

/// An id behind its length.
fn id(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = bytes.split_first()?;
    rest.split_at_checked(usize::from(*len))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn headers_that_are_cut_off_are_none() {
        let long = b"\xc0\0\0\0\x01\x03abc\x02xypayload";
        let packet = Packet::Long {
            destination: b"abc",
            source: b"xy",
        };
        assert_eq!(parse(long), Some(packet));
        for end in 0..12 {
            assert_eq!(parse(&long[..end]), None, "{end}");
        }
        assert_eq!(parse(b"\x40abc"), Some(Packet::Short(b"abc")));
        // Whatever the version, and however long an id is.
        let longest = [&b"\xff\xff\xff\xff\xff\xff"[..], &[7; 255], b"\0"].concat();
        let packet = Packet::Long {
            destination: &[7; 255],
            source: b"",
        };
        assert_eq!(parse(&longest), Some(packet));
    }

    proptest! {
        #[test]
        fn what_is_read_stands_in_the_datagram(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            crate::fuzz::fuzz_datagram(&bytes);
            match parse(&bytes) {
                Some(Packet::Short(rest)) => prop_assert_eq!(rest, &bytes[1..]),
                Some(Packet::Long { destination, source }) => {
                    prop_assert_eq!(usize::from(bytes[5]), destination.len());
                    prop_assert!(7 + destination.len() + source.len() <= bytes.len());
                }
                None => prop_assert!(bytes.len() < 7 + 2 * 255),
            }
        }
    }
}
