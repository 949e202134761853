//! `Cache-Status` (RFC 9211): what a cache says of its part in an answer.

use crate::h1::encode::decimal;

/// Why a request went to a server (RFC 9211 §2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forwarded {
    /// It was none for the cache.
    Bypass,
    /// Its method has to reach the server.
    Method,
    /// Nothing is stored for its URI.
    UriMiss,
    /// Something is, but for requests with other fields.
    VaryMiss,
    /// The client wants to hear it from the server.
    Request,
    /// What is stored is no longer fresh.
    Stale,
}

impl Forwarded {
    /// The token.
    pub const fn token(self) -> &'static str {
        match self {
            Self::Bypass => "bypass",
            Self::Method => "method",
            Self::UriMiss => "uri-miss",
            Self::VaryMiss => "vary-miss",
            Self::Request => "request",
            Self::Stale => "stale",
        }
    }
}

/// What is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Why the request went to a server; nothing is a hit.
    pub forwarded: Option<Forwarded>,
    /// The status that came back, where it is not that of the answer.
    pub status: Option<u16>,
    /// For how many seconds what is stored is fresh; below zero when it is not.
    pub ttl: Option<i64>,
    /// Whether the answer is stored.
    pub is_stored: bool,
    /// Whether it was fetched once for several clients.
    pub is_collapsed: bool,
    /// More about it, a token.
    pub detail: Option<&'static str>,
}

impl Told {
    /// Appends the line.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"Cache-Status: plimsoll");
        match self.forwarded {
            None => out.extend_from_slice(b"; hit"),
            Some(why) => {
                out.extend_from_slice(b"; fwd=");
                out.extend_from_slice(why.token().as_bytes());
            }
        }
        if let Some(status) = self.status {
            out.extend_from_slice(b"; fwd-status=");
            decimal(u64::from(status), out);
        }
        if self.is_stored {
            out.extend_from_slice(b"; stored");
        }
        if self.is_collapsed {
            out.extend_from_slice(b"; collapsed");
        }
        if let Some(ttl) = self.ttl {
            out.extend_from_slice(b"; ttl=");
            out.extend_from_slice(itoa::Buffer::new().format(ttl).as_bytes());
        }
        if let Some(detail) = self.detail {
            out.extend_from_slice(b"; detail=");
            out.extend_from_slice(detail.as_bytes());
        }
        out.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_a_structured_field() {
        let line = |told: Told| {
            let mut out = Vec::new();
            told.write(&mut out);
            String::from_utf8(out).unwrap()
        };
        let hit = Told {
            ttl: Some(-3),
            detail: Some("error"),
            ..Told::default()
        };
        assert_eq!(
            line(hit),
            "Cache-Status: plimsoll; hit; ttl=-3; detail=error\r\n"
        );
        let missed = Told {
            forwarded: Some(Forwarded::UriMiss),
            status: Some(304),
            is_stored: true,
            is_collapsed: true,
            ..Told::default()
        };
        assert_eq!(
            line(missed),
            "Cache-Status: plimsoll; fwd=uri-miss; fwd-status=304; stored; collapsed\r\n"
        );
    }
}
