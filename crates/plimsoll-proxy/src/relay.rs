//! A connection whose bytes pass as they are, to a server of a pool: the life of one, in order.

use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use plimsoll_access::client_hello::Hello;
use plimsoll_balance::{Outcome, Tried};
use plimsoll_config::model::Priority;
use plimsoll_http::proxy_protocol::Told;
use plimsoll_http::reason::Reason;
use plimsoll_net::deadline::Timer;
use plimsoll_net::socket::Socket;
use plimsoll_net::{clock, stream};
use plimsoll_observe::access_log::{Record, Secured};
use rustls::ServerConnection;

use crate::connection::Connection;
use crate::events;
use crate::generation::{Pool, Server};
use crate::handing::{Relayed, Stage};
use crate::http::acquire::open_new;
use crate::http::attempt::CONNECTS_MAX;
use crate::http::exchange::Facts;
use crate::http::failure::Side;
use crate::http::line::{self, Seeker, Turned};
use crate::http::select::{self, Pick};
use crate::opening::Rules;
use crate::plane::Plane;
use crate::proxy_protocol::{For, told_in};
use crate::tls::{self, Secure};
use crate::tunnel::{End, Tunnel, Way};

/// What is done with the connections of a service.
#[derive(Debug)]
pub(crate) struct Relay {
    /// Its name in logs.
    pub(crate) name: Arc<str>,
    /// Which pool they go to.
    pub(crate) rules: Rules,
    /// How long neither end may say anything.
    pub(crate) idle: Duration,
    /// How long they may last at all.
    pub(crate) lifetime: Option<Duration>,
    /// Its logs, by number in the worker's list.
    pub(crate) logs: Vec<usize>,
}

/// A client that is to be connected.
struct Call<'a> {
    plane: &'a Plane,
    connection: &'a Connection,
    facts: Facts<'a>,
    /// What the client said first, where that decides.
    hello: Option<Hello>,
    /// Whether another process goes on with it.
    is_left: bool,
}

/// A server that has been reached.
struct Reached<'a> {
    server: &'a Server,
    pick: Pick<'a>,
    socket: Socket,
}

/// Serves a connection to its end; one that was `resumed` has its server already.
pub(crate) async fn serve(
    plane: &Plane,
    connection: &Connection,
    relay: &Relay,
    resumed: Option<Box<(Relayed, Socket)>>,
) {
    let mut call = Call {
        plane,
        connection,
        facts: connection.begin(plane, clock::now()),
        hello: None,
        is_left: false,
    };
    let served = match resumed {
        // Boxed: what begins here must be small.
        Some(resumed) => Box::pin(call.resume(relay, resumed)).await,
        None => call.serve(relay).await,
    };
    if call.is_left {
        return; // whoever has it now counts it, and writes its lines
    }
    if let Err(turned) = served {
        call.facts.blame(turned.reason, turned.detail);
        call.note_outcome();
        // As if nobody listened here: there is no other way to say it.
        stream::reset_on_close(&connection.socket);
    }
    call.finish(relay);
}

impl<'a> Call<'a> {
    /// Passes bytes to a server and back.
    async fn serve(&mut self, relay: &Relay) -> Result<(), Turned> {
        let number = match relay.rules.only() {
            Some(number) => number,
            // Boxed: most need it for a moment.
            None => Box::pin(self.choose(&relay.rules)).await?,
        };
        let Some(pool) = self.plane.generation.pools.get(number) else {
            return Ok(());
        };
        self.facts.go_to(pool);
        self.plane.note_request(pool.index, self.facts.started);
        // Boxed: it is large, and a connection that lasts needs it no more.
        let reached = Box::pin(self.reach(pool)).await?;
        self.note_outcome();
        // Boxed: who waits for his server has no room for it yet.
        Box::pin(self.pass(relay, pool, reached)).await;
        Ok(())
    }

    /// Goes on with what another process has begun.
    async fn resume(
        &mut self,
        relay: &Relay,
        resumed: Box<(Relayed, Socket)>,
    ) -> Result<(), Turned> {
        let (relayed, socket) = *resumed;
        let place = relayed.place(&self.plane.generation);
        let reached = place.and_then(|(pool, server, index)| {
            let pick = select::resume(pool, index)?;
            let reached = Reached {
                server,
                pick,
                socket,
            };
            Some((pool, index, reached))
        });
        let reached = reached.ok_or(Turned {
            reason: Reason::DestinationUnavailable,
            detail: "the server is gone",
        })?;
        let (pool, index, reached) = reached;
        relayed.go_on(&mut self.facts, (pool, reached.server, index));
        self.pass(relay, pool, reached).await;
        Ok(())
    }

