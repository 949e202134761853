//! Who may ask, and who may change anything.
//!
//! Browsers are the danger on the own machine: a page of any origin can have them send requests here, by address or by a name of
//! its own that it lets lead here (DNS rebinding). So names that are not ours and origins that are not this
//! one are turned away, and nothing is changed but by JSON, which no form sends.

use std::net::{IpAddr, SocketAddr};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::header::{AUTHORIZATION, HOST, HeaderMap, ORIGIN};
use subtle::ConstantTimeEq;

/// Where a question comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum From {
    /// The Unix socket: the file system has asked already who that is.
    Socket,
    /// This machine, over an address.
    Machine,
    /// Anywhere.
    Network,
}

impl From {
    /// Where those come from who reach us at `local`.
    pub(crate) fn at(local: SocketAddr) -> Self {
        match local.ip().to_canonical().is_loopback() {
            true => Self::Machine,
            false => Self::Network,
        }
    }
}

/// Whether a call changes anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It shows something.
    Look,
    /// It shows what is not for everybody on this machine.
    Confide,
    /// It changes something.
    Change,
}

/// Why nothing is shown or changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("ask for this listener by its address or as `localhost`, or show the token")]
    Host,
    #[error("pages of other origins are not answered")]
    Origin,
    #[error("show the token: `Authorization: Bearer TOKEN`")]
    Token,
    #[error("this goes over the admin socket, or with a token: `admin auto token=FILE`")]
    NoToken,
}

/// Decides who may do what.
#[derive(Debug, Default)]
pub struct Guard {
    token: Option<Box<[u8]>>,
}

impl Guard {
    /// Asks for `token`, where there is one, before anything is changed over an address.
    pub fn new(token: Option<&[u8]>) -> Self {
        Self {
            token: token.map(Into::into),
        }
    }

    pub(crate) fn judge(&self, from: From, fields: &HeaderMap, kind: Kind) -> Result<(), Refusal> {
        if from == From::Socket {
            return Ok(());
        }
        let shown = fields
            .get(AUTHORIZATION)
            .map(|said| self.is_token(said.as_bytes()));
        let host = fields.get(HOST).map_or(&b""[..], |host| host.as_bytes());
        if let Some(origin) = fields.get(ORIGIN)
            && !is_origin_of(origin.as_bytes(), host)
        {
            return Err(Refusal::Origin);
        }
        match shown {
            Some(true) => return Ok(()),
            Some(false) if self.token.is_some() => return Err(Refusal::Token),
            _ => {}
        }
        // What other machines reach anyway, no name has to be led to.
        if from == From::Machine && !is_own(host) {
            return Err(Refusal::Host);
        }
        match (kind, from, &self.token) {
            (Kind::Look, From::Machine, _) | (Kind::Look, From::Network, None) => Ok(()),
            (_, _, Some(_)) => Err(Refusal::Token),
            (_, _, None) => Err(Refusal::NoToken),
        }
    }

    /// Tells whether a value of `Authorization` holds the token: as `Bearer` (RFC 6750), or as the password of `Basic`
    /// (RFC 7617), which browsers ask people for.
    fn is_token(&self, said: &[u8]) -> bool {
        let Some(token) = &self.token else {
            return false;
        };
        let Ok(said) = std::str::from_utf8(said) else {
            return false;
        };
        let Some((scheme, rest)) = said.split_once(' ') else {
            return false;
        };
        let is = |shown: &[u8]| bool::from(shown.ct_eq(token));
        if scheme.eq_ignore_ascii_case("bearer") {
            return is(rest.trim().as_bytes());
        }
        let decoded = STANDARD.decode(rest.trim()).unwrap_or_default();
        let password = decoded.splitn(2, |byte| *byte == b':').nth(1);
        scheme.eq_ignore_ascii_case("basic") && password.is_some_and(is)
    }
}

