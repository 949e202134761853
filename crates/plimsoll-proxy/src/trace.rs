//! What would become of a request, and why: the same rules that serve requests, asked one by one.

mod cache;
mod connection;

use std::net::SocketAddr;
use std::time::Duration;

use plimsoll_balance::{Eligibility, Server, ServerIndex, Tried, eligibility};
use plimsoll_config::model::{self, Config, Place};
use plimsoll_config::text;
use plimsoll_http::h1::parse::{self, Parsed};
use plimsoll_http::head::RequestHead;
use plimsoll_http::host::Authority;
use plimsoll_http::request::{self, Rejection};
use plimsoll_http::rewrite::Rewritten;
use plimsoll_http::target::Target;
use plimsoll_net::clock;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use crate::trace::cache::Kept;

use crate::condition::{Body, Verdict};
use crate::generation::{Action, Generation, Listener, Miss, Pool, Route, Site};
use crate::http::access;
use crate::http::exchange::Facts;
use crate::seen::{Origin, Seen, Values};
use crate::sessions::Session;
use crate::steps::{Step, TargetStep};

/// A request to be explained.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Question {
    /// Its head, as it would be sent.
    pub head: Vec<u8>,
    /// Its body, decoded.
    pub body: Vec<u8>,
    /// Who sends it.
    pub client: SocketAddr,
    /// The port that it comes on.
    pub port: u16,
    /// `http`, `https`, or `udp` for a datagram; or, of a connection that is relayed, what its client speaks: `tls`, `ssh`,
    /// `postgres`, `mysql` or `redis`.
    pub scheme: String,
    /// The name that a client that comes with TLS asks for.
    #[serde(default)]
    pub name: String,
    /// The protocols that it offers there.
    #[serde(default)]
    pub offers: Vec<String>,
    /// When it comes, in seconds since 1970.
    pub unix: u64,
}

/// What would become of a request.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Trace {
    /// The address that it comes to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listener: Option<String>,
    /// The path in canonical form, with the query.
    pub target: String,
    /// The site that answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub site: Option<Line>,
    /// The routes of the site, up to the one that takes it.
    pub routes: Vec<Line>,
    /// What is done with it before the action, in order.
    pub steps: Vec<Line>,
    /// The path that a server receives, with the query.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sent: Option<String>,
    /// The cache that it comes to first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<Kept>,
    /// How it ends: the action, or the refusal.
    pub outcome: Outcome,
    /// The pool that it goes to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool: Option<Choice>,
}

impl Trace {
    fn of(outcome: Outcome) -> Self {
        Self {
            listener: None,
            target: String::new(),
            site: None,
            routes: Vec::new(),
            steps: Vec::new(),
            sent: None,
            cache: None,
            outcome,
            pool: None,
        }
    }
}

impl Trace {
    /// Notes that all of what comes goes to a pool, whatever it is.
    fn go_to(&mut self, generation: &Generation, pool: usize, outcome: fn(String) -> Outcome) {
        self.pool = choice(generation, pool);
        let name = self.pool.as_ref().map(|pool| pool.name.clone());
        self.outcome = outcome(name.unwrap_or_default());
    }
}

/// A rule that was asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Line {
    /// `file:line`.
    pub place: String,
    /// What stands there.
    pub text: String,
    /// What came of it.
    pub verdict: String,
    /// Whether it is the one that decides.
    pub is_taken: bool,
}

/// How a request ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It is answered here with this status; why, or what.
    Answered(u16, String),
    /// It goes to the pool of this name.
    Pool(String),
    /// Its connection goes to the pool of this name, and nobody looks at what comes on it.
    Relayed(String),
    /// Its flow goes to the pool of this name.
    Flow(String),
    /// Its connection is closed; why.
    Refused(String),
    /// It goes to one of these pools, in these shares.
    Shares(Vec<(u32, String)>),
    /// It is answered with a file below this directory.
    Files(String),
    /// It goes where the client is sent: status and `Location`.
    Redirected(u16, String),
}

/// The servers of a pool, as the balancer sees them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Choice {
    /// The pool's name.
    pub name: String,
    /// How one of the servers is picked.
    pub balance: String,
    /// Its servers.
    pub servers: Vec<Candidate>,
}

/// A server, as the balancer sees it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Candidate {
    /// Host and port, as written.
    pub name: String,
    /// Whether it may be picked, or why not: `eligible`, `down`, `full`.
    pub eligible: String,
    /// Its standing: `ready`, `down`, `ejected` and so on.
    pub standing: String,
    /// Its weight.
    pub weight: u32,
    /// How much of its weight it takes now, in percent.
    pub share: u8,
    /// Servers of a higher tier come only when none of a lower one may be picked.
    pub tier: u8,
    /// Requests that it has now.
    pub in_flight: u32,
}

