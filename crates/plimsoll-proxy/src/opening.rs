//! Which pool a connection goes to, by what its client says first. Nothing of it is taken: the server gets all.

use std::time::Duration;

use plimsoll_access::client_hello::{self, Hello, Malformed, Progress};
use plimsoll_access::opening::{self, Fit};
use plimsoll_config::model::{self, Spoken, TcpRule, TcpService};
use plimsoll_http::reason::Reason;
use plimsoll_net::clock;
use rustls::ServerConnection;

use crate::connection::Connection;
use crate::generation::Hosts;
use crate::http::line::Turned;
use crate::listeners::add_host;
use crate::look::{self, Found, Unseen};
use crate::plane::Plane;

/// The most that is looked at. What a client says first is longer only when it is in tiny records.
const OPENING_BYTES_MAX: usize = 16 * 1024;

/// The rules of a service.
#[derive(Debug)]
pub(crate) struct Rules {
    rules: Vec<Rule>,
    /// The pool of what none of them takes; nothing means that it is refused.
    rest: Option<usize>,
    /// How long a client may take to say what they ask for.
    patience: Duration,
}

/// A rule and the number of its pool.
#[derive(Debug)]
struct Rule {
    asked: Asked,
    pool: usize,
}

/// What a rule asks for: one of these.
#[derive(Debug, Default)]
struct Asked {
    names: Hosts,
    offers: Vec<Box<[u8]>>,
    speeches: Vec<Spoken>,
}

/// Which rule takes a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The one of this number.
    Rule(usize),
    /// None.
    Rest,
    /// That is not known before there are so many bytes.
    Open(usize),
}

/// What a client has said so far.
#[derive(Debug, Default)]
pub(crate) struct Said<'a> {
    bytes: &'a [u8],
    /// Nothing more will come.
    is_all: bool,
    /// Its ClientHello, once it was looked at.
    hello: Option<Offered>,
}

/// How far a ClientHello has come.
#[derive(Debug)]
enum Offered {
    /// It is none.
    Other,
    Partial(usize),
    Whole(Hello),
}

/// What came of listening to a client.
pub(crate) struct Heard {
    /// The number of the pool that its connection goes to.
    pub(crate) pool: Result<usize, Turned>,
    /// Its ClientHello, where a rule asked for that.
    pub(crate) hello: Option<Hello>,
    /// Whether it said what no rule takes.
    pub(crate) is_unmatched: bool,
}

impl Rules {
    pub(crate) fn new(service: &TcpService) -> Self {
        Self {
            rules: service.rules.iter().map(Rule::new).collect(),
            rest: service.pool,
            patience: service.detect,
        }
    }

    /// The pool that all connections go to, where no rule asks for anything.
    pub(crate) fn only(&self) -> Option<usize> {
        self.rest.filter(|_| self.rules.is_empty())
    }

    /// Tells whether nobody need be served before he has said something.
    pub(crate) fn ask_first(&self) -> bool {
        let mut speeches = self.rules.iter().flat_map(|rule| &rule.asked.speeches);
        !self.rules.is_empty() && speeches.all(|spoken| *spoken != Spoken::Mysql)
    }

    /// The first rule that takes what was said.
    pub(crate) fn judge(&self, said: &mut Said<'_>) -> Result<Verdict, Malformed> {
        for (number, rule) in self.rules.iter().enumerate() {
            match rule.asked.fits(said)? {
                Fit::Yes => return Ok(Verdict::Rule(number)),
                Fit::Open(least) if !said.is_all => return Ok(Verdict::Open(least)),
                Fit::Open(_) | Fit::No => {}
            }
        }
        Ok(Verdict::Rest)
    }

    /// The pool of a verdict that is no longer open.
    pub(crate) fn pool(&self, verdict: Verdict) -> Option<usize> {
        match verdict {
            Verdict::Rule(number) => Some(self.rules.get(number)?.pool),
            Verdict::Rest | Verdict::Open(_) => self.rest,
        }
    }

    /// Listens to a client until it is known where its connection goes.
    pub(crate) async fn hear(&self, plane: &Plane, connection: &Connection) -> Heard {
        let mut hello = None;
        let verdict = match connection.socket.is_secure() {
            true => self.judge_agreed(connection),
            false => self.listen(plane, connection, &mut hello).await,
        };
        let pool = verdict.and_then(|verdict| {
            let pool = self.pool(verdict);
            pool.ok_or_else(|| refused("no rule takes what the client says first"))
        });
        let is_refused = |turned: &Turned| turned.reason == Reason::DestinationNotFound;
        Heard {
            is_unmatched: pool.as_ref().is_err_and(is_refused),
            pool,
            hello,
        }
    }

    /// Which rule takes a client with which we have agreed on TLS.
    fn judge_agreed(&self, connection: &Connection) -> Result<Verdict, Turned> {
        let agreed = connection.socket.with_tls_connection(|session| {
            let name = session.and_then(ServerConnection::server_name);
            let protocol = session.and_then(|session| session.alpn_protocol());
            Hello::new(name.map(str::as_bytes), protocol.into_iter())
        });
        let hello = agreed.unwrap_or_else(|| Ok(Hello::default()));
        let verdict = hello.and_then(|hello| self.judge(&mut Said::with_hello(b"", hello)));
        verdict.map_err(|malformed| refused(malformed.text()))
    }

