//! What is open, for people who ask, and for whoever ends it.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use ipnet::IpNet;
use plimsoll_net::clock;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Session, Sessions, State};
use crate::changeover::Planes;
use crate::generation::{Generation, Listener};

/// How many are shown where nothing else is said, and at most.
const SHOWN: usize = 100;
const SHOWN_MAX: usize = 1000;

/// So many are looked at in one turn of a worker.
const TURN: usize = 1024;

/// Which ones are meant: those that are all of this. Nothing is said means all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "SessionQuery")]
pub struct Query {
    /// The one that is called so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Those that came to this address.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub listener: Option<SocketAddr>,
    /// Those of this client, or of this network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// Those that are served by this site or service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub site: Option<String>,
    /// Those that go to this pool.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    /// Those that go to this server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// Those that have come so far: `new`, `idle`, `request`, `server`, `tunnel`, `streams`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// How many at most. Of those to show nothing means 100, and there are never more than 1000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

/// What is wrong with a question.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadQuery {
    /// A client is no address.
    #[error("`{0}` is neither an address nor a network")]
    Client(String),
    /// Nothing says which ones.
    #[error("say which ones: `id`, `listener`, `client`, `site`, `pool`, `server` or `state`")]
    Empty,
}

/// Which ones are meant.
#[derive(Clone, Debug)]
pub struct Which {
    query: Query,
    client: Option<IpNet>,
}

/// What is open.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Sessions")]
pub struct Listed {
    /// The oldest first.
    pub sessions: Vec<SessionView>,
    /// How many there are, those among them that are not shown.
    pub count: usize,
    /// Workers that did not answer in time.
    pub silent_workers: usize,
}

/// Something that is open.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Session")]
pub struct SessionView {
    /// What tells it from all others: the worker, and a number there.
    pub id: String,
    /// The connection that it is a stream of.
    pub on: Option<String>,
    /// Address and port of the client.
    pub client: String,
    /// Where it came to.
    pub listener: String,
    /// What is spoken: `http`, `https`, `h2`, `tcp`, `tls`.
    pub protocol: String,
    /// How far it has come: `new`, `idle`, `request`, `server`, `tunnel`, `streams`.
    pub state: String,
    /// The site or service.
    pub site: Option<String>,
    /// The route, as `file:line`.
    pub route: Option<String>,
    /// The pool.
    pub pool: Option<String>,
    /// The server.
    pub server: Option<String>,
    /// Requests so far.
    pub requests: u64,
    /// Bytes of bodies from the client, or all of them where they are passed on.
    pub bytes_in: u64,
    /// The same to the client.
    pub bytes_out: u64,
    /// How long it has been open, in seconds.
    pub age: f64,
    /// For how long nothing has moved, in seconds; nothing where that is not known, as while a request is under way.
    pub idle: Option<f64>,
}

impl Query {
    /// Which ones it means.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn which(self) -> Result<Which, BadQuery> {
        let network = |text: &String| network(text).ok_or_else(|| BadQuery::Client(text.clone()));
        let client = self.client.as_ref().map(network).transpose()?;
        Ok(Which {
            query: self,
            client,
        })
    }

    /// The same, of what is to be ended: nothing is said is no way to say all of them.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn which_to_close(self) -> Result<Which, BadQuery> {
        let nothing = Self {
            limit: self.limit,
            ..Self::default()
        };
        let is_empty = |text: &Option<String>| text.as_ref().is_some_and(String::is_empty);
        let texts = [&self.id, &self.client, &self.site, &self.pool, &self.server];
        match self == nothing || texts.into_iter().any(is_empty) || is_empty(&self.state) {
            true => Err(BadQuery::Empty),
            false => self.which(),
        }
    }
}

impl Which {
    /// How many are shown.
    pub fn shown(&self) -> usize {
        self.query.limit.unwrap_or(SHOWN).min(SHOWN_MAX)
    }

    /// How many are ended.
    pub fn ended(&self) -> usize {
        self.query.limit.unwrap_or(usize::MAX)
    }

