//! URLs that are fetched, in the one form in which they are asked for.

use serde::{Deserialize, Serialize};

use crate::arguments::server_address;
use crate::model::ServerAddress;

/// A URL that can be fetched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Url {
    /// All of it, as written.
    pub text: Box<str>,
    /// Whether it is asked for over TLS.
    pub is_tls: bool,
    /// Who is asked.
    pub address: ServerAddress,
    /// The host, and the port if one is written: what `Host` says.
    pub authority: Box<str>,
    /// The path and the query.
    pub target: Box<str>,
}

/// Why a text is not a URL that can be fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadUrl {
    /// It is not `https` or `http`.
    Scheme,
    /// It names no host.
    NoHost,
    /// What it names is not a host.
    Host,
    /// Its port is no port.
    Port,
    /// It holds a user or a password.
    Credentials,
    /// It goes on behind a `#`.
    Fragment,
    /// It holds this, which has to be escaped.
    Character(char),
}

impl Url {
    /// Reads a URL.
    pub(crate) fn parse(text: &str) -> Result<Self, BadUrl> {
        let (scheme, rest) = text.split_once("://").ok_or(BadUrl::Scheme)?;
        let is_tls = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return Err(BadUrl::Scheme),
        };
        if rest.contains('#') {
            return Err(BadUrl::Fragment);
        }
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        if authority.contains('@') {
            return Err(BadUrl::Credentials);
        }
        let address = address(authority, if is_tls { 443 } else { 80 })?;
        if let Some(bad) = target.chars().find(|c| !is_plain(*c)) {
            return Err(BadUrl::Character(bad));
        }
        let slash = if target.starts_with('/') { "" } else { "/" };
        Ok(Self {
            text: text.into(),
            is_tls,
            address,
            authority: authority.into(),
            target: format!("{slash}{target}").into(),
        })
    }

    /// Reads a URL that somebody else names; nothing when it is none that can be fetched.
    pub fn new(text: &str) -> Option<Self> {
        Self::parse(text).ok()
    }

    /// Tells whether it leads to this machine, so that nobody is in between.
    pub fn is_loopback(&self) -> bool {
        match &self.address {
            ServerAddress::Ip(ip, _) => ip.is_loopback(),
            ServerAddress::Name(name, _) => {
                let name = name.to_ascii_lowercase();
                name == "localhost" || name.ends_with(".localhost")
            }
        }
    }
}

/// Host and port; `usual` is the port when none is written.
fn address(authority: &str, usual: u16) -> Result<ServerAddress, BadUrl> {
    // The colons of an IPv6 address stand in brackets.
    let inside = authority.rfind(']').unwrap_or(0);
    let colon = authority.get(inside..).and_then(|rest| rest.find(':'));
    let (host, port) = match colon.and_then(|at| authority.split_at_checked(inside + at)) {
        Some((host, port)) => (host, port.trim_start_matches(':')),
        None => (authority, ""),
    };
    if host.is_empty() {
        return Err(BadUrl::NoHost);
    }
    let is_written = host.len() < authority.len();
    let is_port = port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>() != Ok(0);
    let port = match is_written {
        true if is_port => port.parse().map_err(|_| BadUrl::Port)?,
        true => return Err(BadUrl::Port),
        false => usual,
    };
    server_address(&format!("{host}:{port}")).ok_or(BadUrl::Host)
}

/// What a path or a query may hold as it is (RFC 3986).
fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-._~!$&'()*+,;=:@/?%".contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_whom_to_ask_for_what() {
        for (text, is_tls, address, authority, target) in [
            (
                "https://id.example",
                true,
                "id.example:443",
                "id.example",
                "/",
            ),
            (
                "https://id.example/",
                true,
                "id.example:443",
                "id.example",
                "/",
            ),
            (
                "HTTPS://id.example/a?b=c%20d",
                true,
                "id.example:443",
                "id.example",
                "/a?b=c%20d",
            ),
            (
                "https://id.example?b",
                true,
                "id.example:443",
                "id.example",
                "/?b",
            ),
            (
                "https://id.example:8443/a",
                true,
                "id.example:8443",
                "id.example:8443",
                "/a",
            ),
            ("http://10.0.0.1/a", false, "10.0.0.1:80", "10.0.0.1", "/a"),
            ("http://[::1]/a", false, "[::1]:80", "[::1]", "/a"),
            (
                "https://[2001:db8::1]:9/a",
                true,
                "[2001:db8::1]:9",
                "[2001:db8::1]:9",
                "/a",
            ),
        ] {
            let url = Url::parse(text).unwrap();
            assert_eq!(Some(url.address), server_address(address), "{text}");
            assert_eq!(
                (url.is_tls, &*url.authority, &*url.target),
                (is_tls, authority, target),
                "{text}"
            );
            assert_eq!(&*url.text, text);
        }
    }

    #[test]
    fn what_cannot_be_fetched_is_no_url() {
        for (text, why) in [
            ("", BadUrl::Scheme),
            ("id.example/a", BadUrl::Scheme),
            ("ftp://id.example/a", BadUrl::Scheme),
            ("://id.example/a", BadUrl::Scheme),
            ("https://", BadUrl::NoHost),
            ("https:///a", BadUrl::NoHost),
            ("https://:443/a", BadUrl::NoHost),
            ("https://?a", BadUrl::NoHost),
            ("https://a b/", BadUrl::Host),
            ("https://-\u{e4}.example/", BadUrl::Host),
            ("https://10.0.0/a", BadUrl::Host),
            ("https://[::1/a", BadUrl::Host),
            ("https://::1/a", BadUrl::NoHost),
            ("https://[::1]x/a", BadUrl::Host),
            ("https://id.example:/a", BadUrl::Port),
            ("https://id.example:0/a", BadUrl::Port),
            ("https://id.example:65536/a", BadUrl::Port),
            ("https://id.example:+1/a", BadUrl::Port),
            ("https://id.example:1:2/a", BadUrl::Port),
            ("https://ada:secret@id.example/a", BadUrl::Credentials),
            ("https://id.example/a#b", BadUrl::Fragment),
            ("https://id.example/a b", BadUrl::Character(' ')),
            ("https://id.example/\u{e4}", BadUrl::Character('\u{e4}')),
            ("https://id.example/a\r\nX: y", BadUrl::Character('\r')),
            ("https://id.example\\@evil.example/", BadUrl::Credentials),
            ("https://id.example\\.evil.example/", BadUrl::Host),
        ] {
            assert_eq!(Url::parse(text), Err(why), "{text:?}");
        }
    }

    #[test]
    fn this_machine_is_known_by_its_names() {
        let is_loopback = |host: &str| {
            Url::parse(&format!("http://{host}/"))
                .unwrap()
                .is_loopback()
        };
        for host in [
            "localhost",
            "LocalHost:8080",
            "id.localhost",
            "127.0.0.9",
            "[::1]:1",
        ] {
            assert!(is_loopback(host), "{host}");
        }
        for host in [
            "localhost.example",
            "10.0.0.1",
            "[2001:db8::1]",
            "notlocalhost",
        ] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
