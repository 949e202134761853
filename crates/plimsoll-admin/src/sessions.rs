//! What is open now, shown and ended.

use std::sync::Arc;

use hyper::body::Incoming;
use hyper::{Request, StatusCode, Uri};
use plimsoll_control::sessions::{BadQuery, Query};
use schemars::JsonSchema;
use serde::Serialize;

use crate::answer::{Answer, Failure, asked, json, read};
use crate::server::Desk;

/// What came of it.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Closed {
    /// How many there were.
    closed: usize,
}

/// Shows what the query asks for.
pub(crate) async fn list(desk: &Arc<Desk>, uri: &Uri) -> Result<Answer, Failure> {
    let which = asked::<Query>(uri)?.which().map_err(refused)?;
    json(&desk.reloader.engine().sessions(which).await)
}

/// Ends what the body says.
pub(crate) async fn close(desk: &Arc<Desk>, request: Request<Incoming>) -> Result<Answer, Failure> {
    let query: Query = read(request).await?;
    let which = query.which_to_close().map_err(refused)?;
    let closed = desk.reloader.engine().close_sessions(which).await;
    json(&Closed { closed })
}

fn refused(bad: BadQuery) -> Failure {
    Failure(StatusCode::BAD_REQUEST, bad.to_string())
}
