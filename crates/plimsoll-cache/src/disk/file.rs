//! A stored answer as a file: a short preamble, a part that describes the answer, and its body. Everything but the
//! one word that says whether it was purged is under a checksum, the body in blocks, so that what is read is known
//! to be what was written before any of it goes on.

use bytes::Bytes;
use plimsoll_http::caching::{Selection, Terms};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use crate::body::{Body, Piece};
use crate::object::Object;

/// What of a body has one checksum.
pub(super) const BLOCK_BYTES: usize = 64 * 1024;

/// The first bytes of each file. Another form gets another number.
const MAGIC: [u8; 8] = *b"plimsol1";

/// Magic, whether it was purged (4), length (4) and checksum (8) of the part that describes it.
pub(super) const PREAMBLE_BYTES: usize = 24;

/// Where the word stands that says whether the answer was purged: nothing but zero means that it was not, so that a
/// bit that falls over makes no answer fresh.
pub(super) const PURGED_AT: u64 = 8;
pub(super) const PURGED: [u8; 4] = [0xFF; 4];

/// The longest part that describes an answer.
const DESCRIBED_BYTES_MAX: usize = 4 << 20;

/// What a file is called by: whom its answer is for.
pub(crate) type Id = u128;

/// The name of what is stored for `key` and the requests that `selection` matches.
pub(crate) fn id(key: &[u8], selection: &Selection) -> Id {
    let mut hash = Xxh3::new();
    let mut add = |part: &[u8]| {
        hash.update(&(part.len() as u64).to_le_bytes());
        hash.update(part);
    };
    add(key);
    selection.names().iter().for_each(|name| add(name));
    selection.values().for_each(&mut add);
    hash.digest128()
}

/// What a file says of its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Described {
    pub(super) key: Box<[u8]>,
    pub(super) selection: Selection,
    pub(super) terms: Terms,
    /// When it came, in milliseconds since 1970.
    pub(super) came: u64,
    pub(super) tags: Box<[Box<[u8]>]>,
    /// The head of the answer.
    pub(super) head: Vec<u8>,
    /// Bytes of the body.
    pub(super) length: u64,
    /// The checksum of each block of the body.
    pub(super) sums: Vec<u64>,
    pub(super) is_purged: bool,
}

impl Described {
    /// The file up to the body, of an object whose body is whole; and the body.
    pub(super) fn of(key: &[u8], object: &Object, came: u64) -> (Self, Vec<Bytes>) {
        let pieces = pieces(&object.body);
        let this = Self {
            key: key.into(),
            selection: object.selection.clone(),
            terms: object.terms,
            came,
            tags: object.tags.clone(),
            head: object.head().1.to_vec(),
            length: pieces.iter().map(|piece| piece.len() as u64).sum(),
            sums: sums(&pieces),
            is_purged: object.is_purged(),
        };
        (this, pieces)
    }

