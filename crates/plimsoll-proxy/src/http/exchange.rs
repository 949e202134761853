//! One request and its answer.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use plimsoll_balance::ServerIndex;
use plimsoll_balance::ceiling::Seat;
use plimsoll_balance::concurrency::Hold;
use plimsoll_config::model::Mirror;
use plimsoll_http::caching::Told;
use plimsoll_http::chunked::Decoded;
use plimsoll_http::edit::FieldEdits;
use plimsoll_http::forwarded::RequestId;
use plimsoll_http::framing::{Framing, Reuse};
use plimsoll_http::head::{RequestHead, ResponseHead, Span};
use plimsoll_http::reason::Reason;
use plimsoll_http::rewrite::Rewritten;
use plimsoll_http::target::Target;
use plimsoll_http::upgrade::Upgrade;
use plimsoll_net::buffer::Buffer;
use plimsoll_net::clock;
use plimsoll_net::deadline::Timer;
use plimsoll_net::socket::Socket;
use plimsoll_observe::access_log::Record;
use plimsoll_observe::metrics::CacheResult;

use crate::connection::Connection;
use crate::door::Door;
use crate::edits::Edits;
use crate::generation::{Listener, Pool, Route, Server, Site};
use crate::http::access::Auth;
use crate::http::backlog::Delivery;
use crate::http::hold::Held;
use crate::http::internal::Redirects;
use crate::http::mirror::Pair;
use crate::http::pace::Pace;
use crate::http::shared::Cached;
use crate::page::{self, OwnPage};
use crate::plane::Plane;
use crate::seen::{Origin, Seen, Values};
use crate::sessions::Session;
use crate::tls::certificate::Certificate;

/// Memory that one exchange after the other uses, so that a request allocates nothing.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    pub(crate) head: RequestHead,
    pub(crate) target: Target,
    pub(crate) response: ResponseHead,
    /// The target that a server receives, where rules have changed it.
    pub(crate) rewritten: Rewritten,
    /// Lines that rules add to a head.
    pub(crate) added: Vec<u8>,
    /// Lines of an answer of our own beside those that each has.
    pub(crate) fields: Vec<u8>,
    /// Lines that another server had added to the request.
    pub(crate) copied: Vec<u8>,
    /// A text that was filled in.
    pub(crate) text: Vec<u8>,
    /// What its answer is stored by.
    pub(crate) key: Vec<u8>,
    /// What is sent to the server.
    pub(crate) request_out: Vec<u8>,
    /// What is sent to the client.
    pub(crate) response_out: Vec<u8>,
}

/// What happens to the client's connection after an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It may carry another request.
    Keep,
    /// It is closed; nothing of the client's is left unread.
    Close,
    /// It is closed once the client has stopped sending, so that it can read the answer.
    Linger,
    /// It is reset: the answer is cut off, and must not look complete.
    Reset,
}

/// What the access log and the metrics are told.
#[derive(Debug)]
pub(crate) struct Facts<'a> {
    pub(crate) started: Instant,
    /// When it started, since 1970.
    pub(crate) at: Duration,
    pub(crate) id: RequestId,
    pub(crate) site: Option<&'a Site>,
    pub(crate) route: Option<&'a Route>,
    /// Whether the head was read, so that method and path mean something.
    pub(crate) has_head: bool,
    pub(crate) status: u16,
    /// Where all of this is told to whoever asks while it goes on.
    pub(crate) session: &'a Session,
    pub(crate) request_bytes: &'a Cell<u64>,
    pub(crate) response_bytes: &'a Cell<u64>,
    pub(crate) pool: Option<&'a str>,
    pub(crate) server: Option<&'a str>,
    pub(crate) attempts: u32,
    /// The last server that failed before another one was asked, and why.
    pub(crate) failed: Option<(&'a str, Reason)>,
    /// Request fields that were not passed on because their names could be taken for others.
    pub(crate) aliases_dropped: u32,
    /// Whether the client is told what is done with it.
    pub(crate) is_traced: bool,
    /// Whether nobody wants to know of it.
    pub(crate) is_quiet: bool,
    /// What the cache tells of its part in the answer, where there is one.
    pub(crate) told: Option<Told>,
    /// Which cache had a part in it, by number, and what came of it.
    pub(crate) cache: Option<(usize, CacheResult)>,
    /// Who came in, where that was asked.
    pub(crate) auth: Option<Box<Auth>>,
    pub(crate) reason: Option<Reason>,
    pub(crate) detail: Option<&'static str>,
    pub(crate) queued: Option<Duration>,
    pub(crate) connect: Option<Duration>,
    pub(crate) first_byte: Option<Duration>,
    /// When the last server was done with it.
    pub(crate) ended: Option<Instant>,
}

