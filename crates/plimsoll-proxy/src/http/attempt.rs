//! Having a server answer, and what is tried again.
//!
//! A request goes to another server when the first could not be reached. A request that may have
//! reached a server is sent again only when it is idempotent and all of it is still here (RFC 9110
//! §9.2.2); a request that found a kept connection dead is sent again on a new one.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::{Duration, Instant};

use plimsoll_balance::{Outcome, ServerIndex, Tried};
use plimsoll_http::cookie::Mark;
use plimsoll_http::deadline;
use plimsoll_http::reason::Reason;
use plimsoll_net::{clock, stream};
use tokio::sync::futures::Notified;

use crate::events;
use crate::generation::{Pool, Server};
use crate::http::acquire::{Kept, Upstream, acquire};
use crate::http::answer::Keep;
use crate::http::backlog::{Delivery, deliver};
use crate::http::exchange::{Ending, Exchange};
use crate::http::failure::{Failure, Sent, Side};
use crate::http::internal::Elsewhere;
use crate::http::line::{self, Turned, select_in_turn};
use crate::http::respond::{Answer, respond};
use crate::http::select::Pick;
use crate::http::store::Filling;
use crate::http::stored;
use crate::http::upstream_h1;
use crate::sticky::Sticky;

/// Servers that are asked for a connection on behalf of one request.
pub(crate) const CONNECTS_MAX: u32 = 10;

/// Where a request has been, and what may still be done for it.
struct Round {
    tried: Tried,
    /// Further attempts that may reach a server.
    left: u32,
    /// Further servers that may be asked for a connection.
    connects_left: u32,
}

/// Has a server of `pool` answer, with another one when the first cannot.
///
/// # Errors
/// A server answered that the request goes on elsewhere.
pub(crate) async fn with_retries<'a>(
    exchange: &mut Exchange<'a>,
    pool: &'a Pool,
) -> Result<Ending, Elsewhere> {
    exchange.facts.go_to(pool);
    exchange
        .plane
        .note_request(pool.index, exchange.facts.started);
    let mut round = Round {
        tried: Tried::new(),
        left: if may_repeat(exchange) {
            pool.retry.attempts
        } else {
            0
        },
        connects_left: CONNECTS_MAX,
    };
    exchange.deadline = deadline(exchange);
    let mut failure: Option<Failure> = None;
    loop {
        let pick = match select_in_turn(exchange, pool, &round.tried).await {
            Ok(pick) => pick,
            Err(turned) => return Ok(turn_away(exchange, turned, failure).await),
        };
        if let (Some(failure), Some(server)) = (failure, exchange.facts.server) {
            exchange.facts.failed = Some((server, failure.reason));
        }
        // It is large, and awaited where it is: as a value it would be copied once more.
        let outcome = pin!(attempt(exchange, pool, pick, &mut round)).await;
        let failed = match outcome {
            Ok(ending) => return Ok(deliver(exchange, ending).await),
            Err(failed) => failed,
        };
        if let Some(elsewhere) = exchange.redirects.next.take() {
            return Err(elsewhere);
        }
        failure = Some(failed);
        if !is_tried_again(exchange, pool, failed, &mut round) {
            return Ok(give_up(exchange, failed).await);
        }
        count_retry(exchange, pool);
        tracing::debug!(pool = %pool.name, reason = failed.reason.token(), "trying another server");
    }
}

/// When the client stops waiting, if it says so.
fn deadline(exchange: &Exchange<'_>) -> Option<Instant> {
    let (head, facts) = (&exchange.scratch.head, &exchange.facts);
    let patience = deadline::patience(head, exchange.bytes(), facts.at)?;
    facts.started.checked_add(patience)
}

/// Tells whether another server is asked after this failure.
fn is_tried_again(
    exchange: &Exchange<'_>,
    pool: &Pool,
    failed: Failure,
    round: &mut Round,
) -> bool {
    match (failed.blame, failed.sent) {
        (Side::Downstream, _) | (_, Sent::Answered | Sent::Hidden | Sent::Elsewhere) => false,
        (_, Sent::Nothing) => {
            round.connects_left -= 1;
            round.connects_left > 0
        }
        // The server has done nothing, so the request is as good as new if it is still here.
        (_, Sent::Untouched) => {
            round.connects_left -= 1;
            exchange.came_whole && round.connects_left > 0
        }
        (_, Sent::Unanswered) => {
            let is_allowed = match failed.reason {
                Reason::HttpResponseTimeout => pool.retry.on_timeout,
                _ => pool.retry.on_reset,
            };
            let again = is_allowed && round.left > 0 && exchange.plane.may_retry(pool.index);
            round.left = round.left.saturating_sub(1);
            again
        }
        // The budget paid before the answer was passed over.
        (_, Sent::PassedOver) => {
            round.left = round.left.saturating_sub(1);
            true
        }
    }
}

