//! Which file answers a request.

use std::io;
use std::rc::Rc;

use plimsoll_config::model::TryFile;
use plimsoll_http::file_path;
use plimsoll_net::tree::Wait;

use crate::files::{Files, Loaded, Lookup, Resource, load};
use crate::http::exchange::Exchange;
use crate::shelf::Shelved;

/// What a path stands for.
#[derive(Debug)]
pub(super) enum Found {
    /// A file.
    File(Rc<Shelved>),
    /// A directory, whose path ends in a slash.
    Slash,
    /// A directory that is listed.
    Listing,
    /// Nothing.
    Nothing,
}

/// Before the name of a file stands the number of its directory, by which workers tell them apart.
pub(super) const NUMBER_BYTES: usize = 4;

/// Finds what the path of a request stands for; `name` becomes the name that was looked up.
pub(super) async fn find(
    exchange: &Exchange<'_>,
    files: &Files,
    name: &mut Vec<u8>,
) -> io::Result<Found> {
    name.clear();
    name.extend_from_slice(&files.number.to_ne_bytes());
    let path = match exchange.is_rewritten {
        true => exchange.scratch.rewritten.path(),
        false => exchange.scratch.target.path(exchange.bytes()),
    };
    if !file_path::below(path, files.shows_hidden, name) {
        return Ok(Found::Nothing);
    }
    match named(exchange, files, name).await? {
        Found::Nothing => tried(exchange, files, name).await,
        found => Ok(found),
    }
}

fn is_directory(name: &[u8]) -> bool {
    name.len() <= NUMBER_BYTES || name.ends_with(b"/")
}

/// What the name itself stands for.
async fn named(exchange: &Exchange<'_>, files: &Files, name: &mut Vec<u8>) -> io::Result<Found> {
    if !is_directory(name) {
        return look(exchange, files, name).await;
    }
    let whole = name.len();
    for index in &files.index {
        name.extend_from_slice(index);
        let found = look(exchange, files, name).await;
        name.truncate(whole);
        if let found @ Found::File(_) = found? {
            return Ok(found);
        }
    }
    if !files.lists {
        return Ok(Found::Nothing);
    }
    Ok(match look(exchange, files, name).await? {
        Found::Slash => Found::Listing,
        found => found,
    })
}

/// The first file there is of those that are tried.
async fn tried(exchange: &Exchange<'_>, files: &Files, name: &[u8]) -> io::Result<Found> {
    for one in &files.tries {
        let mut other = name.to_vec();
        match one {
            TryFile::Suffix(_) if is_directory(&other) => continue,
            TryFile::Suffix(suffix) => other.extend_from_slice(suffix.as_bytes()),
            TryFile::Path(path) => {
                other.truncate(NUMBER_BYTES);
                if !file_path::below(path.as_bytes(), true, &mut other) {
                    continue;
                }
            }
        }
        if let found @ Found::File(_) = look(exchange, files, &other).await? {
            return Ok(found);
        }
    }
    Ok(Found::Nothing)
}

/// The file called `name`, from the shelf if it was looked up lately.
async fn look(exchange: &Exchange<'_>, files: &Files, name: &[u8]) -> io::Result<Found> {
    let (shelf, now) = (&exchange.plane.shelf, exchange.facts.started);
    if let Some(shelved) = shelf
        .get(name, now)
        .filter(|shelved| shelved.is_unchanged())
    {
        return Ok(Found::File(shelved));
    }
    let Some(tree) = files.root(exchange.plane.since_start(now)) else {
        return Ok(Found::Nothing);
    };
    let (key, name) = (name, name.get(NUMBER_BYTES..).unwrap_or_default());
    let is_precompressed = files.is_precompressed;
    let looked_up = match load(&tree, name, is_precompressed, Wait::Never) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            let name = name.to_vec();
            let job = move || load(&tree, &name, is_precompressed, Wait::Allowed);
            let done = tokio::task::spawn_blocking(job).await;
            done.unwrap_or_else(|error| Err(io::Error::other(error)))
        }
        looked_up => looked_up,
    };
    Ok(match looked_up? {
        Lookup::File(loaded) => Found::File(shelf.put(key, shelved(*loaded, name), now)),
        Lookup::Directory => Found::Slash,
        Lookup::Nothing => Found::Nothing,
    })
}

fn shelved(loaded: Loaded, name: &[u8]) -> Shelved {
    let coded = loaded.coded.into_iter();
    let coded = coded.map(|(coding, file)| Resource::new(file, name, Some(coding)));
    Shelved::new(Resource::new(loaded.plain, name, None), coded.collect())
}
