//! The same requests through this crate and through an independent strict reader.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

mod law;
mod strict;

/// Requests that are sound, and requests that attackers send.
const SEEDS: &[&str] = &[
    "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET http://h/x?q HTTP/1.1\r\nHost: h\r\nAccept: */*\r\n\r\n",
    "OPTIONS * HTTP/1.1\r\nHost: a:80\r\n\r\n",
    "GET / HTTP/1.0\r\n\r\n",
    "POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhelloGET / HTTP/1.1\r\n",
    "POST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\n\r\n",
    "POST /p HTTP/1.1\r\nHost: a\r\ntransfer-encoding:\tChunked \r\n\r\n1;x=\"q\\\"\"\r\nh\r\n00\r\nT: v\r\n\r\nnext",
    "POST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nA\r\n0123456789\r\n0\r\nA:b\r\n c\r\n\r\n",
    "POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    "POST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "\r\nGET /a//b/../c?d=%41 HTTP/1.1\r\nHost: a\r\nX:\r\nY: \t v \t\r\nCookie: a=1; b=2\r\n\r\n",
];

/// What is put in, and put in the place of a byte.
const PIECES: &[&str] = &[
    "\r\n",
    "\n",
    "\r",
    " ",
    "\t",
    ":",
    ";",
    ",",
    "\0",
    "\x0b",
    "\x7f",
    "0",
    "1",
    "f",
    "+",
    "-",
    "_",
    "\"",
    "\\",
    "%",
    "chunked",
    "Transfer-Encoding: chunked\r\n",
    "Content-Length: 3\r\n",
    "Content-Length: +3\r\n",
    "Host: b\r\n",
    "HTTP/1.1",
    "HTTP/1.0",
    "HTTP/2.0",
    "0\r\n\r\n",
    "3\r\nabc\r\n",
    "\u{e9}",
    "X: y\r\n z\r\n",
    "ffffffffffffffff",
];

/// A seeded generator (SplitMix64): the same numbers in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let value = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((value ^ (value >> 31)) % bound as u64).expect("it is below a usize")
    }
}

fn mutate(bytes: &mut Vec<u8>, numbers: &mut Numbers) {
    let at = numbers.below(bytes.len() + 1);
    let piece = PIECES[numbers.below(PIECES.len())].as_bytes();
    let until = match numbers.below(3) {
        0 => at,
        1 => (at + 1).min(bytes.len()),
        _ => (at + piece.len()).min(bytes.len()),
    };
    bytes.splice(at..until, piece.iter().copied());
}

#[test]
fn both_readers_agree_on_requests_and_on_what_becomes_of_them() {
    let mut numbers = Numbers(7);
    let mut accepted = 0;
    for round in 0..60_000 {
        let mut bytes = SEEDS[round % SEEDS.len()].as_bytes().to_vec();
        for _ in 0..numbers.below(4) {
            mutate(&mut bytes, &mut numbers);
        }
        accepted += u32::from(law::agree(&bytes));
    }
    assert!(accepted > 12_000, "{accepted}");
}
