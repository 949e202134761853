//! The head of an answer that a server gave, now or before, as its client gets it.

use std::borrow::Cow;

use plimsoll_http::cookie::Mark;
use plimsoll_http::framing::Length;
use plimsoll_http::h1::encode::{self, Reply};
use plimsoll_http::head::{ResponseHead, Version};
use plimsoll_http::upgrade::Upgrade;

use crate::edits::Edits;
use crate::http::compress::Change;
use crate::http::exchange::Facts;
use crate::plane::Plane;
use crate::seen::{Seen, Values};
use crate::trace;

/// What is done to a head on its way to the client.
pub(crate) struct Dress<'a, 'x> {
    pub(crate) plane: &'a Plane,
    /// The request as rules see it.
    pub(crate) seen: Seen<'a>,
    pub(crate) facts: &'a Facts<'x>,
    /// Lines that go with whatever answer.
    pub(crate) fields: &'a [u8],
    /// Lines of an answer that sent the request elsewhere.
    pub(crate) carried: &'a [u8],
    /// What tells the client to which server it belongs.
    pub(crate) mark: Option<Mark<'a>>,
    /// The protocol that the client asks for instead of HTTP.
    pub(crate) upgrade: Option<Upgrade>,
    /// Status and phrase in place of the answer's own.
    pub(crate) status: Option<(u16, &'static str)>,
    /// Whether the connection goes on.
    pub(crate) persists: bool,
    /// What is said of it where it may be compressed.
    pub(crate) change: Option<&'a Change>,
}

impl Dress<'_, '_> {
    /// Writes the head to the second place; the first is for lines that are added.
    pub(crate) fn write(
        &self,
        (head, bytes): (&ResponseHead, &[u8]),
        length: Length,
        (added, out): (&mut Vec<u8>, &mut Vec<u8>),
    ) {
        let date = self.plane.http_date(self.facts.at);
        let connection = match (self.persists, self.seen.head.version) {
            (false, _) => Some("close"),
            (true, Version::Http10) => Some("keep-alive"),
            (true, Version::Http11 | Version::Http2) => None,
        };
        let carried: &[u8] = match head.status {
            200..=299 | 304 => self.carried,
            _ => b"",
        };
        let mut over = Cow::Borrowed(carried);
        if let Some(change) = self.change {
            over.to_mut().extend_from_slice(&change.over);
        }
        self.add((head, bytes), carried, added);
        let edits = self.facts.response_edits();
        out.clear();
        let reply = Reply {
            status: self.status,
            length,
            connection,
            upgrade: self
                .upgrade
                .filter(|_| head.status == 101)
                .map(|upgrade| upgrade.protocol(self.seen.bytes)),
            date: &date,
            mark: self.mark,
            edits: edits.and_then(Edits::fields),
            over: &over,
            added,
        };
        encode::response(head, bytes, &reply, out);
    }

    /// The lines that are added.
    fn add(&self, answer: (&ResponseHead, &[u8]), carried: &[u8], added: &mut Vec<u8>) {
        let edits = self.facts.response_edits();
        added.clear();
        added.extend_from_slice(self.fields);
        if let Some(told) = &self.facts.told {
            told.write(added);
        }
        let own = added.len();
        added.extend_from_slice(carried);
        if let Some(change) = self.change {
            added.extend_from_slice(&change.lines);
        }
        if let Some(edits) = edits.and_then(Edits::fields) {
            edits.change_lines(own, added);
        }
        if self.facts.is_traced {
            let server = self.facts.server.unwrap_or_default();
            let attempts = self.facts.attempts;
            trace::told(&format!("answered by {server}, attempt {attempts}"), added);
        }
        if let Some(edits) = edits {
            let values = Values {
                seen: self.seen,
                facts: self.facts,
                answer: Some(answer),
            };
            edits.write(&values, added);
        }
    }
}
