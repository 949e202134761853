//! `plimsoll demo`: two servers behind the balancer, all in this process.

use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};

use anyhow::Context;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;

use crate::serving;
use crate::verbs::proxy;

/// What `plimsoll demo` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Where to listen
    #[arg(default_value = "127.0.0.1:8080")]
    listen: String,
}

const NAMES: [&str; 2] = ["port side", "starboard"];

#[expect(clippy::print_stdout, reason = "this verb talks to a person")]
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let mut sockets = Vec::new();
    for name in NAMES {
        let socket = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))
            .context("cannot start a demo server")?;
        socket.set_nonblocking(true)?;
        println!("demo server `{name}` on http://{}", socket.local_addr()?);
        sockets.push((name, socket));
    }
    let servers: Vec<String> = sockets
        .iter()
        .filter_map(|(_, socket)| socket.local_addr().ok())
        .map(|address| address.to_string())
        .collect();
    let config = proxy::configuration(&arguments.listen, &servers)?;
    println!(
        "balanced:  http://{}  (reload it, or: curl -i http://{0})",
        arguments.listen
    );
    println!("metrics:   http://127.0.0.1:9900/metrics");
    println!("stop with Ctrl-C");
    serving::serve(&config, None, async {
        for (name, socket) in sockets {
            tokio::spawn(demo_server(name, socket));
        }
    })
}

async fn demo_server(name: &'static str, socket: TcpListener) {
    let Ok(listener) = tokio::net::TcpListener::from_std(socket) else {
        return;
    };
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(async move {
            let service =
                service_fn(move |request| async move { Ok::<_, Infallible>(page(name, &request)) });
            let connection = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service);
            // A client that leaves is no event in a demo.
            let _ = connection.await;
        });
    }
}

/// Shows who answered, and what the balancer told the server about the request.
fn page(name: &str, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let mut text = format!(
        "hello from `{name}`\n\n{} {}\n",
        request.method(),
        request.uri()
    );
    for (field, value) in request.headers() {
        text.push_str(&format!(
            "{field}: {}\n",
            String::from_utf8_lossy(value.as_bytes())
        ));
    }
    let mut response = Response::new(Full::new(Bytes::from(text)));
    response.headers_mut().insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response
}
