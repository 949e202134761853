//! What kind of program a client is, by how it begins TLS: the fingerprint JA4 of FoxIO, of the first
//! message as it came. The same program has the same one wherever it goes, and in whatever order it lists
//! what it can do.

use sha2::{Digest, Sha256};

use crate::client_hello::{ALPN, Input, Parts, Progress, SERVER_NAME, is_grease, progress};

const SIGNATURE_ALGORITHMS: u16 = 0x000d;
const SUPPORTED_VERSIONS: u16 = 0x002b;

/// The fingerprint of a client over TCP whose connection begins with these bytes; nothing where the first
/// message is not whole, or is none.
pub fn of_records(bytes: &[u8]) -> Option<String> {
    match progress(bytes) {
        Ok(Progress::Whole(body)) => Some(Hello::read(&body)?.fingerprint()),
        _ => None,
    }
}

/// Numbers of two bytes, without those that only keep servers from choking on what they do not know
/// (RFC 8701).
fn numbers(bytes: &[u8]) -> impl Iterator<Item = u16> {
    let pairs = bytes.chunks_exact(2);
    let numbers = pairs.filter_map(|pair| Some(u16::from_be_bytes(pair.try_into().ok()?)));
    numbers.filter(|number| !is_grease(number.to_be_bytes()))
}

/// What counts of a client's first message.
#[derive(Debug, Default)]
struct Hello<'a> {
    version: u16,
    has_name: bool,
    ciphers: Vec<u16>,
    extensions: Vec<u16>,
    signatures: Vec<u16>,
    /// The first protocol that it would speak.
    alpn: &'a [u8],
}

impl<'a> Hello<'a> {
    fn read(body: &'a [u8]) -> Option<Self> {
        let parts = Parts::read(body)?;
        let mut hello = Self {
            version: parts.version,
            ciphers: numbers(parts.ciphers).collect(),
            ..Self::default()
        };
        parts.each_extension(|kind, content| hello.extension(kind, content))?;
        Some(hello)
    }

    fn extension(&mut self, kind: u16, content: &'a [u8]) -> Option<()> {
        if is_grease(kind.to_be_bytes()) {
            return Some(());
        }
        let mut input = Input(content);
        match kind {
            SERVER_NAME => self.has_name = true,
            SIGNATURE_ALGORITHMS => self.signatures = numbers(input.vector16()?).collect(),
            ALPN => {
                let first = Input(input.vector16()?).vector8();
                self.alpn = first.unwrap_or_default();
            }
            SUPPORTED_VERSIONS => {
                let highest = numbers(input.vector8()?).max();
                self.version = highest.unwrap_or_default();
            }
            _ => {}
        }
        self.extensions.push(kind);
        Some(())
    }

    fn fingerprint(mut self) -> String {
        let version = match self.version {
            0x0304 => "13",
            0x0303 => "12",
            0x0302 => "11",
            0x0301 => "10",
            0x0300 => "s3",
            0x0002 => "s2",
            _ => "00",
        };
        let name = if self.has_name { 'd' } else { 'i' };
        let (ciphers, extensions) = (self.ciphers.len().min(99), self.extensions.len().min(99));
        let alpn = ends(self.alpn);
        self.ciphers.sort_unstable();
        self.extensions.sort_unstable();
        // The first part says these already.
        self.extensions
            .retain(|kind| ![SERVER_NAME, ALPN].contains(kind));
        let mut abilities = list(&self.extensions);
        if !abilities.is_empty() && !self.signatures.is_empty() {
            abilities = format!("{abilities}_{}", list(&self.signatures));
        }
        let (first, second) = (digest(&list(&self.ciphers)), digest(&abilities));
        format!("t{version}{name}{ciphers:02}{extensions:02}{alpn}_{first}_{second}")
    }
}

/// The first and the last character of a protocol, or of its hexadecimal digits where one of them is no
/// letter or digit.
fn ends(protocol: &[u8]) -> String {
    let (Some(&first), Some(&last)) = (protocol.first(), protocol.last()) else {
        return "00".to_owned();
    };
    if first.is_ascii_alphanumeric() && last.is_ascii_alphanumeric() {
        return [char::from(first), char::from(last)].iter().collect();
    }
    format!("{:x}{:x}", first >> 4, last & 0x0f)
}

fn list(numbers: &[u16]) -> String {
    let texts = numbers.iter().map(|number| format!("{number:04x}"));
    texts.collect::<Vec<_>>().join(",")
}

/// The first twelve digits of the SHA-256, and zeros for nothing.
fn digest(text: &str) -> String {
    if text.is_empty() {
        return "0".repeat(12);
    }
    let digest = Sha256::digest(text);
    let bytes = digest.iter().take(6);
    bytes.map(|byte| format!("{byte:02x}")).collect()
}

