//! Where a connection would go that is relayed.

use plimsoll_access::client_hello::Hello;
use plimsoll_config::model::TcpService;
use plimsoll_config::text;

use super::{Line, Outcome, Question, Trace, place};
use crate::generation::{Generation, Listener};
use crate::opening::{Said, Verdict};
use crate::relay::Relay;

/// What a client may speak that makes no requests.
pub(super) const SCHEMES: &[&str] = &["tls", "ssh", "postgres", "mysql", "redis"];

/// What a client says first that begins TLS, as far as rules see it.
const TLS: &[u8] = b"\x16\x03\x01\x02\x00\x01";

/// A client of PostgreSQL that asks for TLS.
const POSTGRES: &[u8] = b"\0\0\0\x08\x04\xd2\x16\x2f";

/// Explains what a service does with a connection.
pub(super) fn explain(
    generation: &Generation,
    (listener, relay): (&Listener, &Relay),
    question: &Question,
    trace: &mut Trace,
) {
    let pool = match relay.rules.only() {
        Some(pool) => Ok(pool),
        None => {
            let mut services = generation.config.tcp.iter();
            let service = services.find(|service| service.listen.contains(&listener.address));
            chosen(generation, (relay, service), question, trace)
        }
    };
    match pool {
        Ok(pool) => trace.go_to(generation, pool, Outcome::Relayed),
        Err(why) => trace.outcome = Outcome::Refused(why.to_owned()),
    }
}

/// The pool that the rules choose, or why there is none.
fn chosen(
    generation: &Generation,
    (relay, service): (&Relay, Option<&TcpService>),
    question: &Question,
    trace: &mut Trace,
) -> Result<usize, &'static str> {
    let verdict = match said(question).and_then(|mut said| relay.rules.judge(&mut said)) {
        Ok(verdict) => verdict,
        Err(malformed) => return Err(malformed.text()),
    };
    for (number, rule) in service
        .iter()
        .flat_map(|service| &service.rules)
        .enumerate()
    {
        let is_taken = verdict == Verdict::Rule(number);
        trace.routes.push(Line {
            place: place(&rule.place),
            text: text::tcp_rule(&generation.config, rule),
            verdict: if is_taken { "takes it" } else { "not this one" }.to_owned(),
            is_taken,
        });
        if is_taken {
            break;
        }
    }
    relay.rules.pool(verdict).ok_or("no rule takes it")
}

/// What the client says first.
fn said(question: &Question) -> Result<Said<'_>, plimsoll_access::client_hello::Malformed> {
    let bytes = match question.scheme.as_str() {
        "https" | "tls" => {
            let protocols = question.offers.iter().map(String::as_bytes);
            let hello = Hello::new(Some(question.name.as_bytes()), protocols)?;
            return Ok(Said::with_hello(TLS, hello));
        }
        "ssh" => b"SSH-2.0-",
        "postgres" => POSTGRES,
        "redis" => b"*1\r\n$4\r\nPING\r\n",
        "mysql" => b"",
        _ => &question.head,
    };
    Ok(Said::new(bytes, true))
}
