//! A stored answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use plimsoll_http::caching::{Selection, State, Terms};
use plimsoll_http::h1::parse::{self, Parsed};
use plimsoll_http::head::ResponseHead;

use crate::body::{Body, Reserved};

/// What one object takes beside its bytes, about.
const OVERHEAD_BYTES: usize = 512;

/// An answer, for requests that its selection matches. Nothing of it changes but that its body grows.
#[derive(Debug)]
pub struct Object {
    head: ResponseHead,
    head_bytes: Box<[u8]>,
    /// For whom it is.
    pub selection: Selection,
    /// On what terms it is stored.
    pub terms: Terms,
    /// When it came.
    pub came: Duration,
    /// The words that it can be purged by.
    pub tags: Box<[Box<[u8]>]>,
    /// Its body; an answer that was confirmed shares it with the one before.
    pub body: Arc<Body>,
    /// What the codings of its body take, as far as that is counted.
    coded: u64,
    /// Whether it was purged so that it still answers where a stale one may.
    is_purged: AtomicBool,
    /// How often it was found.
    hits: AtomicU64,
}

impl Object {
    /// An answer with this head, which has been written for it; nothing when it is none.
    pub fn new(
        head_bytes: Vec<u8>,
        selection: Selection,
        terms: Terms,
        came: Duration,
    ) -> Option<Self> {
        let mut head = ResponseHead::default();
        match parse::response(&head_bytes, &mut head) {
            Ok(Parsed::Complete) => {}
            Ok(Parsed::Partial) | Err(_) => return None,
        }
        Some(Self {
            head,
            head_bytes: head_bytes.into_boxed_slice(),
            selection,
            terms,
            came,
            tags: Box::default(),
            body: Arc::new(Body::new(None, Reserved::default())),
            coded: 0,
            is_purged: AtomicBool::new(false),
            hits: AtomicU64::new(0),
        })
    }

    /// The same, with this body.
    #[must_use]
    pub fn with_body(self, body: Arc<Body>) -> Self {
        Self {
            coded: body.codings.size(),
            body,
            ..self
        }
    }

    /// The same, with the codings of its body counted that were made by now.
    pub(crate) fn recounted(&self) -> Option<Self> {
        let head = self.head_bytes.to_vec();
        let again = Self::new(head, self.selection.clone(), self.terms, self.came)?;
        let again = Self {
            tags: self.tags.clone(),
            hits: AtomicU64::new(self.hits()),
            ..again
        };
        if self.is_purged() {
            again.expire();
        }
        Some(again.with_body(Arc::clone(&self.body)))
    }

    /// Its head, and the bytes that it is in.
    pub fn head(&self) -> (&ResponseHead, &[u8]) {
        (&self.head, &self.head_bytes)
    }

    /// How old it is, in seconds.
    pub fn age(&self, now: Duration) -> u32 {
        self.terms.age_after(self.here(now))
    }

    /// For how many seconds it is fresh; below zero when it is not.
    pub fn left(&self, now: Duration) -> i64 {
        self.terms.left_after(self.here(now))
    }

    /// What it is good for.
    pub fn state(&self, now: Duration) -> State {
        match self.terms.state_after(self.here(now)) {
            State::Fresh if self.is_purged.load(Relaxed) => match self.terms {
                Terms {
                    while_revalidate: 1..,
                    ..
                } => State::WhileRevalidating,
                Terms { if_error: 1.., .. } => State::IfError,
                _ => State::Stale,
            },
            state => state,
        }
    }

    /// Tells whether it answers when the server cannot.
    pub fn answers_errors(&self, now: Duration) -> bool {
        self.terms.answers_errors_after(self.here(now))
    }

    /// Counts it as no longer fresh.
    pub fn expire(&self) {
        self.is_purged.store(true, Relaxed);
    }

    /// Tells whether it was.
    pub fn is_purged(&self) -> bool {
        self.is_purged.load(Relaxed)
    }

    /// Counts it as found.
    pub(crate) fn count_hit(&self) {
        self.hits.fetch_add(1, Relaxed);
    }

    /// How often it was found.
    pub fn hits(&self) -> u64 {
        self.hits.load(Relaxed)
    }

    /// Bytes that it takes, with its body as far as that is here.
    pub fn size(&self) -> usize {
        let tags: usize = self
            .tags
            .iter()
            .map(|tag| tag.len() + size_of::<Box<[u8]>>())
            .sum();
        let body = self.body.so_far().saturating_add(self.coded);
        let body = usize::try_from(body).unwrap_or(usize::MAX);
        // The fields are kept as they stand and as places.
        (self.head_bytes.len() * 2 + self.selection.size() + tags + OVERHEAD_BYTES)
            .saturating_add(body)
    }

    fn here(&self, now: Duration) -> Duration {
        now.saturating_sub(self.came)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_purged_is_as_good_as_a_stale_one() {
        let object = |while_revalidate, if_error| {
            let terms = Terms {
                lifetime: 10,
                while_revalidate,
                if_error,
                ..Terms::default()
            };
            let head = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
            Object::new(head, Selection::default(), terms, Duration::from_secs(5)).unwrap()
        };
        for (object, expected) in [
            (object(0, 0), State::Stale),
            (object(1, 1), State::WhileRevalidating),
            (object(0, 1), State::IfError),
        ] {
            let now = Duration::from_secs(9);
            assert_eq!(
                (object.state(now), object.age(now), object.left(now)),
                (State::Fresh, 4, 6)
            );
            object.expire();
            assert_eq!(object.state(now), expected);
        }
    }

    #[test]
    fn what_is_no_head_is_no_object() {
        for text in ["", "HTTP/1.1 200 OK\r\n", "x\r\n\r\n"] {
            let none = Object::new(
                text.into(),
                Selection::default(),
                Terms::default(),
                Duration::ZERO,
            );
            assert!(none.is_none(), "{text}");
        }
    }
}
