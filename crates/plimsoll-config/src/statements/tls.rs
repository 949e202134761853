//! What is agreed with clients that come with TLS, as statements.

use super::{Words, words};
use crate::model::{ClientCertificate, Pass, Site, Staple, Tickets, Verify};

/// What a site and its clients show each other.
pub(super) fn site(site: &Site) -> impl Iterator<Item = Words> + '_ {
    let pairs = site.tls.iter();
    let pairs = pairs.map(|pair| {
        if !pair.names.is_empty() {
            return words(["tls", "auto"]);
        }
        let mut words = words(["tls", &pair.certificate, &pair.key]);
        match &pair.staple {
            Staple::Responder => {}
            Staple::File(file) => words.push(format!("staple={file}")),
            Staple::Off => words.push("staple=off".to_owned()),
        }
        words
    });
    let internal = site.internal.iter().map(|_| words(["tls", "internal"]));
    let pairs = pairs.chain(internal);
    pairs.chain(site.client_certificate.as_ref().map(client_certificate))
}

fn client_certificate(asked: &ClientCertificate) -> Words {
    let verify = match asked.verify {
        Verify::Required => "required",
        Verify::Optional => "optional",
    };
    let pass = Pass::NAMES.iter().find(|(_, pass)| *pass == asked.pass);
    let crl = asked.crl.as_ref().map(|crl| format!("crl={crl}"));
    ["client-certificate".to_owned(), verify.to_owned()]
        .into_iter()
        .chain([format!("ca={}", asked.ca)])
        .chain(crl)
        .chain(pass.map(|(name, _)| format!("pass={name}")))
        .collect()
}

/// With what clients come back, unless it is what holds anyway.
pub(super) fn tickets(tickets: &Tickets) -> Option<Words> {
    match tickets {
        Tickets::Own => None,
        Tickets::Off => Some(words(["tls-tickets", "off"])),
        Tickets::Files(files) => {
            let files = files.iter().map(ToString::to_string);
            Some(
                std::iter::once("tls-tickets".to_owned())
                    .chain(files)
                    .collect(),
            )
        }
    }
}
