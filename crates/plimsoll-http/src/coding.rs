//! Content codings (RFC 9110 §8.4): which one a client would like best.

use crate::accept::thousandths;
use crate::field;
use crate::head::RequestHead;

/// A content coding that this proxy can send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// Brotli (RFC 7932).
    Brotli,
    /// Zstandard (RFC 8878), with a window of 8 MiB at most (RFC 9659).
    Zstd,
    /// Gzip (RFC 1952).
    Gzip,
}

impl Coding {
    /// All of them, the ones that make files the smallest first.
    pub const ALL: [Self; 3] = [Self::Brotli, Self::Zstd, Self::Gzip];

    /// As `Content-Encoding` writes it.
    pub fn token(self) -> &'static str {
        match self {
            Self::Brotli => "br",
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
        }
    }

    /// What the names of files end in that have it.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Brotli => ".br",
            Self::Zstd => ".zst",
            Self::Gzip => ".gz",
        }
    }
}

/// How much a client likes each coding, in thousandths; 0 is not at all (RFC 9110 §12.5.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Liked {
    named: [Option<u32>; Coding::ALL.len()],
    identity: Option<u32>,
    others: Option<u32>,
}

impl Liked {
    /// Reads `Accept-Encoding`. A client that does not say gets what needs no decoding.
    pub fn of(head: &RequestHead, bytes: &[u8]) -> Self {
        let mut liked = Self::default();
        for line in head.fields.all_by_text(bytes, b"accept-encoding") {
            for member in field::list(line.value.of(bytes)) {
                liked.note(member);
            }
        }
        liked
    }

    fn note(&mut self, member: &[u8]) {
        let mut parts = member.split(|&b| b == b';').map(<[u8]>::trim_ascii);
        let name = parts.next().unwrap_or_default();
        let weight = parts.find_map(|part| match part {
            [b'q' | b'Q', b'=', value @ ..] => Some(thousandths(value)),
            _ => None,
        });
        let weight = Some(weight.unwrap_or(1000));
        let is = |token: &str| name.eq_ignore_ascii_case(token.as_bytes());
        if name == b"*" {
            self.others = weight;
        } else if is("identity") {
            self.identity = weight;
        } else if is("x-gzip") {
            *self.place(Coding::Gzip) = weight;
        } else if let Some(coding) = Coding::ALL.into_iter().find(|coding| is(coding.token())) {
            *self.place(coding) = weight;
        }
    }

    fn place(&mut self, coding: Coding) -> &mut Option<u32> {
        let [brotli, zstd, gzip] = &mut self.named;
        match coding {
            Coding::Brotli => brotli,
            Coding::Zstd => zstd,
            Coding::Gzip => gzip,
        }
    }

    /// How much it likes this one.
    fn weight(mut self, coding: Coding) -> u32 {
        let named = *self.place(coding);
        named.or(self.others).unwrap_or(0)
    }

    /// The coding it likes best of those that `can` be had, as the first of the best; nothing where it
    /// likes the plain bytes better.
    pub fn best(self, can: impl Fn(Coding) -> bool) -> Option<Coding> {
        let mut best = (self.identity.map_or(1, |plain| plain.max(1)), None);
        for coding in Coding::ALL.into_iter().filter(|coding| can(*coding)) {
            let weight = self.weight(coding);
            let is_better = match best.1 {
                None => weight >= best.0,
                Some(_) => weight > best.0,
            };
            if is_better {
                best = (weight, Some(coding));
            }
        }
        best.1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::h1::parse::{self, HeadLimits};

    fn best(value: &str, has: &[Coding]) -> Option<Coding> {
        let text = format!("GET / HTTP/1.1\r\n{value}\r\n\r\n");
        let mut head = RequestHead::default();
        parse::request(text.as_bytes(), &HeadLimits::default(), &mut head).unwrap();
        Liked::of(&head, text.as_bytes()).best(|coding| has.contains(&coding))
    }

    #[test]
    fn the_best_liked_coding_is_chosen() {
        use Coding::{Brotli, Gzip, Zstd};
        for (value, expected) in [
            ("A: b", None),
            ("Accept-Encoding:", None),
            ("Accept-Encoding: gzip", Some(Gzip)),
            ("Accept-Encoding: GZIP", Some(Gzip)),
            ("Accept-Encoding: x-gzip", Some(Gzip)),
            ("Accept-Encoding: gzip, deflate, br, zstd", Some(Brotli)),
            ("Accept-Encoding: gzip;q=1, br;q=0.5", Some(Gzip)),
            ("Accept-Encoding: br;q=0.001", Some(Brotli)),
            ("Accept-Encoding: br; Q=0, gzip", Some(Gzip)),
            ("Accept-Encoding: gzip;q=0", None),
            ("Accept-Encoding: *", Some(Brotli)),
            ("Accept-Encoding: *;q=0", None),
            ("Accept-Encoding: br;q=0, *;q=0.5", Some(Zstd)),
            ("Accept-Encoding: identity", None),
            ("Accept-Encoding: identity, gzip", Some(Gzip)),
            ("Accept-Encoding: identity, gzip;q=0.5", None),
            ("Accept-Encoding: identity;q=0.5, gzip", Some(Gzip)),
            ("Accept-Encoding: identity;q=0, zstd;q=0.2", Some(Zstd)),
            ("Accept-Encoding: identity;q=0", None),
            ("Accept-Encoding: deflate, compress", None),
            ("Accept-Encoding: gzip;q=x", None),
            ("Accept-Encoding: zstd\r\nAccept-Encoding: gzip", Some(Zstd)),
        ] {
            assert_eq!(best(value, &Coding::ALL), expected, "{value}");
        }
        assert_eq!(best("Accept-Encoding: br, gzip;q=0.1", &[Gzip]), Some(Gzip));
        assert_eq!(best("Accept-Encoding: br", &[Gzip]), None);
    }
}
