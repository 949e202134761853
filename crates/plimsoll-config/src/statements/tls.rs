//! What is agreed with clients that come with TLS, as statements.

use super::{Words, words};
use crate::model::{
    ClientCertificate, Internal, KeyPair, Pass, Site, Staple, TcpService, Tickets, Verify,
};

/// What a site and its clients show each other.
pub(super) fn site(site: &Site) -> impl Iterator<Item = Words> + '_ {
    let asked = site.client_certificate.as_ref();
    shown(&site.tls, site.internal.as_ref(), asked, Hosts::Known)
}

/// What a service and its clients show each other.
pub(super) fn service(service: &TcpService) -> impl Iterator<Item = Words> + '_ {
    let asked = service.client_certificate.as_ref();
    shown(
        &service.tls,
        service.internal.as_ref(),
        asked,
        Hosts::Unknown,
    )
}

/// Whether it is known anyway for which hosts certificates are.
#[derive(Clone, Copy, PartialEq)]
enum Hosts {
    Known,
    Unknown,
}

fn shown<'a>(
    pairs: &'a [KeyPair],
    internal: Option<&'a Internal>,
    asked: Option<&'a ClientCertificate>,
    hosts: Hosts,
) -> impl Iterator<Item = Words> + 'a {
    let of = move |from: &str, names: &[Box<str>]| {
        let names = names.iter().filter(|_| hosts == Hosts::Unknown);
        let words = words(["tls", from]).into_iter();
        words.chain(names.map(ToString::to_string)).collect()
    };
    let pairs = pairs.iter().map(move |pair| {
        if !pair.names.is_empty() {
            return of("auto", &pair.names);
        }
        let mut words = words(["tls", &pair.certificate, &pair.key]);
        match &pair.staple {
            Staple::Responder => {}
            Staple::File(file) => words.push(format!("staple={file}")),
            Staple::Off => words.push("staple=off".to_owned()),
        }
        words
    });
    let internal = internal.map(|internal| of("internal", &internal.names));
    pairs.chain(internal).chain(asked.map(client_certificate))
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
