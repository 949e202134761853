//! Access logs: lines as they come, as server-sent events, and how many were lost.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt;
use http_body_util::channel::{Channel, Sender};
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode, Uri};
use plimsoll_config::text;
use plimsoll_control::launch::Running;
use plimsoll_control::tail::{Heard, Query};
use plimsoll_observe::prometheus::escape;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::answer::{Answer, EVENTS, Failure, asked};
use crate::server::Desk;

/// Appends how many lines of logs could not be written.
pub(crate) fn render(running: &Running, out: &mut String) {
    let mut lost = BTreeMap::<String, u64>::new();
    for (spec, log) in running.written_logs() {
        *lost.entry(text::log_target(spec)).or_default() += log.lost();
    }
    if lost.is_empty() {
        return;
    }
    let name = "plimsoll_log_lost_total";
    let _ = writeln!(
        out,
        "# HELP {name} Lines of access logs that could not be written.\n# TYPE {name} counter"
    );
    for (log, count) in lost {
        let _ = writeln!(out, "{name}{{log=\"{}\"}} {count}", escape(&log));
    }
}

/// How many may listen at once: each costs workers a line for each request.
const LISTENERS_MAX: usize = 16;

/// How often something is said when nothing happens, so that it is seen when nobody listens any more.
const PULSE: Duration = Duration::from_secs(15);

/// Those who listen.
#[derive(Debug)]
pub(crate) struct Places(Arc<Semaphore>);

impl Default for Places {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(LISTENERS_MAX)))
    }
}

impl Places {
    fn take(&self) -> Result<OwnedSemaphorePermit, Failure> {
        let place = Arc::clone(&self.0).try_acquire_owned();
        place.map_err(|_| {
            let why = format!("{LISTENERS_MAX} listen already");
            Failure(StatusCode::TOO_MANY_REQUESTS, why)
        })
    }
}

/// Sends what the query asks for, until the client leaves.
pub(crate) async fn tail(desk: &Arc<Desk>, uri: &Uri) -> Result<Answer, Failure> {
    let query: Query = asked(uri)?;
    let place = desk.listeners_of_logs.take()?;
    let heard = desk.reloader.engine().listen(query).await;
    let heard = heard.map_err(|bad| Failure(StatusCode::BAD_REQUEST, bad.to_string()))?;
    let (sender, body) = Channel::new(1);
    tokio::spawn(async move {
        let _place = place;
        pass_on(heard, sender).await;
    });
    let mut response = Response::new(body.boxed());
    let events = HeaderValue::from_static(EVENTS);
    response.headers_mut().insert(CONTENT_TYPE, events);
    Ok(response)
}

async fn pass_on(mut heard: Heard, mut sender: Sender<Bytes>) {
    // Who asks knows by this that nothing is missed from now on.
    let mut said = b": listening\n\n".to_vec();
    loop {
        if sender.send_data(Bytes::from(said)).await.is_err() {
            return;
        }
        said = match tokio::time::timeout(PULSE, heard.lines.recv()).await {
            Ok(Some(line)) => [b"data: ", line.trim_ascii_end(), b"\n\n"].concat(),
            Ok(None) => return, // all workers have ended
            Err(_) => b":\n\n".to_vec(),
        };
        let lost = heard.lost();
        if lost > 0 {
            let event = format!("event: lost\ndata: {{\"lost\": {lost}}}\n\n");
            said.splice(0..0, event.into_bytes());
        }
    }
}
