//! Fields as HTTP/2 writes them (RFC 7541): any that a test likes, and those that come back.

use crate::huffman;

/// A field, as it is on the wire.
pub type Field = (Vec<u8>, Vec<u8>);

/// What a dynamic table may hold, where nobody says otherwise.
const TABLE_BYTES: usize = 4096;

/// What an entry costs beside its bytes (RFC 7541 §4.1).
const ENTRY_BYTES: usize = 32;

/// The static table (RFC 7541, Appendix A).
#[rustfmt::skip]
const STATIC: [(&str, &str); 61] = [
    (":authority", ""), (":method", "GET"), (":method", "POST"), (":path", "/"), (":path", "/index.html"),
    (":scheme", "http"), (":scheme", "https"), (":status", "200"), (":status", "204"), (":status", "206"),
    (":status", "304"), (":status", "400"), (":status", "404"), (":status", "500"), ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"), ("accept-language", ""), ("accept-ranges", ""), ("accept", ""),
    ("access-control-allow-origin", ""), ("age", ""), ("allow", ""), ("authorization", ""),
    ("cache-control", ""), ("content-disposition", ""), ("content-encoding", ""), ("content-language", ""),
    ("content-length", ""), ("content-location", ""), ("content-range", ""), ("content-type", ""),
    ("cookie", ""), ("date", ""), ("etag", ""), ("expect", ""), ("expires", ""), ("from", ""), ("host", ""),
    ("if-match", ""), ("if-modified-since", ""), ("if-none-match", ""), ("if-range", ""),
    ("if-unmodified-since", ""), ("last-modified", ""), ("link", ""), ("location", ""), ("max-forwards", ""),
    ("proxy-authenticate", ""), ("proxy-authorization", ""), ("range", ""), ("referer", ""), ("refresh", ""),
    ("retry-after", ""), ("server", ""), ("set-cookie", ""), ("strict-transport-security", ""),
    ("transfer-encoding", ""), ("user-agent", ""), ("vary", ""), ("via", ""), ("www-authenticate", ""),
];

/// Writes a number behind the first bits of `pattern`, in the `bits` that it leaves.
#[must_use]
pub fn integer(pattern: u8, bits: u32, value: usize) -> Vec<u8> {
    let most = (1 << bits) - 1;
    if value < most {
        return vec![pattern | low(value)];
    }
    let (mut out, mut rest) = (vec![pattern | low(most)], value - most);
    while rest >= 128 {
        out.push(low(rest % 128) | 128);
        rest /= 128;
    }
    out.push(low(rest));
    out
}

fn low(number: usize) -> u8 {
    u8::try_from(number).unwrap_or(u8::MAX)
}

fn string(text: &[u8]) -> Vec<u8> {
    [integer(0, 7, text.len()), text.to_vec()].concat()
}

