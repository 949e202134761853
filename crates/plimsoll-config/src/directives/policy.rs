//! What a pool does about servers that fail, and about requests that find them full.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::arguments::Value;
use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::directive::{Context, Directive};
use crate::draft::Scope;
use crate::model::{Adaptive, Hedge, HedgeAfter, OnDown, Outlier, Queue, Retry};
use crate::read::Reader;
use crate::syntax::Stmt;

pub(crate) static ROWS: &[Directive] = &[
    Directive {
        name: "outlier",
        within: &[Context::Defaults, Context::Pool],
        usage: "outlier off | [consecutive-5xx=N] [consecutive-gateway=N] [consecutive-failures=N] [failure-percent=P%] \
                [success-rate=FACTOR] [interval=DURATION] [volume=N] [eject=DURATION] [eject-max=DURATION] [max-ejected=P%]",
        default: "consecutive-gateway=5 consecutive-failures=5 interval=10s volume=100 eject=30s eject-max=300s max-ejected=50%",
        doc: "Passive checks: a server that fails requests of clients rests for a while. In a row: `consecutive-failures` \
              counts connections that were refused, reset or timed out and answers that broke HTTP, `consecutive-gateway` \
              answers with 502, 503 or 504 as well, `consecutive-5xx` all 5xx; 0 turns one off. Over an `interval` with \
              at least `volume` requests: `failure-percent` of 5xx and failures, and a `success-rate` that many standard \
              deviations below the mean of at least five servers. The first rest takes `eject`, the nth n times as long, \
              `eject-max` at most. After it the server gets one request at a time until it has served one. At most \
              `max-ejected` of the pool rests at once, one server of several always may.",
        words: (1, 10),
        variables: false,
        block: None,
        set: outlier,
    },
    Directive {
        name: "fail-open",
        within: &[Context::Defaults, Context::Pool],
        usage: "fail-open P% | off",
        default: "0%",
        doc: "When the share of servers that are well falls below this, the fault is likely in the checks: servers that \
              answer, but not as a check expects, and servers that were ejected are used as well. `0%` does so only when no \
              server is well, `off` never. Servers that cannot be reached are not used.",
        words: (1, 1),
        variables: false,
        block: None,
        set: fail_open,
    },
    Directive {
        name: "slow-start",
        within: &[Context::Defaults, Context::Pool],
        usage: "slow-start DURATION | off",
        default: "off",
        doc: "How long a server that comes back takes to its full share, beginning with a tenth, so that cold caches and \
              compilers are not met by everyone at once. Its `max-connections` grows with its share; without one, it takes all that \
              other servers have no room for.",
        words: (1, 1),
        variables: false,
        block: None,
        set: slow_start,
    },
    Directive {
        name: "on-down",
        within: &[Context::Defaults, Context::Pool],
        usage: "on-down finish|close-connections",
        default: "finish",
        doc: "What becomes of requests that a server has when its checks find it down. They may `finish`, as those do of a server \
              that was ejected; or all connections to it are closed, and what may be tried again is tried elsewhere at once: \
              for servers that would only hold their clients up.",
        words: (1, 1),
        variables: false,
        block: None,
        set: on_down,
    },
    Directive {
        name: "retry",
        within: &[Context::Defaults, Context::Pool],
        usage: "retry off | N [on=CONDITION,...] [per-try=DURATION] [budget=P%] [reserve=N/s]",
        default: "2 on=reset budget=20% reserve=10/s",
        doc: "How often a request is tried again on another server, beyond attempts in which nothing was sent: those go on \
              until every server was asked. Only idempotent requests that are still whole are tried again, and only \
              before any of an answer was passed on. `on` is a list of `reset` (the connection ended without an answer), \
              `timeout` (no answer in time, or within `per-try`) and status codes. The `budget` bounds retries to a share \
              of the requests of the last ten seconds, and never below `reserve`.",
        words: (1, 5),
        variables: false,
        block: None,
        set: retry,
    },
    Directive {
        name: "hedge",
        within: &[Context::Defaults, Context::Pool],
        usage: "hedge pN|DURATION [budget=P%] | off",
        default: "off; budget=5%",
        doc: "Asks a second server when an answer lets wait for unusually long, and passes on the answer that comes first: \
              `p95` waits as long as 95 of 100 recent answers of the pool took, a duration that long. Only idempotent \
              requests that are still whole are sent twice, only to a server with room, never in a pool with `sticky`, and \
              at most for `budget` of the requests of the last ten seconds.",
        words: (1, 2),
        variables: false,
        block: None,
        set: hedge,
    },
    Directive {
        name: "queue",
        within: &[Context::Defaults, Context::Pool],
        usage: "queue N [timeout=DURATION] | off",
        default: "off: a request that finds every server full is refused with 503; timeout=5s",
        doc: "How many requests may wait, over all workers, while every server has as many as its `max-connections`, and \
              for how long. A queue that moves slowly for a tenth of its `timeout` is overloaded, until it is empty: it keeps \
              64 at each worker, refuses others at once, and serves the newest first when the oldest has waited for a \
              hundredth of `timeout`. So those who are served are served quickly. A client that leaves leaves the queue.",
        words: (1, 2),
        variables: false,
        block: None,
        set: queue,
    },
    Directive {
        name: "adaptive-concurrency",
        within: &[Context::Defaults, Context::Pool],
        usage: "adaptive-concurrency [min=N] [max=N] | off",
        default: "off; min=20 max=10000",
        doc: "Finds out how many requests the pool takes at once: the limit shrinks while answers take longer than usual, and \
              grows while they do not. Above it requests wait in the `queue`, or are refused with 503. Choose `min` so that the \
              servers surely take it: what is usual is measured there. Each worker has its part of the limit.",
        words: (1, 2),
        variables: false,
        block: None,
        set: adaptive,
    },
];