/// Answers for a pool that has no server for the request, or none any more.
async fn turn_away(
    exchange: &mut Exchange<'_>,
    turned: Turned,
    failure: Option<Failure>,
) -> Ending {
    let none = Failure::upstream(turned.reason, turned.detail, Sent::Nothing);
    let failure = match turned.reason {
        Reason::ClientAborted => none,
        _ => failure.unwrap_or(none),
    };
    give_up(exchange, failure).await
}

/// Answers for a server that failed, or leaves when there is no one to answer.
pub(crate) async fn give_up(exchange: &mut Exchange<'_>, failure: Failure) -> Ending {
    if failure.reason == Reason::ClientAborted {
        exchange.facts.blame(failure.reason, failure.detail);
        exchange.facts.status = failure.status; // nobody is told; it is for the log
        return Ending::Close;
    }
    let filling = exchange.cached.filling.take();
    if let Some(object) = filling.as_ref().and_then(Filling::instead_of_error) {
        let object = Arc::clone(object);
        filling.iter().for_each(Filling::tell_stale);
        exchange.facts.blame(failure.reason, failure.detail);
        return Box::pin(stored::answer_instead(exchange, &object)).await;
    }
    let must_ask = filling.as_ref().is_some_and(Filling::must_ask);
    let answer = Answer {
        status: match must_ask && is_out_of_reach(&failure) {
            true => 504, // RFC 9111 §5.2.2.2
            false => failure.status,
        },
        ..Answer::to(failure.reason, failure.detail)
    };
    respond(exchange, answer).await
}

/// Tells whether a failure means that no server was reached that says anything.
fn is_out_of_reach(failure: &Failure) -> bool {
    failure.status == 502 || failure.reason == Reason::DestinationUnavailable
}

fn count_retry(exchange: &Exchange<'_>, pool: &Pool) {
    if let Some(metrics) = exchange.plane.metrics.pool(pool.index) {
        metrics.retries.add(1);
    }
}

/// Tells whether the request may reach a server twice: of a body that was passed on piece by piece
/// only the first piece is still here.
fn may_repeat(exchange: &Exchange<'_>) -> bool {
    exchange.scratch.head.method.is_idempotent() && exchange.came_whole
}

async fn attempt<'a>(
    exchange: &mut Exchange<'a>,
    pool: &'a Pool,
    pick: Pick<'a>,
    round: &mut Round,
) -> Result<Ending, Failure> {
    let index = pick.slot.index();
    round.tried.insert(index);
    let Some(server) = pool.servers.get(index.position()) else {
        return Err(Failure::upstream(
            Reason::ProxyInternalError,
            "",
            Sent::Nothing,
        ));
    };
    exchange.facts.attempts += 1;
    exchange.facts.ask(server, index);
    exchange.facts.first_byte = None;
    let plane = exchange.plane;
    let is_passed_over = |status| {
        pool.retry.on_status.contains(&status)
            && round.left > 0
            && pool.balancer.has_another(index, &round.tried)
            && plane.may_retry(pool.index)
    };
    let terms = Terms {
        response_timeout: match pool.retry.per_try {
            Some(per_try) if round.left > 0 => per_try.min(pool.timeouts.response),
            _ => pool.timeouts.response,
        },
        client_deadline: exchange.deadline,
        is_passed_over: &is_passed_over,
        bond: pool.sticky.as_ref().map(|sticky| Bond {
            sticky,
            server: index,
            mark: sticky.mark(exchange, index),
        }),
    };
    if let Some(sticky) = &pool.sticky {
        // Before the client can have an answer, and come back with its next request.
        sticky.remember(exchange, index);
    }
    let mut asked = Asked { server, pick };
    let outcome = on_server(exchange, pool, &mut asked, &terms, &round.tried).await;
    round.tried.insert(asked.pick.slot.index());
    account(exchange, pool, asked.pick, &outcome);
    outcome
}

