//! Answers that list a directory.

use std::io;

use plimsoll_http::framing::Reuse;
use plimsoll_http::h1::encode::decimal;
use plimsoll_http::listing::{self, Entry};
use plimsoll_http::method::Method;
use plimsoll_http::request;
use plimsoll_net::tree::Listed;

use crate::files::Files;
use crate::http::answer::cut;
use crate::http::exchange::{Ending, Exchange};
use crate::http::files::find::NUMBER_BYTES;
use crate::http::files::{head, unreadable};
use crate::http::flow::Coding;
use crate::http::respond::{self, respond};

/// The most entries of one page.
const ENTRIES_MAX: usize = 10_000;

/// Lists the directory called `name`.
pub(super) async fn list(exchange: &mut Exchange<'_>, files: &Files, name: &[u8]) -> Ending {
    match read(exchange, files, name).await {
        Ok((listed, is_cut)) => {
            let path: Vec<u8> = request::unescaped_path(exchange.seen().path()).collect();
            let mut page = Vec::new();
            listing::write(&path, listed, is_cut, &mut page);
            send(exchange, &page).await
        }
        Err(error) => respond(exchange, unreadable(&error)).await,
    }
}

async fn read(
    exchange: &Exchange<'_>,
    files: &Files,
    name: &[u8],
) -> io::Result<(Vec<Entry>, bool)> {
    let now = exchange.plane.since_start(exchange.facts.started);
    let tree = files.root(now).ok_or(io::ErrorKind::NotFound)?;
    let name = name.get(NUMBER_BYTES..).unwrap_or_default().to_vec();
    let shows_hidden = files.shows_hidden;
    let job = move || {
        let keep = |name: &[u8]| shows_hidden || !name.starts_with(b".");
        let (listed, is_cut) = tree.list(&name, ENTRIES_MAX, keep)?;
        Ok((listed.into_iter().map(entry).collect(), is_cut))
    };
    let done = tokio::task::spawn_blocking(job).await;
    done.unwrap_or_else(|error| Err(io::Error::other(error)))
}

fn entry(listed: Listed) -> Entry {
    Entry {
        name: listed.name,
        size: (!listed.is_directory).then_some(listed.meta.size),
        modified: listed.meta.modified / 1_000_000_000,
    }
}

async fn send(exchange: &mut Exchange<'_>, page: &[u8]) -> Ending {
    exchange.facts.status = 200;
    let reuse: Reuse = exchange.reuse();
    let fields = respond::begin(exchange, 200);
    let out = &mut exchange.scratch.response_out;
    out.extend_from_slice(b"\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: ");
    decimal(page.len() as u64, out);
    out.extend_from_slice(
        b"\r\nContent-Security-Policy: default-src 'none'; style-src 'unsafe-inline'",
    );
    head::end_head(exchange, fields, reuse);
    let page = match exchange.scratch.head.method {
        Method::Head => &[],
        _ => page,
    };
    exchange.facts.response_bytes.set(page.len() as u64);
    let writer = exchange.writer(respond::last(reuse));
    let out = &mut exchange.scratch.response_out;
    let written = writer.write_message(out, page, None, Coding::Plain).await;
    match written {
        Ok(()) => exchange.ending(reuse),
        Err(fault) => cut(&mut exchange.facts, &fault),
    }
}
