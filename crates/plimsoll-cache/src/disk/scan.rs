//! Looking for what an earlier process has left, while this one serves already.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crate::disk::directory::ROOMS;
use crate::disk::file::Id;
use crate::disk::index::Record;
use crate::disk::read::Unread;
use crate::disk::write::Work;
use crate::disk::{Tier, count, lock};
use crate::purge::Selector;

/// How many purges are kept in mind for files that are not known yet. With more, those files go.
const MISSED_MAX: usize = 4096;

/// Purges that files have missed which are not known yet.
#[derive(Debug, Default)]
pub(super) struct Missed {
    urls: Vec<Box<[u8]>>,
    prefixes: Vec<Box<[u8]>>,
    tags: Vec<Box<[u8]>>,
    /// Whether nothing goes on that is not known yet.
    is_all: bool,
}

impl Missed {
    fn add(&mut self, selector: &Selector<'_>) {
        let (list, text) = match selector {
            Selector::Url(text) => (&mut self.urls, text),
            Selector::Prefix(text) => (&mut self.prefixes, text),
            Selector::Tag(text) => (&mut self.tags, text),
        };
        match list.len() < MISSED_MAX {
            true => list.push(Box::from(*text)),
            false => self.is_all = true,
        }
    }

    fn takes(&self, record: &Record) -> bool {
        let urls = self.urls.iter().map(|text| Selector::Url(text));
        let prefixes = self.prefixes.iter().map(|text| Selector::Prefix(text));
        let tags = self.tags.iter().map(|text| Selector::Tag(text));
        let mut all = urls.chain(prefixes).chain(tags);
        self.is_all || all.any(|selector| record.is(&selector))
    }
}

impl Tier {
    /// Has files that are not known yet miss nothing of a purge.
    pub(super) fn miss(&self, selector: &Selector<'_>) {
        if let Some(missed) = &mut *lock(&self.missed) {
            missed.add(selector);
        }
    }

    /// Takes record of all files that are there.
    pub(super) fn scan(&self) {
        for room in 0..ROOMS {
            match self.directory.list(room) {
                Ok(ids) => ids.into_iter().for_each(|id| self.scan_one(id)),
                Err(_) => count(&self.stats.errors),
            }
            if self.is_closed.load(Relaxed) {
                return;
            }
        }
        *lock(&self.missed) = None;
        self.make_room(self.place.limits, 0, Duration::ZERO);
    }

    fn scan_one(&self, id: Id) {
        let (described, size) = match self.describe(id) {
            Ok((described, _, begin)) => {
                let size = begin + described.length;
                (described, size)
            }
            Err(Unread::Corrupt) => return self.forget_corrupt(None, id),
            Err(Unread::Missing) => return,
            Err(Unread::Crowded | Unread::Failed(_)) => return count(&self.stats.errors),
        };
        self.epoch.fetch_max(described.came, Relaxed);
        let of = (&*described.key, &described.selection);
        let record = Record::new(of, &described.tags, size, described.came);
        let Some(record) = record.map(|record| record.purged(described.is_purged)) else {
            return self.forget_corrupt(None, id);
        };
        let missed = lock(&self.missed);
        let is_purged = missed.as_ref().is_some_and(|missed| missed.takes(&record));
        let mut index = self.index();
        match is_purged && !index.has(&record) {
            true => self.order(Work::Remove(id)),
            false => drop(index.add(record)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use plimsoll_http::caching::Selection;

    fn record(key: &str) -> Record {
        let of = (key.as_bytes(), &Selection::default());
        Record::new(of, &[Box::from(&b"tag"[..])], 1, 1).unwrap()
    }

    #[test]
    fn files_that_are_not_known_yet_miss_no_purge() {
        let record = record("http://h/a\0more");
        let mut missed = Missed::default();
        for selector in [
            Selector::Url(b"http://h/"),
            Selector::Prefix(b"http://h/ab"),
            Selector::Tag(b"ta"),
        ] {
            missed.add(&selector);
            assert!(!missed.takes(&record));
        }
        for selector in [
            Selector::Url(b"http://h/a"),
            Selector::Prefix(b"http://h/"),
            Selector::Tag(b"tag"),
        ] {
            let mut missed = Missed::default();
            missed.add(&selector);
            assert!(missed.takes(&record), "{selector:?}");
        }
        for number in 0..=MISSED_MAX {
            missed.add(&Selector::Url(format!("http://h/{number}").as_bytes()));
        }
        assert!(missed.takes(&record));
    }
}