    fn takes(&self, seen: &Seen<'_>, worker: usize) -> bool {
        let query = &self.query;
        let is = |wanted: &Option<String>, found: Option<&str>| {
            wanted.as_ref().is_none_or(|wanted| found == Some(wanted))
        };
        let is_id = |wanted: &String| *wanted == id(worker, seen.session.number());
        let peer = seen.session.peer.get();
        let is_among = |network: &IpNet| peer.is_some_and(|peer| contains(network, peer.ip()));
        is(&query.state, Some(seen.state()))
            && is(&query.site, seen.site)
            && is(&query.pool, seen.pool)
            && is(&query.server, seen.server)
            && (query.listener).is_none_or(|at| at == seen.listener.address)
            && self.client.as_ref().is_none_or(is_among)
            && query.id.as_ref().is_none_or(is_id)
    }
}

impl Listed {
    /// Adds what another worker has open.
    pub fn add(&mut self, other: Self) {
        self.sessions.extend(other.sessions);
        self.count += other.count;
        self.silent_workers += other.silent_workers;
    }

    /// Leaves the `shown` oldest.
    pub fn sort(&mut self, shown: usize) {
        let sessions = &mut self.sessions;
        sessions.sort_by(|one, other| other.age.total_cmp(&one.age));
        sessions.truncate(shown);
    }
}

impl Sessions {
    /// What `which` means of what is open on a worker.
    pub(crate) async fn list(&self, worker: usize, planes: &Planes, which: &Which) -> Listed {
        let mut listed = Listed::default();
        self.each(worker, planes, which, |seen, now| {
            listed.count += 1;
            if listed.sessions.len() < which.shown() {
                listed.sessions.push(seen.view(worker, now));
            }
        })
        .await;
        listed
    }

    /// Ends what `which` means, at most `most`, and the streams that it carries; returns how many there were.
    pub(crate) async fn close(
        &self,
        worker: usize,
        planes: &Planes,
        (which, most): (&Which, usize),
    ) -> usize {
        let mut closed = Vec::new();
        self.each(worker, planes, which, |seen, _| {
            if closed.len() < most && !seen.session.is_closed() {
                closed.push(seen.session.number());
                seen.session.is_closed.set(true);
            }
        })
        .await;
        closed.sort_unstable();
        let all = Which {
            query: Query::default(),
            client: None,
        };
        self.each(worker, planes, &all, |seen, _| {
            if closed.binary_search(&seen.session.on.get()).is_ok() {
                seen.session.is_closed.set(true);
            }
        })
        .await;
        closed.len()
    }

    /// Looks at what `which` means, so many at a time that nobody has to wait for long.
    async fn each(
        &self,
        worker: usize,
        planes: &Planes,
        which: &Which,
        mut visit: impl FnMut(&Seen<'_>, Instant),
    ) {
        let mut place = 0;
        while let Some(some) = self.some(place, TURN) {
            place += some.len();
            planes.with_all(|generations| {
                let now = clock::now();
                for session in some.iter().filter(|session| session.number() > 0) {
                    let door = session.door.borrow();
                    let Some((plane, number)) = door.as_ref().map(|door| door.view()) else {
                        continue;
                    };
                    let Some(listener) = plane.generation.listeners.get(number) else {
                        continue;
                    };
                    let seen = Seen::new(session, listener, generations);
                    if which.takes(&seen, worker) {
                        visit(&seen, now);
                    }
                }
            });
            tokio::task::yield_now().await;
        }
    }
}

/// What is open, with the names of what it leads to.
struct Seen<'a> {
    session: &'a Session,
    listener: &'a Listener,
    site: Option<&'a str>,
    route: Option<&'a str>,
    pool: Option<&'a str>,
    server: Option<&'a str>,
}

impl<'a> Seen<'a> {
    fn new(session: &'a Session, listener: &'a Listener, generations: &[&'a Generation]) -> Self {
        let mut generations = generations.iter();
        let generation = generations.find(|of| of.number == session.generation.get());
        let index = |number: &std::cell::Cell<Option<u32>>| number.get().map(|at| at as usize);
        let site = generation.and_then(|of| of.sites.get(index(&session.site)?));
        let pool = generation.and_then(|of| of.pools.get(index(&session.pool)?));
        let route = site.and_then(|site| site.routes.iter().nth(index(&session.route)?));
        let server = pool.and_then(|pool| pool.servers.get(index(&session.server)?));
        let service = listener.relay.as_ref().map(|relay| &*relay.name);
        Self {
            session,
            listener,
            site: site.map(|site| &*site.name).or(service),
            route: route.map(|route| &*route.place),
            pool: pool.map(|pool| &*pool.name),
            server: server.map(|server| &*server.name),
        }
    }

    fn state(&self) -> &'static str {
        match self.session.state.get() {
            State::New => "new",
            State::Idle => "idle",
            State::Request => "request",
            State::Server => "server",
            State::Tunnel => "tunnel",
            State::Streams => "streams",
        }
    }

