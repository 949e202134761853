//! Fields that are written.
//!
//! A field that comes a second time is worth an entry: from then on it is one byte or two. What looks different each
//! time never gets one, and neither does what must not be guessed by its length (RFC 7541 §7.1).

use super::TABLE_BYTES;
use super::static_table;
use super::table::Table;

/// Fields of which it is known whether they have come before.
const SEEN_MAX: usize = 64;

/// Writes blocks, one after the other.
#[derive(Debug)]
pub struct Encoder {
    table: Table,
    /// What has come before, by the last bits of a hash.
    seen: [Seen; SEEN_MAX],
    /// What the reader has said of the size of the table, and does not know that we know: the smallest, and the last.
    resized: Option<(usize, usize)>,
}

/// A field that has come before.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    hash: u32,
    /// The entry that it has, or had: see [`Table::number`].
    entry: Option<u32>,
}

impl Default for Encoder {
    fn default() -> Self {
        Self {
            table: Table::default(),
            seen: [Seen::default(); SEEN_MAX],
            resized: None,
        }
    }
}

impl Encoder {
    /// One that adds no entries: messages of many are on the connection, and their lengths are not to tell one of them
    /// what another one says.
    pub fn without_table() -> Self {
        let mut this = Self::default();
        this.resize(0);
        this
    }

    /// Follows what the reader says of the size of its table.
    pub fn resize(&mut self, most: usize) {
        let size = most.min(self.table.size_max().max(TABLE_BYTES));
        let least = self.resized.map_or(size, |(least, _)| least.min(size));
        self.resized = Some((least, size));
        self.table.resize(size);
    }

    /// What stands before the fields of a block.
    pub fn begin(&mut self, out: &mut Vec<u8>) {
        if let Some((least, last)) = self.resized.take() {
            integer(0x20, 5, least, out);
            if last != least {
                integer(0x20, 5, last, out);
            }
        }
    }

    /// Writes a field, whose name is in lower case.
    pub fn field(&mut self, name: &[u8], value: &[u8], out: &mut Vec<u8>) {
        if is_secret(name) {
            return literal(0x10, 4, name, value, out);
        }
        let hash = hash(name, value);
        let Some(seen) = self.seen.get_mut(hash as usize % SEEN_MAX) else {
            return;
        };
        let is_known = seen.hash == hash;
        if is_known
            && let Some(number) = seen.entry.and_then(|nth| self.table.number(nth))
            && self.table.field(number) == Some((name, value))
        {
            return integer(0x80, 7, number, out);
        }
        let entry = is_known.then(|| self.table.added());
        *seen = Seen { hash, entry };
        match is_known && self.table.size_max() > 0 {
            true => {
                literal(0x40, 6, name, value, out);
                self.table.add(name, value);
            }
            false => literal(0, 4, name, value, out),
        }
    }
}

/// Writes the field that says how a request ended.
pub fn status(status: &[u8], out: &mut Vec<u8>) {
    let number = match status {
        b"200" => 8,
        b"204" => 9,
        b"206" => 10,
        b"304" => 11,
        b"400" => 12,
        b"404" => 13,
        b"500" => 14,
        _ => return literal(0, 4, b":status", status, out),
    };
    integer(0x80, 7, number, out);
}

/// Tells whether the length of the value may tell who guesses what it is.
fn is_secret(name: &[u8]) -> bool {
    matches!(
        name,
        b"authorization" | b"proxy-authorization" | b"cookie" | b"set-cookie"
    )
}

/// A field that is written out, but for its name if everybody knows it.
fn literal(pattern: u8, prefix: u32, name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    match static_table::number(name) {
        Some(number) => integer(pattern, prefix, number, out),
        None => {
            out.push(pattern);
            string(name, out);
        }
    }
    string(value, out);
}

fn string(text: &[u8], out: &mut Vec<u8>) {
    integer(0, 7, text.len(), out);
    out.extend_from_slice(text);
}