/// Explains what a generation does with a request.
pub fn explain(generation: &Generation, question: &Question) -> Trace {
    let mut trace = Trace::of(Outcome::Answered(404, "nothing is listened on".into()));
    let (mut head, mut target) = (RequestHead::default(), Target::default());
    if question.scheme == "udp" {
        if let Some(port) = at_port(&generation.ports, question, |port| port.address) {
            trace.listener = Some(format!("{}/udp", port.address));
            trace.go_to(generation, port.service.pool, Outcome::Flow);
        }
        return trace;
    }
    let Some(listener) = at_port(&generation.listeners, question, |at| at.address) else {
        return trace;
    };
    trace.listener = Some(listener.address.to_string());
    if let Some(relay) = &listener.relay {
        connection::explain(generation, (listener, relay), question, &mut trace);
        return trace;
    }
    if connection::SCHEMES.contains(&question.scheme.as_str()) {
        let why = "requests are served here: ask with http or https";
        trace.outcome = Outcome::Refused(why.to_owned());
        return trace;
    }
    let parsed = parse::request(&question.head, &listener.limits, &mut head);
    let sound = match parsed {
        Ok(Parsed::Complete) => request::check(&head, &question.head, &mut target),
        Ok(Parsed::Partial) => Err(Rejection::from(parse::BadHead::StartLine)),
        Err(fault) => Err(fault.into()),
    };
    let sound = match sound {
        Ok(sound) => sound,
        Err(rejection) => {
            trace.outcome = Outcome::Answered(rejection.status, rejection.detail.to_owned());
            return trace;
        }
    };
    let mut origin = Origin::new(question.client, question.port, question.unix);
    origin.scheme = if question.scheme == "https" {
        "https"
    } else {
        "http"
    };
    let seen = Seen::new((&head, &target, sound.authority), &question.head, &origin);
    trace.target = uri(seen.path(), seen.query());
    let Some(site) = site(generation, listener, &seen) else {
        trace.outcome = Outcome::Answered(404, "no site for this host".into());
        return trace;
    };
    explain_at(
        generation,
        site,
        seen,
        Body::Whole(&question.body),
        &mut trace,
    );
    trace
}

/// Explains what a site does with a request.
fn explain_at(
    generation: &Generation,
    site: &Site,
    seen: Seen<'_>,
    body: Body<'_>,
    trace: &mut Trace,
) {
    let config = &*generation.config;
    let Some(written) = config.sites.get(site.index) else {
        return;
    };
    trace.site = Some(site_line(written, &seen));
    let explainer = Explainer {
        generation,
        config,
        seen,
        body,
    };
    explainer.explain_site(site, written, trace);
}

/// Lines that are told to a client that may know.
const TOLD_MAX: usize = 64;

/// Appends what a site does with a request as fields of its answer.
pub(crate) fn tell(
    generation: &Generation,
    site: &Site,
    seen: Seen<'_>,
    body: Body<'_>,
    out: &mut Vec<u8>,
) {
    let mut trace = Trace::of(Outcome::Answered(404, String::new()));
    explain_at(generation, site, seen, body, &mut trace);
    let rules = trace.site.iter().chain(&trace.routes).chain(&trace.steps);
    let rules = rules.map(|line| format!("{} {}: {}", line.place, line.text, line.verdict));
    let servers = trace.pool.iter().flat_map(|pool| &pool.servers);
    let servers = servers.map(|server| {
        let Candidate { name, eligible, standing, weight, share, in_flight, .. } = server;
        format!("server {name}: {eligible}, {standing}, weight {weight} at {share} %, {in_flight} in flight")
    });
    for text in rules.chain(servers).take(TOLD_MAX) {
        told(&text, out);
    }
}

/// Appends one line of a trace.
pub(crate) fn told(text: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"X-Plimsoll-Trace: ");
    let plain = text
        .bytes()
        .map(|b| if (b' '..=b'~').contains(&b) { b } else { b'?' });
    out.extend(plain);
    out.extend_from_slice(b"\r\n");
}

/// What a request is explained with.
struct Explainer<'a> {
    generation: &'a Generation,
    config: &'a Config,
    seen: Seen<'a>,
    body: Body<'a>,
}

