//! Fields that a peer has written.

use std::ops::Range;

use super::table::Table;
use super::{TABLE_BYTES, huffman};

/// A block that stands for no fields. What follows it on the connection cannot be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed block of fields")]
pub struct BadBlock;

/// Reads blocks, one after the other.
#[derive(Debug, Default)]
pub struct Decoder {
    table: Table,
    /// Strings of the field under way that are not written as they are.
    strings: Vec<u8>,
}

/// A string.
enum Text<'a> {
    /// As it is in the block.
    Plain(&'a [u8]),
    /// In [`Decoder::strings`].
    Decoded(Range<usize>),
}

impl<'a> Text<'a> {
    fn of(&'a self, strings: &'a [u8]) -> &'a [u8] {
        match self {
            Self::Plain(text) => text,
            Self::Decoded(range) => strings.get(range.clone()).unwrap_or_default(),
        }
    }
}

impl Decoder {
    /// Tells `tell` each field of a block.
    ///
    /// # Errors
    /// The block is malformed; `tell` may have heard of fields before that.
    pub fn decode(
        &mut self,
        mut block: &[u8],
        mut tell: impl FnMut(&[u8], &[u8]),
    ) -> Result<(), BadBlock> {
        let block = &mut block;
        let mut has_field = false;
        while let Some(&first) = block.first() {
            match first {
                0x80.. => {
                    let number = integer(block, 7)?;
                    let (name, value) = self.table.field(number).ok_or(BadBlock)?;
                    tell(name, value);
                }
                0x40..=0x7f => {
                    let (name, value) = self.literal(block, 6)?;
                    let (name, value) = (name.of(&self.strings), value.of(&self.strings));
                    tell(name, value);
                    self.table.add(name, value);
                }
                0x20..=0x3f => {
                    let size = integer(block, 5)?;
                    // It stands before all fields (RFC 7541 §4.2).
                    if has_field || size > TABLE_BYTES {
                        return Err(BadBlock);
                    }
                    self.table.resize(size);
                    continue;
                }
                ..=0x1f => {
                    let (name, value) = self.literal(block, 4)?;
                    tell(name.of(&self.strings), value.of(&self.strings));
                }
            }
            has_field = true;
        }
        // One long string is not to be paid for for ever.
        self.strings.clear();
        self.strings.shrink_to(TABLE_BYTES);
        Ok(())
    }

    /// A field that is written out, but for its name perhaps.
    fn literal<'a>(
        &mut self,
        block: &mut &'a [u8],
        prefix: u32,
    ) -> Result<(Text<'a>, Text<'a>), BadBlock> {
        self.strings.clear();
        let name = match integer(block, prefix)? {
            0 => self.string(block)?,
            number => {
                let (name, _) = self.table.field(number).ok_or(BadBlock)?;
                self.strings.extend_from_slice(name);
                Text::Decoded(0..name.len())
            }
        };
        Ok((name, self.string(block)?))
    }

    fn string<'a>(&mut self, block: &mut &'a [u8]) -> Result<Text<'a>, BadBlock> {
        let is_coded = block.first().is_some_and(|first| first & 0x80 != 0);
        let length = integer(block, 7)?;
        let (text, rest) = block.split_at_checked(length).ok_or(BadBlock)?;
        *block = rest;
        if !is_coded {
            return Ok(Text::Plain(text));
        }
        let start = self.strings.len();
        huffman::decode(text, &mut self.strings).ok_or(BadBlock)?;
        Ok(Text::Decoded(start..self.strings.len()))
    }
}

/// A number in the last `prefix` bits of the first byte, and more bytes if it does not fit (RFC 7541 §5.1).
fn integer(block: &mut &[u8], prefix: u32) -> Result<usize, BadBlock> {
    let (first, mut rest) = block.split_first().ok_or(BadBlock)?;
    let most = (1_usize << prefix) - 1;
    let mut number = usize::from(*first) & most;
    if number == most {
        // No honest number is larger than this gives; longer ones may be only zeros.
        for shift in [0, 7, 14, 21] {
            let (byte, behind) = rest.split_first().ok_or(BadBlock)?;
            rest = behind;
            number += usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                *block = rest;
                return Ok(number);
            }
        }
        return Err(BadBlock);
    }
    *block = rest;
    Ok(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(decoder: &mut Decoder, block: &[u8]) -> Result<Vec<String>, BadBlock> {
        let mut fields = Vec::new();
        decoder.decode(block, |name, value| {
            fields.push(format!("{}: {}", name.escape_ascii(), value.escape_ascii()));
        })?;
        Ok(fields)
    }

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<u8> = hex.bytes().filter(|digit| *digit != b' ').collect();
        let byte = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap();
        digits.chunks(2).map(byte).collect()
    }

    /// RFC 7541, Appendix C.3 and C.4: the same requests, plain and in the Huffman code.
    #[test]
    fn requests_of_the_standard() {
        let plain = [
            "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
            "8286 84be 5808 6e6f 2d63 6163 6865",
            "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
        ];
        let coded = [
            "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
            "8286 84be 5886 a8eb 1064 9cbf",
            "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
        ];
        for blocks in [plain, coded] {
            let mut decoder = Decoder::default();
            let mut last = Vec::new();
            for block in blocks {
                last = decoded(&mut decoder, &bytes(block)).unwrap();
            }
            let expected = [
                ":method: GET",
                ":scheme: https",
                ":path: /index.html",
                ":authority: www.example.com",
                "custom-key: custom-value",
            ];
            assert_eq!(last, expected);
        }
    }

    /// RFC 7541, Appendix C.6, with its small table.
    #[test]
    fn answers_of_the_standard() {
        let mut decoder = Decoder::default();
        decoder.table.resize(256);
        for block in [
            "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad 1718 \
             63c7 8f0b 97c8 e9ae 82ae 43d3",
            "4883 640e ffc1 c0bf",
        ] {
            let fields = decoded(&mut decoder, &bytes(block)).unwrap();
            assert_eq!(fields[2], "date: Mon, 21 Oct 2013 20:13:21 GMT");
        }
        let block = "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 \
                     e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07";
        let fields = decoded(&mut decoder, &bytes(block)).unwrap();
        assert_eq!(
            fields.last().unwrap(),
            "set-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1"
        );
    }

    #[test]
    fn what_is_broken_is_refused() {
        for block in [
            "80",           // there is no field 0
            "be",           // nothing was added
            "ff",           // a cut number
            "ffffffffff0f", // a number that is too large
            "ff8080808000", // and one that takes too long to say little
            "4003 6162",    // a cut string
            "00 01 61",     // no value
            "3fe2 1f",      // a table of 4097 bytes
            "82 20",        // a size behind a field
            "00 81 ff 00",  // padding of a byte
            "7e 01 61",     // a name that is not there
        ] {
            assert_eq!(
                decoded(&mut Decoder::default(), &bytes(block)),
                Err(BadBlock),
                "{block}"
            );
        }
        let sizes = decoded(&mut Decoder::default(), &bytes("20 3fe11f 82"));
        assert_eq!(sizes.unwrap(), [":method: GET"]);
    }
}
