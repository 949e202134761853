//! Keeping secrets out of logs.

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

fn is_secret(name: &[u8], more: &[Box<[u8]>]) -> bool {
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
    }
}
