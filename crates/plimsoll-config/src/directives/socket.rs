//! `socket` and `source`: what the system does for connections, and from where those to servers are made.

use std::net::IpAddr;
use std::time::Duration;

use crate::arguments::Value;
use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::directive::{Context, Directive};
use crate::directives::policy::{is_off, once};
use crate::draft::Scope;
use crate::model::{SocketOptions, Source};
use crate::read::Reader;
use crate::syntax::Stmt;

pub(crate) static ROWS: &[Directive] = &[
    Directive {
        name: "socket",
        within: &[
            Context::Defaults,
            Context::Site,
            Context::Tcp,
            Context::Pool,
        ],
        usage: "socket [keepalive=DURATION] [user-timeout=DURATION] [fast-open] [mptcp], or: socket off",
        default: "off: what the system does by itself",
        doc: "What the system does for the connections of clients to a site or service, or of ours to the servers of a pool. With `keepalive` a \
              peer that has been silent for that long is asked whether it is there, and again three times, ten seconds apart; one that is \
              gone is noticed, and boxes in between do not forget the connection. `user-timeout` ends a connection when what was sent to its peer has not been acknowledged for \
              that long. `fast-open` lets clients that were here before send with their first packet, where `net.ipv4.tcp_fastopen` allows it (2); that first packet can be \
              one that somebody has recorded, so it is for services where that does no harm, and not for pools. `mptcp` lets a connection use several paths, where the kernel and the \
              peer can; others come as ever. All sites on one address say the same.",
        words: (1, 4),
        variables: false,
        block: None,
        set: socket,
    },
    Directive {
        name: "source",
        within: &[Context::Defaults, Context::Pool],
        usage: "source ADDRESS..., or: source transparent, or: source system",
        default: "system: the address that the system's routes say",
        doc: "From where connections to the servers of the pool, and their checks, are made. An address has some 28,000 ports for the connections to one server; of several \
              addresses each is used in its turn, and the next one where a port is not to be had. Servers of a kind (IPv4, IPv6) of which there is no \
              address here are reached from where the system says. `transparent` is the client's own address: servers see who it is without being told. \
              The system has to bring their answers back to this machine, which takes a rule of routing (TPROXY), and the program `CAP_NET_ADMIN`; such a connection is kept for \
              no other client. A client that came by the other kind of address than the server has is refused.",
        words: (1, SOURCES_MAX),
        variables: false,
        block: None,
        set: source,
    },
];

/// How many addresses connections to a pool may be made from.
const SOURCES_MAX: usize = 64;

/// The most that tcp(7) takes.
const KEEPALIVE_MAX: u64 = 32_767;

const OPTIONS: &[&str] = &["keepalive", "user-timeout", "fast-open", "mptcp"];

fn socket(reader: &mut Reader<'_>, stmt: &Stmt, mut scope: Scope<'_>) {
    let is_pool = matches!(scope, Scope::Pool(_));
    let Some(settings) = scope.settings() else {
        return;
    };
    if !once(reader, stmt, settings.socket.is_some()) {
        return;
    }
    let mut socket = SocketOptions::default();
    if !is_off(stmt) {
        reader.options(&stmt.words, OPTIONS, |reader, name, value| match name {
            "keepalive" => socket.keepalive = keepalive(reader, value),
            "user-timeout" => socket.user_timeout = reader.duration(value),
            "fast-open" if is_pool => {
                let message = "connections to servers are opened before there is anything to send";
                let problem = Diagnostic::new(&codes::MISPLACED, value.span, message);
                reader.problem(problem.help("write `fast-open` in the site or service"));
            }
            "fast-open" => socket.fast_open = true,
            _ => socket.multipath = true,
        });
    }
    settings.socket = Some(socket);
}

/// The kernel counts these in seconds.
fn keepalive(reader: &mut Reader<'_>, value: Value<'_>) -> Option<Duration> {
    let silent = reader.duration(value)?;
    let is_whole = silent.subsec_nanos() == 0;
    if is_whole && (1..=KEEPALIVE_MAX).contains(&silent.as_secs()) {
        return Some(silent);
    }
    let message = format!("`keepalive` is in whole seconds, from 1s to {KEEPALIVE_MAX}s");
    reader.problem(Diagnostic::new(&codes::RANGE, value.span, message));
    None
}

/// An address that connections may be made from.
fn address(reader: &mut Reader<'_>, value: Value<'_>) -> Option<IpAddr> {
    let address = reader.ip(value)?;
    if address.is_unspecified() || address.is_multicast() {
        let message = format!("no connection can be made from `{address}`");
        let problem = Diagnostic::new(&codes::ADDRESS, value.span, message);
        reader.problem(problem.help("name addresses of this machine, or write `source system`"));
        return None;
    }
    Some(address)
}

fn source(reader: &mut Reader<'_>, stmt: &Stmt, mut scope: Scope<'_>) {
    let Some(settings) = scope.settings() else {
        return;
    };
    if !once(reader, stmt, settings.source.is_some()) {
        return;
    }
    let source = match &*stmt.words {
        [word] if word.text == "system" => Source::System,
        [word] if word.text == "transparent" => Source::Client,
        words => {
            let mut addresses = Vec::new();
            for word in words {
                let address = address(reader, word.into());
                addresses.extend(address.filter(|address| !addresses.contains(address)));
            }
            Source::Addresses(addresses)
        }
    };
    settings.source = Some(source);
}