    /// The bytes before the body.
    pub(super) fn encode(&self) -> Vec<u8> {
        let described = self.written();
        let mut out = Vec::with_capacity(PREAMBLE_BYTES + described.len());
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(if self.is_purged { &PURGED } else { &[0; 4] });
        let length = u32::try_from(described.len()).unwrap_or(u32::MAX);
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&xxh3_64(&described).to_le_bytes());
        out.extend_from_slice(&described);
        out
    }

    fn written(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(&self.came.to_le_bytes());
        out.extend_from_slice(&self.length.to_le_bytes());
        let Terms {
            lifetime,
            age,
            while_revalidate,
            if_error,
            is_checked,
        } = self.terms;
        for number in [lifetime, age, while_revalidate, if_error] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.push(u8::from(is_checked));
        put(&self.key, &mut out);
        put(&self.head, &mut out);
        let names = self.selection.names();
        count(names.len(), &mut out);
        for (name, value) in names.iter().zip(self.selection.values()) {
            put(name, &mut out);
            put(value, &mut out);
        }
        count(self.tags.len(), &mut out);
        self.tags.iter().for_each(|tag| put(tag, &mut out));
        let sums = self.sums.iter().flat_map(|sum| sum.to_le_bytes());
        out.extend(sums);
        out
    }

    /// Reads what [`Self::encode`] wrote; nothing unless each byte is what it was.
    pub(super) fn decode(preamble: &[u8; PREAMBLE_BYTES], described: &[u8]) -> Option<Self> {
        let (_, sum) = preamble.split_last_chunk::<8>()?;
        if u64::from_le_bytes(*sum) != xxh3_64(described) {
            return None;
        }
        let mut rest = Rest(described);
        let (came, length) = (rest.u64()?, rest.u64()?);
        let terms = Terms {
            lifetime: rest.u32()?,
            age: rest.u32()?,
            while_revalidate: rest.u32()?,
            if_error: rest.u32()?,
            is_checked: rest.take(1)? != [0],
        };
        let (key, head) = (rest.text()?.into(), rest.text()?.to_vec());
        let fields = (0..rest.u32()?).map(|_| Some((rest.text()?.into(), rest.text()?.into())));
        let fields: Option<Vec<_>> = fields.collect();
        let tags = (0..rest.u32()?).map(|_| Some(Box::from(rest.text()?)));
        let tags: Option<Box<[_]>> = tags.collect();
        let blocks = usize::try_from(length.div_ceil(BLOCK_BYTES as u64)).ok()?;
        if rest.0.len() != blocks.checked_mul(8)? {
            return None;
        }
        let (sums, _) = rest.0.as_chunks::<8>();
        Some(Self {
            key,
            selection: Selection::of_parts(fields?.into_iter()),
            terms,
            came,
            tags: tags?,
            head,
            length,
            sums: sums.iter().map(|sum| u64::from_le_bytes(*sum)).collect(),
            is_purged: preamble.get(8..12)? != [0; 4],
        })
    }
}

/// How long the file of an object is whose body is whole.
pub(super) fn file_len(key: &[u8], object: &Object) -> u64 {
    let text = |text: &[u8]| 4 + text.len() as u64;
    let selection = &object.selection;
    let names = selection.names().iter().map(|name| text(name));
    let fields = names.chain(selection.values().map(text)).sum::<u64>();
    let tags = object.tags.iter().map(|tag| text(tag)).sum::<u64>();
    let body = object.body.so_far();
    let sums = body.div_ceil(BLOCK_BYTES as u64) * 8;
    let described = FIXED_BYTES + text(key) + text(object.head().1) + fields + tags + sums;
    PREAMBLE_BYTES as u64 + described + body
}

/// What each description has: two times 8 for when it came and how long it is, 17 for its terms, two counts.
const FIXED_BYTES: u64 = 16 + 17 + 8;

/// How long the part is that describes an answer; nothing if the file is none of ours.
pub(super) fn described_len(preamble: &[u8; PREAMBLE_BYTES]) -> Option<usize> {
    let mut rest = Rest(preamble);
    let is_ours = rest.take(MAGIC.len())? == MAGIC;
    rest.take(4)?;
    let length = usize::try_from(rest.u32()?).ok()?;
    (is_ours && length <= DESCRIBED_BYTES_MAX).then_some(length)
}

fn put(text: &[u8], out: &mut Vec<u8>) {
    count(text.len(), out);
    out.extend_from_slice(text);
}

fn count(number: usize, out: &mut Vec<u8>) {
    // What is longer than this has too long a description, and is not written.
    let number = u32::try_from(number).unwrap_or(u32::MAX);
    out.extend_from_slice(&number.to_le_bytes());
}

/// What is still to be read.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        Some(taken)
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    fn text(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.u32()?).ok()?;
        self.take(length)
    }
}

