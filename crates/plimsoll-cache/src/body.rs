//! The body of a stored answer, while it comes and after it has come.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::{Bytes, BytesMut};
use tokio::sync::Notify;

use crate::codings::Codings;

/// The largest piece that is kept in one.
const PIECE_BYTES: usize = 256 * 1024;

/// What a piece begins with where nobody knows how long the body is.
const UNKNOWN_BYTES: usize = 16 * 1024;

/// A body. One end pushes what comes; any number of readers, on any worker, read it from its start, as far as it is
/// there. Once it is whole, reading takes no lock.
#[derive(Debug)]
pub struct Body {
    /// Its length, as far as that was said.
    declared: Option<u64>,
    /// What it takes of the room for bodies, for as long as anybody reads it.
    room: Reserved,
    /// The same in content codings.
    pub codings: Codings,
    growth: Mutex<Growth>,
    whole: OnceLock<Whole>,
    /// Told when something has come, or nothing will any more.
    came: Notify,
}

#[derive(Debug, Default)]
struct Growth {
    /// Full pieces.
    pieces: Vec<Bytes>,
    /// The piece that is being filled.
    last: BytesMut,
    /// Bytes in full pieces.
    full: u64,
    is_cut: bool,
}

#[derive(Debug)]
struct Whole {
    pieces: Box<[Bytes]>,
    length: u64,
}

/// Bytes that bodies take together, whoever still reads them.
#[derive(Clone, Debug, Default)]
pub struct Room(Arc<AtomicU64>);

/// Room for one body. It is free again when the body is gone.
#[derive(Debug, Default)]
pub struct Reserved {
    bytes: AtomicU64,
    of: Room,
}

impl Room {
    /// Takes `bytes`, unless all that is taken is more than `most` then.
    pub fn reserve(&self, bytes: u64, most: u64) -> Option<Reserved> {
        let taken = self.0.fetch_add(bytes, Relaxed);
        let reserved = Reserved {
            bytes: AtomicU64::new(bytes),
            of: self.clone(),
        };
        (taken.saturating_add(bytes) <= most).then_some(reserved)
    }

    /// Bytes that are taken.
    pub fn taken(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

impl Reserved {
    /// How many they are.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }

    /// Gives back what is more than `bytes`.
    fn shrink(&self, bytes: u64) {
        let before = self.bytes.fetch_min(bytes, Relaxed);
        self.of.0.fetch_sub(before.saturating_sub(bytes), Relaxed);
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.of.0.fetch_sub(self.bytes(), Relaxed);
    }
}

/// What is found at a place of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// These bytes.
    Bytes(Bytes),
    /// Nothing yet.
    Wait,
    /// Its end.
    End,
    /// Nothing, and nothing will come: whoever pushed has given up.
    Cut,
}

impl Body {
    /// An empty body of this length, if that is known. One that grows above its room is cut.
    pub fn new(declared: Option<u64>, room: Reserved) -> Self {
        Self {
            declared,
            room,
            codings: Codings::default(),
            growth: Mutex::default(),
            whole: OnceLock::new(),
            came: Notify::new(),
        }
    }

    /// A body that is here.
    pub fn of(bytes: &[u8], room: Reserved) -> Self {
        let this = Self::new(Some(bytes.len() as u64), room);
        this.push(bytes);
        this.end();
        this
    }

    /// Its length, once that is known.
    pub fn length(&self) -> Option<u64> {
        self.whole.get().map(|whole| whole.length).or(self.declared)
    }

    /// Tells whether all of it is here.
    pub fn is_whole(&self) -> bool {
        self.whole.get().is_some()
    }

    /// Tells whether nothing will come any more, although it is not whole.
    pub fn is_cut(&self) -> bool {
        !self.is_whole() && self.growth().is_cut
    }

    /// How many bytes have come.
    pub fn so_far(&self) -> u64 {
        let grown = || self.growth().so_far();
        self.whole.get().map_or_else(grown, |whole| whole.length)
    }

