//! The admin listener. It serves the metrics, explains requests, and purges caches.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use plimsoll_control::launch::Running;
use plimsoll_observe::metrics::WorkerMetrics;
use plimsoll_observe::prometheus;
use plimsoll_proxy::caching::Order;
use plimsoll_proxy::trace;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::{TcpListener, TcpStream};

use crate::{acme, caches, disks, process, servers, tls};

/// How long a head may take to arrive.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// More metrics, for whoever has some: text in Prometheus' format.
pub type MoreMetrics = fn(&mut String);

/// Listens on `address`.
///
/// # Errors
/// The address cannot be listened on.
pub async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// Serves on `listener` for ever.
pub async fn serve(listener: TcpListener, running: Arc<Running>, more: MoreMetrics) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(connection(stream, Arc::clone(&running), more))),
            Err(error) => {
                tracing::warn!(%error, "cannot accept an admin connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, running: Arc<Running>, more: MoreMetrics) {
    let service = service_fn(|request| {
        let running = &running;
        async move { Ok::<_, Infallible>(answer(request, running, more).await) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "an admin connection failed");
    }
}

async fn answer(
    request: Request<Incoming>,
    running: &Running,
    more: MoreMetrics,
) -> Response<Full<Bytes>> {
    match (request.method(), request.uri().path()) {
        (&Method::GET, "/metrics") => {
            let workers: Vec<&WorkerMetrics> = running.metrics.iter().map(Arc::as_ref).collect();
            let mut text = prometheus::render(&running.generation.labels, &workers);
            servers::render(&running.generation, &mut text);
            servers::render_checks(running, &mut text);
            servers::render_names(running, &mut text);
            servers::render_materials(&running.generation, &mut text);
            tls::render(&running.generation, &mut text);
            acme::render(running, &mut text);
            servers::render_queues(&running.generation, &mut text);
            servers::render_spool(&running.generation, &mut text);
            caches::render(&running.generation, &mut text);
            disks::render(&running.generation, &mut text);
            process::render(&mut text);
            more(&mut text);
            text_response(StatusCode::OK, prometheus::CONTENT_TYPE, text)
        }
        (&Method::POST, "/v1/trace") => trace(request, running).await,
        (&Method::POST, "/v1/cache/purge") => purge(request, running).await,
        (&Method::GET, "/") => {
            text_response(StatusCode::OK, PLAIN, "plimsoll: see /metrics\n".into())
        }
        (&Method::GET, _) => text_response(
            StatusCode::NOT_FOUND,
            PLAIN,
            "not found: see /metrics\n".into(),
        ),
        _ => {
            let mut response =
                text_response(StatusCode::METHOD_NOT_ALLOWED, PLAIN, "only GET\n".into());
            response
                .headers_mut()
                .insert(ALLOW, hyper::header::HeaderValue::from_static("GET"));
            response
        }
    }
}

/// Says what becomes of the request that the body describes.
async fn trace(request: Request<Incoming>, running: &Running) -> Response<Full<Bytes>> {
    match read(request).await {
        Ok(question) => json(&trace::explain(&running.generation, &question)),
        Err(why) => text_response(StatusCode::BAD_REQUEST, PLAIN, why),
    }
}

/// Purges what the body says.
async fn purge(request: Request<Incoming>, running: &Running) -> Response<Full<Bytes>> {
    let purged = read::<Order>(request).await;
    let caches = &running.generation.caches;
    // This waits for disks, until nothing that is purged could come back with the next start.
    let carry_out = |order: Order| tokio::task::block_in_place(|| order.carry_out(caches));
    let purged = purged.and_then(|order| carry_out(order).map_err(|bad| format!("{bad}\n")));
    match purged {
        Ok(purged) => json(&serde_json::json!({ "purged": purged })),
        Err(why) => text_response(StatusCode::BAD_REQUEST, PLAIN, why),
    }
}

/// Reads what a body says, or says why that cannot be.
async fn read<T: DeserializeOwned>(request: Request<Incoming>) -> Result<T, String> {
    // A page of another origin cannot send this type without asking first.
    let media = request.headers().get(CONTENT_TYPE);
    if media.is_none_or(|media| media != JSON) {
        return Err(format!("the body must be {JSON}\n"));
    }
    let body = Limited::new(request.into_body(), BODY_BYTES_MAX);
    let body = body.collect().await;
    let body = body.map_err(|error| format!("cannot read the body: {error}\n"))?;
    serde_json::from_slice(&body.to_bytes()).map_err(|error| format!("not understood: {error}\n"))
}

fn json(answer: &impl Serialize) -> Response<Full<Bytes>> {
    let text = serde_json::to_string(answer).unwrap_or_default();
    text_response(StatusCode::OK, JSON, text)
}

const JSON: &str = "application/json";

/// The longest body that is read.
const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;

const PLAIN: &str = "text/plain; charset=utf-8";

fn text_response(
    status: StatusCode,
    content_type: &'static str,
    text: String,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(
        CONTENT_TYPE,
        hyper::header::HeaderValue::from_static(content_type),
    );
    response
}