    /// The number of the pool that what the client says first leads to.
    async fn choose(&mut self, rules: &Rules) -> Result<usize, Turned> {
        let heard = rules.hear(self.plane, self.connection).await;
        let listeners = &self.plane.metrics.listeners;
        if let (true, Some(metrics)) = (heard.is_unmatched, listeners.get(self.connection.listener))
        {
            metrics.unmatched.add(1);
        }
        self.hello = heard.hello;
        heard.pool
    }

    /// Connects to a server. One that cannot be reached costs nothing but time.
    async fn reach(&mut self, pool: &'a Pool) -> Result<Reached<'a>, Turned> {
        let mut tried = Tried::new();
        let mut last = None;
        for _ in 0..CONNECTS_MAX {
            let pick = match line::select_in_turn(self, pool, &tried).await {
                Ok(pick) => pick,
                Err(turned) => return Err(last.unwrap_or(turned)),
            };
            let index = pick.slot.index();
            tried.insert(index);
            let Some(server) = pool.servers.get(index.position()) else {
                break;
            };
            self.facts.attempts += 1;
            if let (Some(Turned { reason, .. }), Some(before)) = (&last, self.facts.server) {
                self.facts.failed = Some((before, *reason));
            }
            self.facts.ask(server, index);
            let failed = match open_new(self, pool, server).await {
                Ok(socket) => {
                    // Now, and not when it ends: a server on trial is as good as any other.
                    self.teach(pool, &pick, Outcome::Served);
                    let client = self.connection.peer.ip();
                    select::remember(self.plane, pool, client, index, self.facts.started);
                    return Ok(Reached {
                        server,
                        pick,
                        socket,
                    });
                }
                Err(failed) => failed,
            };
            self.teach(pool, &pick, failed.blame.into());
            self.give_back(pool, pick);
            let turned = Turned {
                reason: failed.reason,
                detail: failed.detail,
            };
            if failed.blame == Side::Downstream {
                return Err(turned);
            }
            events::count_failure(self.plane, pool, index, failed.reason);
            last = Some(turned);
        }
        Err(last.unwrap_or(Turned {
            reason: Reason::ProxyInternalError,
            detail: "",
        }))
    }

    /// Passes bytes on, both ways, until both ends have said all that they had to say.
    async fn pass(&mut self, relay: &Relay, pool: &Pool, reached: Reached<'_>) {
        let Reached {
            server,
            pick,
            socket,
        } = reached;
        let buffers = &self.plane.worker.buffers;
        let leaving = self.connection.leaving();
        let may_leave = || leaving.may_leave() && socket.is_direct();
        self.facts.session.becomes_tunnel();
        let tunnel = Tunnel {
            client: &self.connection.socket,
            server: &socket,
            timer: &self.connection.timer,
            session: self.facts.session,
            idle: relay.idle,
            until: relay.lifetime.map(|most| self.facts.started + most),
            cut: server.cut.as_deref(),
            may_leave: &may_leave,
            stays: Cell::new(false),
            buffers,
            pipes: &self.plane.worker.pipes,
        };
        let listeners = &self.plane.metrics.listeners;
        let metrics = listeners.get(self.connection.listener);
        let way = |moved, metric| Way {
            early: &[],
            moved,
            metric,
        };
        let up = way(
            self.facts.request_bytes,
            metrics.map(|metrics| &metrics.bytes_in),
        );
        let down = way(
            self.facts.response_bytes,
            metrics.map(|metrics| &metrics.bytes_out),
        );
        let hand_on = async || {
            let relayed = Relayed::of(&self.facts, self.facts.request_bytes.get());
            let stage = Stage::Relayed(relayed);
            leaving.hand_on(stage, Some(&socket)).await
        };
        let end = tunnel.run_or_leave((up, down), hand_on).await;
        if end == End::Left {
            self.is_left = true;
            return self.give_back(pool, pick);
        }
        if let Some((reason, detail)) = end.reason() {
            self.facts.blame(reason, detail);
        }
        if !matches!(end, End::Broken | End::Closed) {
            stream::close(&socket);
            stream::close(&self.connection.socket);
        }
        self.give_back(pool, pick);
    }

    /// Counts whether a server could be reached, and how long that took: what comes after is between the two ends.
    fn note_outcome(&self) {
        let took = self.facts.connect.unwrap_or_default();
        let outcomes = &self.plane.metrics.outcomes;
        outcomes.note(took, self.facts.has_failed());
    }

    /// Teaches the pool whether its server could be reached.
    fn teach(&self, pool: &Pool, pick: &Pick<'_>, outcome: Outcome) {
        let took = self.facts.connect;
        events::teach(self.plane, pool, &pick.slot, (outcome, took), clock::now());
    }

    fn give_back(&self, pool: &Pool, pick: Pick<'_>) {
        drop(pick);
        line::call_next(self.plane, pool);
    }

    /// What whoever passes the client on to us says of it.
    fn heard(&self) -> Told<'_> {
        let heard = self.connection.heard.as_deref();
        heard.map(told_in).unwrap_or_default()
    }

