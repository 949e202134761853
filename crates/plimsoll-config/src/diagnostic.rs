//! What is wrong with a configuration: where, why, and what to do next.

use std::ops::Range;

use annotate_snippets::{AnnotationKind, Element, Level, Origin, Renderer, Snippet};
use serde_json::{Value, json};

use crate::codes::Code;
use crate::source::{Sources, Span, offset};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The configuration cannot be used.
    Error,
    /// It can, and is probably not what was meant.
    Warning,
}

/// A place with a remark.
#[derive(Clone, Debug)]
pub struct Label {
    /// Where.
    pub span: Span,
    /// What about it; may be empty.
    pub text: String,
}

/// One problem.
#[derive(Clone, Debug)]
pub struct Diagnostic {
    /// Which kind of problem.
    pub code: &'static Code,
    /// One line that says it.
    pub message: String,
    /// Where it is.
    pub primary: Label,
    /// What else has to do with it.
    pub related: Vec<Label>,
    /// More to know.
    pub notes: Vec<String>,
    /// What to do.
    pub help: Option<String>,
}

impl Diagnostic {
    pub(crate) fn new(code: &'static Code, span: Span, message: impl Into<String>) -> Self {
        Self {
            code,
            message: bounded(message),
            primary: Label {
                span,
                text: String::new(),
            },
            related: Vec::new(),
            notes: Vec::new(),
            help: None,
        }
    }

    pub(crate) fn label(mut self, text: impl Into<String>) -> Self {
        self.primary.text = bounded(text);
        self
    }

    pub(crate) fn related(mut self, span: Span, text: impl Into<String>) -> Self {
        self.related.push(Label {
            span,
            text: text.into(),
        });
        self
    }

    pub(crate) fn note(mut self, text: impl Into<String>) -> Self {
        self.notes.push(bounded(text));
        self
    }

    pub(crate) fn help(mut self, text: impl Into<String>) -> Self {
        self.help = Some(bounded(text));
        self
    }

    /// How bad it is.
    pub fn severity(&self) -> Severity {
        if self.code.id.starts_with('W') {
            Severity::Warning
        } else {
            Severity::Error
        }
    }

