//! The heads of answers that are files.

use std::ops::Range;

use plimsoll_http::coding::Coding;
use plimsoll_http::framing::Reuse;
use plimsoll_http::h1::encode::{decimal, has_line};
use plimsoll_http::range::{self, Multipart, Parts};
use plimsoll_http::reason::Reason;

use crate::files::Resource;
use crate::http::exchange::Exchange;
use crate::http::respond::{self, Answer};

/// What browsers do with a file that never changes.
const IMMUTABLE: &[u8] = b"public, max-age=31536000, immutable";

/// How a request for a file is answered.
#[derive(Debug)]
pub(super) struct Reply<'a> {
    pub(super) status: u16,
    pub(super) file: &'a Resource,
    pub(super) body: Body,
    /// Whether others may get the file in another coding.
    pub(super) varies: bool,
    pub(super) is_immutable: bool,
}

/// What of a file is sent.
#[derive(Debug)]
pub(super) enum Body {
    /// Nothing: the client has it.
    Nothing,
    /// All of it.
    Whole,
    /// This part.
    Part(Range<u64>),
    /// These parts.
    Parts(Box<Parts>),
}

impl Reply<'_> {
    /// How several parts are told apart.
    pub(super) fn multipart<'m>(&'m self, boundary: &'m [u8]) -> Multipart<'m> {
        Multipart {
            boundary,
            media: &self.file.media,
            length: self.file.meta.size,
        }
    }

    /// Writes the head into the scratch memory.
    pub(super) fn write_head(&self, exchange: &mut Exchange<'_>, reuse: Reuse) {
        let fields = respond::begin(exchange, self.status);
        let mut out = std::mem::take(&mut exchange.scratch.response_out);
        self.describe(exchange, &mut out);
        exchange.scratch.response_out = out;
        end_head(exchange, fields, reuse);
    }

    fn describe(&self, exchange: &Exchange<'_>, out: &mut Vec<u8>) {
        let boundary = exchange.facts.id.as_bytes();
        let size = self.file.meta.size;
        // What a server said of it that sent the request here counts more.
        let carried = &*exchange.redirects.carried;
        if !has_line(carried, b"content-type") && !matches!(self.body, Body::Nothing) {
            out.extend_from_slice(b"\r\nContent-Type: ");
            match &self.body {
                Body::Parts(_) => self.multipart(boundary).content_type(out),
                _ => out.extend_from_slice(&self.file.media),
            }
        }
        match &self.body {
            Body::Nothing => {}
            Body::Whole => length(size, out),
            Body::Part(part) => {
                out.extend_from_slice(b"\r\nContent-Range: ");
                range::content_range(part, size, out);
                length(part.end - part.start, out);
            }
            Body::Parts(parts) => length(self.multipart(boundary).body_length(parts), out),
        }
        out.extend_from_slice(b"\r\nLast-Modified: ");
        out.extend_from_slice(&self.file.modified);
        out.extend_from_slice(b"\r\nETag: ");
        out.extend_from_slice(&self.file.etag);
        out.extend_from_slice(b"\r\nAccept-Ranges: bytes");
        if let Some(coding) = self.file.coding.map(Coding::token) {
            out.extend_from_slice(b"\r\nContent-Encoding: ");
            out.extend_from_slice(coding.as_bytes());
        }
        if self.varies {
            out.extend_from_slice(b"\r\nVary: Accept-Encoding");
        }
        if self.is_immutable && !has_line(carried, b"cache-control") {
            out.extend_from_slice(b"\r\nCache-Control: ");
            out.extend_from_slice(IMMUTABLE);
        }
    }
}

fn length(bytes: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(b"\r\nContent-Length: ");
    decimal(bytes, out);
}

/// Ends a head whose fields begin at `fields`.
pub(super) fn end_head(exchange: &mut Exchange<'_>, fields: usize, reuse: Reuse) {
    let good = Answer::to(Reason::ProxyInternalResponse, "");
    respond::explain(exchange, &good, reuse);
    let out = &mut exchange.scratch.response_out;
    out.extend_from_slice(&exchange.redirects.carried);
    exchange.edit_answer(fields);
    exchange.scratch.response_out.extend_from_slice(b"\r\n");
}
