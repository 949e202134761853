//! Directories whose files are served, and what workers keep of these files.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use plimsoll_config::model::{self, TryFile};
use plimsoll_http::coding::Coding;
use plimsoll_http::conditional::{Validators, write_etag};
use plimsoll_http::date::{HTTP_DATE_BYTES, http_date};
use plimsoll_net::tree::{Found, Meta, Tree, Wait, read_at};

use crate::generation::PathMatch;

/// How long a directory is believed to be where its name led, in milliseconds.
const ROOT_AGE_MAX: u64 = 1000;

/// Files up to this size are kept whole.
pub(crate) const HELD_BYTES_MAX: u64 = 64 * 1024;

/// A directory whose files are served, compiled.
#[derive(Debug)]
pub struct Files {
    /// Which of all.
    pub(crate) number: u32,
    /// The directory as written.
    pub directory: PathBuf,
    root: ArcSwapOption<Tree>,
    /// When that was opened.
    opened: AtomicU64,
    pub(crate) index: Vec<Box<[u8]>>,
    pub(crate) tries: Vec<TryFile>,
    pub(crate) immutable: Vec<PathMatch>,
    pub(crate) lists: bool,
    pub(crate) is_precompressed: bool,
    pub(crate) shows_hidden: bool,
}

impl Files {
    pub(crate) fn new(number: u32, files: &model::Files, immutable: Vec<PathMatch>) -> Self {
        Self {
            number,
            directory: PathBuf::from(&*files.directory),
            root: ArcSwapOption::empty(),
            opened: AtomicU64::new(0),
            index: files
                .index
                .iter()
                .map(|name| name.as_bytes().into())
                .collect(),
            tries: files.tries.clone(),
            immutable,
            lists: files.lists,
            is_precompressed: files.is_precompressed,
            shows_hidden: files.shows_hidden,
        }
    }

    /// Sees whether there is such a directory, and whether files in it can be opened safely.
    ///
    /// # Errors
    /// What the system said.
    pub fn prepare(&self) -> io::Result<()> {
        self.root
            .store(Some(Arc::new(Tree::open(&self.directory)?)));
        Ok(())
    }

    /// The directory, found by its name again from time to time: the name may be a link that leads
    /// elsewhere by now. `now` is since the start of balancing.
    pub(crate) fn root(&self, now: Duration) -> Option<Arc<Tree>> {
        let now = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        let opened = self.opened.load(Relaxed);
        let is_old = now.saturating_sub(opened) > ROOT_AGE_MAX;
        if is_old
            && self
                .opened
                .compare_exchange(opened, now, Relaxed, Relaxed)
                .is_ok()
        {
            // While there is none, the last one stays: it may be on its way to another place.
            if let Ok(tree) = Tree::open(&self.directory) {
                self.root.store(Some(Arc::new(tree)));
            }
        }
        self.root.load_full()
    }
}

/// A file as it is on disk.
#[derive(Debug)]
pub(crate) struct OnDisk {
    pub(crate) meta: Meta,
    pub(crate) content: Content,
}

/// What a file holds.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    /// All of it.
    Held(Vec<u8>),
    /// It is read when it is sent.
    Open(Arc<File>),
}

/// A file and those beside it that hold the same in a content coding.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) plain: OnDisk,
    pub(crate) coded: Vec<(Coding, OnDisk)>,
}

/// What a name stands for.
#[derive(Debug)]
pub(crate) enum Lookup {
    File(Box<Loaded>),
    Directory,
    Nothing,
}

