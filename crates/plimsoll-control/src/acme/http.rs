//! How issuers are asked: over our own client, with a deadline and a bound to what comes.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::header::{HOST, RETRY_AFTER, USER_AGENT};
use http::{HeaderValue, Request, Response, StatusCode};
use hyper::body::Bytes;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use plimsoll_config::model::Url;
use plimsoll_net::clock;

use super::schedule;
use crate::fetch::Fetcher;

/// How long one request may take: some issuers sign while we wait.
const DEADLINE: Duration = Duration::from_secs(30);

/// Who asks (RFC 8555 §6.1).
const NAME: &str = concat!("plimsoll/", env!("CARGO_PKG_VERSION"));

/// Asks one issuer.
#[derive(Clone)]
pub(super) struct Client {
    fetcher: Fetcher,
    ca: Option<Box<str>>,
    wished: Arc<Mutex<Option<Duration>>>,
}

impl Client {
    pub(super) fn new(fetcher: &Fetcher, ca: Option<&str>) -> Self {
        Self {
            fetcher: fetcher.clone(),
            ca: ca.map(Into::into),
            wished: Arc::default(),
        }
    }

    /// How long the issuer wants not to be asked, if it said so.
    pub(super) fn wished(&self) -> Option<Duration> {
        *self.wished.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn ask(self, request: Request<BodyWrapper<Bytes>>) -> Result<Response<Bytes>, String> {
        let (mut head, body) = request.into_parts();
        let text = head.uri.to_string();
        let url = Url::new(&text).filter(|url| url.is_tls || url.is_loopback());
        let url = url.ok_or_else(|| format!("the issuer names `{text}`, which is not asked"))?;
        let target = http::Uri::try_from(&*url.target).map_err(|error| error.to_string())?;
        let host = HeaderValue::from_str(&url.authority).map_err(|error| error.to_string())?;
        head.uri = target;
        head.headers.insert(HOST, host);
        head.headers
            .insert(USER_AGENT, HeaderValue::from_static(NAME));
        let request = Request::from_parts(head, body);
        let asked = self.fetcher.ask(&url, self.ca.as_deref(), request);
        let answer = tokio::time::timeout(DEADLINE, asked).await;
        let answer = answer.map_err(|_| "it took longer than 30 seconds".to_owned())?;
        let answer = answer.map_err(|why| format!("cannot ask `{}`: {why}", url.text))?;
        self.note(&answer);
        Ok(answer)
    }

    /// Notes for how long it does not want to be asked.
    fn note(&self, answer: &Response<Bytes>) {
        let is_refusal = matches!(
            answer.status(),
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
        );
        let wish = answer.headers().get(RETRY_AFTER);
        let wish = wish.and_then(|value| schedule::wish(value.to_str().ok()?, clock::unix_time()));
        if let (true, Some(_)) = (is_refusal, wish) {
            *self.wished.lock().unwrap_or_else(PoisonError::into_inner) = wish;
        }
    }
}

impl HttpClient for Client {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let asked = self.clone().ask(request);
        Box::pin(async move {
            let answer = asked.await.map_err(|why| Error::Other(why.into()))?;
            let (parts, body) = answer.into_parts();
            Ok(BytesResponse {
                parts,
                body: Box::new(body),
            })
        })
    }
}