/// For a fuzzer: whatever comes, there is a fingerprint of the usual shape or none, and it does not depend on
/// how the message is cut into records.
///
/// # Panics
/// When that does not hold.
pub fn fuzz(bytes: &[u8]) {
    if let Some(found) = of_records(bytes) {
        assert_eq!(found.len(), 36, "{found}");
        assert!(found.is_ascii(), "{found}");
    }
    let cut = |len: usize| {
        let records = bytes.chunks(len.max(1)).flat_map(|part| {
            let len = u16::try_from(part.len()).unwrap_or_default();
            [&[22, 3, 1][..], &len.to_be_bytes(), part].concat()
        });
        of_records(&records.collect::<Vec<u8>>())
    };
    assert_eq!(cut(1), cut(16 * 1024), "the cut matters");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(numbers: &[u16]) -> Vec<u8> {
        numbers
            .iter()
            .flat_map(|number| number.to_be_bytes())
            .collect()
    }

    fn vector16(content: &[u8]) -> Vec<u8> {
        let len = u16::try_from(content.len()).unwrap();
        [&len.to_be_bytes()[..], content].concat()
    }

    fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
        [&kind.to_be_bytes()[..], &vector16(content)].concat()
    }

    /// The first message with these ciphers and extensions, in one record.
    fn hello(ciphers: &[u16], extensions: &[Vec<u8>]) -> Vec<u8> {
        let body = [
            &[3, 3][..],
            &[7; 32],
            &[0],
            &vector16(&bytes(ciphers)),
            &[1, 0],
            &vector16(&extensions.concat()),
        ]
        .concat();
        let message = [&[1, 0][..], &vector16(&body)].concat();
        record(&message)
    }

    fn record(fragment: &[u8]) -> Vec<u8> {
        [&[22, 3, 1][..], &vector16(fragment)].concat()
    }

    const CIPHERS: [u16; 16] = [
        0x1a1a, 0x1301, 0x1302, 0x1303, 0xc02b, 0xc02f, 0xc02c, 0xc030, 0xcca9, 0xcca8, 0xc013,
        0xc014, 0x009c, 0x009d, 0x002f, 0x0035,
    ];

    const SIGNATURES: [u16; 8] = [
        0x0403, 0x0804, 0x0401, 0x0503, 0x0805, 0x0501, 0x0806, 0x0601,
    ];

    /// The example of the public description.
    fn example(signatures: &[u16]) -> Vec<u8> {
        let alpn = vector16(b"\x02h2\x08http/1.1");
        let versions = bytes(&[0x6a6a, 0x0304, 0x0303]);
        let versions = [&[6][..], &versions].concat();
        let kinds = [
            0x4a4a, 0x001b, 0x0000, 0x0033, 0x0010, 0x4469, 0x0017, 0x002d, 0x000d, 0x0005, 0x0023,
            0x0012, 0x002b, 0xff01, 0x000b, 0x000a, 0x0015,
        ];
        let extensions = kinds.map(|kind| match kind {
            ALPN => extension(kind, &alpn),
            SUPPORTED_VERSIONS => extension(kind, &versions),
            SIGNATURE_ALGORITHMS => extension(kind, &vector16(&bytes(signatures))),
            _ => extension(kind, b""),
        });
        hello(&CIPHERS, &extensions)
    }

    #[test]
    fn the_published_examples_have_their_fingerprints() {
        let found = of_records(&example(&SIGNATURES));
        let published = "t13d1516h2_8daaf6152771_e5627efa2ab1";
        assert_eq!(found.as_deref(), Some(published));
        let found = of_records(&example(&[]));
        let published = "t13d1516h2_8daaf6152771_6d807ffa2a79";
        assert_eq!(found.as_deref(), Some(published));
    }

    #[test]
    fn ends_of_protocols_are_as_published() {
        for (protocol, found) in [
            (&b""[..], "00"),
            (b"h2", "h2"),
            (b"http/1.1", "h1"),
            (b"x", "xx"),
            (b"\xab", "ab"),
            (b"\xab\xcd", "ad"),
            (b"\x30\xab", "3b"),
            (b"\x30\x31\xab\xcd", "3d"),
            (b"\x30\xab\xcd\x31", "01"),
        ] {
            assert_eq!(ends(protocol), found, "{protocol:?}");
        }
    }

    #[test]
    fn what_is_missing_is_said_by_zeros() {
        let found = of_records(&hello(&[], &[]));
        assert_eq!(
            found.as_deref(),
            Some("t12i000000_000000000000_000000000000")
        );
        let only_named = hello(&[0x0a0a], &[extension(SERVER_NAME, b"")]);
        let found = of_records(&only_named);
        assert_eq!(
            found.as_deref(),
            Some("t12d000100_000000000000_000000000000")
        );
        let many = hello(&[0x1301; 120], &vec![extension(5, b""); 120]);
        assert!(of_records(&many).unwrap().starts_with("t12i999900_"));
    }

    #[test]
    fn it_does_not_matter_how_the_message_is_cut() {
        let whole = example(&SIGNATURES);
        let message = whole.get(5..).unwrap();
        let cut: Vec<u8> = message.chunks(1).flat_map(record).collect();
        assert_eq!(of_records(&cut), of_records(&whole));
        // What follows does not count, and nothing is said before the end.
        let more = [&whole[..], b"more"].concat();
        assert_eq!(of_records(&more), of_records(&whole));
        for end in 0..whole.len() {
            assert_eq!(of_records(whole.get(..end).unwrap()), None, "{end}");
        }
    }

    #[test]
    fn what_is_no_first_message_has_none() {
        let mut wrong = example(&SIGNATURES);
        for (at, byte) in [(0, 23), (5, 2), (43, 255), (44, 255)] {
            let before = std::mem::replace(&mut wrong[at], byte);
            assert_eq!(of_records(&wrong), None, "{at}");
            wrong[at] = before;
        }
        assert_eq!(of_records(b"GET / HTTP/1.1\r\n"), None);
        assert_eq!(of_records(&record(b"")), None);
        // One that never ends.
        let endless = [&[1, 255, 255, 255][..], &[0; 16_000]].concat();
        assert_eq!(of_records(&record(&endless).repeat(20)), None);
        for seed in 0..2000_u32 {
            let mut bytes = example(&SIGNATURES);
            let at = seed as usize * 7 % bytes.len();
            bytes[at] = u8::try_from(seed % 256).unwrap();
            fuzz(&bytes);
            fuzz(&bytes[5..]);
        }
    }
}
