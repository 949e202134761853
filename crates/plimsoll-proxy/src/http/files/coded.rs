//! Files that are compressed when they are asked for first, and kept so.

use std::io;
use std::rc::Rc;

use plimsoll_http::coding::{Coding, Liked};
use plimsoll_net::tree::{Wait, read_at};

use crate::coder::Coder;
use crate::files::{Content, Resource};
use crate::http::exchange::Exchange;
use crate::shelf::Shelved;

/// The largest that is: what comes out is held in memory.
const BYTES_MAX: u64 = 1 << 20;

/// The coding that `compress` has a file sent in; nothing as in
/// [`of_file`](crate::http::compress::Compress::of_file).
pub(super) fn coding(exchange: &Exchange<'_>, file: &Resource) -> Option<Option<Coding>> {
    let compress = exchange.facts.route?.compress.as_ref()?;
    if file.coding.is_some() || file.meta.size > BYTES_MAX {
        return None;
    }
    let liked = Liked::of(&exchange.scratch.head, exchange.bytes());
    compress.of_file(&file.media, file.meta.size, liked)
}

/// The file in this coding; nothing if it cannot be read, or not be compressed.
pub(super) async fn coded(
    exchange: &Exchange<'_>,
    shelved: &Shelved,
    coding: Coding,
) -> Option<Rc<Resource>> {
    if let Some(made) = shelved.made(coding) {
        return Some(made);
    }
    let file = &shelved.plain;
    let coder = exchange.facts.route?.compress.as_ref()?.coder(coding)?;
    let (content, size) = (file.content.clone(), file.meta.size);
    // It takes a while, which others must not wait for.
    let job = tokio::task::spawn_blocking(move || encode(&content, size, coder));
    let bytes = job.await.ok()?.ok()?;
    let made = Rc::new(file.coded(coding, bytes));
    exchange.plane.shelf.keep(shelved, &made);
    Some(made)
}

fn encode(content: &Content, size: u64, mut coder: Coder) -> io::Result<Vec<u8>> {
    let file = match content {
        Content::Held(bytes) => return coder.encode(bytes, true),
        Content::Open(file) => file,
    };
    let mut bytes = vec![0; usize::try_from(size).unwrap_or_default()];
    let mut filled = 0;
    while let Some(room) = bytes.get_mut(filled..).filter(|room| !room.is_empty()) {
        match read_at(file, filled as u64, room, Wait::Allowed)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => filled += read,
        }
    }
    coder.encode(&bytes, true)
}