/// Counts what came of asking a server, teaches the pool, and gives its slot back.
fn account(
    exchange: &mut Exchange<'_>,
    pool: &Pool,
    pick: Pick<'_>,
    outcome: &Result<Ending, Failure>,
) {
    let Pick { slot, pass, seat } = pick;
    let plane = exchange.plane;
    let position = slot.index().position();
    let latency = exchange.facts.first_byte;
    count_answer(exchange, pool, position);
    if let (Err(failed), Some(metrics)) = (outcome, plane.metrics.server(pool.index, position))
        && failed.blame != Side::Downstream
        && failed.sent != Sent::Elsewhere
    {
        metrics.count_error(failed.reason);
    }
    let verdict = verdict(exchange, outcome);
    let now = clock::now();
    exchange.facts.ended = Some(now);
    let at = plane.since_start(now);
    if let (Some(pass), Some(latency), Outcome::Served) = (pass, latency, verdict) {
        pass.learn(latency, at);
    }
    if let Some(change) = slot.release(verdict, latency, at) {
        events::tell(plane, pool, change);
    }
    drop(seat);
    line::call_next(plane, pool);
}

/// What an attempt says of its server.
fn verdict(exchange: &Exchange<'_>, outcome: &Result<Ending, Failure>) -> Outcome {
    let of_status = |status| match status {
        502..=504 => Outcome::GatewayError,
        500..=599 => Outcome::ServerError,
        _ => Outcome::Served,
    };
    match outcome {
        Err(failure) if failure.blame != Side::Upstream => Outcome::Cancelled,
        Err(failure)
            if matches!(
                failure.sent,
                Sent::PassedOver | Sent::Hidden | Sent::Elsewhere
            ) =>
        {
            of_status(failure.status)
        }
        Err(_) => Outcome::Failed,
        Ok(_) => match exchange.facts.reason {
            None => of_status(exchange.scratch.response.status),
            Some(
                Reason::HttpResponseIncomplete
                | Reason::ConnectionReadTimeout
                | Reason::HttpProtocolError,
            ) => Outcome::Failed,
            Some(_) => Outcome::Cancelled,
        },
    }
}

/// On what terms a server is asked.
pub(crate) struct Terms<'a> {
    /// How long the answer may take to begin.
    pub(crate) response_timeout: Duration,
    /// When the client stops waiting, if it said so.
    pub(crate) client_deadline: Option<Instant>,
    /// Tells whether an answer with this status is to be had from another server instead. Asking
    /// spends a retry.
    pub(crate) is_passed_over: &'a dyn Fn(u16) -> bool,
    /// What becomes of the client's bond to a server.
    pub(crate) bond: Option<Bond<'a>>,
}

impl Terms<'_> {
    /// When an answer must have begun that is waited for since `from`.
    pub(crate) fn deadline(&self, from: Instant) -> Instant {
        let own = from + self.response_timeout;
        self.client_deadline
            .map_or(own, |deadline| deadline.min(own))
    }

    /// What it means that none has: the server is slow, or the client in a hurry.
    pub(crate) fn late(&self) -> Failure {
        match self.client_deadline {
            Some(deadline) if deadline <= clock::now() => Failure::overdue(),
            _ => Failure::upstream(Reason::HttpResponseTimeout, "", Sent::Unanswered),
        }
    }
}

/// A client's bond to the server that is asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bond<'a> {
    pub(crate) sticky: &'a Sticky,
    pub(crate) server: ServerIndex,
    /// What tells the client, if it does not know.
    pub(crate) mark: Option<Mark<'a>>,
}

fn count_answer(exchange: &Exchange<'_>, pool: &Pool, server: usize) {
    let metrics = &exchange.plane.metrics;
    if let (Some(first_byte), Some(pool), Some(server)) = (
        exchange.facts.first_byte,
        metrics.pools.get(pool.index),
        metrics.server(pool.index, server),
    ) {
        pool.first_byte.record(first_byte);
        server.requests.count(exchange.scratch.response.status);
    }
}

/// The server that is asked.
struct Asked<'a> {
    server: &'a Server,
    pick: Pick<'a>,
}

