//! The life of a request, in order. Each step is a call; each early end is an answer.

use std::sync::Arc;

use plimsoll_config::model::{Buffer, Monitor};
use plimsoll_http::framing::Length;
use plimsoll_http::reason::Reason;
use plimsoll_http::request::{self, Rejection};
use rustls::ServerConnection;

use crate::generation::{Action, Route, Site};
use crate::http::attempt;
use crate::http::exchange::{Ending, Exchange};
use crate::http::failure::Failure;
use crate::http::finish::finish;
use crate::http::hold::hold;
use crate::http::internal::{self, Elsewhere};
use crate::http::limit::{self, Above};
use crate::http::respond::{Answer, Said, respond};
use crate::http::{access, fault, files, forward_auth, key, lookup, mirror, rewrite, trust};
use crate::routes::Found;
use crate::steps::Step;
use crate::template::Template;
use crate::trace;

/// Serves the request whose head has been read; tells how the connection goes on.
pub(crate) async fn walk(exchange: &mut Exchange<'_>) -> Ending {
    let ending = match admit(exchange).await {
        Ok(action) => act(exchange, action).await,
        Err(stop) => end(exchange, stop).await,
    };
    let ending = internal::leave(exchange, ending);
    finish(exchange);
    ending
}

/// Ends an exchange that goes no further.
async fn end(exchange: &mut Exchange<'_>, stop: Stop<'_>) -> Ending {
    match stop {
        Stop::Answer(answer) => respond(exchange, answer).await,
        Stop::Told(text) => respond(exchange, Answer::with(text.as_bytes())).await,
        Stop::Reset => {
            let reason = Reason::ProxyInternalResponse;
            exchange.facts.blame(reason, "reset on purpose");
            Ending::Reset
        }
        Stop::Failed(failure) => attempt::give_up(exchange, failure).await,
        Stop::Above(above) => limit::refuse(exchange, above).await,
    }
}

/// Does what the route says, and what routes say that servers send the request to.
async fn act<'a>(exchange: &mut Exchange<'a>, mut action: &'a Action) -> Ending {
    loop {
        let pool = match action {
            Action::Proxy(pool) => Some(*pool),
            Action::Split(split) => {
                let point = match &split.sticky {
                    Some(key) => key::hash_of(exchange, key, 0),
                    None => exchange.plane.worker.random(),
                };
                split.pool(point)
            }
            Action::Respond { status, body } => return respond_text(exchange, *status, body).await,
            Action::Redirect { status, to } => return redirect(exchange, *status, to).await,
            Action::Files(files) => return files::serve(exchange, files).await,
        };
        let elsewhere = match proxy(exchange, pool).await {
            Ok(ending) => return ending,
            Err(elsewhere) => elsewhere,
        };
        action = match go_on(exchange, elsewhere).await {
            Ok(action) => action,
            Err(stop) => return end(exchange, stop).await,
        };
    }
}

/// Finds what is to be done with a request that a server has sent elsewhere.
async fn go_on<'a>(
    exchange: &mut Exchange<'a>,
    elsewhere: Elsewhere,
) -> Result<&'a Action, Stop<'a>> {
    internal::enter(exchange, elsewhere)?;
    let nowhere = || {
        Answer::to(
            Reason::DestinationNotFound,
            "no internal route for this path",
        )
    };
    let site = exchange.facts.site.ok_or_else(nowhere)?;
    let route = match site.routes.find(&exchange.seen(), exchange.body_seen()) {
        Found::Route(route) => route,
        Found::Depends(_) | Found::Nothing => return Err(nowhere().into()),
    };
    exchange.facts.take(route);
    carry_out(exchange, &route.steps).await?;
    Ok(&route.action)
}

/// Ends an exchange whose head never became a request.
pub(crate) async fn refuse(exchange: &mut Exchange<'_>, rejection: Rejection) -> Ending {
    exchange.facts.enter(default_site(exchange));
    let ending = respond(exchange, rejected(rejection)).await;
    finish(exchange);
    ending
}

/// What a client is told when there is too little memory or time for its request.
pub(crate) const OVERLOADED: Rejection = Rejection {
    status: 503,
    reason: Reason::ProxyInternalError,
    detail: "overloaded",
};