/// The pieces of a body that is whole.
fn pieces(body: &Body) -> Vec<Bytes> {
    let mut at = 0;
    let pieces = std::iter::from_fn(|| match body.read(at) {
        Piece::Bytes(piece) => {
            at += piece.len() as u64;
            Some(piece)
        }
        Piece::Wait | Piece::End | Piece::Cut => None,
    });
    pieces.collect()
}

/// The checksum of each block. Pieces but the last are made of whole blocks.
fn sums(pieces: &[Bytes]) -> Vec<u64> {
    let blocks = pieces.iter().flat_map(|piece| piece.chunks(BLOCK_BYTES));
    blocks.map(xxh3_64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body::Room;
    use std::time::Duration;

    fn object(length: usize) -> Object {
        let selection = Selection::of_parts(
            [("accept", ",a"), ("cookie", "")]
                .map(|(name, value)| (name.as_bytes().into(), value.as_bytes().into()))
                .into_iter(),
        );
        let terms = Terms {
            lifetime: 1,
            age: 2,
            while_revalidate: 3,
            if_error: 4,
            is_checked: true,
        };
        let head = b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n".to_vec();
        let mut object = Object::new(head, selection, terms, Duration::ZERO).unwrap();
        let room = Room::default().reserve(1 << 30, 1 << 30).unwrap();
        object.body = Body::of(&vec![7; length], room).into();
        object.tags = ["x", "y"].map(|tag| tag.as_bytes().into()).into();
        object
    }

    fn decode(bytes: &[u8]) -> Option<Described> {
        let (preamble, described) = bytes.split_first_chunk()?;
        (described_len(preamble)? == described.len())
            .then(|| Described::decode(preamble, described))?
    }

    #[test]
    fn what_is_written_is_read() {
        for length in [0, 1, BLOCK_BYTES, BLOCK_BYTES + 1, 5 * BLOCK_BYTES - 1] {
            let (described, body) = Described::of(b"key", &object(length), 99);
            assert_eq!(body.iter().map(Bytes::len).sum::<usize>(), length);
            assert_eq!(described.sums.len(), length.div_ceil(BLOCK_BYTES));
            let bytes = described.encode();
            let all = (bytes.len() + length) as u64;
            assert_eq!(all, file_len(b"key", &object(length)));
            assert_eq!(decode(&bytes), Some(described));
        }
    }

    /// Whichever bit falls over: nothing is read, or that it was purged.
    #[test]
    fn each_bit_counts() {
        let (described, _) = Described::of(b"key", &object(BLOCK_BYTES * 2), 99);
        let bytes = described.encode();
        for bit in 0..bytes.len() * 8 {
            let mut torn = bytes.clone();
            torn[bit / 8] ^= 1 << (bit % 8);
            match (64..96).contains(&bit) {
                true => assert!(decode(&torn).unwrap().is_purged),
                false => assert_eq!(decode(&torn), None, "{bit}"),
            }
        }
        for end in 0..bytes.len() {
            assert_eq!(decode(&bytes[..end]), None);
        }
    }

    #[test]
    fn a_bit_makes_no_purged_answer_fresh() {
        let mut purged = object(1);
        purged.expire();
        let bytes = Described::of(b"key", &purged, 99).0.encode();
        for bit in 64..96 {
            let mut torn = bytes.clone();
            torn[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&torn).unwrap().is_purged);
        }
        purged = object(1);
        assert!(!purged.is_purged());
    }

    #[test]
    fn names_are_of_keys_and_of_whom_answers_are_for() {
        let of = |name: &str, value: &str| {
            Selection::of_parts(std::iter::once((
                name.as_bytes().into(),
                value.as_bytes().into(),
            )))
        };
        let all = [
            id(b"k", &Selection::default()),
            id(b"ka", &Selection::default()),
            id(b"k", &of("a", "b")),
            id(b"ka", &of("", "b")),
            id(b"k", &of("ab", "")),
            id(b"k", &of("a", "c")),
        ];
        let distinct: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());
    }
}
