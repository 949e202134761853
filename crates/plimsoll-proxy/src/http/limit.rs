//! Rate and concurrency limits, before anything else is done with a request.

use std::time::Duration;

use plimsoll_balance::key_of_ip;
use plimsoll_balance::rate::Verdict;
use plimsoll_config::model::{Excess, HashKey, LimitBy};
use plimsoll_http::reason::Reason;
use plimsoll_net::clock;

use crate::generation::{LimitTable, Limiter};
use crate::http::exchange::{Ending, Exchange};
use crate::http::key;
use crate::http::pace::Pace;
use crate::http::respond::{Answer, respond};

/// How long a request in the tarpit waits.
const TARPIT: Duration = Duration::from_secs(10);

/// A request above a limit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Above<'a> {
    rule: &'a Limiter,
    /// When it would be allowed.
    retry_after: Duration,
}

/// Counts the request against a limit.
pub(crate) fn count<'a>(exchange: &mut Exchange<'a>, rule: &'a Limiter) -> Result<(), Above<'a>> {
    let key = match &rule.by {
        LimitBy::All => rule.seed,
        LimitBy::Request => exchange.plane.worker.random(),
        // A client has a whole network of IPv6 addresses, and counts as one.
        LimitBy::Key(HashKey::ClientIp) => key_of_ip(exchange.origin.client, rule.seed),
        LimitBy::Key(by) => key::hash_of(exchange, by, rule.seed),
    };
    let above = |retry_after| Above { rule, retry_after };
    match &rule.table {
        LimitTable::Rate(table) => {
            let now = exchange.plane.since_start(exchange.facts.started);
            if let Verdict::Limited { retry_after } = table.check(key, now) {
                return Err(above(retry_after));
            }
        }
        LimitTable::Concurrent(table) => {
            let hold = table
                .acquire(key)
                .ok_or_else(|| above(Duration::from_secs(1)))?;
            exchange.held.push(hold);
        }
        LimitTable::Bytes(table, way) => {
            let way = *way;
            exchange.paces.push(Pace { table, key, way });
        }
    }
    Ok(())
}

/// Does with a request above a limit what the limit says.
pub(crate) async fn refuse(exchange: &mut Exchange<'_>, above: Above<'_>) -> Ending {
    if let Some(site) = exchange.facts.site
        && let Some(metrics) = exchange.plane.metrics.sites.get(site.label)
    {
        metrics.limited.add(1);
    }
    let reason = Reason::HttpRequestDenied;
    match above.rule.action {
        Excess::Drop => {
            exchange.facts.blame(reason, "above a limit");
            return Ending::Reset;
        }
        Excess::Tarpit if !is_patient(exchange).await => {
            exchange.facts.blame(Reason::ClientAborted, "in the tarpit");
            exchange.facts.status = Reason::ClientAborted.status();
            return Ending::Close;
        }
        Excess::Refuse | Excess::Tarpit => {}
    }
    let seconds = above.retry_after.as_secs().saturating_add(1).min(86_400);
    let answer = Answer {
        status: 429,
        retry_after: Some(seconds),
        policy: Some(&above.rule.policy),
        ..Answer::to(reason, "above a limit")
    };
    respond(exchange, answer).await
}

/// Lets a client wait; false when it has left.
async fn is_patient(exchange: &Exchange<'_>) -> bool {
    exchange.timer.set(clock::now() + TARPIT);
    // The deadline is what is waited for.
    exchange
        .timer
        .limit(exchange.client.broken())
        .await
        .is_err()
}