/// Why a request goes no further.
enum Stop<'a> {
    /// It is answered.
    Answer(Answer<'static>),
    /// An issuer of certificates is told what it wants to know.
    Told(Arc<str>),
    /// It is above a limit.
    Above(Above<'a>),
    /// Its client failed it.
    Failed(Failure),
    /// Its connection is reset, on purpose.
    Reset,
}

impl From<Answer<'static>> for Stop<'_> {
    fn from(answer: Answer<'static>) -> Self {
        Self::Answer(answer)
    }
}

impl From<fault::Failed> for Stop<'_> {
    fn from(failed: fault::Failed) -> Self {
        match failed {
            fault::Failed::Answer(answer) => Self::Answer(answer),
            fault::Failed::Left(failure) => Self::Failed(failure),
            fault::Failed::Reset => Self::Reset,
        }
    }
}

impl From<Failure> for Stop<'_> {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl<'a> From<Above<'a>> for Stop<'a> {
    fn from(above: Above<'a>) -> Self {
        Self::Above(above)
    }
}

/// Checks the request and finds what is to be done with it.
async fn admit<'a>(exchange: &mut Exchange<'a>) -> Result<&'a Action, Stop<'a>> {
    let site = find_site(exchange)?;
    if let Some(monitor) = &site.monitor {
        monitored(exchange, monitor)?;
    }
    let found = find_route(exchange, site).await;
    if trust::may_trace(exchange) {
        tell(exchange, site);
    }
    let route = found?;
    if exchange.plane.refuses(route.priority) {
        return Err(Stop::Answer(rejected(OVERLOADED)));
    }
    take_seats(exchange)?;
    for steps in [&site.steps, &route.steps] {
        if !steps.is_empty() {
            carry_out(exchange, steps).await?;
        }
    }
    if route.buffer.memory > 0 {
        hold(exchange, route.buffer).await?;
    }
    Ok(&route.action)
}

/// Tells a client that may know what is done with its request, and why.
fn tell(exchange: &mut Exchange<'_>, site: &Site) {
    let mut fields = std::mem::take(&mut exchange.scratch.fields);
    let generation = &exchange.plane.generation;
    let (seen, body) = (exchange.seen(), exchange.body_seen());
    trace::tell(generation, site, seen, body, &mut fields);
    exchange.scratch.fields = fields;
    exchange.facts.is_traced = true;
}