    /// The problem as a person reads it.
    pub fn render(&self, sources: &Sources, color: bool) -> String {
        let level = match self.severity() {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let mut excerpts: Vec<Excerpt<'_>> = Vec::new();
        let labels = std::iter::once((&self.primary, AnnotationKind::Primary));
        for (label, kind) in labels.chain(
            self.related
                .iter()
                .map(|label| (label, AnnotationKind::Context)),
        ) {
            Excerpt::add(&mut excerpts, sources, label, kind);
        }
        let mut group = level
            .primary_title(self.message.as_str())
            .id(self.code.id)
            .elements(Vec::<Element<'_>>::new());
        for excerpt in &excerpts {
            // Of an empty file, and of one that could not be read, there is nothing to show.
            if excerpt.line == 1 && excerpt.text.trim().is_empty() {
                group = group.element(Origin::path(excerpt.name));
                continue;
            }
            let annotations = excerpt.marks.iter().map(|(range, text, kind)| {
                let annotation = kind.span(range.clone());
                if text.is_empty() {
                    annotation
                } else {
                    annotation.label(*text)
                }
            });
            let snippet = Snippet::source(excerpt.text.as_str())
                .path(excerpt.name)
                .line_start(excerpt.line as usize);
            group = group.element(snippet.annotations(annotations));
        }
        group = group.elements(
            self.notes
                .iter()
                .map(|note| Level::NOTE.message(note.as_str())),
        );
        group = group.elements(
            self.help
                .iter()
                .map(|help| Level::HELP.message(help.as_str())),
        );
        let renderer = if color {
            Renderer::styled()
        } else {
            Renderer::plain()
        };
        renderer.render(&[group])
    }

    /// The problem as a program reads it.
    pub fn to_json(&self, sources: &Sources) -> Value {
        let (line, column) = sources.position(self.primary.span);
        let file = sources.file(self.primary.span.file).map(|file| &*file.name);
        json!({
            "code": self.code.id,
            "severity": if self.severity() == Severity::Error { "error" } else { "warning" },
            "message": self.message,
            "file": file,
            "line": line,
            "column": column,
            "label": self.primary.text,
            "notes": self.notes,
            "help": self.help,
        })
    }
}

/// Longest text of a message: it may hold a word of the file, and a word may be the whole file.
const TEXT_BYTES_MAX: usize = 600;

fn bounded(text: impl Into<String>) -> String {
    let mut text = text.into();
    if text.len() > TEXT_BYTES_MAX {
        text.truncate(floor(&text, TEXT_BYTES_MAX));
        text.push('…');
    }
    text
}

/// Longest line that is shown; of a longer one, the part around the place.
const LINE_BYTES_MAX: usize = 160;

/// The lines around the marked places of one file.
struct Excerpt<'a> {
    name: &'a str,
    file: u32,
    line: u32,
    text: String,
    marks: Vec<(Range<usize>, &'a str, AnnotationKind)>,
}

impl<'a> Excerpt<'a> {
    /// Shows `label`, in the excerpt that has its line if there is one. Only the line itself is
    /// shown, so that the cost does not depend on the file.
    fn add(excerpts: &mut Vec<Self>, sources: &'a Sources, label: &'a Label, kind: AnnotationKind) {
        let Some(file) = sources.file(label.span.file) else {
            return;
        };
        let line = sources.line(label.span);
        let text = file.line(line).trim_end_matches('\r');
        // A place may begin or end inside of a character: it is shown as the whole character.
        let within = |at: u32| (at.saturating_sub(file.line_start(line)) as usize).min(text.len());
        let start = floor(text, within(label.span.start));
        let end = ceiling(text, within(label.span.end)).max(start);
        let cut = cut(text, start);
        let shown = text.get(cut.clone()).unwrap_or_default();
        let range = start - cut.start..end.min(cut.end).max(start) - cut.start;
        // A place at the end of a line, or of the file, is one column wide.
        let range = match range.is_empty() {
            true if range.start < shown.len() => range.start..ceiling(shown, range.start + 1),
            true => range.start..range.start + 1,
            false => range,
        };
        let mark = (range, label.text.as_str(), kind);
        match excerpts
            .iter_mut()
            .find(|e| e.file == label.span.file && e.line == line)
        {
            Some(excerpt) if excerpt.text.starts_with(shown) => excerpt.marks.push(mark),
            _ => {
                let text = format!("{shown}\n");
                excerpts.push(Self {
                    name: &file.name,
                    file: label.span.file,
                    line,
                    text,
                    marks: vec![mark],
                });
            }
        }
    }
}

/// The part of a long line that is shown for a place at `at`.
fn cut(text: &str, at: usize) -> Range<usize> {
    if text.len() <= LINE_BYTES_MAX {
        return 0..text.len();
    }
    let start = floor(text, at.saturating_sub(LINE_BYTES_MAX / 2));
    start..floor(text, (start + LINE_BYTES_MAX).min(text.len()))
}

/// The boundary of a character at or before `at`.
fn floor(text: &str, at: usize) -> usize {
    (0..=at)
        .rev()
        .find(|&at| text.is_char_boundary(at))
        .unwrap_or(0)
}

/// The boundary of a character at or behind `at`.
fn ceiling(text: &str, at: usize) -> usize {
    (at..text.len())
        .find(|&at| text.is_char_boundary(at))
        .unwrap_or(text.len())
}

/// The place of byte `at` in a file.
pub(crate) fn point(file: u32, at: usize) -> Span {
    Span {
        file,
        start: offset(at),
        end: offset(at + 1),
    }
}
