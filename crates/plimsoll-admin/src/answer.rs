//! Answers to calls.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::channel::Channel;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue,
    REFERRER_POLICY, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use hyper::{Request, Response, StatusCode, Uri};
use percent_encoding::percent_decode_str;
use plimsoll_control::reload::{Refused, Wanted};
use plimsoll_net::clock;
use plimsoll_observe::prometheus;
use plimsoll_proxy::caching::Order;
use plimsoll_proxy::stock::Query;
use plimsoll_proxy::trace;
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::calls::{self, CALLS, Call, Miss, Row};
use crate::change::{BadChange, Change};
use crate::configuration;
use crate::guard::{From, Refusal};
use crate::handover::Upgrade;
use crate::logs;
use crate::metrics;
use crate::openapi;
use crate::page;
use crate::server::Desk;
use crate::sessions;
use crate::view::PoolView;

pub(crate) type Answer = Response<BoxBody<Bytes, Infallible>>;

/// The longest body that is read.
pub(crate) const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;

pub(crate) const PLAIN: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
pub(crate) const EVENTS: &str = "text/event-stream";

/// What is said with every answer: nothing of it is kept, framed or guessed at.
const SAID: [(HeaderName, &str); 5] = [
    (CACHE_CONTROL, "no-store"),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (X_FRAME_OPTIONS, "DENY"),
    (REFERRER_POLICY, "no-referrer"),
    (
        CONTENT_SECURITY_POLICY,
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self' data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
];

/// Why a call was not carried out.
pub(crate) struct Failure(pub(crate) StatusCode, pub(crate) String);

impl std::convert::From<BadChange> for Failure {
    fn from(bad: BadChange) -> Self {
        let status = match bad {
            BadChange::Pool(_) | BadChange::Server(..) => StatusCode::NOT_FOUND,
            BadChange::TooMany(..) => StatusCode::CONFLICT,
            _ => StatusCode::BAD_REQUEST,
        };
        Self(status, bad.to_string())
    }
}

impl std::convert::From<Refused> for Failure {
    fn from(Refused(why): Refused) -> Self {
        Self(StatusCode::UNPROCESSABLE_ENTITY, why)
    }
}

/// Answers a request that comes from `from`.
pub(crate) async fn answer(desk: &Arc<Desk>, from: From, request: Request<Incoming>) -> Answer {
    let path = request.uri().path().to_owned();
    let found = calls::find(request.method(), &path);
    let mut answer = match found {
        Ok((row, part)) => match desk.guard.judge(from, request.headers(), row.kind) {
            Ok(()) => carried_out(desk, row, part, request).await,
            Err(refusal) => refused(refusal),
        },
        Err(Miss::Path) => plain(
            StatusCode::NOT_FOUND,
            "not found: /v1 lists what there is\n",
        ),
        Err(Miss::Method(methods)) => not_with_this_method(&methods),
    };
    for (name, value) in SAID {
        answer
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    answer
}

async fn carried_out(
    desk: &Arc<Desk>,
    row: &Row,
    part: Option<&str>,
    request: Request<Incoming>,
) -> Answer {
    let running = &desk.running();
    let part = part.map(|part| percent_decode_str(part).decode_utf8_lossy());
    let part = part.as_deref().unwrap_or_default();
    let answered = match row.call {
        Call::Page(name) => return page(name),
        Call::Metrics => {
            let text = metrics::page(desk.reloader.engine(), desk.more);
            return with_type(prometheus::CONTENT_TYPE, text);
        }
        Call::Status => json(&*desk.sampler.view()),
        Call::Watch => return watch(desk),
        Call::History => json(&desk.sampler.history()),
        Call::Calls => json(&list()),
        Call::Description => json(&openapi::document()),
        Call::Pools => json(&desk.sampler.view().pools),
        Call::Pool => pool(desk, part).and_then(|pool| json(&pool)),
        Call::ChangePool => change(desk, part, request).await,
        Call::Configuration => configuration::show(desk, &request).await,
        Call::CheckConfiguration => configuration::check(desk, request).await,
        Call::PutConfiguration => configuration::put(desk, request).await,
        Call::Trace => read(request)
            .await
            .and_then(|question| json(&trace::explain(&running.generation, &question))),
        Call::Stock => stock(desk, request).await,
        Call::Purge => purge(desk, request).await,
        Call::TailLogs => logs::tail(desk, request.uri()).await,
        Call::Sessions => sessions::list(desk, request.uri()).await,
        Call::CloseSessions => sessions::close(desk, request).await,
        Call::Reload | Call::Confirm | Call::GoBack => reload(desk, row.call, request).await,
        Call::Upgrade => upgrade(desk, request).await,
    };
    answered.unwrap_or_else(|Failure(status, why)| plain(status, &format!("{why}\n")))
}

fn pool(desk: &Desk, name: &str) -> Result<PoolView, Failure> {
    let view = desk.sampler.view();
    let pool = view.pool(name).cloned();
    pool.ok_or_else(|| BadChange::Pool(name.to_owned()).into())
}

/// Changes servers of a pool, and shows it as it is then.
async fn change(desk: &Desk, name: &str, request: Request<Incoming>) -> Result<Answer, Failure> {
    let change: Change = read(request).await?;
    change.carry_out(&desk.running(), name)?;
    desk.sampler.show_now(desk.reloader.engine());
    json(&pool(desk, name)?)
}

/// Shows what is stored of what the body says.
async fn stock(desk: &Desk, request: Request<Incoming>) -> Result<Answer, Failure> {
    let query: Query = read(request).await?;
    let running = desk.running();
    let now = running.since_start(clock::now());
    let stock = tokio::task::block_in_place(|| query.ask(&running.generation.caches, now));
    let stock = stock.map_err(|bad| Failure(StatusCode::BAD_REQUEST, bad.to_string()))?;
    json(&stock)
}

/// What came of a purge.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Purged {
    /// How many answers there were.
    purged: usize,
}

/// Purges what the body says.
async fn purge(desk: &Desk, request: Request<Incoming>) -> Result<Answer, Failure> {
    let order: Order = read(request).await?;
    // This waits for disks, until nothing that is purged could come back with the next start.
    let running = desk.running();
    let caches = &running.generation.caches;
    let purged = tokio::task::block_in_place(|| order.carry_out(caches));
    let purged = purged.map_err(|bad| Failure(StatusCode::BAD_REQUEST, bad.to_string()))?;
    json(&Purged { purged })
}

/// Serves what the file says now, or goes on with it, or back. Who leaves does not stop it half way.
async fn reload(desk: &Desk, call: Call, request: Request<Incoming>) -> Result<Answer, Failure> {
    let wanted: Wanted = read(request).await?;
    let reloader = Arc::clone(&desk.reloader);
    let reloading = tokio::spawn(async move {
        match call {
            Call::Confirm => reloader.confirm().await,
            Call::GoBack => reloader.go_back().await,
            _ => reloader.reload(wanted).await,
        }
    });
    let reloaded = reloading.await;
    let reloaded =
        reloaded.map_err(|error| Failure(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    let reloaded = reloaded?;
    desk.sampler.show_now(desk.reloader.engine());
    json(&reloaded)
}

/// Has another process serve, whether or not whoever asked waits for it.
async fn upgrade(desk: &Arc<Desk>, request: Request<Incoming>) -> Result<Answer, Failure> {
    let Upgrade { within } = read(request).await?;
    let (own, patience) = (Arc::clone(desk), Duration::from_secs(within.into()));
    let upgraded = tokio::spawn(async move { own.hand_over(patience).await }).await;
    let failed = |why: String| Failure(StatusCode::INTERNAL_SERVER_ERROR, why);
    let upgraded = upgraded.map_err(|error| failed(error.to_string()))?;
    json(&upgraded.map_err(|failure| failed(failure.to_string()))?)
}

/// What there is.
fn list() -> Vec<serde_json::Value> {
    let row = |row: &Row| {
        serde_json::json!({
            "method": row.method.as_str(),
            "path": row.path,
            "doc": row.doc,
        })
    };
    CALLS.iter().map(row).collect()
}

/// Sends what is seen each second, until the client leaves.
fn watch(desk: &Arc<Desk>) -> Answer {
    let (mut sender, body) = Channel::new(1);
    let mut views = desk.sampler.watch();
    tokio::spawn(async move {
        loop {
            let view = Arc::clone(&views.borrow_and_update());
            // It holds nothing that JSON cannot.
            let text = serde_json::to_vec(&*view).unwrap_or_default();
            let event = [b"data: ", &*text, b"\n\n"].concat();
            if sender.send_data(Bytes::from(event)).await.is_err() || views.changed().await.is_err()
            {
                return;
            }
        }
    });
    let mut response = Response::new(body.boxed());
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(EVENTS));
    response
}

fn page(name: &str) -> Answer {
    match page::find(name) {
        Some(part) => with_type(part.media, part.text),
        None => plain(StatusCode::NOT_FOUND, "not found\n"),
    }
}

/// Reads what a query says, or says why that cannot be.
pub(crate) fn asked<T: DeserializeOwned>(uri: &Uri) -> Result<T, Failure> {
    serde_urlencoded::from_str(uri.query().unwrap_or_default())
        .map_err(|error| Failure(StatusCode::BAD_REQUEST, format!("not understood: {error}")))
}

/// Reads what a body says, or says why that cannot be.
pub(crate) async fn read<T: DeserializeOwned>(request: Request<Incoming>) -> Result<T, Failure> {
    let bad = |why| Failure(StatusCode::BAD_REQUEST, why);
    // A page of another origin cannot send this type without asking first.
    let media = request.headers().get(CONTENT_TYPE);
    if media.is_none_or(|media| media != JSON) {
        return Err(bad(format!("the body must be {JSON}")));
    }
    let body = Limited::new(request.into_body(), BODY_BYTES_MAX);
    let body = body.collect().await;
    let body = body.map_err(|error| bad(format!("cannot read the body: {error}")))?;
    let text = body.to_bytes();
    // In a list the place of a value would say what it is for.
    if !text.trim_ascii_start().starts_with(b"{") {
        return Err(bad("the body must be an object".to_owned()));
    }
    serde_json::from_slice(&text).map_err(|error| bad(format!("not understood: {error}")))
}

pub(crate) fn json(answer: &impl Serialize) -> Result<Answer, Failure> {
    match serde_json::to_vec(answer) {
        Ok(text) => Ok(with_type(JSON, text)),
        Err(error) => Err(Failure(
            StatusCode::INTERNAL_SERVER_ERROR,
            error.to_string(),
        )),
    }
}

fn refused(refusal: Refusal) -> Answer {
    let status = match refusal {
        Refusal::Host => StatusCode::MISDIRECTED_REQUEST,
        Refusal::Token => StatusCode::UNAUTHORIZED,
        Refusal::Origin | Refusal::NoToken => StatusCode::FORBIDDEN,
    };
    let mut answer = plain(status, &format!("{refusal}\n"));
    if refusal == Refusal::Token {
        let asks = HeaderValue::from_static("Basic realm=\"plimsoll\"");
        answer.headers_mut().insert(WWW_AUTHENTICATE, asks);
    }
    answer
}

fn not_with_this_method(methods: &str) -> Answer {
    let mut answer = plain(StatusCode::METHOD_NOT_ALLOWED, &format!("only {methods}\n"));
    if let Ok(methods) = HeaderValue::from_str(methods) {
        answer.headers_mut().insert(ALLOW, methods);
    }
    answer
}

fn plain(status: StatusCode, text: &str) -> Answer {
    let mut answer = with_type(PLAIN, text.to_owned());
    *answer.status_mut() = status;
    answer
}

pub(crate) fn with_type(media: &'static str, text: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(text.into()).boxed());
    answer
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(media));
    answer
}
