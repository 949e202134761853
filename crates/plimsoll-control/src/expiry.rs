//! Certificates that have expired, or will soon, or that clients will not take as they are shown: somebody
//! has to do something.

use std::sync::Arc;

use plimsoll_proxy::generation::Generation;
use plimsoll_proxy::tls::stapled::Stapled;

/// How long before its end a certificate is spoken of, in seconds. Issuers renew theirs earlier.
const SOON: u64 = 14 * DAY;

const DAY: u64 = 24 * 60 * 60;

/// What is to be said of the certificates of a generation at `now`, in seconds since 1970.
pub(crate) fn warnings(generation: &Generation, now: u64) -> Vec<String> {
    // Whoever asks for the next one in time says when that fails.
    let files = generation.materials.iter().filter(|file| !file.is_awaited);
    let warnings = files.filter_map(|file| {
        let end = file.expires()?;
        // Those that we renew ourselves are good for days only.
        if file.issued.is_some() && end.saturating_sub(now) > DAY {
            return None;
        }
        Some(format!(
            "the certificate `{}` {}",
            file.path,
            verdict(end, now)?
        ))
    });
    warnings.chain(unstapled(generation, now)).collect()
}

/// What is to be said of certificates that clients do not take without what the issuer says of them. Where
/// a responder is asked, whoever asks says so when that fails.
fn unstapled(generation: &Generation, now: u64) -> impl Iterator<Item = String> {
    let lacks = move |stapled: &&Arc<Stapled>| {
        stapled.is_insisted_on() && !stapled.has_staple(now) && stapled.question().is_err()
    };
    let all = generation.stapled.iter().filter(lacks);
    all.map(|stapled| {
        let path = &stapled.material.path;
        format!(
            "clients insist on what the issuer of the certificate `{path}` says of it, and they are not shown that"
        )
    })
}

fn verdict(end: u64, now: u64) -> Option<String> {
    match end.checked_sub(now) {
        None => Some("has expired".to_owned()),
        Some(left) if left < DAY => Some("expires within a day".to_owned()),
        Some(left) if left < SOON => Some(format!("expires in less than {} days", left / DAY + 1)),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_that_are_near_or_past_are_spoken_of() {
        for (end, now, says) in [
            (0, 1, Some("has expired")),
            (5, 5, Some("expires within a day")),
            (DAY - 1, 0, Some("expires within a day")),
            (DAY, 0, Some("expires in less than 2 days")),
            (SOON - 1, 0, Some("expires in less than 14 days")),
            (SOON, 0, None),
        ] {
            assert_eq!(verdict(end, now).as_deref(), says, "{end} {now}");
        }
    }
}
