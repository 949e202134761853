//! An answer of a server that others get too: it is stored as it comes, and its client is one of those who get it
//! from there.

use std::cell::Cell;
use std::sync::Arc;

use plimsoll_cache::object::Object;
use plimsoll_http::framing::Length;
use plimsoll_net::clock;
use plimsoll_observe::metrics::CacheResult;

use crate::http::answer::{Answer, Body};
use crate::http::backlog::Delivery;
use crate::http::coded;
use crate::http::dress::Dress;
use crate::http::exchange::Ending;
use crate::http::flow::{Coding, Fault, Flow, Sink};
use crate::http::lookup::Outdated;
use crate::http::pace::Toll;
use crate::http::store::{Fate, Filling};
use crate::http::stored::Selected;
use crate::http::upload::{Progress, Upload};

/// What the answer to a request is to caches.
#[derive(Debug, Default)]
pub(crate) struct Cached<'a> {
    /// What it becomes in one; nothing where it is for nobody else.
    pub(crate) filling: Option<Filling<'a>>,
    /// What is stored and does not hold any more when it is a success; nearly always nothing.
    pub(crate) outdated: Vec<Outdated>,
}

impl<'x> Answer<'_, 'x> {
    /// Forgets what a success outdates, before its client hears of it.
    pub(super) fn note_success(&self) {
        if (200..400).contains(&self.response.status) {
            self.cached.outdated.iter().for_each(Outdated::forget);
        }
    }

    /// Takes a confirmation of what is stored, which answers the client then.
    pub(super) fn confirmed(&mut self, bytes: &[u8]) -> Option<Arc<Object>> {
        let filling = self.cached.filling.as_mut()?;
        let request = (self.seen.head, self.seen.bytes);
        let object = filling.confirm(request, (self.response, bytes))?;
        if let Some(told) = &mut self.facts.told {
            told.status = Some(304);
            told.is_stored = true;
        }
        if let Some((_, result)) = &mut self.facts.cache {
            *result = CacheResult::Revalidated;
        }
        Some(object)
    }

    /// Has what is stored brought to the client, later.
    pub(super) fn give(&mut self, object: &Arc<Object>, progress: Progress) -> Ending {
        let persists = self.persists && !self.door.keeps_nobody() && progress == Progress::Sent;
        *self.delivery = self.bring(object, persists);
        match persists {
            true => Ending::Keep,
            false => Ending::Close,
        }
    }

    /// Stores the answer if that is wanted; what brings it to the client then, if it comes from there.
    pub(super) fn store(
        &mut self,
        bytes: &[u8],
        length: Length,
        persists: bool,
    ) -> Option<Delivery<'x>> {
        let filling = self.cached.filling.as_mut()?;
        let request = (self.seen.head, self.seen.bytes);
        let fate = filling.begin(request, (self.response, bytes), length);
        if let Some(told) = &mut self.facts.told {
            told.is_stored = !matches!(fate, Fate::Passed);
        }
        match fate {
            Fate::Shared(object) => self.bring(&object, persists),
            Fate::Copied => {
                let buffer = self.facts.route.map(|route| route.response_buffer);
                let buffer = buffer.unwrap_or_default();
                let wider = Delivery::of_copied(filling, buffer, self.patience);
                *self.delivery = wider.or_else(|| self.delivery.take());
                None
            }
            Fate::Passed => None,
        }
    }

    /// Prepares to bring what is stored to the client.
    fn bring(&mut self, object: &Arc<Object>, persists: bool) -> Option<Delivery<'x>> {
        let filling = self.cached.filling.as_ref()?;
        let mut lines = self.fields.to_vec();
        let now = self.plane.since_start(clock::now());
        let mut selected = Selected::of(object, &self.seen, now, &mut lines);
        let place = filling.place(object);
        let change = coded::choose(self.facts.route, &self.seen, &place, &mut selected);
        let dress = Dress {
            plane: self.plane,
            seen: self.seen,
            facts: self.facts,
            fields: &lines,
            carried: &self.redirects.carried,
            mark: self.terms.bond.and_then(|bond| bond.mark),
            upgrade: None,
            status: selected.status_line(),
            persists,
            change: change.as_ref(),
        };
        dress.write(object.head(), selected.length, (self.added, self.out));
        self.facts.status = selected.status.unwrap_or_else(|| object.head().0.status);
        let bytes = selected.sent.bytes();
        self.facts.response_bytes.set(bytes);
        let body = (selected.body, selected.sent);
        let head = self.out.clone();
        Some(Delivery::of_stored(filling, head, body, self.patience))
    }

    /// Has the body stored as fast as it comes, while the client gets it from there, as fast as it takes
    /// it. A client that leaves ends nothing. The outer fault is one of the upload.
    pub(super) async fn fill(
        &mut self,
        body: Body<'_>,
        upload: &mut Upload<'_>,
        mut delivery: Delivery<'x>,
    ) -> Result<Result<(), Fault>, Fault> {
        body.buffer.take(self.response.len + body.first.consumed);
        let moved = Cell::new(0);
        let free = Toll {
            paces: &[],
            ..self.toll
        };
        let filling = async {
            if !body.framing.is_complete() {
                let flow = Flow {
                    moved: &moved,
                    coding: Coding::Plain,
                    ..self.rest(body, Sink::Copies, free)
                };
                flow.run().await?;
            }
            // Before the client has the last of it, who may come back at once.
            if let Some(filling) = &mut self.cached.filling {
                filling.complete();
            }
            Ok(())
        };
        let outcome = upload.alongside(delivery.alongside(filling)).await;
        match outcome {
            Ok(Ok(())) => *self.delivery = Some(delivery),
            _ => delivery.count(self.facts),
        }
        outcome
    }
}