impl<'a> Facts<'a> {
    /// The own page for an error, if there is one.
    pub(crate) fn own_page(&self, status: u16) -> Option<&'a OwnPage> {
        let of_site = || self.site.map(|site| &site.pages);
        let pages = self.route.map(|route| &route.pages).or_else(of_site)?;
        page::find(pages, status)
    }

    /// Tells whether answers get content codings here.
    pub(crate) fn codes(&self) -> bool {
        self.route.is_some_and(|route| route.compress.is_some())
    }

    /// What rules do to the fields of the request.
    pub(crate) fn request_edits(&self) -> Option<&'a FieldEdits> {
        self.route.and_then(|route| route.request.fields())
    }

    /// What rules do to the fields of the answer.
    pub(crate) fn response_edits(&self) -> Option<&'a Edits> {
        let of_site = || self.site.map(|site| &site.response);
        self.route.map(|route| &route.response).or_else(of_site)
    }

    /// Those of a request that is explained and not served.
    pub(crate) fn of_route(
        site: &'a Site,
        route: &'a Route,
        at: Duration,
        session: &'a Session,
    ) -> Self {
        Self {
            site: Some(site),
            route: Some(route),
            ..Self::begin(session, clock::now(), at, 0)
        }
    }

    /// Those of what begins in `session` now.
    pub(crate) fn new(plane: &Plane, session: &'a Session, started: Instant) -> Self {
        let at = plane.unix_time(started);
        let random = u128::from(plane.worker.random()) << 64 | u128::from(plane.worker.random());
        Self::begin(session, started, at, random)
    }

    fn begin(session: &'a Session, started: Instant, at: Duration, random: u128) -> Self {
        Self {
            started,
            at,
            id: RequestId::new(u64::try_from(at.as_millis()).unwrap_or_default(), random),
            site: None,
            route: None,
            has_head: false,
            status: 0,
            request_bytes: &session.up,
            response_bytes: &session.down,
            session,
            pool: None,
            server: None,
            attempts: 0,
            failed: None,
            aliases_dropped: 0,
            is_traced: false,
            is_quiet: false,
            told: None,
            cache: None,
            auth: None,
            reason: None,
            detail: None,
            queued: None,
            connect: None,
            first_byte: None,
            ended: None,
        }
    }

    /// What is known of it, for the log.
    pub(crate) fn record(&self) -> Record<'_> {
        let failed = self.failed;
        Record {
            at: self.at,
            id: self.id.as_bytes(),
            req_bytes: self.request_bytes.get(),
            res_bytes: self.response_bytes.get(),
            pool: self.pool,
            server: self.server,
            attempts: self.attempts,
            failed: failed.map(|(server, reason)| (server, reason.token())),
            reason: self.reason.map(Reason::token),
            detail: self.detail,
            queue: self.queued,
            connect: self.connect,
            first_byte: self.first_byte,
            cache: self.cache.map_or("", |(_, result)| result.word()),
            ..Record::default()
        }
    }

    pub(crate) fn enter(&mut self, site: Option<&'a Site>) {
        self.site = site;
        self.session.enter(site);
    }

    pub(crate) fn take(&mut self, route: &'a Route) {
        self.route = Some(route);
        self.session.take(route);
    }

    pub(crate) fn go_to(&mut self, pool: &'a Pool) {
        self.pool = Some(&pool.name);
        self.session.go_to(pool);
    }

    /// Notes that the server at `index` is asked.
    pub(crate) fn ask(&mut self, server: &'a Server, index: ServerIndex) {
        self.server = Some(&server.name);
        self.session.ask(index.position());
    }

    pub(crate) fn note_connect(&mut self, took: Duration) {
        self.connect = Some(self.connect.unwrap_or_default() + took);
    }

    pub(crate) fn note_wait(&mut self, waited: Duration) {
        self.queued = Some(self.queued.unwrap_or_default() + waited);
    }

    /// Tells whether a server failed it, or this proxy for want of one, and not its client.
    pub(crate) fn has_failed(&self) -> bool {
        let is_ours = |reason: Reason| reason.status() >= 500;
        self.status >= 500 || self.reason.is_some_and(is_ours)
    }

    /// Notes why the exchange did not end with the server's own answer; the first reason stays.
    pub(crate) fn blame(&mut self, reason: Reason, detail: &'static str) {
        if self.reason.is_none() {
            self.reason = Some(reason);
            self.detail = (!detail.is_empty()).then_some(detail);
        }
    }
}

