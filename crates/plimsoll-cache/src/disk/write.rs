//! What changes files: one thread, in order, so that what was asked for later wins.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use bytes::Bytes;

use crate::cache::Purge;
use crate::disk::file::{self, Described, Id, PURGED, PURGED_AT};
use crate::disk::index::Record;
use crate::disk::{Limits, Tier, count, lock};
use crate::object::Object;
use crate::purge::Selector;

/// How many seconds an answer must still be fresh to be worth a file.
const FRESH_SECONDS_MIN: i64 = 10;

/// How many writes may wait, and how many bytes with them.
const WRITES_MAX: usize = 1024;
const WAITING_BYTES_MAX: u64 = 64 << 20;

/// How long is waited for all that is to be done.
const SETTLE_MAX: Duration = Duration::from_secs(10);

/// A change.
#[derive(Debug)]
pub(super) enum Work {
    /// An object becomes a file.
    Write {
        key: Box<[u8]>,
        object: Arc<Object>,
        id: Id,
        turn: u64,
        limits: Limits,
    },
    /// A file goes.
    Remove(Id),
    /// A file is marked as purged.
    Expire(Id),
    /// Somebody is told that all before has been done.
    Tell(SyncSender<()>),
}

impl Tier {
    /// Has an object written whose body is whole, if it is worth that.
    pub(crate) fn write(&self, key: &[u8], object: &Arc<Object>, limits: Limits) {
        let now = object.came;
        if object.left(now) < FRESH_SECONDS_MIN || !lock(&self.writing).allows(now) {
            // What is there is not for the same requests any more.
            self.take(key, file::id(key, &object.selection));
            return;
        }
        let length = file::file_len(key, object);
        let record = Record::new(
            (key, &object.selection),
            &object.tags,
            length,
            self.time(now),
        );
        let waits = self.waiting.load(Relaxed).saturating_add(length);
        let fits = length <= limits.max && waits <= WAITING_BYTES_MAX.max(length);
        let Some(record) = record.filter(|_| fits) else {
            count(&self.stats.skipped);
            self.take(key, file::id(key, &object.selection));
            return;
        };
        let id = record.id;
        // In one step, so that changes are carried out in the order in which the index took them.
        let mut index = self.index();
        let turn = index.begin(record);
        let write = Work::Write {
            key: key.into(),
            object: Arc::clone(object),
            id,
            turn,
            limits,
        };
        self.waiting.fetch_add(length, Relaxed);
        if !self.works.push(write, WRITES_MAX) {
            self.waiting.fetch_sub(length, Relaxed);
            index.take(key, id);
            self.order(Work::Remove(id));
            count(&self.stats.skipped);
        }
    }

    /// Forgets a file, if there is one.
    fn take(&self, key: &[u8], id: Id) {
        let mut index = self.index();
        if index.take(key, id) {
            self.order(Work::Remove(id));
        }
    }

    /// Has something done however much there is to do: that much is bounded by what is stored.
    pub(super) fn order(&self, work: Work) {
        self.works.push(work, usize::MAX);
    }

    /// Forgets files that `selector` takes, or counts them as stale; tells how many, without those in `counted`.
    pub(crate) fn purge(
        &self,
        kind: Purge,
        selector: &Selector<'_>,
        counted: &BTreeSet<Id>,
    ) -> usize {
        self.miss(selector);
        let mut index = self.index();
        let records = index.select(selector, kind == Purge::Hard);
        match kind {
            Purge::Soft => index.expire(&records),
            Purge::Hard => records.iter().for_each(|record| {
                index.take(&record.key, record.id);
            }),
        }
        for record in &records {
            self.order(match kind {
                Purge::Soft => Work::Expire(record.id),
                Purge::Hard => Work::Remove(record.id),
            });
        }
        let own = records.iter().filter(|record| record.is(selector));
        own.filter(|record| !counted.contains(&record.id)).count()
    }

    /// Waits until all before has been done.
    pub(super) fn settle(&self) {
        let (done, is_done) = sync_channel(1);
        self.order(Work::Tell(done));
        let _ = is_done.recv_timeout(SETTLE_MAX);
    }

    /// Carries out what is asked for, until the end.
    pub(super) fn write_all(&self) {
        while let Some(work) = self.works.pop() {
            match work {
                Work::Write {
                    key,
                    object,
                    id,
                    turn,
                    limits,
                } => self.write_one((&key, id), &object, (turn, limits)),
                Work::Remove(id) => self.note(self.directory.remove(id)),
                Work::Expire(id) => self.note(self.directory.change(id, &PURGED, PURGED_AT)),
                Work::Tell(whom) => drop(whom.send(())),
            }
        }
    }

    /// Counts what failed, of what nobody waits for.
    fn note(&self, outcome: io::Result<()>) {
        if outcome.is_err() {
            count(&self.stats.errors);
        }
    }

    fn write_one(&self, (key, id): (&[u8], Id), object: &Object, (turn, limits): (u64, Limits)) {
        let now = object.came;
        self.note_time(now);
        self.make_room(limits, 0, now);
        let (described, body) = Described::of(key, object, self.time(now));
        let written = self.put(id, &described, &body);
        self.waiting.fetch_sub(file::file_len(key, object), Relaxed);
        self.judge(&self.writing, written.as_ref().copied(), now);
        let is_wanted = match written {
            Ok(()) => self.index().finish(key, id, turn),
            Err(error) => {
                self.directory.discard(id);
                if error.kind() == io::ErrorKind::StorageFull {
                    // The disk is smaller than it was said to be: what is oldest goes.
                    self.make_room(limits, file::file_len(key, object), now);
                }
                self.index().take(key, id);
                false
            }
        };
        match is_wanted {
            true => count(&self.stats.written),
            // It was purged, made room, or is written again behind this.
            false => self.note(self.directory.remove(id)),
        }
    }

    fn put(&self, id: Id, described: &Described, body: &[Bytes]) -> io::Result<()> {
        let mut file = self.directory.create(id).or_else(|_| {
            self.directory.discard(id);
            self.directory.create(id)
        })?;
        write_parts(&mut file, &described.encode(), body)?;
        drop(file);
        self.directory.commit(id)
    }

    /// Removes what goes first, until there is room for what is there and `more` bytes.
    pub(super) fn make_room(&self, limits: Limits, more: u64, now: Duration) {
        let least = self.index().size().bytes.saturating_sub(more);
        loop {
            let mut index = self.index();
            let size = index.size();
            let is_over = size.bytes > limits.max || size.memory > limits.memory;
            if !is_over && (more == 0 || size.bytes <= least) {
                return;
            }
            let Some(record) = index.evict(self.time(now)) else {
                return;
            };
            drop(index);
            count(&self.stats.evicted);
            self.note(self.directory.remove(record.id));
        }
    }
}

/// Nothing is forced to the disk: a process that dies loses nothing by that, and what a machine loses that dies has a wrong
/// checksum.
fn write_parts(file: &mut File, first: &[u8], body: &[Bytes]) -> io::Result<()> {
    file.write_all(first)?;
    body.iter().try_for_each(|piece| file.write_all(piece))
}
