//! Own pages for errors, compiled.

use std::sync::Arc;

use arc_swap::ArcSwap;
use plimsoll_config::model::{ErrorPage, PageSource};

use crate::material::Materials;

/// The largest page.
const BYTES_MAX: usize = 1 << 20;

/// A page, cut where something is filled in.
#[derive(Debug, Default)]
pub(crate) struct Page(Vec<Piece>);

#[derive(Debug)]
enum Piece {
    Text(Box<[u8]>),
    RequestId,
    Status,
}

impl Page {
    /// Cuts a text.
    ///
    /// # Errors
    /// It is too large.
    pub(crate) fn read(text: &[u8]) -> Result<Self, String> {
        const ID: &[u8] = b"${request.id}";
        const STATUS: &[u8] = b"${response.status}";
        if text.len() > BYTES_MAX {
            return Err("a page is 1 MiB at most".to_owned());
        }
        let mut pieces = Vec::new();
        let mut rest = text;
        loop {
            let found = [(ID, Piece::RequestId), (STATUS, Piece::Status)]
                .into_iter()
                .filter_map(|(name, piece)| Some((memchr::memmem::find(rest, name)?, name, piece)))
                .min_by_key(|(at, ..)| *at);
            let Some((at, name, piece)) = found else {
                pieces.push(Piece::Text(rest.into()));
                return Ok(Self(pieces));
            };
            pieces.push(Piece::Text(rest.get(..at).unwrap_or_default().into()));
            pieces.push(piece);
            rest = rest.get(at + name.len()..).unwrap_or_default();
        }
    }

    /// Appends the page.
    pub(crate) fn write(&self, status: u16, id: &[u8], out: &mut Vec<u8>) {
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => out.extend_from_slice(text),
                Piece::RequestId => out.extend_from_slice(id),
                Piece::Status => out.extend_from_slice(status.to_string().as_bytes()),
            }
        }
    }
}

/// A page and what it is for.
#[derive(Clone, Debug)]
pub(crate) struct OwnPage {
    status: Vec<u16>,
    pub(crate) media: &'static str,
    pub(crate) page: Arc<ArcSwap<Page>>,
}

impl OwnPage {
    pub(crate) fn new(page: &ErrorPage, materials: &mut Materials) -> Self {
        let (media, content) = match &page.source {
            PageSource::File(path) => (media(path), materials.pages(path)),
            PageSource::Text(text) => {
                // A text that is too long is refused when it is read.
                let page = Page::read(text.as_bytes()).unwrap_or_default();
                (
                    "text/plain; charset=utf-8",
                    Arc::new(ArcSwap::from_pointee(page)),
                )
            }
        };
        Self {
            status: page.status.clone(),
            media,
            page: content,
        }
    }
}

/// The first page for a status.
pub(crate) fn find(pages: &[OwnPage], status: u16) -> Option<&OwnPage> {
    pages.iter().find(|page| page.status.contains(&status))
}

fn media(path: &str) -> &'static str {
    match path.rsplit_once('.').map(|(_, end)| end) {
        Some("json") => "application/json",
        Some("txt") => "text/plain; charset=utf-8",
        _ => "text/html; charset=utf-8",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_filled_in() {
        let page =
            Page::read(b"${response.status}: ${request.id}${request.id} ${request.path}").unwrap();
        let mut out = Vec::new();
        page.write(502, b"abc", &mut out);
        assert_eq!(out, b"502: abcabc ${request.path}");
        assert!(Page::read(&vec![0; BYTES_MAX + 1]).is_err());
    }
}
