//! The text of the configuration: shown, checked and replaced.

use std::sync::Arc;

use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::header::{ACCEPT, CONTENT_TYPE, ETAG, HeaderMap, HeaderValue, IF_MATCH, VARY};
use hyper::{Request, StatusCode};
use plimsoll_control::configuration_file::{NoText, Text};
use plimsoll_control::files::Files;
use plimsoll_control::reload::put::NotPut;
use plimsoll_control::verdict::Verdict;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::answer::{Answer, BODY_BYTES_MAX, Failure, PLAIN, asked, json, with_type};
use crate::server::Desk;

/// What a query may say of a change.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Terms {
    /// Within how many seconds it has to be confirmed.
    confirm_within: Option<u64>,
}

/// Shows the text to whoever asks for a text, and what is served to all others.
pub(crate) async fn show(desk: &Arc<Desk>, request: &Request<Incoming>) -> Result<Answer, Failure> {
    let mut answer = match wants_text(request.headers()) {
        true => tagged(&desk.reloader.text().await?),
        false => json(&plimsoll_config::to_json(&desk.running().generation.config))?,
    };
    let varies = HeaderValue::from_static("accept");
    answer.headers_mut().insert(VARY, varies);
    Ok(answer)
}

/// Says what is to be said of a text before it is served.
pub(crate) async fn check(desk: &Arc<Desk>, request: Request<Incoming>) -> Result<Answer, Failure> {
    let text = read_text(request).await?;
    let name = desk.reloader.path().unwrap_or("configuration").to_owned();
    let verdict = async {
        let load = || plimsoll_config::load_text(&name, &text, &Files);
        let loaded = tokio::task::block_in_place(load);
        Verdict::of(&loaded, |_| Vec::new()).await
    };
    let failed =
        |error: std::io::Error| Failure(StatusCode::INTERNAL_SERVER_ERROR, error.to_string());
    json(&verdict.await.map_err(failed)?)
}

/// Serves a text and has it stand in the file, or changes nothing. Who leaves does not stop it half way.
pub(crate) async fn put(desk: &Arc<Desk>, request: Request<Incoming>) -> Result<Answer, Failure> {
    let Terms { confirm_within } = asked(request.uri())?;
    let condition = Condition::of(request.headers())?;
    let text = Text::new(read_text(request).await?);
    let (reloader, tag) = (Arc::clone(&desk.reloader), text.tag.clone());
    let putting = tokio::spawn(async move {
        let may_replace = |tag: &str| condition.takes(tag);
        reloader.put(text, may_replace, confirm_within).await
    });
    let put = putting.await;
    let put = put.map_err(|error| Failure(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    let reloaded = put?;
    desk.sampler.show_now(desk.reloader.engine());
    let mut answer = json(&reloaded)?;
    answer.headers_mut().insert(ETAG, entity_tag(&tag));
    Ok(answer)
}

fn tagged(text: &Text) -> Answer {
    let mut answer = with_type(PLAIN, text.text.clone());
    answer.headers_mut().insert(ETAG, entity_tag(&text.tag));
    answer
}

/// A strong one (RFC 9110 §8.8.3).
fn entity_tag(tag: &str) -> HeaderValue {
    // Its digits are letters of any value.
    HeaderValue::from_str(&format!("\"{tag}\"")).unwrap_or(HeaderValue::from_static("\"\""))
}

fn wants_text(fields: &HeaderMap) -> bool {
    let accept = fields.get(ACCEPT).and_then(|value| value.to_str().ok());
    accept.is_some_and(|accept| accept.starts_with("text/plain"))
}

/// Which text may be replaced: what `If-Match` says (RFC 9110 §13.1.1).
#[derive(Debug)]
enum Condition {
    Any,
    One(Vec<String>),
}

impl Condition {
    fn of(fields: &HeaderMap) -> Result<Self, Failure> {
        let said = fields.get(IF_MATCH).and_then(|value| value.to_str().ok());
        match said.map(str::trim) {
            None => Err(Failure(
                StatusCode::PRECONDITION_REQUIRED,
                "say which text this replaces: `If-Match`, with the `ETag` that it came with"
                    .to_owned(),
            )),
            Some("*") => Ok(Self::Any),
            Some(tags) => Ok(Self::One(
                tags.split(',').map(|tag| tag.trim().to_owned()).collect(),
            )),
        }
    }

    /// A weak tag matches nothing.
    fn takes(&self, tag: &str) -> bool {
        match self {
            Self::Any => true,
            Self::One(tags) => tags.iter().any(|known| *known == format!("\"{tag}\"")),
        }
    }
}

/// Reads a body that is text.
async fn read_text(request: Request<Incoming>) -> Result<String, Failure> {
    let bad = |why: &str| Failure(StatusCode::BAD_REQUEST, why.to_owned());
    let media = request.headers().get(CONTENT_TYPE);
    let media = media
        .and_then(|media| media.to_str().ok())
        .unwrap_or_default();
    if media.split(';').next().map(str::trim) != Some("text/plain") {
        return Err(bad("the body must be text/plain"));
    }
    let body = Limited::new(request.into_body(), BODY_BYTES_MAX)
        .collect()
        .await;
    let body = body.map_err(|error| bad(&format!("cannot read the body: {error}")))?;
    String::from_utf8(body.to_bytes().into()).map_err(|_| bad("the body is not UTF-8"))
}

impl From<NoText> for Failure {
    fn from(why: NoText) -> Self {
        let status = match why {
            NoText::Nothing | NoText::Several(_) => StatusCode::CONFLICT,
            NoText::Unreadable(..) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self(status, why.to_string())
    }
}

impl From<NotPut> for Failure {
    fn from(why: NotPut) -> Self {
        match why {
            NotPut::NoText(why) => why.into(),
            NotPut::Changed => Self(StatusCode::PRECONDITION_FAILED, why.to_string()),
            NotPut::Refused(why) => why.into(),
            NotPut::Unwritable(_) => Self(StatusCode::INTERNAL_SERVER_ERROR, why.to_string()),
        }
    }
}
