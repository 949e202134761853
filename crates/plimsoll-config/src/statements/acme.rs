//! How certificates are asked for, as statements.

use super::{Words, words};
use crate::model::{Acme, DnsUpdate, Issuer};
use crate::units::duration_text;

/// All of it, complete: nothing depends on defaults or on where it is read.
pub(super) fn root(acme: &Acme) -> impl Iterator<Item = Words> + '_ {
    let mut first = words(["acme"]);
    let email = acme.email.as_ref();
    first.extend(email.map(|email| format!("email={email}")));
    first.push(format!("storage={}", acme.storage));
    first.push(format!("challenge={}", acme.challenge.name()));
    first.push(format!("retry={}", duration_text(acme.retry)));
    std::iter::once(first)
        .chain(acme.issuers.iter().map(issuer))
        .chain(acme.dns_updates.iter().map(dns_update))
}

fn issuer(issuer: &Issuer) -> Words {
    let mut out = words(["acme-issuer", &issuer.directory.text]);
    out.extend(issuer.ca.as_ref().map(|file| format!("ca={file}")));
    let staging = issuer.staging.as_ref();
    out.extend(staging.map(|url| format!("staging={}", url.text)));
    if let Some(account) = &issuer.account {
        out.extend([
            format!("kid={}", account.kid),
            format!("key={}", account.key),
        ]);
    }
    out
}

fn dns_update(update: &DnsUpdate) -> Words {
    let mut out = words(["dns-update", &update.server.to_string()]);
    out.extend(update.zone.as_ref().map(|zone| format!("zone={zone}")));
    out.push(format!("key={}", update.key));
    out
}
