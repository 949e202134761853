//! Asking a second server when an answer lets wait for unusually long: the slowest answers become
//! rare for a few more requests (J. Dean, L. A. Barroso, "The Tail at Scale", CACM 56(2), 2013).

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use plimsoll_balance::Tried;
use plimsoll_balance::budget::Budget;
use plimsoll_balance::percentile::Percentile;
use plimsoll_config::model::{Hedge, HedgeAfter};
use plimsoll_net::socket::Socket;
use plimsoll_net::{clock, stream};
use tokio::time::sleep_until;

use crate::generation::{Pool, Server};
use crate::http::acquire::{Kept, Upstream, acquire};
use crate::http::answer::WATCH_AFTER;
use crate::http::attempt::Terms;
use crate::http::exchange::Exchange;
use crate::http::line;
use crate::http::select::{Pick, select};
use crate::http::upstream_h1;

/// When one worker asks second servers of one pool.
#[derive(Debug)]
pub(crate) struct Hedger {
    after: HedgeAfter,
    /// How long answers take, where that matters.
    answers: RefCell<Percentile>,
    budget: RefCell<Budget>,
}

/// A server that was asked second and answers first.
#[derive(Debug)]
pub(crate) struct Second<'a> {
    pub(crate) pick: Pick<'a>,
    pub(crate) server: &'a Server,
    pub(crate) upstream: Upstream,
    /// When it was asked.
    pub(crate) sent: Instant,
}

impl Hedger {
    pub(crate) fn new(hedge: Hedge) -> Self {
        let share = match hedge.after {
            HedgeAfter::Percentile(share) => share,
            HedgeAfter::Delay(_) => 0,
        };
        Self {
            after: hedge.after,
            answers: RefCell::new(Percentile::new(share.into())),
            budget: RefCell::new(Budget::new(u32::from(hedge.budget) * 10, 0)),
        }
    }

    /// Learns how long a client waited for its answer to begin.
    pub(crate) fn learn(&self, took: Duration) {
        if matches!(self.after, HedgeAfter::Percentile(_)) {
            self.answers.borrow_mut().note(took);
        }
    }

    /// How long one server is waited for; nothing before that is known.
    fn delay(&self) -> Option<Duration> {
        match self.after {
            HedgeAfter::Percentile(_) => self.answers.borrow().value(),
            HedgeAfter::Delay(delay) => Some(delay),
        }
    }

    /// Waits for the answer of the server behind `first`, which was asked at `sent`, and asks another
    /// one when that takes too long. Returns the other one if it is the first to answer.
    pub(crate) async fn race<'a>(
        &self,
        exchange: &mut Exchange<'a>,
        pool: &'a Pool,
        terms: &Terms<'_>,
        tried: &Tried,
        first: &Socket,
        sent: Instant,
    ) -> Option<Second<'a>> {
        let plane = exchange.plane;
        let at = plane.since_start(sent);
        self.budget.borrow_mut().note_request(at);
        let due = sent + self.delay()?;
        let unwatched = due.min(sent + WATCH_AFTER);
        unless_answered(None, first, sleep_until(unwatched.into())).await?;
        if unwatched < due {
            unless_answered(Some(exchange.client), first, sleep_until(due.into())).await?;
        }
        // Whoever waits for a server needs it more than this request needs a second one.
        if line::is_busy(plane, pool) {
            return None;
        }
        let pick = select(exchange, pool, tried).ok()?;
        let now = plane.since_start(clock::now());
        if !self.budget.borrow_mut().try_retry(now) {
            return None;
        }
        exchange.facts.attempts += 1;
        let client = Some(exchange.client);
        let second = unless_answered(client, first, ask(exchange, pool, terms, pick)).await;
        let second = second.flatten();
        if second.is_none() {
            line::call_next(plane, pool); // its place is free again
        }
        if let Some(metrics) = plane.metrics.pool(pool.index) {
            match second {
                Some(_) => metrics.hedges_won.add(1),
                None => metrics.hedges_lost.add(1),
            }
        }
        second
    }
}

/// Runs `other` until the server behind `first` has something to say, or the client has left.
async fn unless_answered<T>(
    client: Option<&Socket>,
    first: &Socket,
    other: impl Future<Output = T>,
) -> Option<T> {
    let mut other = pin!(other);
    let mut left = pin!(client.map(Socket::broken));
    poll_fn(|context| {
        let left = left.as_mut().as_pin_mut();
        let has_left = left.is_some_and(|left| left.poll(context).is_ready());
        if has_left || stream::poll_readable(first, context).is_ready() {
            return Poll::Ready(None);
        }
        other.as_mut().poll(context).map(Some)
    })
    .await
}

/// Asks a second server; returns it once it answers.
async fn ask<'a>(
    exchange: &mut Exchange<'a>,
    pool: &'a Pool,
    terms: &Terms<'_>,
    pick: Pick<'a>,
) -> Option<Second<'a>> {
    let server = pool.servers.get(pick.slot.index().position())?;
    let upstream = acquire(exchange, pool, server, Kept::Welcome).await.ok()?;
    let sending = upstream_h1::send(exchange, server, &upstream, terms);
    sending.await.ok()?;
    let sent = clock::now();
    exchange.timer.set(terms.deadline(sent));
    let readable = poll_fn(|context| stream::poll_readable(&upstream.socket, context));
    let answers = exchange
        .timer
        .limit(readable)
        .await
        .is_ok_and(|ready| ready.is_ok());
    // One that only closes is no better than the first one.
    (answers && !stream::has_ended(&upstream.socket)).then_some(Second {
        pick,
        server,
        upstream,
        sent,
    })
}
