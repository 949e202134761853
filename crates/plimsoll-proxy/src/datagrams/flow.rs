//! One flow: the client, the server that was picked for it, and what passes between them.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use plimsoll_balance::concurrency::Hold;
use plimsoll_balance::{Outcome, Standing, Tried};
use plimsoll_http::forwarded::AddressText;
use plimsoll_http::reason::Reason;
use plimsoll_net::datagrams::Link;
use plimsoll_observe::access_log::Record;

use super::Service;
use super::held::Spot;
use crate::events;
use crate::generation::{Pool, Server};
use crate::http::exchange::Facts;
use crate::http::select::Pick;
use crate::plane::Plane;
use crate::sessions::Session;

/// What tells flows from each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    /// Where its datagrams come from.
    pub(super) peer: SocketAddr,
    /// Whom they are from; another one where they are passed on to us.
    pub(super) client: SocketAddr,
    /// Which of our addresses the client speaks to, where the port has all of them.
    pub(super) local: Option<IpAddr>,
}

/// A server that was picked, and the way to it.
#[derive(Debug)]
pub(super) struct Route<'a> {
    pub(super) pick: Pick<'a>,
    pub(super) server: &'a Server,
    pub(super) link: Link,
}

#[derive(Debug)]
pub(super) struct Flow<'a> {
    pub(super) route: Route<'a>,
    /// What goes before each datagram.
    pub(super) header: Box<[u8]>,
    /// Its place among those of its client.
    pub(super) _seat: Option<Box<Hold>>,
    /// Servers that it was at since the last answer.
    pub(super) tried: Tried,
    pub(super) attempts: u32,
    /// The last server that failed, and why.
    pub(super) failed: Option<(&'a str, Reason)>,
    pub(super) started: Instant,
    /// The same, since 1970.
    pub(super) at: Duration,
    /// When the first datagram went to the server that it has.
    pub(super) asked: Instant,
    /// How long the first answer took.
    pub(super) first_answer: Option<Duration>,
    pub(super) progress: Progress,
    /// How many answers are taken next at the same time.
    pub(super) burst: usize,
    /// Where the last datagram is held.
    pub(super) last: Option<Spot>,
    pub(super) request_bytes: u64,
    pub(super) response_bytes: u64,
}

/// How far a flow is with the server that it has.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Progress {
    /// Datagrams that went.
    pub(super) sent: u64,
    /// Answers that came.
    pub(super) answers: u64,
    /// Whether the pool knows that the server is there.
    is_taught: bool,
}

impl Progress {
    /// How many answers are still to come, where they are counted.
    pub(super) fn due(&self, responses: Option<u32>) -> Option<u64> {
        let each = responses.filter(|each| *each > 0)?;
        Some((self.sent * u64::from(each)).saturating_sub(self.answers))
    }
}

/// Answers that are taken from one server before others have their turn.
const BURST_MAX: usize = 8;

impl Flow<'_> {
    /// How many answers to take: one to one question, and ever more from a server that sends many.
    pub(super) fn next_burst(&mut self) -> usize {
        let next = (self.burst * 2).min(BURST_MAX);
        std::mem::replace(&mut self.burst, next)
    }

    /// Tells whether its server was found down, so that it had better be at another one.
    pub(super) fn is_stranded(&self) -> bool {
        let standing = self.route.pick.slot.server().standing();
        matches!(standing, Standing::Unfit | Standing::Unreachable)
    }

    /// Teaches the pool that the server is there, once.
    pub(super) fn teach_served(&mut self, plane: &Plane, pool: &Pool, now: Instant) {
        if !std::mem::replace(&mut self.progress.is_taught, true) {
            let outcome = (Outcome::Served, self.first_answer);
            events::teach(plane, pool, &self.route.pick.slot, outcome, now);
        }
    }

    /// Counts its end and writes its log lines.
    pub(super) fn finish(
        &self,
        (plane, pool, service): (&Plane, &Pool, &Service),
        key: &Key,
        why: Option<(Reason, &'static str)>,
    ) {
        let session = Session::new(self.started);
        let mut facts = Facts::new(plane, &session, self.started);
        facts.at = self.at;
        facts.pool = Some(&pool.name);
        facts.server = Some(&self.route.server.name);
        facts.attempts = self.attempts;
        facts.failed = self.failed;
        facts.first_byte = self.first_answer;
        facts.request_bytes.set(self.request_bytes);
        facts.response_bytes.set(self.response_bytes);
        tell((plane, service), facts, key, why);
    }
}

/// Counts why a flow ended, or did not begin, and writes its log lines.
pub(super) fn tell(
    (plane, service): (&Plane, &Service),
    mut facts: Facts<'_>,
    key: &Key,
    why: Option<(Reason, &'static str)>,
) {
    if let Some((reason, detail)) = why {
        facts.blame(reason, detail);
        plane.metrics.count_reason(reason);
    }
    if !plane.is_logged(&service.logs) {
        return;
    }
    let client = AddressText::new(key.client.ip());
    let record = Record {
        client: client.as_bytes(),
        client_port: key.client.port(),
        site: &service.name,
        generation: plane.generation.number,
        proto: "UDP",
        total: plimsoll_net::clock::now().duration_since(facts.started),
        ..facts.record()
    };
    plane.log(&service.logs, &record);
}