/// A field that no table keeps, whatever bytes it has.
#[must_use]
pub fn literal(name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Vec<u8> {
    [vec![0], string(name.as_ref()), string(value.as_ref())].concat()
}

/// The same in the Huffman code.
#[must_use]
pub fn huffman_literal(name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Vec<u8> {
    let string = |text: &[u8]| {
        let coded = huffman::encode(text);
        [integer(0x80, 7, coded.len()), coded].concat()
    };
    [vec![0], string(name.as_ref()), string(value.as_ref())].concat()
}

/// A field that the dynamic table keeps from here on.
#[must_use]
pub fn kept(name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Vec<u8> {
    [vec![0x40], string(name.as_ref()), string(value.as_ref())].concat()
}

/// A field out of the tables; the one that was kept last is 62.
#[must_use]
pub fn indexed(index: usize) -> Vec<u8> {
    integer(0x80, 7, index)
}

/// A new size of the dynamic table.
#[must_use]
pub fn table_size(bytes: usize) -> Vec<u8> {
    integer(0x20, 5, bytes)
}

/// A block of fields that no table keeps.
#[must_use]
pub fn block<N: AsRef<[u8]>, V: AsRef<[u8]>>(fields: &[(N, V)]) -> Vec<u8> {
    let lines = fields.iter().map(|(name, value)| literal(name, value));
    lines.collect::<Vec<_>>().concat()
}

/// Reads blocks of fields, in the order in which they came.
#[derive(Debug)]
pub struct Decoder {
    /// The entry that was added last is the first.
    table: Vec<Field>,
    size_max: usize,
    /// What we have said that it may hold.
    size_allowed: usize,
}

impl Default for Decoder {
    fn default() -> Self {
        Self {
            table: Vec::new(),
            size_max: TABLE_BYTES,
            size_allowed: TABLE_BYTES,
        }
    }
}

impl Decoder {
    /// Lets the peer's table be as large as this.
    pub fn allow(&mut self, bytes: usize) {
        self.size_allowed = bytes;
    }

    /// Reads one block.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn decode(&mut self, block: &[u8]) -> Result<Vec<Field>, String> {
        let mut input = Input(block);
        let mut fields = Vec::new();
        while let Some(first) = input.0.first().copied() {
            match first {
                0x80.. => {
                    let index = input.integer(7)?;
                    fields.push(self.entry(index)?);
                }
                0x40..0x80 => {
                    let field = self.literal(&mut input, 6)?;
                    self.keep(field.clone());
                    fields.push(field);
                }
                0x20..0x40 => {
                    self.size_max = input.integer(5)?;
                    if self.size_max > self.size_allowed {
                        return Err("a table is larger than it may be".to_owned());
                    }
                    self.evict();
                }
                _ => fields.push(self.literal(&mut input, 4)?),
            }
        }
        Ok(fields)
    }

    fn literal(&self, input: &mut Input<'_>, bits: u32) -> Result<Field, String> {
        let name = match input.integer(bits)? {
            0 => input.string()?,
            index => self.entry(index)?.0,
        };
        Ok((name, input.string()?))
    }

    fn entry(&self, index: usize) -> Result<Field, String> {
        let wrong = || format!("no entry has the number {index}");
        let at = index.checked_sub(1).ok_or_else(wrong)?;
        if let Some((name, value)) = STATIC.get(at) {
            return Ok((name.as_bytes().to_vec(), value.as_bytes().to_vec()));
        }
        let kept = self.table.get(at - STATIC.len());
        kept.cloned().ok_or_else(wrong)
    }

    fn keep(&mut self, field: Field) {
        self.table.insert(0, field);
        self.evict();
    }

    fn evict(&mut self) {
        let size = |(name, value): &Field| name.len() + value.len() + ENTRY_BYTES;
        while self.table.iter().map(size).sum::<usize>() > self.size_max {
            self.table.pop();
        }
    }
}

/// What of a block has not been read.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> Result<u8, String> {
        let (first, rest) = self.0.split_first().ok_or("a block ends too early")?;
        self.0 = rest;
        Ok(*first)
    }

    fn integer(&mut self, bits: u32) -> Result<usize, String> {
        let most = (1_usize << bits) - 1;
        let mut value = usize::from(self.byte()?) & most;
        if value < most {
            return Ok(value);
        }
        for shift in (0..28).step_by(7) {
            let byte = usize::from(self.byte()?);
            value += (byte & 127) << shift;
            if byte < 128 {
                return Ok(value);
            }
        }
        Err("a number is too long".to_owned())
    }

    fn string(&mut self) -> Result<Vec<u8>, String> {
        let is_coded = self.0.first().is_some_and(|byte| *byte >= 0x80);
        let length = self.integer(7)?;
        let whole = self.0.split_at_checked(length);
        let (text, rest) = whole.ok_or("a string ends too early")?;
        self.0 = rest;
        match is_coded {
            true => huffman::decode(text),
            false => Ok(text.to_vec()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<char> = hex.chars().filter(char::is_ascii_hexdigit).collect();
        let byte = |pair: &[char]| u8::from_str_radix(&pair.iter().collect::<String>(), 16);
        digits.chunks(2).map(|pair| byte(pair).unwrap()).collect()
    }

    fn text(fields: &[Field]) -> String {
        let line =
            |(name, value): &Field| format!("{}: {}\n", name.escape_ascii(), value.escape_ascii());
        fields.iter().map(line).collect()
    }

    /// RFC 7541, Appendix C.4 and C.6.
    #[test]
    fn the_examples_of_the_standard() {
        let mut decoder = Decoder::default();
        for (block, fields) in [
            (
                "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
                ":method: GET\n:scheme: http\n:path: /\n:authority: www.example.com\n",
            ),
            (
                "8286 84be 5886 a8eb 1064 9cbf",
                ":method: GET\n:scheme: http\n:path: /\n:authority: www.example.com\n\
                 cache-control: no-cache\n",
            ),
            (
                "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
                ":method: GET\n:scheme: https\n:path: /index.html\n:authority: www.example.com\n\
                 custom-key: custom-value\n",
            ),
        ] {
            assert_eq!(text(&decoder.decode(&bytes(block)).unwrap()), fields);
        }
        let mut decoder = Decoder {
            size_max: 256,
            ..Decoder::default()
        };
        let first = "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 \
                     2d1b ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3";
        decoder.decode(&bytes(first)).unwrap();
        let second = decoder.decode(&bytes("4883 640e ffc1 c0bf")).unwrap();
        assert_eq!(
            text(&second),
            ":status: 307\ncache-control: private\ndate: Mon, 21 Oct 2013 20:13:21 GMT\n\
             location: https://www.example.com\n"
        );
    }

    #[test]
    fn what_is_written_is_read() {
        let long = vec![b'x'; 5000];
        let block = [
            table_size(100),
            literal("a\0", "b\r\n"),
            huffman_literal("c", &long),
            kept("d", "e"),
            indexed(62),
            indexed(2),
        ];
        let fields = Decoder::default().decode(&block.concat()).unwrap();
        let field = |name: &str, value: &[u8]| (name.as_bytes().to_vec(), value.to_vec());
        assert_eq!(
            fields,
            [
                field("a\0", b"b\r\n"),
                field("c", &long),
                field("d", b"e"),
                field("d", b"e"),
                field(":method", b"GET")
            ]
        );
        assert!(Decoder::default().decode(&indexed(62)).is_err());
        assert!(Decoder::default().decode(&table_size(5000)).is_err());
    }
}
