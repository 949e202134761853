//! Who a client is, where a proxy that is trusted stands between, and requests that come round again.

use plimsoll_http::field::{self, Name};
use plimsoll_http::forwarded::{RequestId, Told, Trusted};
use plimsoll_http::host::Authority;
use plimsoll_http::trust;

use crate::generation::Site;
use crate::http::exchange::{Exchange, scheme};

/// How often a request may have come through a Plimsoll: enough for tiers of them, and few enough
/// that one which leads to itself is found out before it costs much.
const PASSES_MAX: usize = 8;

/// Takes over what the peer says of the client, if the site trusts it.
pub(crate) fn take_over(exchange: &mut Exchange<'_>, site: &Site) {
    if site.trust.is_empty() {
        return;
    }
    let is_trusted = |ip: std::net::IpAddr| site.trust.iter().any(|net| net.contains(&ip));
    let peer = exchange.origin.client.to_canonical();
    if !is_trusted(peer) {
        return;
    }
    let bytes = exchange.inbound.filled();
    let told = trust::told(&exchange.scratch.head, bytes, peer, is_trusted);
    exchange.origin.trust(&told);
    if let Some(id) = told.request_id {
        exchange.facts.id = RequestId::from_bytes(id);
    }
}

/// What servers are told of who sent a request, and how.
pub(crate) fn told<'a>(exchange: &'a Exchange<'_>) -> Told<'a> {
    Told {
        peer: &exchange.origin.peer_text,
        host: exchange.authority.of(exchange.bytes()),
        scheme: scheme(exchange.client),
        trusted: passed_on(exchange),
    }
}

/// What servers are told of the certificate that a client has shown, and nothing of what anybody else
/// says of one; nothing where clients are not asked.
pub(crate) fn certificate<'a>(exchange: &'a Exchange<'_>) -> Option<&'a [u8]> {
    let site = exchange.facts.site?;
    let lines = exchange.certificate.map(|shown| &*shown.lines);
    site.asks_for_certificates
        .then(|| lines.unwrap_or_default())
}

/// What a trusted peer says, to be passed on.
fn passed_on<'a>(exchange: &'a Exchange<'_>) -> Option<Trusted<'a>> {
    let (head, bytes) = (&exchange.scratch.head, exchange.bytes());
    exchange.origin.is_trusted.then(|| {
        let mut hosts = head.fields.all(Name::XForwardedHost);
        let host = hosts.next().map(|line| line.value.of(bytes));
        let host = host.filter(|host| hosts.next().is_none() && Authority::parse(host).is_some());
        Trusted {
            scheme: exchange.origin.scheme,
            host: host.unwrap_or_else(|| exchange.authority.of(bytes)),
        }
    })
}

/// Tells whether a client asks what is done with its request, and may know: its peer is trusted.
pub(crate) fn may_trace(exchange: &Exchange<'_>) -> bool {
    let fields = &exchange.scratch.head.fields;
    exchange.origin.is_trusted
        && fields
            .by_text(exchange.bytes(), b"x-plimsoll-trace")
            .is_some()
}

/// Tells whether a request goes round in circles.
pub(crate) fn comes_round(exchange: &Exchange<'_>) -> bool {
    let (head, bytes) = (&exchange.scratch.head, exchange.bytes());
    let lines = head.fields.all(Name::Via);
    let hops = lines.flat_map(|line| field::list(line.value.of(bytes)));
    let ours = hops.filter(|hop| hop.ends_with(b" plimsoll"));
    ours.count() > PASSES_MAX
}
