//! Request methods.

/// A request method; the ones that rules speak of have a name of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Method {
    /// CONNECT, which this proxy refuses.
    Connect,
    /// DELETE
    Delete,
    /// GET
    #[default]
    Get,
    /// HEAD
    Head,
    /// OPTIONS
    Options,
    /// PATCH
    Patch,
    /// POST
    Post,
    /// PUT
    Put,
    /// TRACE, which this proxy refuses.
    Trace,
    /// Any other method.
    Other,
}

impl Method {
    /// How many there are, for tables.
    pub const COUNT: usize = 10;

    /// Every method in the order of its number.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Connect,
        Self::Delete,
        Self::Get,
        Self::Head,
        Self::Options,
        Self::Patch,
        Self::Post,
        Self::Put,
        Self::Trace,
        Self::Other,
    ];

    /// Names the method that `token` spells; methods are case-sensitive.
    pub fn from_token(token: &[u8]) -> Self {
        match token {
            b"GET" => Self::Get,
            b"HEAD" => Self::Head,
            b"POST" => Self::Post,
            b"PUT" => Self::Put,
            b"DELETE" => Self::Delete,
            b"OPTIONS" => Self::Options,
            b"PATCH" => Self::Patch,
            b"CONNECT" => Self::Connect,
            b"TRACE" => Self::Trace,
            _ => Self::Other,
        }
    }

    /// The label in metrics; all other methods share one, so that no client can make labels.
    pub fn label(self) -> &'static str {
        match self {
            Self::Connect => "CONNECT",
            Self::Delete => "DELETE",
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Options => "OPTIONS",
            Self::Patch => "PATCH",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Trace => "TRACE",
            Self::Other => "other",
        }
    }

    /// Tells whether sending the request twice has the effect of sending it once (RFC 9110 §9.2.2).
    pub fn is_idempotent(self) -> bool {
        matches!(
            self,
            Self::Get | Self::Head | Self::Options | Self::Put | Self::Delete | Self::Trace
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_follow_the_table() {
        for (number, method) in Method::ALL.into_iter().enumerate() {
            assert_eq!(number, method as usize);
        }
        assert_eq!(Method::from_token(b"get"), Method::Other);
    }
}
