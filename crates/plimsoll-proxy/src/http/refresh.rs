//! Bringing what is stored up to date behind the back of its client (RFC 5861 §3).

use std::rc::Rc;
use std::sync::Arc;

use plimsoll_cache::body::Body;
use plimsoll_cache::flight::{Landing, Ticket, Turn};
use plimsoll_cache::object::Object;
use plimsoll_http::caching::{self, Asked};
use plimsoll_http::framing::{Framing, Length};
use plimsoll_http::h1::parse::{self, HeadLimits, Parsed};
use plimsoll_http::head::RequestHead;
use plimsoll_http::method::Method;
use plimsoll_net::clock;

use crate::caching::{Caching, Keeping};
use crate::generation::Pool;
use crate::http::exchange::Exchange;
use crate::http::store::{self, Filling};
use crate::http::subrequest::{self, Call, Reply};
use crate::http::upstream_h1;
use crate::plane::Plane;

/// Asks a server of `pool` for what `key` names, unless somebody does already.
pub(crate) fn begin<'a>(
    exchange: &mut Exchange<'a>,
    pool: &Pool,
    caching: &'a Caching,
    (key, stale): (&[u8], &Arc<Object>),
) {
    let Some(plane) = exchange.plane.me.upgrade() else {
        return;
    };
    let Turn::Mine(ticket) = caching.keeping.cache.flights.join(key) else {
        return;
    };
    let asked = exchange.bytes().get(..exchange.scratch.head.len);
    let asked = asked.unwrap_or_default().to_vec();
    // The message is that of a request which fetches for the cache.
    let parts = (Vec::new(), None, Some(Arc::clone(stale)));
    exchange.cached.filling = Some(Filling::new(exchange, caching, parts));
    upstream_h1::encode_head(exchange, b"cache", None, Length::Empty);
    exchange.cached.filling = None;
    let refresh = Refresh {
        pool: pool.index,
        message: exchange.scratch.request_out.clone(),
        asked,
        key: key.into(),
        keeping: Arc::clone(&caching.keeping),
        stale: Arc::clone(stale),
        is_coded_here: exchange.facts.codes(),
        ticket,
    };
    tokio::task::spawn_local(refresh.run(plane));
}

/// A request of the cache's own.
struct Refresh {
    pool: usize,
    message: Vec<u8>,
    /// The head of the client's request.
    asked: Vec<u8>,
    key: Box<[u8]>,
    keeping: Arc<Keeping>,
    stale: Arc<Object>,
    is_coded_here: bool,
    ticket: Ticket,
}

impl Refresh {
    async fn run(self, plane: Rc<Plane>) {
        let Some(pool) = plane.generation.pools.get(self.pool) else {
            return;
        };
        let cache = &self.keeping.cache;
        let call = Call {
            method: Method::Get,
            message: &self.message,
            body_max: usize::try_from(cache.object_max).unwrap_or(usize::MAX),
            digest: None,
        };
        // What fails leaves the old answer in its place, for as long as it may serve.
        let Some(reply) = subrequest::ask(&plane, pool, call).await else {
            return;
        };
        if let Some(object) = self.object(&plane, &reply) {
            let object = Arc::new(object);
            cache.insert(&self.key, Arc::clone(&object));
            self.ticket.tell(Landing::Stored(object));
        }
    }

    /// What is stored of a reply.
    fn object(&self, plane: &Plane, reply: &Reply) -> Option<Object> {
        let mut head = RequestHead::default();
        let parsed = parse::request(&self.asked, &HeadLimits::default(), &mut head);
        let asked = Asked {
            head: &head,
            bytes: &self.asked,
            now: plane.unix_time(clock::now()).as_secs(),
            delay: u32::try_from(reply.took.as_secs()).unwrap_or(caching::SECONDS_MAX),
            is_coded_here: self.is_coded_here,
        };
        if parsed != Ok(Parsed::Complete) || !reply.is_whole {
            return None;
        }
        let answer = (&reply.head, &*reply.bytes);
        if reply.head.status == 304 {
            return store::confirmed(&self.stale, asked, answer, (plane, &self.keeping));
        }
        let framing = Framing::of_response(&reply.head, &reply.bytes, Method::Get).ok()?;
        let is_error = matches!(reply.head.status, 500 | 502..=504);
        if framing.length() == Length::UntilClose || is_error {
            return None;
        }
        let Ok(mut object) = store::kept_as(asked, answer, (plane, &self.keeping)) else {
            self.keeping.cache.remove(&self.key);
            return None;
        };
        let room = self.keeping.cache.reserve(Some(reply.body.len() as u64))?;
        object.body = Arc::new(Body::of(&reply.body, room));
        Some(object)
    }
}