    /// Takes what comes next.
    pub fn push(&self, mut data: &[u8]) {
        let mut growth = self.growth();
        if growth.is_cut {
            return;
        }
        if growth.so_far() + data.len() as u64 > self.room.bytes() {
            growth.give_up();
            data = &[];
        }
        while !data.is_empty() {
            let room = growth.room(self.declared);
            let (now, later) = data.split_at(room.min(data.len()));
            growth.last.extend_from_slice(now);
            growth.seal_if_full();
            data = later;
        }
        drop(growth);
        self.came.notify_waiters();
    }

    /// Nothing more will come: the body is whole. Tells whether all of it was kept, and is as long as it was said to be.
    pub fn end(&self) -> bool {
        let mut growth = self.growth();
        if growth.is_cut
            || self
                .declared
                .is_some_and(|declared| declared != growth.so_far())
        {
            growth.give_up();
            drop(growth);
            self.came.notify_waiters();
            return false;
        }
        growth.seal();
        self.room.shrink(growth.full);
        let whole = Whole {
            length: growth.full,
            pieces: std::mem::take(&mut growth.pieces).into_boxed_slice(),
        };
        drop(growth);
        // It ends once; what came behind an end would belong to nothing.
        let _ = self.whole.set(whole);
        self.came.notify_waiters();
        true
    }

    /// Nothing more will come, although the body is not whole.
    pub fn cut(&self) {
        self.growth().give_up();
        self.came.notify_waiters();
    }

    /// What is at `place`, up to the end of the piece that has it.
    pub fn read(&self, place: u64) -> Piece {
        if let Some(whole) = self.whole.get() {
            return piece_at(&whole.pieces, place).map_or(Piece::End, Piece::Bytes);
        }
        let growth = self.growth();
        if let Some(piece) = piece_at(&growth.pieces, place) {
            return Piece::Bytes(piece);
        }
        let offset = usize::try_from(place.saturating_sub(growth.full)).unwrap_or(usize::MAX);
        match growth.last.get(offset..).filter(|rest| !rest.is_empty()) {
            Some(rest) => Piece::Bytes(Bytes::copy_from_slice(rest)),
            None if growth.is_cut => Piece::Cut,
            // It may have become whole since, which whoever waits is told.
            None => Piece::Wait,
        }
    }

    /// What is at `place`, waiting for it.
    pub async fn next(&self, place: u64) -> Piece {
        loop {
            let came = self.came.notified();
            let mut came = std::pin::pin!(came);
            came.as_mut().enable();
            match self.read(place) {
                Piece::Wait => came.await,
                found => return found,
            }
        }
    }