/// Has the server answer that is asked, or one that is asked as well and is faster.
async fn on_server<'a>(
    exchange: &mut Exchange<'a>,
    pool: &'a Pool,
    asked: &mut Asked<'a>,
    terms: &Terms<'_>,
    tried: &Tried,
) -> Result<Ending, Failure> {
    let mut upstream = acquire(exchange, pool, asked.server, Kept::Welcome).await?;
    loop {
        let talk = converse(exchange, pool, asked, &mut upstream, terms, tried);
        let failure = match talk.await {
            Ok((ending, keep)) => {
                match keep {
                    Keep::Yes => upstream.put_back(exchange.plane, pool, asked.server),
                    Keep::No => upstream.end(),
                }
                return Ok(ending);
            }
            Err(failure) if failure.keep == Keep::Yes => {
                upstream.put_back(exchange.plane, pool, asked.server);
                return Err(failure);
            }
            Err(failure) => failure,
        };
        stream::close(&upstream.socket);
        // The server closed a kept connection while the request was on its way. That says nothing
        // about the server, so the same one is asked on a new connection.
        let stale = upstream.is_reused
            && failure.blame == Side::Upstream
            && !matches!(
                failure.reason,
                Reason::HttpResponseTimeout | Reason::DestinationUnavailable
            );
        let again = match failure.sent {
            Sent::Nothing => true,
            Sent::Untouched => exchange.came_whole,
            Sent::Unanswered => may_repeat(exchange),
            Sent::Answered | Sent::PassedOver | Sent::Hidden | Sent::Elsewhere => false,
        };
        if !(stale && again) {
            return Err(failure);
        }
        count_retry(exchange, pool);
        upstream = acquire(exchange, pool, asked.server, Kept::Unwelcome).await?;
        // Once is enough: a connection that carries many requests may refuse one after the other.
        upstream.is_reused = false;
    }
}

/// Sends the request and passes the answer on. When a second server is faster, it takes the place
/// of the one that was asked.
async fn converse<'a>(
    exchange: &mut Exchange<'a>,
    pool: &'a Pool,
    asked: &mut Asked<'a>,
    upstream: &mut Upstream,
    terms: &Terms<'_>,
    tried: &Tried,
) -> Result<(Ending, Keep), Failure> {
    upstream_h1::send(exchange, asked.server, upstream, terms).await?;
    let sent = clock::now();
    // A body on disk has not been sent yet, and goes up while the answer comes.
    let may_hedge = may_repeat(exchange) && !exchange.is_spilled() && exchange.upgrade.is_none();
    let Some(hedger) = exchange.plane.hedger(pool).filter(|_| may_hedge) else {
        return receive(exchange, asked.server, upstream, terms, sent).await;
    };
    let mut last_sent = sent;
    if let Some(second) = hedger
        .race(exchange, pool, terms, tried, &upstream.socket, sent)
        .await
    {
        last_sent = second.sent;
        let index = second.pick.slot.index();
        exchange.facts.ask(second.server, index);
        std::mem::replace(upstream, second.upstream).end();
        *asked = Asked {
            server: second.server,
            pick: second.pick,
        };
    }
    let outcome = receive(exchange, asked.server, upstream, terms, last_sent).await;
    if let Some(first_byte) = exchange.facts.first_byte {
        hedger.learn(first_byte + last_sent.duration_since(sent));
    }
    outcome
}

/// Passes the answer on. When the server is found down where that closes its connections, this one
/// is shut down: what was under way sees its end, as if the server had made it.
async fn receive(
    exchange: &mut Exchange<'_>,
    server: &Server,
    upstream: &Upstream,
    terms: &Terms<'_>,
    sent: Instant,
) -> Result<(Ending, Keep), Failure> {
    exchange.delivery = Delivery::prepare(exchange);
    let mut answer = pin!(upstream_h1::receive(exchange, upstream, terms, sent));
    let Some(cut) = &server.cut else {
        return answer.await;
    };
    let mut cut = pin!(Some(cut.notified()));
    let outcome = poll_fn(|context| {
        let is_cut = |cut: Pin<&mut Notified<'_>>| cut.poll(context).is_ready();
        if cut.as_mut().as_pin_mut().is_some_and(is_cut) {
            stream::shut_down(&upstream.socket);
            cut.set(None);
        }
        answer.as_mut().poll(context)
    });
    let outcome = outcome.await;
    match outcome {
        Err(failure) if cut.is_none() && failure.blame == Side::Upstream => {
            let (reason, detail) = (Reason::DestinationUnavailable, "found down by its checks");
            Err(Failure::upstream(reason, detail, failure.sent))
        }
        outcome => outcome,
    }
}