/// What holds when nothing is written.
pub(crate) const OUTLIER: Outlier = Outlier {
    consecutive_5xx: None,
    consecutive_gateway: NonZeroU32::new(5),
    consecutive_failures: NonZeroU32::new(5),
    failure_percent: None,
    success_rate: None,
    interval: Duration::from_secs(10),
    volume: 100,
    eject: Duration::from_secs(30),
    eject_max: Duration::from_secs(300),
    max_ejected: 50,
};

/// What holds when nothing is written.
pub(crate) fn retry_default() -> Retry {
    Retry {
        attempts: 2,
        budget: 20,
        reserve: 10,
        on_reset: true,
        on_timeout: false,
        on_status: Vec::new(),
        per_try: None,
    }
}

pub(crate) fn is_off(stmt: &Stmt) -> bool {
    matches!(stmt.words.as_slice(), [word] if word.text == "off")
}

/// Tells whether a value is `on`, as what is neither that nor `off` is taken for.
pub(crate) fn on_off(reader: &mut Reader<'_>, value: Value<'_>) -> bool {
    if !matches!(value.text, "on" | "off") {
        let message = format!("`{}` is neither `on` nor `off`", value.text);
        reader.problem(Diagnostic::new(&codes::VALUE, value.span, message));
    }
    value.text != "off"
}

/// Refuses a statement that was made already.
pub(crate) fn once(reader: &mut Reader<'_>, stmt: &Stmt, is_set: bool) -> bool {
    if is_set {
        let message = format!("`{}` is said twice", stmt.name.text);
        reader.problem(Diagnostic::new(&codes::REPEATED, stmt.span, message));
    }
    !is_set
}

