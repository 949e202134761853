//! Field names this proxy has rules for, and the rules about fields that end at one hop.

macro_rules! names {
    ($($(#[doc = $doc:literal])* $variant:ident = $text:literal;)*) => {
        /// A field name; those that a rule speaks of have a name of their own.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Name { $($(#[doc = $doc])* $variant,)* /** Any other name. */ Other }

        impl Name {
            /// Names the field that `text` spells, in any case.
            pub fn from_bytes(text: &[u8]) -> Self {
                // Most fields are not in the table: the length tells, and the first letter.
                let Some(first) = text.first() else { return Self::Other };
                $(if text.len() == $text.len()
                    && Some(&first.to_ascii_lowercase()) == $text.as_bytes().first()
                    && is_spelled(text, $text.as_bytes())
                {
                    return Self::$variant;
                })*
                Self::Other
            }
        }
    };
}

names! {
    /// `Accept`
    Accept = "accept";
    /// `Authorization`
    Authorization = "authorization";
    /// `Cache-Control`
    CacheControl = "cache-control";
    /// `Connection`
    Connection = "connection";
    /// `Content-Length`
    ContentLength = "content-length";
    /// `Cookie`
    Cookie = "cookie";
    /// `Date`
    Date = "date";
    /// `Expect`
    Expect = "expect";
    /// `Forwarded`
    Forwarded = "forwarded";
    /// `Grpc-Timeout`
    GrpcTimeout = "grpc-timeout";
    /// `Host`
    Host = "host";
    /// `HTTP2-Settings`
    Http2Settings = "http2-settings";
    /// `Keep-Alive`
    KeepAlive = "keep-alive";
    /// `Max-Forwards`
    MaxForwards = "max-forwards";
    /// `Proxy-Authenticate`
    ProxyAuthenticate = "proxy-authenticate";
    /// `Proxy-Authorization`
    ProxyAuthorization = "proxy-authorization";
    /// `Proxy-Connection`
    ProxyConnection = "proxy-connection";
    /// `Proxy-Status`
    ProxyStatus = "proxy-status";
    /// `Referer`
    Referer = "referer";
    /// `Server`
    Server = "server";
    /// `Set-Cookie`
    SetCookie = "set-cookie";
    /// `TE`
    Te = "te";
    /// `Traceparent`
    Traceparent = "traceparent";
    /// `Trailer`
    Trailer = "trailer";
    /// `Transfer-Encoding`
    TransferEncoding = "transfer-encoding";
    /// `Upgrade`
    Upgrade = "upgrade";
    /// `User-Agent`
    UserAgent = "user-agent";
    /// `Via`
    Via = "via";
    /// `WWW-Authenticate`
    WwwAuthenticate = "www-authenticate";
    /// `X-Forwarded-For`
    XForwardedFor = "x-forwarded-for";
    /// `X-Forwarded-Host`
    XForwardedHost = "x-forwarded-host";
    /// `X-Forwarded-Port`
    XForwardedPort = "x-forwarded-port";
    /// `X-Forwarded-Proto`
    XForwardedProto = "x-forwarded-proto";
    /// `X-Real-IP`
    XRealIp = "x-real-ip";
    /// `X-Request-Deadline`
    XRequestDeadline = "x-request-deadline";
    /// `X-Request-ID`
    XRequestId = "x-request-id";
    /// `X-Accel-Redirect` and its family are told apart by prefix, see [`is_internal`].
    XSendfile = "x-sendfile";
}

/// Tells whether a name in any case is one of the same length in lower case. All of it is looked at, many bytes at once.
fn is_spelled(text: &[u8], known: &[u8]) -> bool {
    let pairs = text.iter().zip(known);
    pairs.fold(true, |is, (byte, known)| {
        is & (byte.to_ascii_lowercase() == *known)
    })
}

impl Name {
    /// Tells whether the field speaks to the next hop only (RFC 9110 §7.6.1), so that it is never
    /// forwarded, whether `Connection` names it or not.
    pub fn is_hop_by_hop(self) -> bool {
        matches!(
            self,
            Self::Connection
                | Self::KeepAlive
                | Self::ProxyAuthenticate
                | Self::ProxyAuthorization
                | Self::ProxyConnection
                | Self::Te
                | Self::Trailer
                | Self::TransferEncoding
                | Self::Upgrade
                | Self::Http2Settings
        )
    }

    /// Tells whether a client may not take the field away by naming it in `Connection`: identity,
    /// routing and what this proxy sets itself.
    pub fn is_protected(self) -> bool {
        matches!(
            self,
            Self::Authorization
                | Self::Cookie
                | Self::Date
                | Self::Expect
                | Self::Forwarded
                | Self::Host
                | Self::MaxForwards
                | Self::Via
                | Self::WwwAuthenticate
                | Self::XForwardedFor
                | Self::XForwardedHost
                | Self::XForwardedPort
                | Self::XForwardedProto
                | Self::XRealIp
                | Self::XRequestId
        )
    }

    /// Tells whether the field says who a client is: set by this proxy, never taken from a client.
    pub fn is_forwarding(self) -> bool {
        matches!(
            self,
            Self::Forwarded
                | Self::XForwardedFor
                | Self::XForwardedHost
                | Self::XForwardedPort
                | Self::XForwardedProto
                | Self::XRealIp
        )
    }
}

/// Tells whether the field says who a client is, or what certificate it has, in the words of a proxy
/// that ends connections in front: believed of a trusted peer alone (for `Client-Cert`, RFC 9440 §4).
pub fn is_vouched(name: &[u8]) -> bool {
    let is = |known: &[u8]| name.eq_ignore_ascii_case(known);
    match name.first() {
        Some(b't' | b'T') => is(b"true-client-ip"),
        Some(b'c' | b'C') => is_certificate(name),
        Some(b'x' | b'X') => {
            starts_with_ignore_case(name, b"x-ssl-")
                || starts_with_ignore_case(name, b"x-client-cert")
                || is(b"x-forwarded-client-cert")
        }
        _ => false,
    }
}

/// Tells whether the field says what certificate a client has shown (RFC 9440).
pub fn is_certificate(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"client-cert") || name.eq_ignore_ascii_case(b"client-cert-chain")
}

/// Appends a field line.
pub fn write_line(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Tells whether a response field is an instruction between a server and its proxy, which a client
/// must not see.
pub fn is_internal(name: &[u8]) -> bool {
    starts_with_ignore_case(name, b"x-accel-") || name.eq_ignore_ascii_case(b"x-sendfile")
}

/// Tells whether `name` may stand in a trailer section that is passed on: nothing that frames,
/// routes, authenticates or identifies (RFC 9110 §6.5.1).
pub fn may_trail(text: &[u8]) -> bool {
    let name = Name::from_bytes(text);
    !(name.is_hop_by_hop()
        || name.is_protected()
        || name.is_forwarding()
        || name == Name::ContentLength
        || text.contains(&b'_')
        || is_internal(text)
        || is_vouched(text)
        || starts_with_ignore_case(text, b"content-")
        || text.eq_ignore_ascii_case(b"set-cookie")
        || text.eq_ignore_ascii_case(b"cache-control"))
}

/// Iterates over the members of a comma-separated list, without the blanks around them; empty
/// members are skipped (RFC 9110 §5.6.1).
pub fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value
        .split(|&b| b == b',')
        .map(<[u8]>::trim_ascii)
        .filter(|member| !member.is_empty())
}

/// Tells whether `b` may stand in a token (RFC 9110 §5.6.2).
pub fn is_tchar(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)
}

fn starts_with_ignore_case(text: &[u8], prefix: &[u8]) -> bool {
    text.get(..prefix.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_case_insensitive() {
        assert_eq!(Name::from_bytes(b"Content-Length"), Name::ContentLength);
        assert_eq!(Name::from_bytes(b"hOsT"), Name::Host);
        assert_eq!(Name::from_bytes(b"Hos"), Name::Other);
    }

    #[test]
    fn list_skips_empty_members() {
        let members: Vec<&[u8]> = list(b",,a ,\tb,, ").collect();
        assert_eq!(members, [b"a", b"b"]);
    }

    #[test]
    fn trailers_never_carry_framing_or_identity() {
        for name in [
            "Content-Length",
            "transfer-encoding",
            "Host",
            "X-Real-IP",
            "Cookie",
            "X-SSL-Client-Verify",
            "client-cert",
            "a_b",
        ] {
            assert!(!may_trail(name.as_bytes()), "{name}");
        }
        assert!(may_trail(b"Server-Timing") && may_trail(b"X-Checksum"));
    }
}
