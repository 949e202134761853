//! Files that a worker has at hand: small ones whole, large ones open. Those that nobody asks for make room
//! for others.

use std::cell::RefCell;
use std::mem::take;
use std::rc::Rc;
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use plimsoll_http::coding::Coding;

use crate::files::{Content, Resource};

/// How long a file is believed to be what it was.
const AGE_MAX: Duration = Duration::from_secs(1);

/// How much memory half of the files may take.
const BYTES_MAX: usize = 8 * 1024 * 1024;

/// How many of one half of the files may be open.
const OPEN_MAX: usize = 128;

/// A file, and the same in those codings in which it lies beside it.
#[derive(Debug)]
pub(crate) struct Shelved {
    pub(crate) plain: Resource,
    pub(crate) coded: Vec<Resource>,
    /// The same in codings that it was compressed into here.
    made: RefCell<Vec<Rc<Resource>>>,
}

impl Shelved {
    pub(crate) fn new(plain: Resource, coded: Vec<Resource>) -> Self {
        Self {
            plain,
            coded,
            made: RefCell::default(),
        }
    }

    /// What was made of it in this coding.
    pub(crate) fn made(&self, coding: Coding) -> Option<Rc<Resource>> {
        let made = self.made.borrow();
        made.iter()
            .find(|file| file.coding == Some(coding))
            .cloned()
    }

    /// Tells whether it is the same as another one, as far as states of files say.
    fn is_same(&self, other: &Self) -> bool {
        self.all()
            .map(Resource::state)
            .eq(other.all().map(Resource::state))
    }

    /// Tells whether all of them are what they were when they were looked up.
    pub(crate) fn is_unchanged(&self) -> bool {
        self.all().all(Resource::is_unchanged)
    }

    fn all(&self) -> impl Iterator<Item = &Resource> {
        std::iter::once(&self.plain).chain(&self.coded)
    }
}

#[derive(Debug)]
struct Entry {
    file: Rc<Shelved>,
    looked_up: Instant,
}

/// Files by name. There are two halves: what is used is in the young one or goes there; when that is full, it
/// becomes the old one, and what nobody used meanwhile is gone.
#[derive(Debug, Default)]
pub(crate) struct Shelf {
    halves: RefCell<Halves>,
}

#[derive(Debug, Default)]
struct Halves {
    young: Half,
    old: Half,
}

#[derive(Debug, Default)]
struct Half {
    entries: HashMap<Box<[u8]>, Entry>,
    bytes: usize,
    open: usize,
}

impl Half {
    fn put(&mut self, name: Box<[u8]>, entry: Entry) {
        let open = |file: &&Resource| matches!(file.content, Content::Open(_));
        self.bytes += name.len() + entry.file.all().map(Resource::weight).sum::<usize>();
        self.open += entry.file.all().filter(open).count();
        self.entries.insert(name, entry);
    }

    fn is_full(&self) -> bool {
        self.bytes > BYTES_MAX || self.open > OPEN_MAX
    }
}

impl Shelf {
    /// The file called `name`, if it has been looked up lately.
    pub(crate) fn get(&self, name: &[u8], now: Instant) -> Option<Rc<Shelved>> {
        let mut halves = self.halves.borrow_mut();
        let is_fresh = |entry: &&Entry| now.saturating_duration_since(entry.looked_up) <= AGE_MAX;
        if let Some(entry) = halves.young.entries.get(name) {
            return is_fresh(&entry).then(|| Rc::clone(&entry.file));
        }
        let (name, entry) = halves.old.entries.remove_entry(name)?;
        let file = is_fresh(&&entry).then(|| Rc::clone(&entry.file));
        if file.is_some() {
            halves.young.put(name, entry);
        }
        file
    }

    /// Puts a file there that was looked up `now`; returns the one that was there, if it is the same.
    pub(crate) fn put(&self, name: &[u8], file: Shelved, now: Instant) -> Rc<Shelved> {
        let mut halves = self.halves.borrow_mut();
        if halves.young.is_full() {
            halves.old = take(&mut halves.young);
        }
        if let Some(entry) = halves.young.entries.get_mut(name)
            && entry.file.is_same(&file)
        {
            entry.looked_up = now;
            return Rc::clone(&entry.file);
        }
        let file = Rc::new(file);
        let entry = Entry {
            file: Rc::clone(&file),
            looked_up: now,
        };
        halves.young.put(name.into(), entry);
        file
    }

    /// Puts what was made of a file beside it.
    pub(crate) fn keep(&self, file: &Shelved, made: &Rc<Resource>) {
        self.halves.borrow_mut().young.bytes += made.weight();
        file.made.borrow_mut().push(Rc::clone(made));
    }
}
