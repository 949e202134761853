//! Files become objects in memory again: each byte is seen to be what was written before anybody gets it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

use plimsoll_http::caching::{SECONDS_MAX, State};
use tokio::sync::oneshot;
use xxhash_rust::xxh3::xxh3_64;

use crate::body::{Body, Reserved};
use crate::cache::{Cache, Listed};
use crate::disk::file::{self, BLOCK_BYTES, Described, Id, PREAMBLE_BYTES, described_len};
use crate::disk::index::Record;
use crate::disk::{OnDisk, Tier, count};
use crate::flight::{Landing, Ticket};
use crate::object::Object;
use crate::purge::Selector;

/// How many reads may wait.
const LOADS_MAX: usize = 1024;

/// A file that is to be read into memory.
#[derive(Debug)]
pub(crate) struct Load {
    pub(crate) cache: Arc<Cache>,
    pub(crate) key: Box<[u8]>,
    pub(crate) on_disk: OnDisk,
    /// For those who wait for the same; nothing once they have been told.
    pub(crate) ticket: Option<Ticket>,
    pub(crate) now: Duration,
    /// Gets the object; nothing once it has.
    pub(crate) reply: Option<oneshot::Sender<Arc<Object>>>,
}

impl Load {
    /// Tells whether whoever asked has given up.
    fn is_given_up(&self) -> bool {
        self.reply.as_ref().is_some_and(oneshot::Sender::is_closed)
    }

    /// Hands an object to whoever asked and to those who wait, once; its body may still be coming. What is not fresh is a matter
    /// for servers, for which it has to be in its place first.
    fn begin(&mut self, object: &Arc<Object>) {
        let is_fresh = object.state(self.now) == State::Fresh;
        let ticket = self.ticket.as_ref();
        let Some(ticket) = ticket.filter(|ticket| is_fresh && !ticket.is_outdated()) else {
            return;
        };
        if let Some(reply) = self.reply.take() {
            ticket.tell(Landing::Loaded(Arc::clone(object)));
            // Whoever asked may have gone on meanwhile.
            let _ = reply.send(Arc::clone(object));
        }
    }

    /// Puts an object whose body is whole into memory, and hands it to whoever has not got it yet.
    fn finish(&mut self, object: &Arc<Object>) {
        if let Some(ticket) = self.ticket.take() {
            self.cache
                .keep_loaded(&self.key, Arc::clone(object), &ticket);
        }
        if let Some(reply) = self.reply.take() {
            let _ = reply.send(Arc::clone(object));
        }
    }
}

/// Why a file gives no answer.
#[derive(Debug)]
pub(super) enum Unread {
    /// There is none.
    Missing,
    /// It is not what was written.
    Corrupt,
    /// There is no memory for it.
    Crowded,
    /// The system failed.
    Failed(io::Error),
}

impl From<io::Error> for Unread {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Corrupt,
            _ => Self::Failed(error),
        }
    }
}

impl Tier {
    /// Has a file read, unless there is too much to do.
    pub(crate) fn load(&self, load: Load) {
        if !self.loads.push(load, LOADS_MAX) {
            count(&self.stats.skipped);
        }
    }

    /// Reads what is asked for, until the end.
    pub(super) fn read_all(&self) {
        let mut block = vec![0; BLOCK_BYTES];
        while let Some(load) = self.loads.pop() {
            if !load.is_given_up() {
                self.read_one(load, &mut block);
            }
        }
    }

    fn read_one(&self, mut load: Load, block: &mut [u8]) {
        self.note_time(load.now);
        let outcome = self.bring(&mut load, block);
        let (now, id) = (load.now, load.on_disk.0.id);
        let error = match &outcome {
            Err(Unread::Failed(error)) => Err(error),
            _ => Ok(()),
        };
        self.judge(&self.reading, error, now);
        match outcome {
            Ok(()) => count(&self.stats.read),
            Err(Unread::Corrupt) => self.forget_corrupt(Some(&load.key), id),
            Err(Unread::Missing) => drop(self.index().take(&load.key, id)),
            Err(Unread::Crowded) => count(&self.stats.skipped),
            Err(Unread::Failed(_)) => {}
        }
    }

