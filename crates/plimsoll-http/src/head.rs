//! Message heads as ranges over the buffer they arrived in: parsing one copies no byte.

use crate::field::Name;
use crate::method::Method;

/// The largest head: ranges are 16 bits wide, and no honest head comes near.
pub const HEAD_BYTES_MAX: usize = 32 * 1024;

/// The most fields a head may have.
pub const FIELDS_MAX: usize = 100;

/// A range of a head's bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    start: u16,
    end: u16,
}

impl Span {
    /// The bytes of the range; `head` is the buffer that was parsed.
    pub fn of(self, head: &[u8]) -> &[u8] {
        head.get(usize::from(self.start)..usize::from(self.end))
            .unwrap_or_default()
    }

    /// Length in bytes.
    pub fn len(self) -> usize {
        usize::from(self.end.saturating_sub(self.start))
    }

    /// Tells whether the range holds nothing.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// The part of the range from `from` to `to`, counted from its start.
    #[must_use]
    pub fn part(self, from: usize, to: usize) -> Self {
        let at = |offset: usize| {
            let offset = u16::try_from(offset).unwrap_or(u16::MAX);
            self.start.saturating_add(offset).min(self.end)
        };
        Self {
            start: at(from),
            end: at(to),
        }
    }

    /// The range that `part`, a slice of `head`, takes up.
    pub(crate) fn locate(head: &[u8], part: &[u8]) -> Self {
        let start = (part.as_ptr() as usize).wrapping_sub(head.as_ptr() as usize);
        // A part that is not of this head becomes an empty range: nothing to read, nothing to leak.
        let end = start.saturating_add(part.len());
        match (u16::try_from(start), u16::try_from(end)) {
            (Ok(start), Ok(end)) => Self { start, end },
            _ => Self::default(),
        }
    }
}

/// One field line.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Which field it is.
    pub name: Name,
    /// The name as it came.
    pub name_span: Span,
    /// The value without the blanks around it.
    pub value: Span,
}

/// Protocol version of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    #[default]
    Http11,
    /// HTTP/2
    Http2,
}

impl Version {
    /// As the access log writes it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Http10 => "HTTP/1.0",
            Self::Http11 => "HTTP/1.1",
            Self::Http2 => "HTTP/2.0",
        }
    }
}

/// The field lines of a head, in order.
#[derive(Debug, Default)]
pub struct Fields {
    lines: Vec<Field>,
}

impl Fields {
    /// Iterates over all lines.
    pub fn iter(&self) -> impl Iterator<Item = &Field> {
        self.lines.iter()
    }

    /// Iterates over the lines of one name.
    pub fn all(&self, name: Name) -> impl Iterator<Item = &Field> {
        self.lines.iter().filter(move |line| line.name == name)
    }

    /// Iterates over the lines of one name, the last one first.
    pub fn all_back(&self, name: Name) -> impl Iterator<Item = &Field> {
        self.lines
            .iter()
            .rev()
            .filter(move |line| line.name == name)
    }

    /// The first line of one name.
    pub fn first(&self, name: Name) -> Option<&Field> {
        self.lines.iter().find(|line| line.name == name)
    }

    /// Finds the first line whose name is `name`, in any case, for names that come from a
    /// configuration.
    pub fn by_text(&self, head: &[u8], name: &[u8]) -> Option<&Field> {
        self.all_by_text(head, name).next()
    }

    /// Finds all lines whose name is `name`, in any case.
    pub fn all_by_text(&self, head: &[u8], name: &[u8]) -> impl Iterator<Item = &Field> {
        self.lines
            .iter()
            .filter(|line| line.name_span.of(head).eq_ignore_ascii_case(name))
    }

    pub(crate) fn clear(&mut self) {
        self.lines.clear();
    }

    pub(crate) fn push(&mut self, field: Field) {
        self.lines.push(field);
    }
}

/// A request head. Parsing into the same value again reuses its memory.
#[derive(Debug, Default)]
pub struct RequestHead {
    /// The method.
    pub method: Method,
    /// The method as it came.
    pub method_span: Span,
    /// The request target as it came.
    pub target: Span,
    /// The client's version.
    pub version: Version,
    /// The field lines.
    pub fields: Fields,
    /// Bytes of the head, with its closing empty line and any empty line before it.
    pub len: usize,
}

/// A response head. Parsing into the same value again reuses its memory.
#[derive(Debug, Default)]
pub struct ResponseHead {
    /// The status code, 100 to 599.
    pub status: u16,
    /// The reason phrase as it came.
    pub phrase: Span,
    /// The server's version.
    pub version: Version,
    /// The field lines.
    pub fields: Fields,
    /// Bytes of the head, with its closing empty line.
    pub len: usize,
}
