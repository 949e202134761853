//! Two readers of the same bytes must agree, or a request can be hidden from one of them.
//!
//! The fuzz target `differential` looks further than the seeds here.
#![allow(
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a broken law panics"
)]

mod edits;
mod law;
mod strict;

use strict::{Chunks, Stop};

/// Scripts per run; a script makes one to four changes.
const SCRIPTS: u64 = 60_000;

#[test]
fn sound_messages_have_one_meaning() {
    for message in edits::MESSAGES {
        for end in 0..=message.len() {
            law::agree(&message.as_bytes()[..end]);
        }
    }
}

#[test]
fn nearly_sound_messages_have_one_meaning() {
    let mut accepted = 0;
    for seed in 1..=SCRIPTS {
        let bytes = edits::message(&script(seed));
        let judged = std::panic::catch_unwind(|| law::agree(&bytes));
        let is_accepted =
            judged.unwrap_or_else(|_| panic!("seed {seed}: {}", bytes.escape_ascii()));
        accepted += u64::from(is_accepted);
    }
    assert!(accepted > SCRIPTS / 10, "{accepted}");
}

fn script(seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    let changes = 1 + usize::from(next() % 4);
    let mut script = vec![0x80 | next()];
    script.extend(std::iter::repeat_with(next).take(4 * changes));
    script
}

/// The second reader is no use if it takes everything.
#[test]
fn the_strict_reader_is_strict() {
    for bad in [
        "GET /\x7f HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\nHost: a\r\n\r\n",
        "GET / HTTP/1.2\r\nHost: a\r\n\r\n",
        "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET a HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET * HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX : b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: \x0b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: b\r\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551616\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n",
        "GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
    ] {
        assert_eq!(
            strict::request(bad.as_bytes()).err(),
            Some(Stop::Bad),
            "{bad:?}"
        );
    }
    for bad in [
        "x",
        "1 2\r\n",
        "1\r\nab",
        "1\r\na\n",
        "1;\r\n",
        "1 ;a\r\n",
        "1;a =b\r\n",
        "1;a=\"\r",
        "0\r\n a: b\r\n",
    ] {
        let read = strict::chunked(bad.as_bytes(), &mut Chunks::default());
        assert_eq!(read, Err(Stop::Bad), "{bad:?}");
    }
}