/// Tells whether a host leads to this machine whatever anyone's name server says.
fn is_own(host: &[u8]) -> bool {
    let Ok(host) = std::str::from_utf8(host) else {
        return false;
    };
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

fn is_origin_of(origin: &[u8], host: &[u8]) -> bool {
    let bare = origin.strip_prefix(b"http://");
    let bare = bare.or_else(|| origin.strip_prefix(b"https://"));
    bare.is_some_and(|bare| bare.eq_ignore_ascii_case(host))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::{HeaderName, HeaderValue};

    const TOKEN: &str = "a-token-of-some-length";

    fn judge(
        from: From,
        fields: &[(&str, &str)],
        kind: Kind,
        token: Option<&str>,
    ) -> Result<(), Refusal> {
        let fields = fields.iter().map(|(name, value)| {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            (name, HeaderValue::from_str(value).unwrap())
        });
        Guard::new(token.map(str::as_bytes)).judge(from, &fields.collect(), kind)
    }

    #[test]
    fn whoever_opens_the_socket_may_do_everything() {
        for kind in [Kind::Look, Kind::Change] {
            assert_eq!(judge(From::Socket, &[], kind, None), Ok(()));
        }
    }

    #[test]
    fn names_that_anyone_can_have_lead_here_are_turned_away() {
        for (host, expected) in [
            ("127.0.0.1:9900", Ok(())),
            ("localhost:9900", Ok(())),
            ("LOCALHOST", Ok(())),
            ("[::1]:9900", Ok(())),
            ("10.1.2.3", Ok(())),
            ("evil.example:9900", Err(Refusal::Host)),
            ("127.0.0.1.evil.example", Err(Refusal::Host)),
            ("localhost.evil.example", Err(Refusal::Host)),
            ("", Err(Refusal::Host)),
        ] {
            let found = judge(From::Machine, &[("host", host)], Kind::Look, None);
            assert_eq!(found, expected, "{host}");
        }
        let named = [
            ("host", "lb.example"),
            ("authorization", "Bearer a-token-of-some-length"),
        ];
        assert_eq!(
            judge(From::Machine, &named, Kind::Look, Some(TOKEN)),
            Ok(())
        );
    }

    #[test]
    fn pages_of_other_origins_are_turned_away() {
        for (origin, expected) in [
            ("http://127.0.0.1:9900", Ok(())),
            ("http://127.0.0.1:80", Err(Refusal::Origin)),
            ("http://evil.example", Err(Refusal::Origin)),
            ("null", Err(Refusal::Origin)),
        ] {
            let fields = [("host", "127.0.0.1:9900"), ("origin", origin)];
            assert_eq!(
                judge(From::Machine, &fields, Kind::Look, None),
                expected,
                "{origin}"
            );
        }
    }

    #[test]
    fn over_an_address_changes_need_the_token() {
        let host = ("host", "127.0.0.1:9900");
        let change = |said: &str, token| {
            let fields = [host, ("authorization", said)];
            let said = if said.is_empty() { 1 } else { 2 };
            judge(From::Machine, &fields[..said], Kind::Change, token)
        };
        assert_eq!(change("", None), Err(Refusal::NoToken));
        let confide = |token| judge(From::Machine, &[host], Kind::Confide, token);
        assert_eq!(confide(None), Err(Refusal::NoToken));
        assert_eq!(confide(Some(TOKEN)), Err(Refusal::Token));
        assert_eq!(change("Bearer x", None), Err(Refusal::NoToken));
        assert_eq!(change("", Some(TOKEN)), Err(Refusal::Token));
        for said in [
            "Bearer x",
            "Bearer",
            "bearer a-token-of-some-lengt",
            "Digest a-token-of-some-length",
            "Basic !",
            "Basic YTpi",
        ] {
            assert_eq!(change(said, Some(TOKEN)), Err(Refusal::Token), "{said}");
        }
        assert_eq!(change("Bearer a-token-of-some-length", Some(TOKEN)), Ok(()));
        let basic = format!("basic {}", STANDARD.encode(format!("anyone:{TOKEN}")));
        assert_eq!(change(&basic, Some(TOKEN)), Ok(()));
    }

    #[test]
    fn from_elsewhere_even_a_look_needs_the_token_where_there_is_one() {
        let host = [("host", "lb.example:9900")];
        assert_eq!(judge(From::Network, &host, Kind::Look, None), Ok(()));
        assert_eq!(
            judge(From::Network, &host, Kind::Look, Some(TOKEN)),
            Err(Refusal::Token)
        );
        let near = [("host", "127.0.0.1:9900")];
        assert_eq!(judge(From::Machine, &near, Kind::Look, Some(TOKEN)), Ok(()));
    }
}