fn outlier(reader: &mut Reader<'_>, stmt: &Stmt, mut scope: Scope<'_>) {
    let Some(settings) = scope.settings() else {
        return;
    };
    if !once(reader, stmt, settings.outlier.is_some()) {
        return;
    }
    if is_off(stmt) {
        settings.outlier = Some(None);
        return;
    }
    let mut outlier = OUTLIER;
    let known = [
        "consecutive-5xx",
        "consecutive-gateway",
        "consecutive-failures",
        "failure-percent",
        "success-rate",
        "interval",
        "volume",
        "eject",
        "eject-max",
        "max-ejected",
    ];
    reader.options(&stmt.words, &known, |reader, name, value| {
        let o = &mut outlier;
        match name {
            "consecutive-5xx" => o.consecutive_5xx = in_a_row(reader, value),
            "consecutive-gateway" => o.consecutive_gateway = in_a_row(reader, value),
            "consecutive-failures" => o.consecutive_failures = in_a_row(reader, value),
            "failure-percent" => o.failure_percent = reader.percent(value, 1),
            "success-rate" => o.success_rate = reader.thousandths(value),
            "interval" => o.interval = reader.duration(value).unwrap_or(o.interval),
            "volume" => o.volume = reader.number(value, 1, 1_000_000).unwrap_or(o.volume),
            "eject" => o.eject = reader.duration(value).unwrap_or(o.eject),
            "eject-max" => o.eject_max = reader.duration(value).unwrap_or(o.eject_max),
            _ => o.max_ejected = reader.percent(value, 0).unwrap_or(o.max_ejected),
        }
    });
    outlier.eject_max = outlier.eject_max.max(outlier.eject);
    settings.outlier = Some(Some(outlier));
}

/// A length of a row; 0 is off.
fn in_a_row(reader: &mut Reader<'_>, value: Value<'_>) -> Option<NonZeroU32> {
    reader.number(value, 0, 1_000_000).and_then(NonZeroU32::new)
}

fn fail_open(reader: &mut Reader<'_>, stmt: &Stmt, mut scope: Scope<'_>) {
    let (Some(settings), Some(word)) = (scope.settings(), stmt.words.first()) else {
        return;
    };
    if once(reader, stmt, settings.fail_open.is_some()) {
        settings.fail_open = match is_off(stmt) {
            true => Some(None),
            false => reader.percent(word.into(), 0).map(Some),
        };
    }
}

fn slow_start(reader: &mut Reader<'_>, stmt: &Stmt, mut scope: Scope<'_>) {
    let (Some(settings), Some(word)) = (scope.settings(), stmt.words.first()) else {
        return;
    };
    if once(reader, stmt, settings.slow_start.is_some()) {
        settings.slow_start = match is_off(stmt) {
            true => Some(None),
            false => reader.duration(word.into()).map(Some),
        };
    }
}

fn on_down(reader: &mut Reader<'_>, stmt: &Stmt, mut scope: Scope<'_>) {
    let (Some(settings), Some(word)) = (scope.settings(), stmt.words.first()) else {
        return;
    };
    if !once(reader, stmt, settings.on_down.is_some()) {
        return;
    }
    settings.on_down = match word.text.as_str() {
        "finish" => Some(OnDown::Finish),
        "close-connections" => Some(OnDown::CloseConnections),
        other => {
            let message = format!("`{other}` is nothing to do when a server is down");
            let problem = Diagnostic::new(&codes::VALUE, word.span, message);
            reader.problem(problem.help("known: finish, close-connections"));
            None
        }
    };
}

fn retry(reader: &mut Reader<'_>, stmt: &Stmt, mut scope: Scope<'_>) {
    let (Some(settings), Some((first, options))) = (scope.settings(), stmt.words.split_first())
    else {
        return;
    };
    if !once(reader, stmt, settings.retry.is_some()) {
        return;
    }
    let mut retry = retry_default();
    if is_off(stmt) {
        retry.attempts = 0;
    } else {
        retry.attempts = reader.number(first.into(), 0, 10).unwrap_or(retry.attempts);
    }
    let known = ["on", "per-try", "budget", "reserve"];
    reader.options(options, &known, |reader, name, value| match name {
        "on" => conditions(reader, value, &mut retry),
        "per-try" => retry.per_try = reader.duration(value),
        "budget" => retry.budget = reader.percent(value, 0).unwrap_or(retry.budget),
        _ => retry.reserve = reader.per_second(value, 1_000_000).unwrap_or(retry.reserve),
    });
    settings.retry = Some(retry);
}