    fn bring(&self, load: &mut Load, block: &mut [u8]) -> Result<(), Unread> {
        let id = load.on_disk.0.id;
        let (described, file, begin) = self.describe(id)?;
        if described.key != load.key {
            return Err(Unread::Corrupt);
        }
        let room = load.cache.reserve(Some(described.length));
        let room = room.ok_or(Unread::Crowded)?;
        let object = self
            .object(&described, room, load.now)
            .ok_or(Unread::Corrupt)?;
        if load.on_disk.0.is_purged || described.is_purged {
            object.expire();
        }
        let object = Arc::new(object);
        let mut at = begin;
        for (number, sum) in described.sums.iter().enumerate() {
            let left = described.length - (number * BLOCK_BYTES) as u64;
            let bytes = usize::try_from(left).map_or(BLOCK_BYTES, |left| left.min(BLOCK_BYTES));
            let block = block.get_mut(..bytes).unwrap_or_default();
            let read = read_block(&file, block, at, *sum);
            if let Err(unread) = read {
                object.body.cut();
                return Err(unread);
            }
            object.body.push(block);
            at += bytes as u64;
            load.begin(&object);
        }
        match object.body.end() {
            true => load.finish(&object),
            false => return Err(Unread::Corrupt),
        }
        Ok(())
    }

    /// Adds objects of files that `selector` takes to those of memory, until there are `most`; tells whether there are more.
    pub(crate) fn list(
        &self,
        selector: &Selector<'_>,
        most: usize,
        now: Duration,
        all: &mut Vec<Listed>,
    ) -> bool {
        let records = self.index().select(selector, false);
        let in_memory = |listed: &Listed| file::id(&listed.key, &listed.object.selection);
        let places: BTreeMap<_, _> = all.iter().map(in_memory).zip(0..).collect();
        for record in records {
            let place: Option<&usize> = places.get(&record.id);
            if let Some(listed) = place.and_then(|place| all.get_mut(*place)) {
                listed.is_on_disk = true;
                continue;
            }
            if all.len() >= most {
                return true;
            }
            all.extend(self.listed(record, now));
        }
        false
    }

    fn listed(&self, record: Record, now: Duration) -> Option<Listed> {
        let (described, ..) = self.describe(record.id).ok()?;
        let object = self.object(&described, Reserved::default(), now)?;
        if described.is_purged || record.is_purged() {
            object.expire();
        }
        Some(Listed {
            key: record.key,
            object: Arc::new(object),
            length: described.length,
            is_in_memory: false,
            is_on_disk: true,
        })
    }

    /// What a file says of its answer, and where its body begins.
    pub(super) fn describe(&self, id: Id) -> Result<(Described, File, u64), Unread> {
        let Some(file) = self.directory.find(id)? else {
            return Err(match self.directory.is_there(id) {
                true => Unread::Corrupt,
                false => Unread::Missing,
            });
        };
        let mut preamble = [0; PREAMBLE_BYTES];
        file.read_exact_at(&mut preamble, 0)?;
        let length = described_len(&preamble).ok_or(Unread::Corrupt)?;
        let begin = (PREAMBLE_BYTES + length) as u64;
        let size = file.metadata()?.len();
        if size < begin {
            return Err(Unread::Corrupt);
        }
        let mut text = vec![0; length];
        file.read_exact_at(&mut text, PREAMBLE_BYTES as u64)?;
        let described = Described::decode(&preamble, &text).ok_or(Unread::Corrupt)?;
        let is_ours = file::id(&described.key, &described.selection) == id;
        let is_whole = begin.checked_add(described.length) == Some(size);
        match is_ours && is_whole {
            true => Ok((described, file, begin)),
            false => Err(Unread::Corrupt),
        }
    }

    /// The object of a file, with a body that is still to come.
    fn object(&self, described: &Described, room: Reserved, now: Duration) -> Option<Object> {
        let here = self.time(now).checked_sub(described.came);
        let mut terms = described.terms;
        // What is from the future came when the clock was ahead of what it is now: nobody knows how old it is.
        terms.age = here.map_or(SECONDS_MAX, |here| {
            terms.age_after(Duration::from_millis(here))
        });
        let (head, selection) = (described.head.clone(), described.selection.clone());
        let mut object = Object::new(head, selection, terms, now)?;
        object.tags = described.tags.clone();
        object.body = Arc::new(Body::new(Some(described.length), room));
        Some(object)
    }
}

fn read_block(file: &File, block: &mut [u8], at: u64, sum: u64) -> Result<(), Unread> {
    file.read_exact_at(block, at)?;
    match xxh3_64(block) == sum {
        true => Ok(()),
        false => Err(Unread::Corrupt),
    }
}