/// A number in the last `prefix` bits of a byte, and more bytes if it does not fit (RFC 7541 §5.1).
#[expect(
    clippy::cast_possible_truncation,
    reason = "what is cast is less than 256"
)]
fn integer(pattern: u8, prefix: u32, number: usize, out: &mut Vec<u8>) {
    let most = (1_usize << prefix) - 1;
    if number < most {
        return out.push(pattern | number as u8);
    }
    out.push(pattern | most as u8);
    let mut rest = number - most;
    while rest >= 0x80 {
        out.push(rest as u8 & 0x7f | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// A number that differs between most fields. Who makes two have the same gets them written out, and no more.
fn hash(name: &[u8], value: &[u8]) -> u32 {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut hash = (name.len() as u64) << 32 | value.len() as u64;
    let mut mix = |number: u64| hash = (hash ^ number).wrapping_mul(FACTOR).rotate_left(29);
    for text in [name, value] {
        let (whole, rest) = text.as_chunks::<8>();
        for bytes in whole {
            mix(u64::from_le_bytes(*bytes));
        }
        let mut last = [0; 8];
        for (place, byte) in last.iter_mut().zip(rest) {
            *place = *byte;
        }
        mix(u64::from_le_bytes(last));
    }
    (hash.wrapping_mul(FACTOR) >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::super::decode::Decoder;
    use super::*;
    use proptest::prelude::*;

    type Fields = Vec<(Vec<u8>, Vec<u8>)>;

    fn block(encoder: &mut Encoder, fields: &[(&[u8], &[u8])]) -> Vec<u8> {
        let mut out = Vec::new();
        encoder.begin(&mut out);
        for (name, value) in fields {
            encoder.field(name, value, &mut out);
        }
        out
    }

    fn decoded(decoder: &mut Decoder, block: &[u8]) -> Fields {
        let mut fields = Vec::new();
        let tell = |name: &[u8], value: &[u8]| fields.push((name.to_vec(), value.to_vec()));
        decoder.decode(block, tell).unwrap();
        fields
    }

    #[test]
    fn what_comes_again_gets_shorter() {
        let mut encoder = Encoder::default();
        let fields: [(&[u8], &[u8]); 2] = [(b"server", b"plimsoll"), (b"x-at", b"here")];
        let lengths: Vec<usize> = (0..4).map(|_| block(&mut encoder, &fields).len()).collect();
        assert_eq!(lengths, [22, 21, 2, 2]);
    }

    #[test]
    fn secrets_get_no_entry() {
        let mut encoder = Encoder::default();
        for _ in 0..3 {
            let block = block(&mut encoder, &[(b"set-cookie", b"a=b")]);
            assert_eq!(block, b"\x1f\x28\x03a=b", "never indexed");
        }
    }

    #[test]
    fn the_reader_hears_that_its_size_was_heard() {
        let mut encoder = Encoder::default();
        let field: [(&[u8], &[u8]); 1] = [(b"x", b"y")];
        block(&mut encoder, &field);
        block(&mut encoder, &field);
        for size in [100, 0, 50] {
            encoder.resize(size);
        }
        assert_eq!(block(&mut encoder, &field), b"\x20\x3f\x13\x40\x01x\x01y");
        assert_eq!(block(&mut encoder, &field), [0xbe]);
        encoder.resize(1 << 30);
        assert_eq!(
            block(&mut encoder, &[]),
            b"\x3f\xe1\x1f",
            "no more than we keep"
        );
        assert_eq!(block(&mut Encoder::without_table(), &[]), [0x20]);
    }

    #[test]
    fn the_status_is_one_byte_mostly() {
        for code in ["200", "204", "206", "304", "400", "404", "500", "503"] {
            let mut out = Vec::new();
            status(code.as_bytes(), &mut out);
            let fields = decoded(&mut Decoder::default(), &out);
            assert_eq!(fields, [(b":status".to_vec(), code.as_bytes().to_vec())]);
            assert_eq!(out.len() == 1, code != "503");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            fields in prop::collection::vec(("[a-c]{1,2}|server|date|cookie", "[xy]{0,3}"), 0..200),
            sizes in prop::collection::vec(0_usize..5000, 0..4),
        ) {
            let (mut encoder, mut decoder) = (Encoder::default(), Decoder::default());
            for (at, fields) in fields.chunks(20).enumerate() {
                if let Some(size) = sizes.get(at) {
                    encoder.resize(*size);
                }
                let fields: Vec<(&[u8], &[u8])> =
                    fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
                let written = block(&mut encoder, &fields);
                let read = decoded(&mut decoder, &written);
                let read: Vec<(&[u8], &[u8])> =
                    read.iter().map(|(name, value)| (&name[..], &value[..])).collect();
                prop_assert_eq!(read, fields);
            }
        }
    }
}
