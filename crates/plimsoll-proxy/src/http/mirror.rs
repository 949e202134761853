//! Copies of requests that go to another pool as well. Nobody waits for what comes back; where answers
//! are compared, whichever of the two ends last compares them.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use plimsoll_config::model::Mirror;
use plimsoll_http::forwarded::RequestId;
use plimsoll_http::framing::{Framing, Length};
use plimsoll_http::head::ResponseHead;
use plimsoll_http::method::Method;
use xxhash_rust::xxh3::Xxh3;

use crate::http::exchange::Exchange;
use crate::http::subrequest::{self, Call};
use crate::http::upstream_h1;
use crate::plane::Plane;

/// Copies of one worker that are under way.
const COPIES_MAX: usize = 256;

/// What is compared of an answer.
#[derive(Default)]
pub(crate) struct Digest {
    status: u16,
    media: Vec<u8>,
    hasher: Xxh3,
    length: u64,
    took: Duration,
    is_complete: bool,
}

impl Digest {
    pub(crate) fn head(&mut self, head: &ResponseHead, bytes: &[u8], took: Duration) {
        self.status = head.status;
        self.took = took;
        let media = head.fields.by_text(bytes, b"content-type");
        self.media = media
            .map(|line| line.value.of(bytes).to_vec())
            .unwrap_or_default();
    }

    pub(crate) fn body(&mut self, data: &[u8]) {
        self.length += data.len() as u64;
        self.hasher.update(data);
    }

    pub(crate) fn complete(&mut self) {
        self.is_complete = true;
    }
}

/// A request and its copy, until both have been answered.
pub(crate) struct Pair {
    id: RequestId,
    pool: usize,
    pub(crate) ours: RefCell<Digest>,
    theirs: RefCell<Option<Digest>>,
    is_ours_done: Cell<bool>,
}

impl std::fmt::Debug for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pair")
            .field("pool", &self.pool)
            .finish_non_exhaustive()
    }
}

impl Pair {
    /// The client has its answer, or none.
    pub(crate) fn finish(&self, plane: &Plane) {
        self.is_ours_done.set(true);
        self.compare(plane);
    }

    fn compare(&self, plane: &Plane) {
        let theirs = self.theirs.borrow();
        let Some(theirs) = theirs.as_ref().filter(|_| self.is_ours_done.get()) else {
            return;
        };
        let ours = self.ours.borrow();
        let Some(metrics) = plane.metrics.pool(self.pool) else {
            return;
        };
        // A client that left had no whole answer to compare with.
        if !ours.is_complete {
            return metrics.mirrored_skipped.add(1);
        }
        let is_same_body =
            ours.length == theirs.length && ours.hasher.digest() == theirs.hasher.digest();
        let parts = [
            (ours.status != theirs.status, "status"),
            (ours.media != theirs.media, "content-type"),
            (!is_same_body, "body"),
        ];
        let what: Vec<&str> = parts
            .iter()
            .filter(|(is, _)| *is)
            .map(|(_, what)| *what)
            .collect();
        if what.is_empty() {
            return metrics.mirrored_same.add(1);
        }
        metrics.mirrored_different.add(1);
        let pool = plane.generation.pools.get(self.pool);
        tracing::info!(
            id = %String::from_utf8_lossy(self.id.as_bytes()),
            pool = %pool.map(|pool| pool.name.as_ref()).unwrap_or_default(),
            differs = what.join(","),
            status = ours.status,
            mirror_status = theirs.status,
            bytes = ours.length,
            mirror_bytes = theirs.length,
            took_ms = u64::try_from(ours.took.as_millis()).unwrap_or(u64::MAX),
            mirror_took_ms = u64::try_from(theirs.took.as_millis()).unwrap_or(u64::MAX),
            "a mirrored request was answered differently",
        );
    }
}

/// Notes that a request is copied when it goes to a server.
pub(crate) fn note<'a>(exchange: &mut Exchange<'a>, mirror: &'a Mirror) {
    let lot = exchange.plane.worker.random() % 100;
    if lot < u64::from(mirror.percent) {
        exchange.mirrors.push(mirror);
    }
}

/// Sends the copies.
pub(crate) fn send(exchange: &mut Exchange<'_>) {
    for mirror in std::mem::take(&mut exchange.mirrors) {
        let plane = exchange.plane;
        let is_here = exchange.came_whole && !exchange.is_spilled();
        let may = is_here && plane.station.copies.get() < COPIES_MAX;
        let Some(plane) = plane.me.upgrade().filter(|_| may) else {
            if let Some(metrics) = plane.metrics.pool(mirror.pool) {
                metrics.mirrored_skipped.add(1);
            }
            continue;
        };
        let pair = mirror.compare.then(|| {
            Rc::new(Pair {
                id: exchange.facts.id,
                pool: mirror.pool,
                ours: RefCell::default(),
                theirs: RefCell::default(),
                is_ours_done: Cell::new(false),
            })
        });
        if let Some(pair) = &pair {
            exchange.pair = Some(Rc::clone(pair));
        }
        let copy = Copy {
            pool: mirror.pool,
            method: exchange.scratch.head.method,
            message: message(exchange),
            pair,
        };
        plane.station.copies.set(plane.station.copies.get() + 1);
        tokio::task::spawn_local(copy.send(plane));
    }
}

/// The request as a server receives it, with its body.
fn message(exchange: &mut Exchange<'_>) -> Vec<u8> {
    let body = exchange.body_so_far().len() as u64;
    let length = match exchange.framing.as_ref().map(Framing::length) {
        Some(Length::Empty) | None => Length::Empty,
        Some(_) => Length::Exactly(body),
    };
    upstream_h1::encode_head(exchange, b"mirror", None, length);
    let mut message = exchange.scratch.request_out.clone();
    message.extend_from_slice(exchange.body_so_far());
    message
}

/// A copy on its way.
struct Copy {
    pool: usize,
    method: Method,
    message: Vec<u8>,
    pair: Option<Rc<Pair>>,
}

impl Copy {
    async fn send(self, plane: Rc<Plane>) {
        let mut digest = Digest::default();
        let call = Call {
            method: self.method,
            message: &self.message,
            body_max: 0,
            digest: Some(&mut digest),
        };
        let reply = match plane.generation.pools.get(self.pool) {
            Some(pool) => subrequest::ask(&plane, pool, call).await,
            None => None,
        };
        plane
            .station
            .copies
            .set(plane.station.copies.get().saturating_sub(1));
        let Some(metrics) = plane.metrics.pool(self.pool) else {
            return;
        };
        match (reply, self.pair) {
            (None, _) => metrics.mirrored_failed.add(1),
            (Some(_), None) => metrics.mirrored.add(1),
            (Some(reply), Some(pair)) => {
                digest.head(&reply.head, &reply.bytes, reply.took);
                *pair.theirs.borrow_mut() = Some(digest);
                pair.compare(&plane);
            }
        }
    }
}