    /// Who serves the client, if it came with TLS.
    fn secure(&self) -> Option<&'a Secure> {
        let listeners = &self.plane.generation.listeners;
        listeners.get(self.connection.listener)?.tls.as_deref()
    }

    /// Counts it and writes its log lines.
    fn finish(&self, relay: &Relay) {
        let (plane, facts) = (self.plane, &self.facts);
        if let Some(reason) = facts.reason {
            plane.metrics.count_reason(reason);
        }
        if !plane.is_logged(&relay.logs) {
            return;
        }
        self.connection.socket.look_at_tls(&mut |connection| {
            self.write(relay, connection);
        });
    }

    fn write(&self, relay: &Relay, connection: Option<&ServerConnection>) {
        let (plane, facts, client) = (self.plane, &self.facts, self.connection);
        let (certificate, fingerprint) = (client.certificate.as_deref(), &client.fingerprint);
        let secured = |tls| tls::secured(tls, certificate, fingerprint.as_deref());
        let heard = self.heard();
        let hello = self.hello.as_ref();
        let (offered, asked) = (
            hello.map(Hello::list),
            hello.and_then(|hello| hello.name.as_deref()),
        );
        let asked = Secured {
            alpn: offered.as_deref().or(heard.alpn).unwrap_or_default(),
            sni: asked
                .or_else(|| heard.authority.and_then(as_text))
                .unwrap_or_default(),
            ..Secured::default()
        };
        let record = Record {
            tls: connection.map_or(asked, secured),
            client: self.connection.peer_text.as_bytes(),
            client_port: self.connection.peer.port(),
            site: &relay.name,
            generation: plane.generation.number,
            proto: "TCP",
            total: clock::now().duration_since(facts.started),
            ..facts.record()
        };
        plane.log(&relay.logs, &record);
    }
}

impl<'a> Seeker<'a> for Call<'a> {
    fn plane(&self) -> &'a Plane {
        self.plane
    }

    fn client(&self) -> &'a Socket {
        &self.connection.socket
    }

    fn timer(&self) -> &'a Timer {
        &self.connection.timer
    }

    fn soonest(&self, at: Instant) -> Instant {
        at
    }

    fn is_overdue(&self) -> bool {
        false
    }

    fn priority(&self) -> Priority {
        Priority::default()
    }

    fn select(&self, pool: &'a Pool, tried: &Tried) -> Result<Pick<'a>, Reason> {
        let client = self.connection.peer.ip();
        select::for_client(self.plane, pool, client, self.facts.started, tried)
    }

    fn facts(&mut self) -> &mut Facts<'a> {
        &mut self.facts
    }

    fn whom(&self) -> For<'_> {
        For {
            client: &self.connection.socket,
            peer: self.connection.peer,
            secure: self.secure(),
            certificate: self.connection.certificate.as_deref(),
            heard: self.connection.heard.as_deref(),
            name: self.hello.as_ref().and_then(|hello| hello.name.as_deref()),
            is_relayed: true,
            id: self.facts.id.as_bytes(),
        }
    }
}

fn as_text(bytes: &[u8]) -> Option<&str> {
    str::from_utf8(bytes).ok()
}

impl From<Side> for Outcome {
    fn from(blamed: Side) -> Self {
        match blamed {
            Side::Upstream => Self::Failed,
            Side::Downstream | Side::Plimsoll => Self::Cancelled,
        }
    }
}
