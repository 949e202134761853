//! The flows of a port: how they begin, which way their datagrams go, and how they end.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Instant;

use hashbrown::HashSet;
use plimsoll_balance::Tried;
use plimsoll_balance::flows::{FlowId, Flows};
use plimsoll_http::proxy_protocol::parse_datagram;
use plimsoll_http::reason::Reason;
use plimsoll_net::clock;
use plimsoll_net::datagrams::{self, Batch, Datagram, Watch};
use plimsoll_observe::metrics::{Dropped, ListenerMetrics, PortMetrics};

use super::flow::{Flow, Key, Progress, Route, tell};
use super::former::Former;
use super::held::Held;
use super::search::{Fate, Search, fate};
use super::{Service, Shared};
use crate::events;
use crate::gate;
use crate::generation::{Pool, Port};
use crate::http::exchange::Facts;
use crate::http::failure::{Failure, Side};
use crate::http::line::Turned;
use crate::plane::Plane;
use crate::proxy_protocol::{is_among, tell_datagram};
use crate::sessions::Session;

/// Whether there is more of the same to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rest {
    There,
    None,
}

/// Idle flows that are ended before datagrams have their turn.
const ENDS: usize = 256;

/// The flows of a port.
pub(super) struct Table<'a> {
    plane: &'a Plane,
    shared: Rc<Shared>,
    /// Whom to tell of flows that end, once another plane reads.
    former: Option<Rc<Former>>,
    port: &'a Port,
    service: &'a Service,
    pool: &'a Pool,
    metrics: &'a PortMetrics,
    /// Where flows count as connections.
    connections: &'a ListenerMetrics,
    flows: Flows<Key, Flow<'a>>,
    held: Held,
    /// When the turn began.
    now: Instant,
}

impl<'a> Table<'a> {
    /// No flows yet; nothing where the generation has no such port.
    pub(super) fn new(plane: &'a Plane, shared: &Rc<Shared>, number: usize) -> Option<Self> {
        let generation = &plane.generation;
        let port = generation.ports.get(number)?;
        let listeners = generation.listeners.len();
        Some(Self {
            plane,
            shared: Rc::clone(shared),
            former: None,
            port,
            service: &port.service,
            pool: generation.pools.get(port.service.pool)?,
            metrics: plane.metrics.ports.get(number)?,
            connections: plane.metrics.listener(listeners + number)?,
            flows: Flows::new(port.service.flows),
            held: Held::default(),
            now: clock::now(),
        })
    }

    /// Reads the clock: what comes in one batch comes at one time.
    pub(super) fn begin_turn(&mut self) {
        self.now = clock::now();
    }

    /// Takes a datagram from a client.
    pub(super) fn take(&mut self, watch: &Watch, datagram: &Datagram, bytes: &[u8]) {
        if self.former.is_none() {
            self.metrics.received.add(1, bytes.len() as u64);
        }
        let whole = bytes;
        let Some((key, bytes)) = self.introduce(datagram, bytes) else {
            return self.metrics.count_dropped(1, Dropped::Unsound);
        };
        let id = match self.flows.find(&key) {
            Some(id) => {
                self.leave_the_down(watch, id);
                id
            }
            None if self.hand_back(&key, datagram, whole) => return,
            None => match self.begin(watch, key, bytes) {
                Some(id) => id,
                None => return,
            },
        };
        self.pass(watch, id, bytes);
    }

    /// Hands a datagram to the plane that has its flow, if one before has it.
    fn hand_back(&self, key: &Key, datagram: &Datagram, bytes: &[u8]) -> bool {
        let Some(former) = self.shared.former(key) else {
            return false;
        };
        if !former.hand(datagram, bytes) {
            self.metrics.count_dropped(1, Dropped::Refused);
        }
        true
    }

    /// What tells its flows from each other.
    pub(super) fn keys(&self) -> HashSet<Key> {
        self.flows.keys().copied().collect()
    }

    /// Has `former` know of the flows that end from now on.
    pub(super) fn note_ends(&mut self, former: &Rc<Former>) {
        self.former = Some(Rc::clone(former));
    }

    /// Ends all flows.
    pub(super) fn end_all(&mut self) {
        while let Some((id, _)) = self.flows.oldest() {
            let why = (Reason::ConnectionTerminated, "its configuration is too old");
            self.end(id, Some(why));
        }
    }