/// The scheme of what comes on a connection.
pub(crate) fn scheme(client: &Socket) -> &'static str {
    match client.is_secure() {
        true => "https",
        false => "http",
    }
}

/// One request and its answer, with all that is needed to have it served.
#[derive(Debug)]
pub(crate) struct Exchange<'a> {
    pub(crate) plane: &'a Plane,
    pub(crate) listener: &'a Listener,
    pub(crate) door: &'a Door,
    pub(crate) client: &'a Socket,
    pub(crate) timer: &'a Timer,
    /// Where the connection is from.
    pub(crate) peer: SocketAddr,
    pub(crate) origin: Origin,
    /// The certificate that the client has shown.
    pub(crate) certificate: Option<&'a Certificate>,
    /// The fingerprint of how the client began TLS.
    pub(crate) fingerprint: Option<&'a str>,
    /// The header of the PROXY protocol that its connection came with, if that said more than who the client is.
    pub(crate) heard: Option<&'a [u8]>,
    pub(crate) scratch: &'a mut Scratch,
    /// The head, then as much of the body as came with it, then perhaps the next request.
    pub(crate) inbound: &'a mut Buffer,
    /// Length and end of the request; nothing until the head is known to be sound.
    pub(crate) framing: Option<Framing>,
    /// What of the body came with the head.
    pub(crate) first: Decoded,
    /// What of the body was read before its turn, where that was asked for.
    pub(crate) body: Option<Held>,
    /// Whether the client waits to be told to send the body.
    pub(crate) expects_continue: bool,
    /// The protocol that the client asks for instead of HTTP.
    pub(crate) upgrade: Option<Upgrade>,
    /// Whether all of the request was here before a server was asked.
    pub(crate) came_whole: bool,
    /// Holds what followed a body whose last piece came after the head.
    pub(crate) behind: Option<Buffer>,
    /// The authority that rules.
    pub(crate) authority: Span,
    /// Whether rules have changed the target that a server receives.
    pub(crate) is_rewritten: bool,
    /// When the client stops waiting, as far as it said so.
    pub(crate) deadline: Option<Instant>,
    pub(crate) facts: Facts<'a>,
    /// What it has of limits on requests under way; nearly always nothing.
    pub(crate) held: Vec<Hold>,
    /// Its places among all requests and among those of its site, where these are bounded.
    pub(crate) seats: [Option<Seat<'a>>; 2],
    /// The limits of bytes that it is under; nearly always none.
    pub(crate) paces: Vec<Pace<'a>>,
    /// Where servers sent it; nearly always nowhere.
    pub(crate) redirects: Redirects,
    /// What of its answer still waits for the client; nearly always nothing.
    pub(crate) delivery: Option<Delivery<'a>>,
    /// Where copies of it go; nearly always nowhere.
    pub(crate) mirrors: Vec<&'a Mirror>,
    /// What its answer is to caches.
    pub(crate) cached: Cached<'a>,
    /// What its answer is compared with.
    pub(crate) pair: Option<Rc<Pair>>,
}

