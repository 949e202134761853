//! `Authorization: Basic` (RFC 7617).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// The longest credentials that are looked at.
const BYTES_MAX: usize = 1024;

/// A user and a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// The user: one line without a colon.
    pub user: String,
    /// The password, as bytes.
    pub password: Vec<u8>,
}

impl Credentials {
    /// Reads the value of an `Authorization` field; nothing when it is something else.
    pub fn read(value: &[u8]) -> Option<Self> {
        let (scheme, rest) = value.split_at_checked(6)?;
        if !scheme.eq_ignore_ascii_case(b"basic ") || value.len() > BYTES_MAX {
            return None;
        }
        let mut decoded = STANDARD.decode(rest.trim_ascii()).ok()?;
        let colon = decoded.iter().position(|b| *b == b':')?;
        let password = decoded.split_off(colon + 1);
        decoded.pop();
        let user = String::from_utf8(decoded).ok()?;
        let is_plain = !user.is_empty() && !user.contains(char::is_control);
        is_plain.then_some(Self { user, password })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn credentials_are_read_or_there_are_none() {
        let read = |text: &str| {
            let credentials = Credentials::read(text.as_bytes())?;
            Some((
                credentials.user,
                String::from_utf8(credentials.password).unwrap(),
            ))
        };
        let some = |user: &str, password: &str| Some((user.to_owned(), password.to_owned()));
        for (value, expected) in [
            (
                "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==",
                some("Aladdin", "open sesame"),
            ),
            ("basic  YTpiOmM=", some("a", "b:c")),
            ("Basic YTo=", some("a", "")),
            ("Basic OmI=", None),
            ("Basic YQ==", None),
            ("Basic YTpi", some("a", "b")),
            ("Basic Y", None),
            ("Basic", None),
            ("Bearer YTpi", None),
            ("Basic YQo6Yg==", None),
            ("", None),
        ] {
            assert_eq!(read(value), expected, "{value}");
        }
        assert_eq!(
            Credentials::read(format!("Basic {}", "YWE6".repeat(400)).as_bytes()),
            None
        );
    }

    proptest! {
        #[test]
        fn nothing_that_clients_send_breaks_it(value in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Credentials::read(&value);
            let _ = Credentials::read(&[b"Basic ", &value[..]].concat());
        }
    }
}
