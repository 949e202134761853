//! The files of a configuration, and places in them.

use std::sync::Arc;

/// Reads files and variables for the language, which touches neither itself.
pub trait Loader {
    /// Reads a whole file, at most [`FILE_BYTES_MAX`] of it.
    ///
    /// # Errors
    /// The file cannot be read or is too large.
    fn read(&self, path: &str) -> Result<Vec<u8>, LoadError>;

    /// Finds the files that match a pattern, sorted.
    ///
    /// # Errors
    /// The folder cannot be read.
    fn glob(&self, pattern: &str) -> Result<Vec<String>, LoadError>;

    /// Reads a variable of the environment.
    fn env(&self, name: &str) -> Option<String>;

    /// The directory for what the program makes and keeps.
    fn state_directory(&self) -> String {
        "/var/lib/plimsoll".to_owned()
    }
}

/// Reads nothing: for a text that stands alone.
#[derive(Clone, Copy, Debug)]
pub struct NoFiles;

impl Loader for NoFiles {
    fn read(&self, _: &str) -> Result<Vec<u8>, LoadError> {
        Err(LoadError::Failed("there are no files here".to_owned()))
    }

    fn glob(&self, _: &str) -> Result<Vec<String>, LoadError> {
        Ok(Vec::new())
    }

    fn env(&self, _: &str) -> Option<String> {
        None
    }
}

/// The largest file that is read.
pub const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Why a file was not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoadError {
    /// It is larger than [`FILE_BYTES_MAX`].
    TooLarge,
    /// What the system said.
    Failed(String),
}

/// A range of bytes in one file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// Which file, by its number in [`Sources`].
    pub file: u32,
    /// First byte.
    pub start: u32,
    /// Behind the last byte.
    pub end: u32,
}

impl Span {
    /// From the start of `self` to the end of `other`.
    #[must_use]
    pub fn to(self, other: Self) -> Self {
        Self {
            end: other.end.max(self.start),
            ..self
        }
    }
}

/// One file that was read.
#[derive(Clone, Debug)]
pub struct Source {
    /// Its name as the user wrote it.
    pub name: Arc<str>,
    /// Its text.
    pub text: String,
    /// Where each line begins.
    lines: Vec<u32>,
}

/// All files that were read, by number.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    files: Vec<Source>,
}

impl Sources {
    /// Adds a file and returns its number.
    pub fn add(&mut self, name: &str, text: String) -> u32 {
        self.files.push(Source {
            name: name.into(),
            text: String::new(),
            lines: vec![0],
        });
        let number = offset(self.files.len() - 1);
        self.replace(number, text);
        number
    }

    /// Gives a file its text.
    pub(crate) fn replace(&mut self, number: u32, text: String) {
        let Some(file) = self.files.get_mut(number as usize) else {
            return;
        };
        let ends = text.bytes().enumerate().filter(|(_, b)| *b == b'\n');
        file.lines = std::iter::once(0)
            .chain(ends.map(|(at, _)| offset(at + 1)))
            .collect();
        file.text = text;
    }

    /// A file by its number.
    pub fn file(&self, number: u32) -> Option<&Source> {
        self.files.get(number as usize)
    }

    /// How many files were read.
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Tells whether no file was read.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// The text of a place.
    pub fn text(&self, span: Span) -> &str {
        let range = span.start as usize..span.end as usize;
        self.file(span.file)
            .and_then(|file| file.text.get(range))
            .unwrap_or_default()
    }

    /// Line and column of a place, both from 1; columns count characters.
    pub fn position(&self, span: Span) -> (u32, u32) {
        let line = self.line(span);
        let Some(file) = self.file(span.file) else {
            return (1, 1);
        };
        let start = file.line_start(line) as usize;
        let before = file
            .text
            .get(start..span.start as usize)
            .unwrap_or_default();
        (line, offset(before.chars().count() + 1))
    }

    /// Line of a place, from 1: unlike the column it costs little, however long the line.
    pub fn line(&self, span: Span) -> u32 {
        let Some(file) = self.file(span.file) else {
            return 1;
        };
        offset(
            file.lines
                .partition_point(|&start| start <= span.start)
                .max(1),
        )
    }
}

impl Source {
    /// The byte range of a line, from 1, without its end.
    pub(crate) fn line(&self, number: u32) -> &str {
        let at = number.saturating_sub(1) as usize;
        let Some(&start) = self.lines.get(at) else {
            return "";
        };
        let end = self
            .lines
            .get(at + 1)
            .map_or(self.text.len(), |end| *end as usize - 1);
        self.text.get(start as usize..end).unwrap_or_default()
    }

    /// Where a line, from 1, begins.
    pub(crate) fn line_start(&self, number: u32) -> u32 {
        self.lines
            .get(number.saturating_sub(1) as usize)
            .copied()
            .unwrap_or_default()
    }
}

/// A file has at most [`FILE_BYTES_MAX`] bytes, so its offsets fit.
pub(crate) fn offset(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}