    /// Listens until a rule takes the client, or none does; notes its ClientHello.
    async fn listen(
        &self,
        plane: &Plane,
        connection: &Connection,
        hello: &mut Option<Hello>,
    ) -> Result<Verdict, Turned> {
        let mut is_silent = true;
        let judge = |bytes: &[u8], has_ended| {
            is_silent &= bytes.is_empty();
            let mut said = Said::new(bytes, has_ended && !is_silent);
            let verdict = self.judge(&mut said);
            *hello = said.into_hello();
            match verdict {
                Ok(Verdict::Open(least)) if least > OPENING_BYTES_MAX => {
                    Found::Enough(Err(Malformed::TooLong))
                }
                Ok(Verdict::Open(least)) => Found::TooLittle(least),
                known => Found::Enough(known),
            }
        };
        let limits = (clock::now() + self.patience, OPENING_BYTES_MAX);
        let verdict = match look::look(plane, connection, limits, judge).await {
            Ok(verdict) => verdict,
            // Whoever says nothing waits to hear something.
            Err(Unseen::Late) if is_silent => self.judge(&mut Said::new(b"", true)),
            Err(unseen) => return Err(unseen.into()),
        };
        verdict.map_err(|malformed| refused(malformed.text()))
    }
}

fn refused(detail: &'static str) -> Turned {
    Turned {
        reason: Reason::DestinationNotFound,
        detail,
    }
}

impl From<Unseen> for Turned {
    fn from(unseen: Unseen) -> Self {
        let (reason, detail) = match unseen {
            Unseen::Late => (
                Reason::ClientTimeout,
                "the client did not say in time what it wants",
            ),
            Unseen::Ended => (
                Reason::ClientAborted,
                "the client ended before it said anything",
            ),
            Unseen::Broken(_) => (
                Reason::ClientAborted,
                "the client broke off before it was known what it wants",
            ),
        };
        Self { reason, detail }
    }
}

impl Rule {
    fn new(rule: &TcpRule) -> Self {
        let mut asked = Asked::default();
        for opening in &rule.openings {
            match opening {
                model::Opening::Name(host) => add_host(&mut asked.names, host, 0),
                model::Opening::Offer(protocol) => asked.offers.push(protocol.as_bytes().into()),
                model::Opening::Speech(spoken) => asked.speeches.push(*spoken),
            }
        }
        Self {
            asked,
            pool: rule.pool,
        }
    }
}

impl Asked {
    fn fits(&self, said: &mut Said<'_>) -> Result<Fit, Malformed> {
        if self.speeches.is_empty() {
            return said.hello().map(|hello| match hello {
                Offered::Other => Fit::No,
                Offered::Partial(least) => Fit::Open(*least),
                Offered::Whole(hello) if self.are_in(hello) => Fit::Yes,
                Offered::Whole(_) => Fit::No,
            });
        }
        let fits = self.speeches.iter().map(|spoken| said.speaks(*spoken));
        Ok(fits.reduce(Fit::or).unwrap_or(Fit::No))
    }

    /// Tells whether a client asks for one of the names, or offers one of the protocols.
    fn are_in(&self, hello: &Hello) -> bool {
        let name = hello.name.as_ref();
        let is_named = name.is_some_and(|name| self.names.find(name.as_bytes()).is_some());
        is_named || self.offers.iter().any(|protocol| hello.offers(protocol))
    }
}

impl<'a> Said<'a> {
    pub(crate) fn new(bytes: &'a [u8], is_all: bool) -> Self {
        Self {
            bytes,
            is_all,
            hello: None,
        }
    }

    /// What a client has said that has come as far as this ClientHello.
    pub(crate) fn with_hello(bytes: &'a [u8], hello: Hello) -> Self {
        Self {
            hello: Some(Offered::Whole(hello)),
            ..Self::new(bytes, true)
        }
    }

    /// Whether it is a protocol.
    fn speaks(&self, spoken: Spoken) -> Fit {
        match spoken {
            Spoken::Http => opening::http(self.bytes),
            Spoken::Tls => opening::tls(self.bytes),
            Spoken::Ssh => opening::ssh(self.bytes),
            Spoken::Postgres => opening::postgres(self.bytes),
            Spoken::Redis => opening::redis(self.bytes),
            Spoken::Mysql if self.bytes.is_empty() && self.is_all => Fit::Yes,
            Spoken::Mysql => opening::silence(self.bytes),
        }
    }

    /// Its ClientHello, which is looked at once for all rules.
    fn hello(&mut self) -> Result<&Offered, Malformed> {
        let offered = match self.hello.take() {
            Some(known) => known,
            None => Offered::read(self.bytes, self.is_all)?,
        };
        Ok(self.hello.insert(offered))
    }

    fn into_hello(self) -> Option<Hello> {
        match self.hello {
            Some(Offered::Whole(hello)) => Some(hello),
            _ => None,
        }
    }
}

impl Offered {
    fn read(bytes: &[u8], is_all: bool) -> Result<Self, Malformed> {
        match opening::tls(bytes) {
            Fit::No => return Ok(Self::Other),
            Fit::Open(least) => return Ok(Self::Partial(least)),
            Fit::Yes => {}
        }
        match client_hello::progress(bytes)? {
            Progress::Partial(_) if is_all => Err(Malformed::Truncated),
            Progress::Partial(least) => Ok(Self::Partial(least)),
            Progress::Whole(body) => Hello::read(&body).map(Self::Whole),
        }
    }
}
