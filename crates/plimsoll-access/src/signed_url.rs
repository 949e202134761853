//! Links that are good until a time: `?expires=SECONDS&signature=...`, signed with a shared secret.
//!
//! Signed are the path in canonical form, the time, and the client's address if it is part of the deal,
//! each on a line of its own, with HMAC-SHA256.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

/// Why a link is not good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It has no signature, or no time.
    Unsigned,
    /// It was good before.
    Expired,
    /// It was signed with something else, or for something else.
    Forged,
}

/// A path with its query, as it is signed where that counts: without the parameters that sign it. What
/// is left stands as it came, so that nobody can say the same thing in another way.
pub fn with_query(path: &[u8], query: &[u8]) -> Vec<u8> {
    let mut out = path.to_vec();
    let name = |part: &[u8]| part.split(|b| *b == b'=').next().map(<[u8]>::to_vec);
    let parts = query.split(|b| *b == b'&');
    let signs = |part: &&[u8]| !matches!(name(part).as_deref(), Some(b"expires" | b"signature"));
    for part in parts.filter(signs) {
        out.push(if out.len() == path.len() { b'?' } else { b'&' });
        out.extend_from_slice(part);
    }
    out
}

/// The signature of a path that is good until `expires`, in seconds since 1970.
pub fn sign(secret: &[u8], path: &[u8], expires: u64, client: Option<&[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(mac(secret, path, expires, client))
}

/// Tells whether a link is good at `now`. Any of the secrets will do, so that they can be changed.
///
/// # Errors
/// Why it is not.
pub fn verify(
    secrets: &[Box<[u8]>],
    path: &[u8],
    (expires, signature): (Option<&[u8]>, Option<&[u8]>),
    client: Option<&[u8]>,
    now: u64,
) -> Result<(), Refused> {
    let (Some(expires), Some(signature)) = (expires, signature) else {
        return Err(Refused::Unsigned);
    };
    let digits = std::str::from_utf8(expires).ok();
    let digits = digits.filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
    let expires = digits.and_then(|digits| digits.parse().ok());
    let expires: u64 = expires.ok_or(Refused::Unsigned)?;
    let signature = URL_SAFE_NO_PAD.decode(signature);
    let signature = signature.map_err(|_| Refused::Forged)?;
    // Every secret is tried, so that the time does not tell which one it was.
    let is_good = secrets
        .iter()
        .fold(subtle::Choice::from(0), |found, secret| {
            found
                | mac(secret, path, expires, client)
                    .as_slice()
                    .ct_eq(&signature)
        });
    match bool::from(is_good) {
        false => Err(Refused::Forged),
        true if expires <= now => Err(Refused::Expired),
        true => Ok(()),
    }
}

fn mac(secret: &[u8], path: &[u8], expires: u64, client: Option<&[u8]>) -> [u8; 32] {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret) else {
        return [0; 32]; // a key of any length is a key
    };
    mac.update(path);
    mac.update(b"\n");
    mac.update(expires.to_string().as_bytes());
    if let Some(client) = client {
        mac.update(b"\n");
        mac.update(client);
    }
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_signed_as_it_came_without_what_signs_it() {
        for (query, expected) in [
            ("", "/a?"),
            ("expires=1&signature=x", "/a"),
            ("b=1&expires=1&c&signature=x&b=2", "/a?b=1&c&b=2"),
            ("%65xpires=1&expiress=2", "/a?%65xpires=1&expiress=2"),
            ("signature&expires", "/a"),
        ] {
            let text = with_query(b"/a", query.as_bytes());
            assert_eq!(String::from_utf8(text).unwrap(), expected, "{query}");
        }
    }

    #[test]
    fn a_link_is_good_for_its_path_its_time_and_its_client() {
        let secrets: Vec<Box<[u8]>> = vec![b"new"[..].into(), b"old"[..].into()];
        let check = |path: &str, expires: &str, signature: &str, client: Option<&str>| {
            let parts = (Some(expires.as_bytes()), Some(signature.as_bytes()));
            verify(
                &secrets,
                path.as_bytes(),
                parts,
                client.map(str::as_bytes),
                100,
            )
        };
        for secret in ["new", "old"] {
            let good = sign(secret.as_bytes(), b"/a", 200, None);
            assert_eq!(check("/a", "200", &good, None), Ok(()));
            assert_eq!(check("/b", "200", &good, None), Err(Refused::Forged));
            assert_eq!(check("/a", "201", &good, None), Err(Refused::Forged));
            assert_eq!(
                check("/a", "200", &good, Some("1.1.1.1")),
                Err(Refused::Forged)
            );
        }
        let of_client = sign(b"new", b"/a", 200, Some(b"1.1.1.1"));
        assert_eq!(check("/a", "200", &of_client, Some("1.1.1.1")), Ok(()));
        assert_eq!(
            check("/a", "200", &of_client, Some("1.1.1.2")),
            Err(Refused::Forged)
        );
        let past = sign(b"new", b"/a", 100, None);
        assert_eq!(check("/a", "100", &past, None), Err(Refused::Expired));
        let other = sign(b"other", b"/a", 200, None);
        assert_eq!(check("/a", "200", &other, None), Err(Refused::Forged));
        for (expires, signature, why) in [
            ("", "", Refused::Unsigned),
            ("+200", "x", Refused::Unsigned),
            ("99999999999999999999", "x", Refused::Unsigned),
            ("200", "", Refused::Forged),
            ("200", "%", Refused::Forged),
        ] {
            assert_eq!(check("/a", expires, signature, None), Err(why), "{expires}");
        }
        assert_eq!(
            verify(&secrets, b"/a", (None, Some(b"x")), None, 0),
            Err(Refused::Unsigned)
        );
    }
}
