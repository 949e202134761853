//! Plimsoll with a cache, and what tests ask of it.

use crate::plimsoll::binary;
use crate::recorder::Request;
use crate::script::Answer;
use crate::stand::Stand;
use crate::wire::Response;
use std::process::Command;

/// Several workers, as what one stores is for all.
const CONFIGURATION: &str = "workers 2\nadmin unix:{dir}/admin.sock 127.0.0.1:{port:admin}\n\
    site a.example { listen 127.0.0.1:{port} ; log {dir}/access.log json\n\
      route header:x-beta=yes { cache c ; proxy app }\n\
      route /private/* { deny all ; cache c ; proxy app }\n\
      route /tagged/* { response-header set X-Seen ${request.path} ; cache c ; proxy app }\n\
      route method=GET,HEAD,OPTIONS { cache c ; proxy app }\n\
      route { proxy app } }\n\
    site b.example { listen 127.0.0.1:{port} ; route { cache c ; proxy app } }\n\
    cache c { memory 16MiB ; object-size-max 2MiB ; wait 30s }\n\
    pool app { server {server} ; retry 0 ; timeout response=30s }\n";

/// Returns an answer with these lines, parted by `|`, and this body.
#[must_use]
pub fn message(lines: &str, body: &[u8]) -> Vec<u8> {
    let lines = lines.replace('|', "\r\n");
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n{lines}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// Starts Plimsoll with a cache before a server with this script.
#[must_use]
pub fn stand(script: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Stand {
    Stand::run(CONFIGURATION, script)
}

/// Asks for `target` of the first site with these fields.
#[must_use]
pub fn ask(stand: &Stand, target: &str, lines: &str) -> Response {
    ask_as(stand, "GET", target, &format!("Host: a.example|{lines}"))
}

/// Asks for `target` with this method and these fields, `Host` among them.
#[must_use]
pub fn ask_as(stand: &Stand, method: &str, target: &str, lines: &str) -> Response {
    stand.ask(method, request(method, target, lines))
}

/// Returns a request with these fields.
#[must_use]
pub fn request(method: &str, target: &str, lines: &str) -> String {
    let lines = lines.trim_end_matches('|').replace('|', "\r\n");
    format!("{method} {target} HTTP/1.1\r\n{lines}\r\n\r\n")
}

/// Returns what the cache said of its part.
#[must_use]
pub fn status(response: &Response) -> &str {
    response.field("cache-status").unwrap_or_default()
}

/// Tells whether the cache answered.
#[must_use]
pub fn is_hit(response: &Response) -> bool {
    status(response).starts_with("plimsoll; hit; ttl=")
}

/// Returns how often the server was asked for `target`.
#[must_use]
pub fn count(stand: &Stand, target: &str) -> usize {
    let requests = stand.upstream.requests();
    requests
        .iter()
        .filter(|request| request.head.target == target)
        .count()
}

/// Runs `plimsoll cache purge` with these arguments.
///
/// # Errors
/// What it said.
///
/// # Panics
/// If it cannot be started.
pub fn purge_at(running: &str, arguments: &[&str]) -> Result<String, String> {
    verb_at("purge", running, arguments)
}

/// Runs a verb of `plimsoll cache` with these arguments.
///
/// # Errors
/// What it said.
///
/// # Panics
/// If it cannot be started.
pub fn verb_at(verb: &str, running: &str, arguments: &[&str]) -> Result<String, String> {
    let mut command = Command::new(binary());
    command
        .args(["cache", verb, "--running", running])
        .args(arguments);
    let output = command.output().expect("the binary can be started");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match output.status.success() {
        true => Ok(text(&output.stdout).trim().to_owned()),
        false => Err(text(&output.stderr)),
    }
}

/// The answer of a server that says who asked.
#[must_use]
pub fn echo(request: &Request, lines: &str) -> Answer {
    let fields = &request.head.fields;
    let text = format!(
        "{} {} {}",
        request.head.target,
        fields.first("host").unwrap_or_default(),
        fields.first("x-beta").unwrap_or_default()
    );
    Answer::bytes(message(lines, text.as_bytes()))
}
