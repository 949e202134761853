//! From text to a checked model; every problem of a file in one run.
//!
//! Text becomes words , words become statements, each statement finds its row in
//! the one table of directives and is read into a draft, and the draft becomes the [`model`]: names
//! resolved, defaults filled in. Files are read by a [`Loader`] that the caller passes.
#![forbid(unsafe_code)]

mod acme;
mod alike;
mod arguments;
mod caches;
mod certified;
mod codes;
mod diagnostic;
mod directive;
mod directives;
mod draft;
mod format;
mod https;
mod json;
mod lint;
pub mod model;
mod problems;
mod read;
mod reference;
mod resolve;
mod schema;
mod services;
mod source;
mod statements;
mod suggest;
mod syntax;
mod template;
pub mod text;
mod token;
mod units;

pub use codes::{ALL as CODES, Code, explain};
pub use diagnostic::{Diagnostic, Label, Severity};
pub use format::format_text;
pub use json::{from_json, to_json};
pub use reference::reference;
pub use schema::schema;
pub use source::{FILE_BYTES_MAX, LoadError, Loader, NoFiles, Source, Sources, Span};
pub use text::to_text;

/// Reads a duration as the language writes it, such as `90s`; nothing for anything else.
pub fn duration(text: &str) -> Option<std::time::Duration> {
    units::duration(text).ok()
}

use draft::Draft;
use model::Config;
use read::Reader;

/// What became of a configuration.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration, unless there is an error among the problems.
    pub config: Option<Config>,
    /// All problems, in the order of their places.
    pub diagnostics: Vec<Diagnostic>,
    /// The files that the problems point into.
    pub sources: Sources,
}

impl Loaded {
    /// Tells whether any problem is an error.
    pub fn has_errors(&self) -> bool {
        self.config.is_none()
    }
}

/// Loads the file `path` and all that it includes.
pub fn load(path: &str, loader: &dyn Loader) -> Loaded {
    let mut reader = Reader::new(loader);
    let draft = reader.read_file(path);
    finish(reader, draft)
}

/// Loads `text` as if it were a file called `name`.
pub fn load_text(name: &str, text: &str, loader: &dyn Loader) -> Loaded {
    let mut reader = Reader::new(loader);
    let draft = reader.read_text(name, text);
    finish(reader, draft)
}

fn finish(mut reader: Reader<'_>, draft: Draft) -> Loaded {
    let was_read = !reader.is_broken();
    // A file that could not be read serves nothing, and that is not worth a second message.
    let config =
        (was_read || !draft.sites.is_empty() || !draft.tcp.is_empty() || !draft.udp.is_empty())
            .then(|| resolve::resolve(&mut reader, draft));
    let (diagnostics, sources) = reader.finish();
    let is_good = diagnostics
        .iter()
        .all(|problem| problem.severity() == Severity::Warning);
    Loaded {
        config: config.filter(|_| is_good),
        diagnostics,
        sources,
    }
}

/// Holds the laws of the language on any bytes, for the fuzzer.
#[expect(
    clippy::missing_panics_doc,
    reason = "a panic is how a fuzzer hears of a broken law"
)]
pub fn fuzz_load(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let loaded = load_text("fuzz", &text, &NoFiles);
    for problem in &loaded.diagnostics {
        assert!(
            !problem.render(&loaded.sources, false).is_empty(),
            "a problem says something"
        );
    }
    if let Ok(once) = format_text("fuzz", &text) {
        assert!(
            format_text("fuzz", &once).is_ok_and(|twice| twice == once),
            "layout is a fixed point"
        );
    }
    if let Some(config) = loaded.config {
        let written = load_text("fuzz", &to_text(&config), &NoFiles);
        assert!(written.config.is_some(), "what is written can be read");
    }
}