impl<'a> Exchange<'a> {
    pub(crate) fn new(
        plane: &'a Plane,
        listener: &'a Listener,
        connection: &'a Connection,
        scratch: &'a mut Scratch,
        inbound: &'a mut Buffer,
        started: Instant,
    ) -> Self {
        let (client, timer) = (&connection.socket, &connection.timer);
        let (peer, text) = (connection.peer, connection.peer_text);
        scratch.target.clear();
        scratch.target.is_secure = client.is_secure();
        scratch.fields.clear();
        scratch.copied.clear();
        let facts = connection.begin(plane, started);
        let unix = facts.at.as_secs();
        let origin = Origin::of(peer, text, listener.address.port(), unix);
        Self {
            plane,
            listener,
            door: &connection.door,
            client,
            timer,
            peer,
            origin: Origin {
                scheme: scheme(client),
                ..origin
            },
            certificate: connection.certificate.as_deref(),
            fingerprint: connection.fingerprint.as_deref(),
            heard: connection.heard.as_deref(),
            scratch,
            inbound,
            framing: None,
            first: Decoded::default(),
            body: None,
            expects_continue: false,
            upgrade: None,
            came_whole: false,
            behind: None,
            authority: Span::default(),
            is_rewritten: false,
            deadline: None,
            facts,
            held: Vec::new(),
            seats: [None, None],
            paces: Vec::new(),
            redirects: Redirects::default(),
            delivery: None,
            mirrors: Vec::new(),
            cached: Cached::default(),
            pair: None,
        }
    }

    /// The bytes of the head, and what follows them.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.inbound.filled()
    }

    /// What rules see of the request.
    pub(crate) fn seen(&self) -> Seen<'_> {
        let head = (&self.scratch.head, &self.scratch.target, self.authority);
        Seen::new(head, self.bytes(), &self.origin).shown(self.certificate, self.fingerprint)
    }

    /// What variables stand for, before there is an answer.
    pub(crate) fn values(&self) -> Values<'_> {
        Values {
            seen: self.seen(),
            facts: &self.facts,
            answer: None,
        }
    }

    /// Leaves only what belongs to the next request in `inbound`. The head is gone then.
    pub(crate) fn leave_the_next(&mut self) {
        match self.behind.take() {
            Some(behind) => *self.inbound = behind,
            None => self
                .inbound
                .take(self.scratch.head.len + self.first.consumed),
        }
        self.inbound.compact();
    }

    /// Tells whether the client's connection can go on after an answer that is given now.
    pub(crate) fn reuse(&self) -> Reuse {
        match &self.framing {
            Some(framing) if !self.door.keeps_nobody() => framing.reuse(),
            _ => Reuse::Close,
        }
    }

    /// What limits a wait that ends at `at` by itself: that, or the client's deadline.
    pub(crate) fn soonest(&self, at: Instant) -> Instant {
        self.deadline.map_or(at, |deadline| deadline.min(at))
    }

    /// Tells whether the client has stopped waiting.
    pub(crate) fn is_overdue(&self) -> bool {
        self.deadline
            .is_some_and(|deadline| deadline <= clock::now())
    }

    /// Tells whether the client has sent all of its request.
    pub(crate) fn has_arrived(&self) -> bool {
        self.framing.as_ref().is_some_and(Framing::is_complete)
    }
}