    /// Whose a datagram is, and what of it goes on; nothing where it goes no further.
    fn introduce<'b>(&self, datagram: &Datagram, bytes: &'b [u8]) -> Option<(Key, &'b [u8])> {
        let Datagram { peer, local, .. } = *datagram;
        let ours = self.spoken_to(local);
        // Whoever answers itself never ends.
        if peer.port() == 0 || peer == ours {
            return None;
        }
        let mut key = Key {
            peer,
            client: peer,
            local,
        };
        if self.service.announced_by.is_empty() {
            return Some((key, bytes));
        }
        let header = match is_among(&self.service.announced_by, peer.ip()) {
            true => parse_datagram(bytes).ok(),
            false => None,
        };
        let Some(header) = header else {
            self.connections.unannounced.add(1);
            return None;
        };
        if let Some(addresses) = header.addresses {
            key.client = addresses.source;
        }
        Some((key, bytes.get(header.len..)?))
    }

    /// Begins a flow with this datagram, if it may.
    fn begin(&mut self, watch: &Watch, key: Key, bytes: &[u8]) -> Option<FlowId> {
        let plane = self.plane;
        let takes_none =
            plane.station.draining.get() || self.former.is_some() || self.shared.pier.is_closing();
        if takes_none || plane.is_out_of_memory() {
            self.metrics.count_dropped(1, Dropped::Refused);
            return None;
        }
        let Some(seat) = gate::admit(plane, key.client.ip()) else {
            self.connections.refused.add(1);
            self.metrics.count_dropped(1, Dropped::Refused);
            return None;
        };
        if self.flows.is_full() {
            self.make_room();
        }
        plane.note_request(self.pool.index, self.now);
        let quic = self.service.quic.as_ref();
        let mut search = Search {
            known: quic.and_then(|quic| quic.server(bytes)),
            ..Search::default()
        };
        let mut found = self.find(&mut search, &key);
        if found.is_err() && search.is_for_want && self.make_room() {
            found = self.find(&mut search, &key);
        }
        let route = match found {
            Ok(route) => route,
            Err(turned) => {
                self.turn_away(&key, &search, &turned);
                return None;
            }
        };
        let flow = Flow {
            route,
            header: self.header(&key),
            _seat: seat,
            tried: search.tried,
            attempts: search.attempts,
            failed: search.failed,
            started: self.now,
            at: plane.unix_time(self.now),
            asked: self.now,
            first_answer: None,
            progress: Progress::default(),
            burst: 1,
            last: None,
            request_bytes: 0,
            response_bytes: 0,
        };
        let id = self
            .flows
            .insert(key, flow, plane.since_start(self.now))
            .ok()?;
        self.connections.accepted.add(1);
        if let Some(metrics) = plane.metrics.pool(self.pool.index) {
            metrics.connections_new.add(1);
        }
        self.watch(watch, id).then_some(id)
    }

    /// Finds a server for a flow, and a way to it.
    fn find(&self, search: &mut Search<'a>, key: &Key) -> Result<Route<'a>, Turned> {
        let too_long = self.service.too_long();
        let of = (self.plane, self.pool);
        search.find(of, too_long, key.client.ip(), self.now)
    }

    /// What goes before each datagram of a flow to its server; nearly always nothing.
    fn header(&self, key: &Key) -> Box<[u8]> {
        if self.pool.proxy_protocol.is_none() {
            return Box::default();
        }
        tell_datagram(key.client, self.spoken_to(key.local)).into()
    }

    /// The address that a client speaks to, where it is known beside the port's own.
    fn spoken_to(&self, local: Option<IpAddr>) -> SocketAddr {
        let mut address = self.port.address;
        address.set_ip(local.unwrap_or_else(|| address.ip()));
        address
    }

    /// Has answers to a flow be noticed; one that cannot be is over.
    fn watch(&mut self, watch: &Watch, id: FlowId) -> bool {
        let Some((_, flow)) = self.flows.get_mut(id) else {
            return false;
        };
        let watched = watch.add(&flow.route.link, id.to_u64());
        let is_watched = watched.is_ok();
        if !is_watched {
            let reason = Reason::ProxyInternalError;
            self.end(id, Some((reason, "no memory to wait for answers")));
        }
        is_watched
    }

    /// Tells of a client that no server was found for.
    fn turn_away(&self, key: &Key, search: &Search<'a>, turned: &Turned) {
        self.metrics.count_dropped(1, Dropped::NoServer);
        let session = Session::new(self.now);
        let mut facts = Facts::new(self.plane, &session, self.now);
        facts.pool = Some(&self.pool.name);
        facts.server = search.failed.map(|(server, _)| server);
        facts.attempts = search.attempts;
        let why = Some((turned.reason, turned.detail));
        tell((self.plane, self.service), facts, key, why);
    }

    /// Ends the flow that can be missed most easily; false when there is none.
    fn make_room(&mut self) -> bool {
        let Some(id) = self.flows.expendable() else {
            return false;
        };
        let why = (Reason::ConnectionLimitReached, "made room for another flow");
        self.end(id, Some(why));
        true
    }

    /// Has a flow go to another server when its own is down, if there is one that is not.
    fn leave_the_down(&mut self, watch: &Watch, id: FlowId) {
        let Some((key, flow)) = self.flows.get_mut(id) else {
            return;
        };
        if !flow.is_stranded() {
            return;
        }
        let key = *key;
        let mut search = Search::default();
        search.tried.insert(flow.route.pick.slot.index());
        if let Ok(route) = self.find(&mut search, &key) {
            self.change(id, route, Reason::DestinationUnavailable);
            if let Some((_, flow)) = self.flows.get_mut(id) {
                flow.attempts += search.attempts;
            }
            self.watch(watch, id);
        }
    }

    /// Sends a datagram to the server of its flow, or to another one when that is gone.
    fn pass(&mut self, watch: &Watch, id: FlowId, bytes: &[u8]) {
        loop {
            let Some((_, flow)) = self.flows.get_mut(id) else {
                return; // it has been told of
            };
            let sent = flow.route.link.send(&flow.header, bytes);
            match sent.map_err(|error| fate(&error)) {
                Ok(()) => break,
                Err(Fate::Lost) => return self.metrics.count_dropped(1, Dropped::Unsent),
                Err(Fate::Gone(failed)) => {
                    if !self.replace(watch, id, failed) {
                        return self.metrics.count_dropped(1, Dropped::NoServer);
                    }
                }
            }
        }
        self.note_sent(id, bytes);
    }

    fn note_sent(&mut self, id: FlowId, bytes: &[u8]) {
        let now = self.plane.since_start(self.now);
        let last = self.held.put(bytes);
        let Some((_, flow)) = self.flows.get_mut(id) else {
            return;
        };
        flow.last = last;
        flow.request_bytes += bytes.len() as u64;
        let progress = &mut flow.progress;
        progress.sent += 1;
        flow.burst = 1;
        // Where nobody answers, that nobody refuses is all that can be known.
        if self.service.responses == Some(0) && progress.sent > 1 {
            flow.teach_served(self.plane, self.pool, self.now);
            self.flows.confirm(id, now);
        } else {
            self.flows.touch(id, now);
        }
    }

    /// Puts answers of a flow's server into `batch`, which has room. What is left is told of in the next turn.
    pub(super) fn collect(&mut self, watch: &Watch, id: FlowId, batch: &mut Batch) {
        let Some((key, flow)) = self.flows.get_mut(id) else {
            return; // it ended in this turn
        };
        let most = flow.next_burst();
        match flow.route.link.receive(batch, most, (key.peer, key.local)) {
            Ok(count) => {
                if let Some(quic) = &self.service.quic {
                    let now = self.plane.since_start(self.now);
                    let server = flow.route.pick.slot.index();
                    let answers = batch.last(count);
                    answers.for_each(|bytes| quic.learn(bytes, server, now));
                }
                self.note_answers(id, batch.bytes_of_last(count), count);
            }
            Err(error) => {
                if error.kind() != io::ErrorKind::WouldBlock
                    && let Fate::Gone(failed) = fate(&error)
                {
                    self.try_another(watch, id, failed);
                }
            }
        }
    }

    fn note_answers(&mut self, id: FlowId, bytes: u64, count: usize) {
        let now = self.plane.since_start(self.now);
        let Some((_, flow)) = self.flows.get_mut(id) else {
            return;
        };
        flow.response_bytes += bytes;
        if flow.first_answer.is_none() {
            let took = self.now.saturating_duration_since(flow.asked);
            flow.first_answer = Some(took);
            if let Some(metrics) = self.plane.metrics.pool(self.pool.index) {
                metrics.first_byte.record(took);
            }
        }
        flow.teach_served(self.plane, self.pool, self.now);
        flow.tried = Tried::new();
        flow.progress.answers += count as u64;
        match flow.progress.due(self.service.responses) {
            Some(0) => self.end(id, None),
            _ => self.flows.confirm(id, now),
        }
    }

    /// Sends answers to the clients.
    pub(super) fn answer(&self, port: &datagrams::Port, batch: &mut Batch) {
        let count = batch.iter().count();
        if count == 0 {
            return;
        }
        let (sent, bytes) = port.send(batch);
        self.metrics.sent.add(sent as u64, bytes);
        self.metrics
            .count_dropped((count - sent) as u64, Dropped::Unsent);
    }

    /// Has a flow go to another server after its own has failed, with the datagram that got no answer.
    fn try_another(&mut self, watch: &Watch, id: FlowId, failed: Failure) {
        let Some((_, flow)) = self.flows.get_mut(id) else {
            return;
        };
        let spot = flow.last;
        if !self.replace(watch, id, failed) {
            return;
        }
        let Some((_, flow)) = self.flows.get_mut(id) else {
            return;
        };
        // Another failure is heard of as the first one was.
        if let Some(bytes) = spot.and_then(|spot| self.held.get(spot))
            && flow.route.link.send(&flow.header, bytes).is_ok()
        {
            flow.progress.sent += 1;
        }
    }

    /// Finds another server for a flow whose own has failed; false when that was its end.
    fn replace(&mut self, watch: &Watch, id: FlowId, failed: Failure) -> bool {
        let Some((key, flow)) = self.flows.get_mut(id) else {
            return false;
        };
        let key = *key;
        let slot = &flow.route.pick.slot;
        let outcome = (failed.blame.into(), None);
        events::teach(self.plane, self.pool, slot, outcome, self.now);
        if failed.blame == Side::Upstream {
            events::count_failure(self.plane, self.pool, slot.index(), failed.reason);
        }
        let mut search = Search {
            tried: std::mem::take(&mut flow.tried),
            attempts: flow.attempts,
            ..Search::default()
        };
        search.tried.insert(slot.index());
        match self.find(&mut search, &key) {
            Ok(route) => {
                self.change(id, route, failed.reason);
                if let Some((_, flow)) = self.flows.get_mut(id) {
                    (flow.tried, flow.attempts) = (search.tried, search.attempts);
                }
                self.watch(watch, id)
            }
            Err(_) => {
                self.end(id, Some((failed.reason, failed.detail)));
                false
            }
        }
    }

    /// Has a flow go another way from now on.
    fn change(&mut self, id: FlowId, route: Route<'a>, why: Reason) {
        if let Some((_, flow)) = self.flows.get_mut(id) {
            let before = std::mem::replace(&mut flow.route, route);
            flow.failed = Some((&before.server.name, why));
            flow.asked = self.now;
            flow.progress = Progress::default();
        }
    }

    /// Ends a flow.
    fn end(&mut self, id: FlowId, why: Option<(Reason, &'static str)>) {
        if let Some((key, flow)) = self.flows.remove(id) {
            self.connections.closed.add(1);
            if let Some(former) = &self.former {
                former.forget(&key);
            }
            flow.finish((self.plane, self.pool, self.service), &key, why);
        }
    }

    /// Tells whether there are no flows.
    pub(super) fn is_empty(&self) -> bool {
        self.flows.is_empty()
    }

    /// When the next flow ends if nothing comes.
    pub(super) fn next_end(&self) -> Option<Instant> {
        let (_, used) = self.flows.oldest()?;
        let rests = self.plane.since_start(self.now).saturating_sub(used);
        Some(self.now + self.service.idle.saturating_sub(rests))
    }

    /// Ends flows that have been idle for as long as they may be.
    pub(super) fn end_idle(&mut self) -> Rest {
        self.begin_turn();
        let now = self.plane.since_start(self.now);
        for _ in 0..ENDS {
            let oldest = self.flows.oldest();
            let Some((id, _)) = oldest.filter(|(_, used)| *used + self.service.idle <= now) else {
                return Rest::None;
            };
            let why = self.idle_reason(id);
            self.end(id, why);
        }
        Rest::There
    }

    /// Why a flow that is idle has not come to a good end; nothing where it has.
    fn idle_reason(&mut self, id: FlowId) -> Option<(Reason, &'static str)> {
        let responses = self.service.responses;
        let (_, flow) = self.flows.get_mut(id)?;
        if responses == Some(0) {
            flow.teach_served(self.plane, self.pool, self.now);
            return None;
        }
        let is_waiting = flow.progress.answers == 0 || flow.progress.due(responses) > Some(0);
        is_waiting.then_some((Reason::ConnectionReadTimeout, "no answer came"))
    }
}
