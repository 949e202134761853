//! What a peer sends on a stream, read as HTTP/1.1 would write it.

use std::collections::VecDeque;
use std::io::Read;
use std::task::Waker;

use super::window::Allowance;
use crate::chunked::size_line;
use crate::grpc::web::Web;

/// What the chunked coding puts around a piece, at most.
const CHUNK_BYTES: usize = 18 + 2;

/// The least room in which a piece is put together.
const ROOM_MIN: usize = 64;

/// A message on its way in.
#[derive(Debug)]
pub(super) struct Inbound {
    pub(super) allowance: Allowance,
    /// What is read before all data.
    text: VecDeque<u8>,
    /// Data that nobody has read.
    data: VecDeque<u8>,
    /// How much of the window it takes, with what it was padded with.
    held: usize,
    /// How much is read in the chunked coding.
    is_coded: bool,
    /// What its length promises beyond what has come.
    left: Option<u64>,
    end: End,
    /// The client, if it is one of gRPC that sees no trailers.
    web: Option<Web>,
    /// Who waits for more.
    pub(super) reader: Option<Waker>,
}

#[derive(Debug)]
enum End {
    /// More may come.
    Open,
    /// All is here, with the lines of what follows.
    Here(Vec<u8>),
    /// That was read, too.
    Told,
}

/// A body that is not as long as it was said to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WrongLength;

impl Inbound {
    pub(super) fn new(allowance: Allowance) -> Self {
        Self {
            allowance,
            text: VecDeque::new(),
            data: VecDeque::new(),
            held: 0,
            is_coded: false,
            left: None,
            end: End::Open,
            web: None,
            reader: None,
        }
    }

    /// Has `text` read: a head.
    pub(super) fn say(&mut self, text: &[u8]) {
        self.text.extend(text);
    }

    /// How much text waits.
    pub(super) fn said(&self) -> usize {
        self.text.len()
    }

    /// Notes how the body is read.
    pub(super) fn begin(&mut self, is_coded: bool, length: Option<u64>, web: Option<Web>) {
        (self.is_coded, self.left, self.web) = (is_coded, length, web);
    }

    /// Takes data that has come, with the bytes that it takes of the window.
    pub(super) fn take(&mut self, data: &[u8], cost: usize) -> Result<(), WrongLength> {
        if let Some(left) = &mut self.left {
            *left = left.checked_sub(data.len() as u64).ok_or(WrongLength)?;
        }
        self.data.extend(data);
        self.held += cost;
        Ok(())
    }

    /// Notes that all has come, and these lines behind it.
    pub(super) fn end(&mut self, trailers: Vec<u8>) -> Result<(), WrongLength> {
        if self.left.is_some_and(|left| left > 0) {
            return Err(WrongLength);
        }
        self.end = End::Here(trailers);
        Ok(())
    }

    pub(super) fn has_ended(&self) -> bool {
        !matches!(self.end, End::Open)
    }

    /// Forgets what nobody will read; returns what of the window that frees.
    pub(super) fn forget(&mut self) -> usize {
        self.data.clear();
        self.text.clear();
        std::mem::take(&mut self.held)
    }

    /// Reads as much as there is; nothing as long as more may come. Tells also what of the window that frees.
    pub(super) fn read(&mut self, room: &mut [u8]) -> (Option<usize>, usize) {
        let (mut read, before) = (0, self.held);
        while let Some(left) = room.get_mut(read..)
            && (left.len() >= ROOM_MIN || read == 0)
        {
            match self.read_one(left) {
                Some(more @ 1..) => read += more,
                end if read == 0 => return (end, before - self.held),
                _ => break,
            }
        }
        (Some(read), before - self.held)
    }

    fn read_one(&mut self, room: &mut [u8]) -> Option<usize> {
        if self.text.is_empty() {
            self.prepare(room.len());
        }
        if !self.text.is_empty() {
            return Some(self.text.read(room).unwrap_or_default());
        }
        let ready = self.ready();
        if ready == 0 {
            return self.has_ended().then_some(0);
        }
        if !self.is_coded {
            let taken = ready.min(room.len());
            let taken = room
                .get_mut(..taken)
                .map_or(0, |room| self.data.read(room).unwrap_or_default());
            self.free(taken);
            return Some(taken);
        }
        let taken = ready.min(room.len() - CHUNK_BYTES);
        let mut size = [0; 18];
        let size = size_line(taken, &mut size);
        let (start, rest) = room.split_at_mut_checked(size.len())?;
        let (piece, rest) = rest.split_at_mut_checked(taken)?;
        start.copy_from_slice(size);
        self.data.read_exact(piece).ok()?;
        *rest.first_chunk_mut()? = *b"\r\n";
        self.free(taken);
        Some(size.len() + taken + 2)
    }

    /// What of the data may be read. A message is not to look complete before it is known that it ends there
    /// (RFC 9113 §8.1.1).
    fn ready(&self) -> usize {
        let is_kept = self.left == Some(0) && !self.has_ended();
        self.data.len().saturating_sub(is_kept.into())
    }