/// Looks a name up, and the files beside it if `is_precompressed`.
pub(crate) fn load(
    tree: &Tree,
    name: &[u8],
    is_precompressed: bool,
    wait: Wait,
) -> io::Result<Lookup> {
    let plain = match tree.find(name, wait)? {
        Found::File(file, meta) => on_disk(file, meta, wait)?,
        Found::Directory => return Ok(Lookup::Directory),
        Found::Nothing => return Ok(Lookup::Nothing),
    };
    let mut coded = Vec::new();
    for coding in Coding::ALL.into_iter().filter(|_| is_precompressed) {
        let beside = [name, coding.suffix().as_bytes()].concat();
        match tree.find(&beside, wait) {
            Ok(Found::File(file, meta)) => coded.push((coding, on_disk(file, meta, wait)?)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(error),
            // What may not be read there is only a saving.
            Ok(Found::Directory | Found::Nothing) | Err(_) => {}
        }
    }
    Ok(Lookup::File(Box::new(Loaded { plain, coded })))
}

fn on_disk(file: File, mut meta: Meta, wait: Wait) -> io::Result<OnDisk> {
    if meta.size > HELD_BYTES_MAX {
        let content = Content::Open(Arc::new(file));
        return Ok(OnDisk { meta, content });
    }
    let mut bytes = vec![0; usize::try_from(meta.size).unwrap_or_default()];
    let mut filled = 0;
    while let Some(room) = bytes.get_mut(filled..).filter(|room| !room.is_empty()) {
        match read_at(&file, filled as u64, room, wait)? {
            0 => break,
            read => filled += read,
        }
    }
    // One that has become shorter is sent as far as it goes.
    bytes.truncate(filled);
    meta.size = filled as u64;
    let content = Content::Held(bytes);
    Ok(OnDisk { meta, content })
}

/// A file, ready to be sent.
#[derive(Debug)]
pub(crate) struct Resource {
    pub(crate) meta: Meta,
    pub(crate) content: Content,
    pub(crate) coding: Option<Coding>,
    /// Its `Content-Type`.
    pub(crate) media: Vec<u8>,
    /// Its entity tag.
    pub(crate) etag: Vec<u8>,
    /// When it was changed last, as HTTP writes it.
    pub(crate) modified: [u8; HTTP_DATE_BYTES],
}

impl Resource {
    /// The file called `name`, in a coding or without.
    pub(crate) fn new(on_disk: OnDisk, name: &[u8], coding: Option<Coding>) -> Self {
        let OnDisk { meta, content } = on_disk;
        let (mut media, mut etag) = (Vec::new(), Vec::new());
        plimsoll_http::media::write(name, &mut media);
        let token = coding.map_or("", Coding::token);
        write_etag(meta.size, meta.modified, token, &mut etag);
        Self {
            meta,
            content,
            coding,
            media,
            etag,
            modified: http_date(meta.modified / 1_000_000_000),
        }
    }

    /// The same in a coding that it was compressed into here.
    pub(crate) fn coded(&self, coding: Coding, bytes: Vec<u8>) -> Self {
        // Weak, as another build of Plimsoll may compress otherwise.
        let mut etag = b"W/".to_vec();
        write_etag(
            self.meta.size,
            self.meta.modified,
            coding.token(),
            &mut etag,
        );
        let mut meta = self.meta;
        meta.size = bytes.len() as u64;
        Self {
            meta,
            content: Content::Held(bytes),
            coding: Some(coding),
            media: self.media.clone(),
            etag,
            modified: self.modified,
        }
    }

    /// What tells it from the same file at another time.
    pub(crate) fn state(&self) -> (Meta, Option<Coding>) {
        (self.meta, self.coding)
    }

    /// What tells its states apart.
    pub(crate) fn validators(&self) -> Validators<'_> {
        Validators {
            etag: Some(&self.etag),
            modified: Some(self.meta.modified / 1_000_000_000),
        }
    }

    /// Tells whether it is still what it was when it was looked up, as far as its own state says.
    pub(crate) fn is_unchanged(&self) -> bool {
        match &self.content {
            Content::Held(_) => true,
            Content::Open(file) => Meta::now(file).is_ok_and(|meta| meta == self.meta),
        }
    }

    /// Bytes of memory that it takes.
    pub(crate) fn weight(&self) -> usize {
        match &self.content {
            Content::Held(bytes) => bytes.len() + 512,
            Content::Open(_) => 512,
        }
    }
}
