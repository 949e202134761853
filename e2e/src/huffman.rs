//! The Huffman code of HPACK (RFC 7541 §5.2).
//!
//! Its codes are canonical: those of one length follow each other in the order of their bytes. So the
//! lengths tell all of them.

use std::sync::LazyLock;

/// How many bits the code of each byte has (RFC 7541, Appendix B).
#[rustfmt::skip]
const LENGTHS: [u8; 256] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
];

/// The longest code; the end of a string has such a one, which is never written.
const LENGTH_MAX: u8 = 30;

/// Each byte with its code and how long that is, from the first code to the last.
static CODES: LazyLock<Vec<(u8, u32, u8)>> = LazyLock::new(codes);

fn codes() -> Vec<(u8, u32, u8)> {
    let mut bytes: Vec<(u8, u8)> = (0..=u8::MAX).zip(LENGTHS).collect();
    bytes.sort_by_key(|(byte, length)| (*length, *byte));
    let (mut next, mut before) = (0_u32, 0);
    let code = |(byte, length): (u8, u8)| {
        let code = next << (length - before);
        (next, before) = (code + 1, length);
        (byte, code, length)
    };
    bytes.into_iter().map(code).collect()
}

/// Encodes a string.
#[must_use]
pub fn encode(text: &[u8]) -> Vec<u8> {
    let (mut bits, mut count, mut out) = (0_u64, 0, Vec::new());
    for byte in text {
        let found = CODES.iter().find(|(of, _, _)| of == byte);
        let (_, code, length) = found.expect("every byte has a code");
        bits = bits << length | u64::from(*code);
        count += u32::from(*length);
        while count >= 8 {
            count -= 8;
            out.push((bits >> count & 0xff) as u8);
        }
    }
    if count > 0 {
        out.push((bits << (8 - count) & 0xff) as u8 | 0xff >> count);
    }
    out
}

/// Decodes a string; what is wrong with it, if something is.
///
/// # Errors
/// What is wrong.
pub fn decode(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let (mut code, mut length, mut out) = (0_u32, 0_u8, Vec::new());
    for bit in bytes
        .iter()
        .flat_map(|byte| (0..8).rev().map(move |at| byte >> at & 1))
    {
        (code, length) = (code << 1 | u32::from(bit), length + 1);
        let at = CODES.binary_search_by_key(&(length, code), |(_, code, length)| (*length, *code));
        if let Some((byte, _, _)) = at.ok().and_then(|at| CODES.get(at)) {
            out.push(*byte);
            (code, length) = (0, 0);
        } else if length >= LENGTH_MAX {
            return Err("the end of a string stands in it".to_owned());
        }
    }
    let is_padding = length < 8 && code == (1 << length) - 1;
    match is_padding {
        true => Ok(out),
        false => Err("a string is not padded with ones".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_the_standard() {
        for (text, bytes) in [
            ("www.example.com", "f1e3c2e5f23a6ba0ab90f4ff"),
            ("no-cache", "a8eb10649cbf"),
            ("custom-value", "25a849e95bb8e8b4bf"),
            (
                "Mon, 21 Oct 2013 20:13:21 GMT",
                "d07abe941054d444a8200595040b8166e082a62d1bff",
            ),
            (
                "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1",
                "94e7821dd7f2e6c7b335dfdfcd5b3960d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007",
            ),
        ] {
            let encoded = encode(text.as_bytes());
            let hex: String = encoded.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(hex, bytes);
            assert_eq!(decode(&encoded).unwrap(), text.as_bytes());
        }
    }

    #[test]
    fn every_byte_comes_back() {
        let all: Vec<u8> = (0..=u8::MAX).collect();
        assert_eq!(decode(&encode(&all)).unwrap(), all);
        assert!(decode(&[0xff; 4]).is_err());
        assert!(decode(&[0]).is_err());
    }
}