    /// Puts into text what is not read as it came: the end, and pieces that are not as they came or hardly fit.
    fn prepare(&mut self, room: usize) {
        let ready = self.ready();
        if ready > 0 {
            let is_small = self.is_coded && room < ROOM_MIN;
            if let Some(web) = self.web {
                let piece = self.data.drain(..ready).collect();
                self.free(ready);
                self.chunk(&web.piece(piece));
            } else if is_small {
                let piece: Vec<u8> = self.data.drain(..ready.min(ROOM_MIN)).collect();
                self.free(piece.len());
                self.chunk(&piece);
            }
        } else if let End::Here(trailers) = &mut self.end {
            let mut trailers = std::mem::take(trailers);
            self.end = End::Told;
            if let Some(web) = self.web {
                self.chunk(&web.trailers(&trailers));
                trailers.clear();
            }
            if self.is_coded {
                self.text.extend(b"0\r\n");
                self.text.extend(trailers);
                self.text.extend(b"\r\n");
            }
        }
    }

    fn chunk(&mut self, piece: &[u8]) {
        if !piece.is_empty() {
            self.text.extend(size_line(piece.len(), &mut [0; 18]));
            self.text.extend(piece);
            self.text.extend(b"\r\n");
        }
    }

    /// Counts data that was read. Padding is free once all is.
    fn free(&mut self, bytes: usize) {
        self.held = match self.data.is_empty() {
            true => 0,
            false => self.held.saturating_sub(bytes),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inbound(is_coded: bool, length: Option<u64>) -> Inbound {
        let mut inbound = Inbound::new(Allowance::new(1 << 16));
        inbound.begin(is_coded, length, None);
        inbound
    }

    /// Reads until nothing is there, in pieces of this size.
    fn all(inbound: &mut Inbound, size: usize) -> String {
        let mut all = Vec::new();
        let mut room = vec![0; size];
        while let (Some(read @ 1..), _) = inbound.read(&mut room) {
            all.extend_from_slice(&room[..read]);
        }
        String::from_utf8(all).unwrap()
    }

    #[test]
    fn data_is_read_in_the_coding_that_the_head_says() {
        for size in [1, 20, 64, 1000] {
            let mut body = inbound(true, None);
            body.say(b"head\r\n\r\n");
            body.take(b"hello", 5).unwrap();
            body.take(b", world", 7).unwrap();
            assert_eq!(
                all(&mut body, size),
                "head\r\n\r\nc\r\nhello, world\r\n",
                "{size}"
            );
            assert_eq!(body.read(&mut [0; 100]), (None, 0));
            body.end(b"a: b\r\n".to_vec()).unwrap();
            assert_eq!(all(&mut body, size), "0\r\na: b\r\n\r\n", "{size}");
            assert_eq!(body.read(&mut [0; 100]), (Some(0), 0));
            let mut body = inbound(false, Some(5));
            body.take(b"hello", 5).unwrap();
            body.end(b"a: b\r\n".to_vec()).unwrap();
            assert_eq!(all(&mut body, size), "hello", "{size}");
        }
    }

    #[test]
    fn the_last_byte_waits_for_the_end() {
        let mut body = inbound(false, Some(5));
        body.take(b"hello", 5).unwrap();
        assert_eq!(all(&mut body, 100), "hell");
        assert_eq!(body.take(b"!", 1), Err(WrongLength));
        body.end(Vec::new()).unwrap();
        assert_eq!(all(&mut body, 100), "o");
        let mut short = inbound(false, Some(5));
        short.take(b"hell", 4).unwrap();
        assert_eq!(short.end(Vec::new()), Err(WrongLength));
    }

    #[test]
    fn what_was_read_frees_its_window() {
        let mut body = inbound(true, None);
        body.take(&[b'x'; 100], 356).unwrap();
        let mut room = [0; 70];
        assert_eq!(body.read(&mut room), (Some(4 + 50 + 2), 50));
        assert_eq!(body.read(&mut room), (Some(4 + 50 + 2), 306));
        body.take(b"y", 1).unwrap();
        assert_eq!(body.forget(), 1);
        assert_eq!(body.read(&mut room), (None, 0));
    }

    #[test]
    fn clients_that_see_no_trailers_get_one_more_message() {
        let (web, _) = Web::asked(b"application/grpc-web").unwrap();
        let mut body = inbound(true, None);
        body.begin(true, None, Some(web));
        body.take(b"message", 7).unwrap();
        body.end(b"grpc-status: 0\r\n".to_vec()).unwrap();
        let expected = "7\r\nmessage\r\n15\r\n\u{80}\0\0\0\u{10}grpc-status: 0\r\n\r\n0\r\n\r\n";
        let mut all = Vec::new();
        let mut room = [0; 64];
        while let (Some(read @ 1..), _) = body.read(&mut room) {
            all.extend_from_slice(&room[..read]);
        }
        let latin: Vec<u8> = expected.chars().map(|letter| letter as u8).collect();
        assert_eq!(all, latin);
    }
}