    fn protocol(&self) -> &'static str {
        let is_h2 = self.session.on.get() > 0 || self.session.state.get() == State::Streams;
        if is_h2 { "h2" } else { self.listener.kind() }
    }

    fn view(&self, worker: usize, now: Instant) -> SessionView {
        let session = self.session;
        let text = |text: Option<&str>| text.map(str::to_owned);
        let seconds = |since: Instant| {
            let seconds = now.saturating_duration_since(since).as_secs_f64();
            (seconds * 1e3).round() / 1e3
        };
        let (up, down) = session.before.get();
        let is_known = !matches!(
            session.state.get(),
            State::Request | State::Server | State::Streams
        );
        SessionView {
            id: id(worker, session.number()),
            on: (session.on.get() > 0).then(|| id(worker, session.on.get())),
            client: (session.peer.get()).map_or_else(String::new, |peer| peer.to_string()),
            listener: self.listener.address.to_string(),
            protocol: self.protocol().to_owned(),
            state: self.state().to_owned(),
            site: text(self.site),
            route: text(self.route),
            pool: text(self.pool),
            server: text(self.server),
            requests: session.exchanges.get(),
            bytes_in: up + session.up.get(),
            bytes_out: down + session.down.get(),
            age: seconds(session.began.get()),
            idle: is_known.then(|| seconds(session.touched.get())),
        }
    }
}

fn id(worker: usize, number: u64) -> String {
    format!("{worker}-{number}")
}

fn network(text: &str) -> Option<IpNet> {
    let address = || {
        text.parse::<IpAddr>()
            .ok()
            .map(|ip| ip.to_canonical().into())
    };
    text.parse().ok().or_else(address)
}

fn contains(network: &IpNet, ip: IpAddr) -> bool {
    network.contains(&ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_no_way_to_say_all() {
        let with = |change: fn(&mut Query)| {
            let mut query = Query::default();
            change(&mut query);
            query.which_to_close().map(|_| ())
        };
        assert_eq!(with(|_| ()), Err(BadQuery::Empty));
        assert_eq!(with(|query| query.limit = Some(1)), Err(BadQuery::Empty));
        assert_eq!(
            with(|query| {
                query.pool = Some(String::new());
                query.server = Some("a".into());
            }),
            Err(BadQuery::Empty)
        );
        assert_eq!(with(|query| query.state = Some("idle".into())), Ok(()));
        assert_eq!(
            with(|query| query.client = Some("x".into())),
            Err(BadQuery::Client("x".into()))
        );
    }

    #[test]
    fn a_client_is_an_address_or_a_network() {
        for (text, ip, expected) in [
            ("10.0.0.1", "10.0.0.1", true),
            ("10.0.0.1", "10.0.0.2", false),
            ("10.0.0.0/8", "10.9.9.9", true),
            ("10.0.0.0/8", "::ffff:10.9.9.9", true),
            ("2001:db8::/32", "2001:db8::1", true),
            ("2001:db8::/32", "10.0.0.1", false),
        ] {
            let network = network(text).unwrap();
            assert_eq!(
                contains(&network, ip.parse().unwrap()),
                expected,
                "{text} {ip}"
            );
        }
        assert_eq!(network("10.0.0.0/33"), None);
    }

    #[test]
    fn the_oldest_are_shown_first() {
        let of = |age| Listed {
            sessions: vec![SessionView {
                age,
                ..SessionView::default()
            }],
            count: 1,
            silent_workers: 0,
        };
        let mut all = Listed::default();
        for age in [1.0, 3.0, 2.0] {
            all.add(of(age));
        }
        all.sort(2);
        let ages: Vec<_> = all.sessions.iter().map(|session| session.age).collect();
        assert_eq!((ages, all.count), (vec![3.0, 2.0], 3));
    }
}
