//! Keeping secrets out of logs.

use plimsoll_http::request;

/// Query parameters whose values are not logged.
const SECRETS: &[&str] = &[
    "access_token",
    "api_key",
    "apikey",
    "auth",
    "client_secret",
    "code",
    "id_token",
    "key",
    "password",
    "passwd",
    "refresh_token",
    "secret",
    "sig",
    "signature",
    "token",
];

/// Calls `write` with the pieces of a URI, the values of secret parameters of its query replaced.
pub fn uri(uri: &[u8], more: &[Box<[u8]>], mut write: impl FnMut(&[u8])) {
    let mut parts = uri.split_inclusive(|&b| b == b'?');
    let before = parts.next().unwrap_or_default();
    let rest = uri.get(before.len()..).unwrap_or_default();
    let text = rest.split(|&b| b == b'#').next().unwrap_or_default();
    write(before);
    query(text, more, &mut write);
    write(rest.get(text.len()..).unwrap_or_default());
}

/// Calls `write` with the pieces of `query`, the values of secret parameters replaced: of those that
/// everybody knows for it, and of `more`.
pub fn query(query: &[u8], more: &[Box<[u8]>], mut write: impl FnMut(&[u8])) {
    let mut rest = query;
    loop {
        let end = rest.iter().position(|&b| b == b'&').unwrap_or(rest.len());
        let (pair, after) = rest.split_at_checked(end).unwrap_or((rest, b""));
        let name = pair
            .iter()
            .position(|&b| b == b'=')
            .and_then(|at| pair.get(..at));
        match name {
            Some(name) if is_secret(name, more) => {
                write(name);
                write(b"=***");
            }
            _ => write(pair),
        }
        match after.split_first() {
            Some((_, after)) => {
                write(b"&");
                rest = after;
            }
            None => return,
        }
    }
}

/// Tells whether a parameter of this name is one, also where escapes hide it: whoever reads the
/// parameter sees through them.
fn is_secret(name: &[u8], more: &[Box<[u8]>]) -> bool {
    let plain: Vec<u8>;
    let name = match name.iter().any(|b| matches!(b, b'%' | b'+')) {
        true => {
            plain = request::unescaped(name).collect();
            &*plain
        }
        false => name,
    };
    let known = SECRETS.iter().map(|secret| secret.as_bytes());
    let more = more.iter().map(|secret| &**secret);
    known
        .chain(more)
        .any(|secret| name.eq_ignore_ascii_case(secret))
}

#[cfg(test)]
mod tests {
    #[test]
    fn secrets_are_replaced() {
        let mut out = Vec::new();
        let more = [Box::from(*b"ticket")];
        super::query(
            b"a=1&Token=x%20y&&b&sig=&ticket=7&tickets=8",
            &more,
            |part| out.extend_from_slice(part),
        );
        assert_eq!(out, b"a=1&Token=***&&b&sig=***&ticket=***&tickets=8");
        for (uri, expected) in [
            ("", ""),
            ("/a", "/a"),
            ("/token=1", "/token=1"),
            (
                "https://x/a?token=1&b=2#token=3",
                "https://x/a?token=***&b=2#token=3",
            ),
            (
                "/?%74ick%65t=1&%=2&to+ken=3",
                "/?%74ick%65t=***&%=2&to+ken=3",
            ),
        ] {
            let mut out = Vec::new();
            super::uri(uri.as_bytes(), &more, |part| out.extend_from_slice(part));
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }
}