fn conditions(reader: &mut Reader<'_>, value: Value<'_>, retry: &mut Retry) {
    (retry.on_reset, retry.on_timeout) = (false, false);
    for word in value.text.split(',') {
        match (word, word.parse::<u16>()) {
            // Said for completeness: what was never sent is always tried elsewhere.
            ("connect", _) => {}
            ("reset", _) => retry.on_reset = true,
            ("timeout", _) => retry.on_timeout = true,
            (_, Ok(status @ (404 | 408 | 409 | 425 | 429 | 500..=599))) => {
                if !retry.on_status.contains(&status) {
                    retry.on_status.push(status);
                }
            }
            _ => {
                let message = format!("`{word}` is nothing to try again after");
                let problem = Diagnostic::new(&codes::VALUE, value.span, message);
                reader.problem(problem.help(
                    "known: connect, reset, timeout, and the status codes 404, 408, 409, 425, 429 and 500 to 599",
                ));
            }
        }
    }
}

fn hedge(reader: &mut Reader<'_>, stmt: &Stmt, mut scope: Scope<'_>) {
    let (Some(settings), Some((first, options))) = (scope.settings(), stmt.words.split_first())
    else {
        return;
    };
    if !once(reader, stmt, settings.hedge.is_some()) {
        return;
    }
    if is_off(stmt) {
        settings.hedge = Some(None);
        return;
    }
    let after = match first.text.strip_prefix('p') {
        Some(share) => percentile(reader, first.into(), share).map(HedgeAfter::Percentile),
        None => reader.duration(first.into()).map(HedgeAfter::Delay),
    };
    let mut budget = 5;
    reader.options(options, &["budget"], |reader, _, value| {
        budget = reader.percent(value, 1).unwrap_or(budget);
    });
    settings.hedge = after.map(|after| Some(Hedge { after, budget }));
}

/// A percentile, in thousandths.
fn percentile(reader: &mut Reader<'_>, value: Value<'_>, share: &str) -> Option<u16> {
    let (whole, tenth) = share.split_once('.').unwrap_or((share, "0"));
    let digits = |text: &str| text.parse::<u16>().ok();
    let parsed = digits(whole).zip(digits(tenth).filter(|_| tenth.len() == 1));
    let parsed = parsed.map(|(whole, tenth)| whole.saturating_mul(10).saturating_add(tenth));
    let parsed = parsed.filter(|share| (500..=999).contains(share));
    if parsed.is_none() {
        let message = format!("`{}` is not a percentile from p50 to p99.9", value.text);
        reader.problem(Diagnostic::new(&codes::RANGE, value.span, message));
    }
    parsed
}

fn queue(reader: &mut Reader<'_>, stmt: &Stmt, mut scope: Scope<'_>) {
    let (Some(settings), Some((first, options))) = (scope.settings(), stmt.words.split_first())
    else {
        return;
    };
    if !once(reader, stmt, settings.queue.is_some()) {
        return;
    }
    if is_off(stmt) {
        settings.queue = Some(None);
        return;
    }
    let mut timeout = Duration::from_secs(5);
    let length = reader.number(first.into(), 1, 1_000_000);
    reader.options(options, &["timeout"], |reader, _, value| {
        timeout = reader.duration(value).unwrap_or(timeout);
    });
    settings.queue = length.map(|length| Some(Queue { length, timeout }));
}

fn adaptive(reader: &mut Reader<'_>, stmt: &Stmt, mut scope: Scope<'_>) {
    let Some(settings) = scope.settings() else {
        return;
    };
    if !once(reader, stmt, settings.adaptive.is_some()) {
        return;
    }
    if is_off(stmt) {
        settings.adaptive = Some(None);
        return;
    }
    let (mut min, mut max) = (20, 10_000);
    reader.options(&stmt.words, &["min", "max"], |reader, name, value| {
        let place = if name == "min" { &mut min } else { &mut max };
        *place = reader.number(value, 1, 10_000_000).unwrap_or(*place);
    });
    if min > max {
        let message = "`min` is above `max`";
        reader.problem(Diagnostic::new(&codes::RANGE, stmt.span, message));
    }
    settings.adaptive = Some(Some(Adaptive { min, max }));
}
