//! `udp`: datagrams that are relayed as they are.

use std::num::NonZeroU32;

use crate::directive::{Context, Directive};
use crate::directives::site::LISTEN_MAX;
use crate::directives::tcp;
use crate::draft::{Scope, UdpDraft};
use crate::read::Reader;
use crate::syntax::Stmt;

pub(crate) static ROWS: &[Directive] = &[
    Directive {
        name: "udp",
        within: &[Context::Root],
        usage: "udp ADDRESS... { ... }",
        default: "none",
        doc: "Datagrams to these addresses go to a server of the pool that `proxy` names, and its answers come back from the very address that the \
              client spoke to. Datagrams of one client (address and port) to one address are a flow: the first one picks the server, those after it \
              go the same way until `timeout idle` is over or all answers have come that `responses` speaks of. A server that says by ICMP that \
              nobody listens there has failed, as one that refuses a connection has, and the flow goes on at another one; so does the next datagram of a flow whose server \
              is down by its checks. Servers, checks and limits of connections are as for sites; a flow counts as a connection. Nothing waits: a datagram \
              for which no server has room is dropped.",
        words: (1, LISTEN_MAX),
        variables: false,
        block: Some(Context::Udp),
        set: udp,
    },
    Directive {
        name: "responses",
        within: &[Context::Udp],
        usage: "responses N",
        default: "not counted: a flow ends when it is idle",
        doc: "How many datagrams a server sends for each that it gets. When all have come, the flow is over. `1` is for protocols in which a question has \
              one answer, as DNS: the port and the memory of a flow are free at once. `0` says that servers do not answer, as with syslog: \
              what they send all the same is passed on.",
        words: (1, 1),
        variables: false,
        block: None,
        set: responses,
    },
    Directive {
        name: "flows",
        within: &[Context::Udp],
        usage: "flows N",
        default: "65536, and never more than a quarter of the descriptors that the process may have",
        doc: "How many flows the service may have at once, divided evenly among the workers. When there are as many, the one that is longest without a datagram \
              makes room for a new one; those that no server has answered go first, so that made-up clients do not drive out real ones. A flow takes \
              a descriptor, a port, and about 4 KiB, most of it in the kernel.",
        words: (1, 1),
        variables: false,
        block: None,
        set: flows,
    },
    Directive {
        name: "quic",
        within: &[Context::Udp],
        usage: "quic",
        default: "off: datagrams are not looked at",
        doc: "The datagrams are QUIC, of any version. One that comes from a new address, as when a client changes its network, goes to the server that has its connection, \
              whichever worker it comes to: to the one whose `quic-id` stands in its connection id, or else to the one that gave this id when the connection \
              began. A server that gives new ids later, which it does in secret, needs a `quic-id`. Datagrams that are too long for the path are lost, and never sent in pieces.",
        words: (0, 0),
        variables: false,
        block: None,
        set: quic,
    },
];

fn udp(reader: &mut Reader<'_>, stmt: &Stmt, scope: Scope<'_>) {
    let Scope::Root(draft) = scope else { return };
    let mut service = UdpDraft {
        relay: tcp::begin(reader, stmt),
        responses: None,
        flows: None,
        quic: None,
    };
    let block = stmt.block.as_deref().unwrap_or_default();
    reader.apply(block, Context::Udp, &mut Scope::Udp(&mut service));
    tcp::check_target(reader, &service.relay, "the datagrams");
    draft.udp.push(service);
}

fn responses(reader: &mut Reader<'_>, stmt: &Stmt, scope: Scope<'_>) {
    let (Scope::Udp(service), Some(word)) = (scope, stmt.words.first()) else {
        return;
    };
    if let Some(count) = reader.number(word.into(), 0, 1_000_000) {
        reader.once(stmt, &mut service.responses, count);
    }
}

fn quic(reader: &mut Reader<'_>, stmt: &Stmt, scope: Scope<'_>) {
    if let Scope::Udp(service) = scope {
        reader.once(stmt, &mut service.quic, ());
    }
}

fn flows(reader: &mut Reader<'_>, stmt: &Stmt, scope: Scope<'_>) {
    let (Scope::Udp(service), Some(word)) = (scope, stmt.words.first()) else {
        return;
    };
    let most = reader.number(word.into(), 1, 10_000_000);
    if let Some(most) = most.and_then(NonZeroU32::new) {
        reader.once(stmt, &mut service.flows, most);
    }
}
