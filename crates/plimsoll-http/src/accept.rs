//! What kind of error page a client would like.

use crate::field::{self, Name};
use crate::head::RequestHead;

/// The media type of an answer that this proxy makes itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Media {
    /// `text/html`, for people.
    Html,
    /// `application/problem+json` (RFC 9457), for programs.
    Problem,
    /// `text/plain`, for those who do not say.
    Plain,
}

impl Media {
    /// The `Content-Type` to send.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Html => "text/html; charset=utf-8",
            Self::Problem => "application/problem+json",
            Self::Plain => "text/plain; charset=utf-8",
        }
    }

    /// Picks what the client's `Accept` likes best; a type it names beats a wildcard.
    pub fn wanted(head: &RequestHead, bytes: &[u8]) -> Self {
        let mut best = (0, Self::Plain);
        for range in head
            .fields
            .all(Name::Accept)
            .flat_map(|line| field::list(line.value.of(bytes)))
        {
            let mut parts = range.split(|&b| b == b';').map(<[u8]>::trim_ascii);
            let media = match parts.next() {
                Some(b"text/html" | b"application/xhtml+xml") => Self::Html,
                Some(b"application/problem+json" | b"application/json" | b"application/*") => {
                    Self::Problem
                }
                Some(b"text/plain" | b"text/*") => Self::Plain,
                _ => continue,
            };
            let quality = parts
                .find_map(|p| p.strip_prefix(b"q="))
                .map_or(1000, thousandths);
            if quality > best.0 {
                best = (quality, media);
            }
        }
        best.1
    }
}

/// A quality value in thousandths: `0.5` is 500. Malformed ones are worth nothing.
pub(crate) fn thousandths(text: &[u8]) -> u32 {
    match text {
        [b'1', ..] => 1000,
        [b'0', b'.', digits @ ..] if digits.len() <= 3 && digits.iter().all(u8::is_ascii_digit) => {
            let digit = |at: usize| u32::from(digits.get(at).map_or(0, |d| d - b'0'));
            digit(0) * 100 + digit(1) * 10 + digit(2)
        }
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::h1::parse::{self, HeadLimits};

    #[test]
    fn the_best_liked_type_wins() {
        for (accept, media) in [
            ("text/html,application/xhtml+xml,*/*;q=0.8", Media::Html),
            ("*/*", Media::Plain),
            ("application/json", Media::Problem),
            (
                "text/html;q=0.3, application/problem+json;q=0.9",
                Media::Problem,
            ),
            ("text/html;q=0", Media::Plain),
            ("", Media::Plain),
        ] {
            let text = format!("GET / HTTP/1.1\r\nAccept: {accept}\r\n\r\n");
            let mut head = RequestHead::default();
            parse::request(text.as_bytes(), &HeadLimits::default(), &mut head).unwrap();
            assert_eq!(Media::wanted(&head, text.as_bytes()), media, "{accept}");
        }
    }
}