    fn growth(&self) -> std::sync::MutexGuard<'_, Growth> {
        // Nothing here panics while it is held.
        self.growth.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Growth {
    /// Forgets what has come.
    fn give_up(&mut self) {
        *self = Self {
            is_cut: true,
            ..Self::default()
        };
    }

    fn so_far(&self) -> u64 {
        self.full + self.last.len() as u64
    }

    /// Room in the last piece, which is made if there is none.
    fn room(&mut self, declared: Option<u64>) -> usize {
        if self.last.capacity() == 0 {
            let left = declared.map(|declared| declared.saturating_sub(self.full));
            let left = left.map_or(UNKNOWN_BYTES, |left| {
                usize::try_from(left).unwrap_or(usize::MAX)
            });
            self.last = BytesMut::with_capacity(left.clamp(1, PIECE_BYTES));
        }
        // A piece that is short of what it may have grows.
        PIECE_BYTES.saturating_sub(self.last.len()).max(1)
    }

    fn seal_if_full(&mut self) {
        if self.last.len() >= PIECE_BYTES {
            self.seal();
        }
    }

    fn seal(&mut self) {
        if self.last.is_empty() {
            return;
        }
        let last = std::mem::take(&mut self.last);
        self.full += last.len() as u64;
        // What has grown may hold twice the room that it needs, for as long as it is stored.
        let is_loose = last.capacity() > last.len() + last.len() / 8;
        self.pieces.push(match is_loose {
            true => Bytes::copy_from_slice(&last),
            false => last.freeze(),
        });
    }
}

/// The rest of the piece that has `place`. Pieces but the last are of one size.
fn piece_at(pieces: &[Bytes], place: u64) -> Option<Bytes> {
    let place = usize::try_from(place).ok()?;
    let piece = pieces.get(place / PIECE_BYTES)?;
    let offset = place % PIECE_BYTES;
    (offset < piece.len()).then(|| piece.slice(offset..))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn room(bytes: u64) -> Reserved {
        Room::default().reserve(bytes, bytes).unwrap()
    }

    #[test]
    fn room_is_taken_for_as_long_as_anybody_reads() {
        let room = Room::default();
        let body = Arc::new(Body::new(Some(6), room.reserve(6, 10).unwrap()));
        assert!(room.reserve(5, 10).is_none());
        let reader = Arc::clone(&body);
        drop(body);
        assert_eq!((room.taken(), room.reserve(4, 10).is_some()), (6, true));
        drop(reader);
        assert_eq!(room.taken(), 0);
    }

    fn read_all(body: &Body) -> Result<Vec<u8>, Piece> {
        let mut out = Vec::new();
        loop {
            match body.read(out.len() as u64) {
                Piece::Bytes(bytes) => out.extend_from_slice(&bytes),
                Piece::End => return Ok(out),
                other => return Err(other),
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// However a body comes, and whatever was said of its length: what goes in comes out, from each place.
        #[test]
        fn what_goes_in_comes_out(
            pieces in proptest::collection::vec(0_usize..200_000, 0..8),
            is_declared: bool,
            place in 0_usize..400_000,
        ) {
            let length: usize = pieces.iter().sum();
            let all: Vec<u8> = (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect();
            let body = Body::new(is_declared.then_some(length as u64), room(1 << 40));
            let mut rest = all.as_slice();
            for piece in pieces {
                let (now, later) = rest.split_at(piece);
                body.push(now);
                rest = later;
                prop_assert_eq!(body.so_far(), (length - rest.len()) as u64);
                prop_assert_eq!(read_all(&body), Err(Piece::Wait));
            }
            body.end();
            prop_assert_eq!(body.length(), Some(length as u64));
            prop_assert!(read_all(&body) == Ok(all.clone()));
            match body.read(place as u64) {
                Piece::Bytes(bytes) => prop_assert!(all[place..].starts_with(&bytes)),
                other => prop_assert_eq!((other, place >= length), (Piece::End, true)),
            }
        }
    }

    #[test]
    fn what_is_cut_has_no_end() {
        for finish in [
            Body::cut,
            |body: &Body| assert!(!body.end()),
            |body: &Body| body.push(&[0; 9]),
        ] {
            let body = Body::new(Some(10), room(10));
            body.push(b"half");
            assert_eq!(body.read(0), Piece::Bytes(Bytes::from_static(b"half")));
            finish(&body);
            assert_eq!((body.read(4), body.so_far()), (Piece::Cut, 0));
            body.push(b"more");
            assert!(!body.end() && !body.is_whole());
        }
    }

    #[test]
    fn readers_on_other_threads_wait_for_what_comes() {
        let body = Arc::new(Body::new(None, room(1 << 40)));
        let reader = Arc::clone(&body);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .build()
                .unwrap();
            runtime.block_on(async {
                let mut out = Vec::new();
                while let Piece::Bytes(bytes) = reader.next(out.len() as u64).await {
                    out.extend_from_slice(&bytes);
                }
                out
            })
        });
        for _ in 0..100 {
            body.push(b"0123456789");
        }
        body.end();
        assert_eq!(thread.join().unwrap(), b"0123456789".repeat(100));
    }
}
