//! Client and server leave HTTP, when they agree on it.

use std::cell::Cell;
use std::net::SocketAddr;

use plimsoll_http::framing::Length;
use plimsoll_http::reason::Reason;
use plimsoll_net::buffer::Buffer;
use plimsoll_net::clock;
use plimsoll_net::socket::Socket;

use crate::connection::Connection;
use crate::handing::{Leaving, Relayed, Request, Stage};
use crate::http::answer::Answer;
use crate::http::exchange::Ending;
use crate::http::failure::{Failure, Sent};
use crate::http::finish;
use crate::http::select;
use crate::plane::Plane;
use crate::seen::Seen;
use crate::tunnel::{End, Tunnel, Way};

/// Goes on with a connection that another process has led out of HTTP, and counts and logs its request in the end.
pub(crate) async fn resume(
    plane: &Plane,
    connection: &Connection,
    (relayed, request): (Relayed, Box<Request>),
    server: &Socket,
) {
    let generation = &plane.generation;
    let listener = generation.listeners.get(connection.listener);
    let site = listener.and_then(|at| request.site(generation, at.address));
    let place = relayed.place(generation);
    let (Some(site), Some((pool, to, index))) = (site, place) else {
        return;
    };
    let _pick = select::resume(pool, index);
    let mut facts = connection.begin(plane, clock::now());
    facts.enter(Some(site));
    facts.status = 101;
    relayed.go_on(&mut facts, (pool, to, index));
    facts.session.becomes_tunnel();
    let leaving = connection.leaving();
    let may_leave = || leaving.may_leave() && server.is_direct();
    let tunnel = Tunnel {
        session: &connection.session,
        client: &connection.socket,
        server,
        timer: &connection.timer,
        idle: site.timeouts.tunnel,
        until: None,
        cut: None,
        may_leave: &may_leave,
        stays: Cell::new(false),
        buffers: &plane.worker.buffers,
        pipes: &plane.worker.pipes,
    };
    let way = |moved| Way {
        early: &[],
        moved,
        metric: None,
    };
    let hand_on = async || {
        let relayed = Relayed::of(&facts, facts.request_bytes.get());
        let stage = Stage::Switched(relayed, request.clone());
        leaving.hand_on(stage, Some(server)).await
    };
    let ways = (way(facts.request_bytes), way(facts.response_bytes));
    let end = tunnel.run_or_leave(ways, hand_on).await;
    if end == End::Left {
        return;
    }
    if let Some((reason, detail)) = end.reason() {
        facts.blame(reason, detail);
    }
    finish::resumed(plane, site, &facts, &request);
}

impl Answer<'_, '_> {
    /// Lets client and server speak another protocol; returns when they are done.
    pub(super) async fn tunnel(&mut self, buffer: &mut Buffer) -> Ending {
        self.encode(buffer.filled(), Length::Empty, true, None);
        self.facts.status = 101;
        buffer.take(self.response.len);
        let mut switched = std::mem::take(self.out);
        switched.extend_from_slice(buffer.filled());
        let said = self.seen.bytes.get(self.seen.head.len..);
        let leaving = Leaving {
            door: self.door,
            client: self.client,
            peer: self.seen.origin.peer,
            heard: None, // servers and logs have been told
        };
        let may_leave = || leaving.may_leave() && self.server.is_direct();
        self.facts.session.becomes_tunnel();
        let tunnel = Tunnel {
            session: self.facts.session,
            client: self.client,
            server: self.server,
            timer: self.timer,
            idle: self
                .facts
                .site
                .map_or(self.patience, |site| site.timeouts.tunnel),
            until: None,
            cut: None, // who asked the server looks
            may_leave: &may_leave,
            stays: Cell::new(false),
            buffers: &self.plane.worker.buffers,
            pipes: &self.plane.worker.pipes,
        };
        let up = Way {
            early: said.unwrap_or_default(),
            moved: self.uploaded,
            metric: None,
        };
        let down = Way {
            early: &switched,
            moved: self.facts.response_bytes,
            metric: None,
        };
        let head = switched.len() - buffer.filled().len();
        let hand_on = async || {
            let mut relayed = Relayed::of(self.facts, self.uploaded.get());
            let [_, down] = &mut relayed.moved;
            *down = down.saturating_sub(head as u64);
            let stage = Stage::Switched(relayed, Box::new(self.request()));
            leaving.hand_on(stage, Some(self.server)).await
        };
        let end = tunnel.run_or_leave((up, down), hand_on).await;
        let moved = self.facts.response_bytes.get();
        self.facts
            .response_bytes
            .set(moved.saturating_sub(head as u64));
        // Whoever goes on with it counts it, and writes its lines.
        self.facts.is_quiet |= end == End::Left;
        if let Some((reason, detail)) = end.reason() {
            self.facts.blame(reason, detail);
        }
        Ending::Close
    }

    /// What another process has to know of the request.
    fn request(&self) -> Request {
        let Seen {
            head,
            bytes,
            target,
            origin,
            ..
        } = self.seen;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Request {
            site: self.facts.site.map_or("", |site| &site.name).to_owned(),
            method: text(head.method_span.of(bytes)),
            host: text(self.seen.authority),
            path: text(target.path(bytes)),
            client: SocketAddr::new(origin.client, origin.client_port),
        }
    }

    /// Checks that the server switches to the protocol that the client asks for.
    pub(super) fn check_switch(&self, bytes: &[u8]) -> Result<(), Failure> {
        let failed = |detail| Failure::upstream(Reason::HttpUpgradeFailed, detail, Sent::Answered);
        let upgrade = self.upgrade;
        let upgrade = upgrade.ok_or_else(|| failed("the server switched protocols unasked"))?;
        let checked = upgrade.check(self.seen.bytes, self.response, bytes);
        checked.map_err(failed)
    }

    /// Checks an answer that switches nothing: to a client of HTTP/2 that asks for another protocol any
    /// success would say that it is spoken (RFC 8441 §5).
    pub(super) fn check_no_switch(&self) -> Result<(), Failure> {
        let is_success = (200..300).contains(&self.response.status);
        match is_success && self.upgrade.is_some() && self.client.is_stream() {
            true => Err(Failure::upstream(
                Reason::HttpUpgradeFailed,
                "the server did not switch protocols",
                Sent::Answered,
            )),
            false => Ok(()),
        }
    }
}
