//! `files` as a statement.

use super::{Words, words};
use crate::model::{Files, TryFile};
use crate::text;

pub(crate) fn files(files: &Files) -> Words {
    let mut out = words(["files", &files.directory]);
    match files.index.as_slice() {
        [] => out.push("index=off".to_owned()),
        index => out.push(format!("index={}", index.join(","))),
    }
    let tries: Vec<&str> = files
        .tries
        .iter()
        .map(|one| match one {
            TryFile::Suffix(text) | TryFile::Path(text) => &**text,
        })
        .collect();
    out.extend((!tries.is_empty()).then(|| format!("try={}", tries.join(","))));
    let immutable: Vec<String> = files.immutable.iter().map(text::path).collect();
    out.extend((!immutable.is_empty()).then(|| format!("immutable={}", immutable.join(","))));
    let flags = [
        (files.lists, "listing"),
        (files.is_precompressed, "precompressed"),
        (files.shows_hidden, "hidden"),
    ];
    let set = flags.iter().filter(|(is_set, _)| *is_set);
    out.extend(set.map(|(_, name)| (*name).to_owned()));
    out
}
