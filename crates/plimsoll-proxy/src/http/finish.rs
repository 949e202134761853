//! The end of an exchange: counted and logged, once.

use std::time::Duration;

use plimsoll_http::field::Name;
use plimsoll_http::forwarded::AddressText;
use plimsoll_http::method::Method;
use plimsoll_net::clock;
use plimsoll_observe::access_log::{Record, Secured};

use crate::generation::Site;
use crate::handing::Request;
use crate::http::exchange::{Exchange, Facts};
use crate::plane::Plane;
use crate::tls;

/// Counts the exchange and writes its access log lines.
pub(crate) fn finish(exchange: &mut Exchange<'_>) {
    let plane = exchange.plane;
    if let Some(pair) = exchange.pair.take() {
        pair.finish(plane);
    }
    let facts = &mut exchange.facts;
    if let Some(reason) = facts.reason.filter(|_| !facts.is_quiet) {
        plane.metrics.count_reason(reason);
    }
    if facts.aliases_dropped > 0 {
        let dropped = u64::from(facts.aliases_dropped);
        plane.metrics.totals.aliases_dropped.add(dropped);
    }
    let ended = *facts.ended.get_or_insert_with(clock::now);
    let total = ended.duration_since(facts.started);
    let facts = &exchange.facts;
    let Some(site) = facts.site.filter(|_| !facts.is_quiet) else {
        return;
    };
    count(plane, site, facts, exchange.scratch.head.method, total);
    if let Some((number, result)) = facts.cache
        && let Some(cache) = plane.metrics.caches.get(number)
    {
        cache.count(result);
    }
    if plane.is_logged(&site.logs) {
        log(exchange, &site.name, &site.logs, total);
    }
}

/// Counts an answer of a site.
fn count(plane: &Plane, site: &Site, facts: &Facts<'_>, method: Method, total: Duration) {
    if let Some(metrics) = plane.metrics.sites.get(site.label) {
        if let Some(codes) = metrics.requests.get(method as usize)
            && facts.status != 0
        {
            codes.count(facts.status);
        }
        metrics.duration.record(total);
    }
    plane.metrics.outcomes.note(total, facts.has_failed());
}

/// Counts and logs a request whose beginning another process has seen.
pub(crate) fn resumed(plane: &Plane, site: &Site, facts: &Facts<'_>, request: &Request) {
    if let Some(reason) = facts.reason {
        plane.metrics.count_reason(reason);
    }
    let total = clock::now().duration_since(facts.started);
    let method = Method::from_token(request.method.as_bytes());
    count(plane, site, facts, method, total);
    let client = AddressText::new(request.client.ip());
    let record = Record {
        client: client.as_bytes(),
        client_port: request.client.port(),
        site: &site.name,
        method: request.method.as_bytes(),
        scheme: "http",
        host: request.host.as_bytes(),
        path: request.path.as_bytes(),
        raw_path: request.path.as_bytes(),
        proto: "HTTP/1.1",
        status: Some(facts.status),
        total,
        generation: plane.generation.number,
        ..facts.record()
    };
    plane.log(&site.logs, &record);
}

fn log(exchange: &Exchange<'_>, site: &str, logs: &[usize], total: Duration) {
    exchange.client.with_tls_connection(|connection| {
        let shown = exchange.certificate;
        let tls =
            connection.map(|connection| tls::secured(connection, shown, exchange.fingerprint));
        log_with(exchange, site, logs, total, tls.unwrap_or_default());
    });
}

fn log_with(
    exchange: &Exchange<'_>,
    site: &str,
    logs: &[usize],
    total: Duration,
    tls: Secured<'_>,
) {
    let facts = &exchange.facts;
    let (head, target) = (&exchange.scratch.head, &exchange.scratch.target);
    let bytes = if facts.has_head {
        exchange.bytes()
    } else {
        &[]
    };
    let field = |name| {
        head.fields
            .first(name)
            .map(|field| field.value.of(bytes))
            .unwrap_or_default()
    };
    let record = Record {
        client: exchange.origin.client_text.as_bytes(),
        client_port: exchange.origin.client_port,
        site,
        route: facts.route.map_or("", |route| &route.place),
        method: if facts.has_head {
            head.method_span.of(bytes)
        } else {
            &[]
        },
        scheme: exchange.origin.scheme,
        host: if exchange.authority.is_empty() {
            field(Name::Host)
        } else {
            exchange.authority.of(bytes)
        },
        path: if facts.has_head {
            target.path(bytes)
        } else {
            &[]
        },
        raw_path: if facts.has_head {
            target.raw_path(bytes)
        } else {
            &[]
        },
        query: target
            .query
            .filter(|_| facts.has_head)
            .map(|query| query.of(bytes)),
        secrets: &exchange.plane.generation.secret_parameters,
        tls,
        proto: head.version.label(),
        status: Some(facts.status),
        total,
        user_agent: field(Name::UserAgent),
        referer: field(Name::Referer),
        generation: exchange.plane.generation.number,
        user: facts.auth.as_ref().map_or("", |auth| &auth.user),
        trace_id: field(Name::Traceparent).get(3..35).unwrap_or_default(),
        ..facts.record()
    };
    exchange.plane.log(logs, &record);
}
