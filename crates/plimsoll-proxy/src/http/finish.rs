//! The end of an exchange: counted and logged, once.

use plimsoll_http::field::Name;
use plimsoll_net::clock;
use plimsoll_observe::access_log::{Record, Secured};

use crate::http::exchange::Exchange;
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
    if let Some(metrics) = plane.metrics.sites.get(site.label) {
        let method = exchange.scratch.head.method as usize;
        if let Some(codes) = metrics.requests.get(method)
            && facts.status != 0
        {
            codes.count(facts.status);
        }
        metrics.duration.record(total);
    }
    plane.metrics.outcomes.note(total, facts.has_failed());
    if let Some((number, result)) = facts.cache
        && let Some(cache) = plane.metrics.caches.get(number)
    {
        cache.count(result);
    }
    if plane.is_logged(&site.logs) {
        log(exchange, &site.name, &site.logs, total);
    }
}

fn log(exchange: &Exchange<'_>, site: &str, logs: &[usize], total: std::time::Duration) {
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
    total: std::time::Duration,
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