/// Tells an outer balancer whether to come here, if that is what is asked.
fn monitored(exchange: &mut Exchange<'_>, monitor: &Monitor) -> Result<(), Answer<'static>> {
    if exchange.seen().path() != monitor.path.as_bytes() {
        return Ok(());
    }
    exchange.facts.is_quiet = true;
    let plane = exchange.plane;
    let pools = monitor.pools.iter();
    let mut pools = pools.filter_map(|pool| plane.generation.pools.get(*pool));
    let is_well = !plane.station.draining.get() && pools.all(|pool| pool.balancer.has_eligible());
    Err(Answer {
        status: if is_well { 200 } else { 503 },
        said: Said::Text(if is_well { b"ok\n" } else { b"not ok\n" }),
        ..Answer::to(Reason::ProxyInternalResponse, "")
    })
}

/// Does what the site or the route says, in written order.
async fn carry_out<'a>(exchange: &mut Exchange<'a>, steps: &'a [Step]) -> Result<(), Stop<'a>> {
    // Of the rules for addresses, the first that a client fits decides.
    let mut is_let_in = false;
    for step in steps {
        match step {
            Step::Limit(limiter) => limit::count(exchange, limiter)?,
            Step::Target(change) => rewrite::change(exchange, change)?,
            Step::Access(_) if is_let_in => {}
            Step::Access(rule) => match access::judge(rule, &exchange.seen()) {
                Some(false) => return Err(access::deny(exchange, rule).into()),
                verdict => is_let_in = verdict.is_some(),
            },
            Step::Maintenance(rule) => {
                if access::is_closed(rule, &exchange.seen()) {
                    return Err(access::closed(rule).into());
                }
            }
            Step::Password(rule) => access::password(exchange, rule).await?,
            Step::Token(rule) => access::token(exchange, rule)?,
            Step::Key(rule) => access::key(exchange, rule)?,
            Step::Signature(rule) => access::signature(exchange, rule)?,
            Step::Forward(rule) => forward_auth::ask(exchange, rule).await?,
            Step::Cors(rule) => access::cors(exchange, rule)?,
            Step::Mirror(mirror) => mirror::note(exchange, mirror),
            Step::Fault(rule) => fault::inject(exchange, rule).await?,
        }
    }
    Ok(())
}

/// Has a server of the pool with this number answer.
///
/// # Errors
/// The server answered that the request goes on elsewhere.
async fn proxy(exchange: &mut Exchange<'_>, pool: Option<usize>) -> Result<Ending, Elsewhere> {
    match pool.and_then(|pool| exchange.plane.generation.pools.get(pool)) {
        Some(_) if trust::comes_round(exchange) => {
            Ok(respond(exchange, Answer::to(Reason::ProxyLoopDetected, "")).await)
        }
        Some(pool) => {
            if !exchange.mirrors.is_empty() {
                mirror::send(exchange);
            }
            let caching = exchange
                .facts
                .route
                .and_then(|route| route.caching.as_ref());
            exchange.cached.outdated = lookup::outdated(exchange);
            match caching {
                Some(caching) => lookup::answer(exchange, pool, caching).await,
                None => attempt::with_retries(exchange, pool).await,
            }
        }
        None => Ok(respond(exchange, Answer::to(Reason::ProxyInternalError, "")).await),
    }
}

/// Answers with a text.
async fn respond_text(exchange: &mut Exchange<'_>, status: u16, body: &Template) -> Ending {
    let mut text = std::mem::take(&mut exchange.scratch.text);
    text.clear();
    body.write(&exchange.values(), &mut text);
    let answer = Answer {
        status,
        said: Said::Text(&text),
        ..Answer::to(Reason::ProxyInternalResponse, "")
    };
    let ending = respond(exchange, answer).await;
    exchange.scratch.text = text;
    ending
}

/// Sends the client elsewhere.
async fn redirect(exchange: &mut Exchange<'_>, status: u16, to: &Template) -> Ending {
    let mut text = std::mem::take(&mut exchange.scratch.text);
    text.clear();
    to.write(&exchange.values(), &mut text);
    let ending = send_to(exchange, status, &text).await;
    exchange.scratch.text = text;
    ending
}

/// Sends the client to this place.
pub(crate) async fn send_to(exchange: &mut Exchange<'_>, status: u16, to: &[u8]) -> Ending {
    let fields = &mut exchange.scratch.fields;
    let start = fields.len();
    fields.extend_from_slice(b"Location: ");
    let answer = match rewrite::location(to, fields) {
        Ok(()) => {
            fields.extend_from_slice(b"\r\n");
            Answer {
                status,
                said: Said::Text(b""),
                ..Answer::to(Reason::ProxyInternalResponse, "")
            }
        }
        Err(_) => {
            fields.truncate(start);
            Answer {
                status: 400,
                ..Answer::to(Reason::HttpRequestError, "a redirect to no host")
            }
        }
    };
    respond(exchange, answer).await
}

/// Counts the request among those under way, where there may be only so many.
fn take_seats(exchange: &mut Exchange<'_>) -> Result<(), Answer<'static>> {
    let site = exchange.facts.site.and_then(|site| site.ceiling.as_ref());
    let ceilings = [exchange.plane.generation.ceiling.as_ref(), site];
    for (seat, ceiling) in exchange.seats.iter_mut().zip(ceilings) {
        let Some(ceiling) = ceiling else { continue };
        *seat = ceiling.enter();
        if seat.is_none() {
            let detail = "too many requests are under way";
            return Err(Answer::to(Reason::ConnectionLimitReached, detail));
        }
    }
    Ok(())
}

/// Checks that a connection may carry a request for this site.
fn check_connection(exchange: &Exchange<'_>, site: &Site) -> Result<(), Answer<'static>> {
    if is_misdirected(exchange, site) {
        let detail = "the connection is for another site";
        let answer = Answer {
            status: 421,
            ..Answer::to(Reason::DestinationNotFound, detail)
        };
        return Err(answer);
    }
    if exchange
        .certificate
        .is_some_and(|shown| shown.not_after < exchange.origin.unix)
    {
        let detail = "the client's certificate has expired";
        let answer = Answer {
            status: 403,
            ..Answer::to(Reason::HttpRequestDenied, detail)
        };
        return Err(answer);
    }
    Ok(())
}

/// Checks the request and finds its site.
fn find_site<'a>(exchange: &mut Exchange<'a>) -> Result<&'a Site, Stop<'a>> {
    exchange.facts.has_head = true;
    let scratch = &mut *exchange.scratch;
    let sound = request::check(
        &scratch.head,
        exchange.inbound.filled(),
        &mut scratch.target,
    );
    let sound = sound.map_err(|rejection| {
        exchange.facts.enter(default_site(exchange));
        rejected(rejection)
    })?;
    exchange.authority = sound.authority;
    exchange.expects_continue = sound.expects_continue;
    exchange.upgrade = sound.upgrade;
    let framing = exchange.framing.insert(sound.framing);
    let declared = framing.length();
    let body = exchange
        .inbound
        .filled_mut()
        .get_mut(exchange.scratch.head.len..)
        .unwrap_or_default();
    match framing.decode(body) {
        Ok(first) => {
            exchange.first = first;
            exchange.came_whole = framing.is_complete();
            exchange.facts.request_bytes.set(first.data as u64);
        }
        Err(_) => {
            exchange.facts.enter(default_site(exchange));
            let answer = Answer {
                status: 400,
                ..Answer::to(Reason::HttpRequestError, "malformed chunked body")
            };
            return Err(answer.into());
        }
    }
    exchange.facts.enter(site(exchange));
    // Before all rules: the issuer comes to any of our listeners, and is no client.
    if let Some(text) = exchange
        .plane
        .generation
        .challenges
        .answer(&exchange.seen())
    {
        return Err(Stop::Told(text));
    }
    let site = exchange.facts.site;
    let site =
        site.ok_or_else(|| Answer::to(Reason::DestinationNotFound, "no site for this host"))?;
    check_connection(exchange, site)?;
    trust::take_over(exchange, site);
    limits(exchange, site, declared)?;
    if request::max_forwards(&exchange.scratch.head, exchange.bytes()) == Some(0) {
        let answer = Answer {
            status: 204,
            ..Answer::to(Reason::ProxyInternalResponse, "")
        };
        return Err(answer.into());
    }
    Ok(site)
}

/// Finds the route, for which a part of the body may have to be read.
async fn find_route<'a>(
    exchange: &mut Exchange<'a>,
    site: &'a Site,
) -> Result<&'a Route, Stop<'a>> {
    loop {
        match site.routes.find(&exchange.seen(), exchange.body_seen()) {
            Found::Route(route) => {
                exchange.facts.take(route);
                return Ok(route);
            }
            Found::Depends(memory) => hold(exchange, Buffer { memory, disk: 0 }).await?,
            Found::Nothing => {
                let detail = "no route for this path";
                return Err(Answer::to(Reason::DestinationNotFound, detail).into());
            }
        }
    }
}

/// The limits of the site, where they are narrower than those of its listener.
fn limits(exchange: &Exchange<'_>, site: &Site, declared: Length) -> Result<(), Answer<'static>> {
    let (head, limits) = (&exchange.scratch.head, &site.limits);
    let over = |status, detail| Answer {
        status,
        ..Answer::to(Reason::HttpRequestError, detail)
    };
    if head.target.len() > limits.uri as usize {
        return Err(over(414, "request target too long"));
    }
    if head.len > limits.head as usize {
        return Err(over(431, "request head too large"));
    }
    if head.fields.iter().count() > usize::from(limits.fields) {
        return Err(over(431, "too many request fields"));
    }
    let body = match declared {
        Length::Exactly(bytes) => bytes,
        _ => exchange.first.data as u64,
    };
    if limits.body.is_some_and(|most| body > most) {
        return Err(over(413, "request body too large"));
    }
    Ok(())
}

/// The site for the request's host.
fn site<'a>(exchange: &Exchange<'a>) -> Option<&'a Site> {
    let site = exchange.listener.site(exchange.seen().host())?;
    exchange.plane.generation.sites.get(site)
}

/// Tells whether a request is for a site with other certificates than its connection was opened for.
fn is_misdirected(exchange: &Exchange<'_>, site: &Site) -> bool {
    let Some(secure) = &exchange.listener.tls else {
        return false;
    };
    let is_served = exchange.client.with_tls_connection(|connection| {
        let name = connection.and_then(ServerConnection::server_name);
        secure.serves(name, site.index)
    });
    is_served != Some(true)
}

/// The site that requests without a usable host are counted for: the one that takes every host,
/// or the only one there is.
fn default_site<'a>(exchange: &Exchange<'a>) -> Option<&'a Site> {
    let sites = &exchange.plane.generation.sites;
    let any = exchange.listener.hosts.any.and_then(|site| sites.get(site));
    any.or_else(|| sites.first())
}

fn rejected(rejection: Rejection) -> Answer<'static> {
    let Rejection {
        status,
        reason,
        detail,
    } = rejection;
    Answer {
        status,
        retry_after: (status == 503).then_some(1),
        ..Answer::to(reason, detail)
    }
}