impl Explainer<'_> {
    fn explain_site(&self, site: &Site, written: &model::Site, trace: &mut Trace) {
        let mut routes = site.routes.iter().zip(&written.routes);
        let taken = routes.find(|(route, written)| {
            let verdict = self.refusal(route, written);
            trace.routes.push(Line {
                place: place(&written.place),
                text: text::route(written),
                is_taken: verdict.is_none(),
                verdict: verdict.unwrap_or_else(|| "takes it".into()),
            });
            trace.routes.last().is_some_and(|line| line.is_taken)
        });
        let Some((route, of_route)) = taken else {
            trace.outcome = Outcome::Answered(404, "no route for this path".into());
            return;
        };
        let session = Session::new(clock::now());
        let at = Duration::from_secs(self.seen.origin.unix);
        let facts = Facts::of_route(site, route, at, &session);
        let values = Values {
            seen: self.seen,
            facts: &facts,
            answer: None,
        };
        let mut rewritten = Rewritten::default();
        rewritten.begin(self.seen.path(), self.seen.query());
        let mut compiled = site.steps.iter().chain(&route.steps);
        let steps = written.steps.iter().zip(&written.step_places);
        let steps = steps.chain(of_route.steps.iter().zip(&of_route.step_places));
        // Of the rules for addresses in a block, the first that the client fits decides.
        let mut let_in_until = 0;
        let of_site = written.steps.len();
        for (number, (step, at)) in steps.enumerate() {
            // Edits of fields are folded apart, and have no compiled step of their own.
            let in_turn = Step::is_for(step).then(|| compiled.next()).flatten();
            let verdict = match in_turn {
                None => Ok(edit_verdict(step)),
                Some(Step::Access(_)) if number < let_in_until => {
                    Ok("not asked: the client is let in above".into())
                }
                Some(step) => self.step(step, &values, &mut rewritten),
            };
            if let Some(Step::Access(rule)) = in_turn
                && access::judge(rule, &values.seen) == Some(true)
            {
                let_in_until = if number < of_site {
                    of_site
                } else {
                    usize::MAX
                };
            }
            let is_end = verdict.is_err();
            trace.steps.push(Line {
                place: place(at),
                text: text::step(self.config, step),
                is_taken: is_end,
                verdict: verdict.clone().unwrap_or_else(|outcome| outcome.1),
            });
            if let Err((status, why)) = verdict {
                trace.outcome = Outcome::Answered(status, why);
                return;
            }
        }
        trace.cache = route.caching.as_ref().map(|caching| {
            let has_body = !matches!(self.body, Body::Whole(&[]));
            cache::explain(caching, &self.seen, has_body)
        });
        self.explain_action(route, &values, trace);
        let sent = uri(rewritten.path(), rewritten.query());
        let is_sent = matches!(trace.outcome, Outcome::Pool(_) | Outcome::Shares(_));
        trace.sent = is_sent.then_some(sent);
    }

    /// Carries a step out, as far as it says what becomes of the request.
    fn step(
        &self,
        step: &Step,
        values: &Values<'_>,
        rewritten: &mut Rewritten,
    ) -> Result<String, (u16, String)> {
        match step {
            Step::Limit(_) => Ok("counted".into()),
            Step::Access(rule) => match access::judge(rule, &values.seen) {
                Some(true) => Ok("lets the client in".into()),
                Some(false) => Err((403, "refuses the client".into())),
                None => Ok("not this client".into()),
            },
            Step::Maintenance(rule) => match access::is_closed(rule, &values.seen) {
                true => Err((503, "closed for maintenance".into())),
                false => Ok("not now, or not for this client".into()),
            },
            Step::Password(_) | Step::Token(_) | Step::Key(_) | Step::Signature(_) => {
                Ok("asks for what the trace does not know; taken for granted".into())
            }
            Step::Forward(_) => Ok("asks a server; taken for granted".into()),
            Step::Mirror(mirror) => {
                let pool = self.generation.pools.get(mirror.pool);
                let name = pool.map(|pool| pool.name.to_string()).unwrap_or_default();
                Ok(format!(
                    "{} % of requests go to `{name}` as well",
                    mirror.percent
                ))
            }
            Step::Fault(fault) => Ok(format!("{} % of requests fail on purpose", fault.percent)),
            Step::Cors(_) => Ok("answers browsers that ask first".into()),
            Step::Target(change) => {
                change_target(change, values, rewritten).map_err(|why| (400, why))?;
                let sent = uri(rewritten.path(), rewritten.query());
                Ok(format!("the server receives {sent}"))
            }
        }
    }

    /// Why a route does not take the request; nothing when it does.
    fn refusal(&self, route: &Route, written: &model::Route) -> Option<String> {
        let seen = &self.seen;
        if let Some(miss) = route.misses(seen) {
            return Some(match miss {
                Miss::Internal => "only servers send requests here".into(),
                Miss::Path => "not this path".into(),
                Miss::Method => {
                    let method = seen.head.method_span.of(seen.bytes);
                    format!("not for {}", String::from_utf8_lossy(method))
                }
            });
        }
        let conditions = route.conditions.iter().zip(&written.conditions);
        for (condition, written) in conditions {
            let holds = condition.holds(seen)
                && condition.judge_body(seen, self.body, route.buffer.memory) == Verdict::Takes;
            if !holds {
                return Some(format!("{} does not hold", written.text));
            }
        }
        None
    }

    fn explain_action(&self, route: &Route, values: &Values<'_>, trace: &mut Trace) {
        let name = |pool: usize| {
            let pool = self.generation.pools.get(pool);
            pool.map(|pool| pool.name.to_string()).unwrap_or_default()
        };
        let mut out = Vec::new();
        trace.outcome = match &route.action {
            Action::Proxy(pool) => {
                trace.pool = choice(self.generation, *pool);
                Outcome::Pool(name(*pool))
            }
            Action::Split(split) => {
                let mut begin = 0;
                let share = |(end, pool): &(u64, usize)| {
                    let share = end - std::mem::replace(&mut begin, *end);
                    (u32::try_from(share).unwrap_or(u32::MAX), name(*pool))
                };
                Outcome::Shares(split.ends.iter().map(share).collect())
            }
            Action::Respond { status, body } => {
                body.write(values, &mut out);
                Outcome::Answered(*status, String::from_utf8_lossy(&out).into_owned())
            }
            Action::Files(files) => Outcome::Files(files.directory.display().to_string()),
            Action::Redirect { status, to } => {
                to.write(values, &mut out);
                let mut location = Vec::new();
                match plimsoll_http::rewrite::location(&out, &mut location) {
                    Ok(()) => {
                        let location = String::from_utf8_lossy(&location).into_owned();
                        Outcome::Redirected(*status, location)
                    }
                    Err(_) => Outcome::Answered(400, "a redirect to no host".to_owned()),
                }
            }
        };
    }
}

fn choice(generation: &Generation, pool: usize) -> Option<Choice> {
    let written = generation.config.pools.get(pool)?;
    let pool = generation.pools.get(pool)?;
    Some(Choice {
        name: pool.name.to_string(),
        balance: text::balance(&written.balance),
        servers: candidates(pool, written),
    })
}

fn candidates(pool: &Pool, written: &model::Pool) -> Vec<Candidate> {
    let tried = Tried::new();
    let servers = pool.balancer.servers().iter();
    let servers = servers
        .zip((0..).map(ServerIndex::new))
        .zip(&written.servers);
    let candidate = |((server, index), written): ((&Server, _), &model::Server)| Candidate {
        name: server.name().to_string(),
        eligible: match eligibility(index, server, &tried) {
            Eligibility::Eligible => "eligible".into(),
            Eligibility::Down => "down".into(),
            Eligibility::Full => "full".into(),
            Eligibility::Tried => "tried".into(),
        },
        standing: server.standing().word().into(),
        weight: server.weight(),
        share: server.share_percent(),
        tier: written.tier,
        in_flight: server.in_flight(),
    };
    servers.map(candidate).collect()
}

/// What listens on a port. Where nothing has it, ports are mapped somewhere, and the first one is meant.
fn at_port<'a, T>(
    all: &'a [T],
    question: &Question,
    address: impl Fn(&T) -> SocketAddr,
) -> Option<&'a T> {
    let has_port = |at: &&T| address(at).port() == question.port;
    all.iter().find(has_port).or_else(|| all.first())
}

fn site<'a>(generation: &'a Generation, listener: &Listener, seen: &Seen<'_>) -> Option<&'a Site> {
    generation.sites.get(listener.site(seen.host())?)
}

fn site_line(site: &model::Site, seen: &Seen<'_>) -> Line {
    let hosts: Vec<String> = site.hosts.iter().map(text::host).collect();
    let authority = Authority::parse(seen.authority);
    let host = authority.map(|a| a.host).unwrap_or_default();
    Line {
        place: place(&site.place),
        text: format!("site {}", hosts.join(" ")),
        verdict: format!("answers for {}", String::from_utf8_lossy(host)),
        is_taken: true,
    }
}

fn edit_verdict(step: &model::Step) -> String {
    match step {
        model::Step::RequestHeader(_) => "on the way to the server".into(),
        _ => "on the way to the client".into(),
    }
}

fn change_target(
    change: &TargetStep,
    values: &Values<'_>,
    rewritten: &mut Rewritten,
) -> Result<(), String> {
    change
        .apply(rewritten, |value, out| value.write(values, out))
        .map_err(|fault| format!("the rewritten path has no canonical form: {fault}"))
}

fn place(place: &Place) -> String {
    format!("{}:{}", place.file, place.line)
}

fn uri(path: &[u8], query: Option<&[u8]>) -> String {
    let mut out = String::from_utf8_lossy(path).into_owned();
    if let Some(query) = query {
        out.push('?');
        out.push_str(&String::from_utf8_lossy(query));
    }
    out
}
