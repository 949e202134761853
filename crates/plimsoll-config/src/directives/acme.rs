//! `acme` and its family: who is asked for certificates, and how it is shown that names are ours.

use std::time::Duration;

use crate::arguments::{Value, is_name};
use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::directive::{Context, Directive};
use crate::draft::{AcmeDraft, Scope};
use crate::model::{BadUrl, Challenge, DnsUpdate, ExternalAccount, Issuer, Url};
use crate::read::Reader;
use crate::syntax::Stmt;

pub(crate) static ROWS: &[Directive] = &[
    Directive {
        name: "acme",
        within: &[Context::Root],
        usage: "acme [email=ADDRESS] [storage=DIRECTORY] [challenge=http-01|tls-alpn-01|dns-01] [retry=DURATION]",
        default: "challenge=http-01 retry=1m; storage is where `tls internal` keeps its issuer",
        doc: "How sites with `tls auto` get their certificates (RFC 8555). There is one for each site, with all of its hosts, which must be names; it is kept in `storage`, \
              with its key, where a restart and other processes find it, and only one process asks at a time. The next one is asked for when the issuer says so, or \
              when two thirds of its time are over. Until the first one is there, clients of the site are refused. \
              `email` is whom the issuer writes to. With `http-01` it asks for an answer on port 80 of each host, and any plain listener of ours gives it; with \
              `tls-alpn-01` it comes to port 443; with `dns-01` it looks for a record, which `dns-update` writes, and hosts may be wildcards. An attempt that fails is followed by \
              another after `retry`, and each pause is twice as long, up to 6 hours. From the second attempt on, an issuer with a directory for trials is tried there \
              first, so that no limit of his is reached. With any of this you accept the issuer's terms.",
        words: (1, 4),
        variables: false,
        block: None,
        set: acme,
    },
    Directive {
        name: "acme-issuer",
        within: &[Context::Root],
        usage: "acme-issuer letsencrypt|letsencrypt-staging|URL [ca=FILE] [staging=URL] [kid=NAME key=FILE]",
        default: "letsencrypt",
        doc: "Who is asked for certificates: Let's Encrypt, or the issuer with its directory at URL. With several lines they are asked in written order, in each attempt, until one \
              gives a certificate. `ca` holds the certificates to trust when asking, instead of the system's; `staging` is the issuer's directory for trials. An issuer that wants to \
              know us from elsewhere has given out a name, `kid`, and a key (external account binding), which FILE holds in Base64 for URLs, for its owner alone.",
        words: (1, 5),
        variables: false,
        block: None,
        set: issuer,
    },
    Directive {
        name: "dns-update",
        within: &[Context::Root],
        usage: "dns-update ADDRESS [zone=NAME] key=FILE",
        default: "none",
        doc: "The name server that records for `challenge=dns-01` are written to, and the zone that it has (RFC 2136). With several lines the \
              longest zone counts that a host is in; a line without `zone` is for all other hosts, and its server is asked which zones they are in. FILE holds the key that signs changes (RFC 8945) as \
              `tsig-keygen` writes it, and is for its owner alone; the algorithm is hmac-sha256, hmac-sha384 or hmac-sha512. The issuer is told to look when all name servers of the zone \
              have the records, or after a minute. Records are taken away again after the attempt.",
        words: (2, 3),
        variables: false,
        block: None,
        set: dns_update,
    },
];

/// The directories of Let's Encrypt, and that for trials.
const LETS_ENCRYPT: (&str, &str) = (
    "https://acme-v02.api.letsencrypt.org/directory",
    "https://acme-staging-v02.api.letsencrypt.org/directory",
);

/// Between what a pause after a failure may begin.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(3600));

/// The port of the domain name system.
const DNS_PORT: u16 = 53;

/// Who is asked unless the configuration says.
pub(crate) fn lets_encrypt() -> Option<Issuer> {
    Some(Issuer {
        directory: Url::parse(LETS_ENCRYPT.0).ok()?,
        ca: None,
        staging: Url::parse(LETS_ENCRYPT.1).ok(),
        account: None,
    })
}

fn acme(reader: &mut Reader<'_>, stmt: &Stmt, scope: Scope<'_>) {
    let Scope::Root(draft) = scope else { return };
    let mut said = AcmeDraft::default();
    let known = ["email", "storage", "challenge", "retry"];
    reader.options(&stmt.words, &known, |reader, name, value| match name {
        "email" => said.email = email(reader, value),
        "storage" => said.storage = written(reader, name, value),
        "challenge" => said.challenge = challenge(reader, value),
        _ => said.retry = retry(reader, value),
    });
    reader.once(stmt, &mut draft.acme, said);
}

fn email(reader: &mut Reader<'_>, value: Value<'_>) -> Option<Box<str>> {
    let parts = value.text.split_once('@');
    let is_plain = value.text.chars().all(|c| c.is_ascii_graphic());
    if parts.is_some_and(|(user, host)| !user.is_empty() && is_name(host)) && is_plain {
        return Some(value.text.into());
    }
    let message = format!("`{}` is no address of mail", value.text);
    let problem = Diagnostic::new(&codes::VALUE, value.span, message);
    reader.problem(problem.help("write `email=admin@example.com`"));
    None
}

fn challenge(reader: &mut Reader<'_>, value: Value<'_>) -> Option<Challenge> {
    let mut names = Challenge::NAMES.iter();
    if let Some((_, challenge)) = names.find(|(name, _)| *name == value.text) {
        return Some(*challenge);
    }
    let message = format!("`{}` is no challenge", value.text);
    let problem = Diagnostic::new(&codes::VALUE, value.span, message);
    reader.problem(problem.help("known: http-01, tls-alpn-01, dns-01"));
    None
}

fn retry(reader: &mut Reader<'_>, value: Value<'_>) -> Option<Duration> {
    let retry = reader.duration(value)?;
    if (RETRY.0..=RETRY.1).contains(&retry) {
        return Some(retry);
    }
    let message = format!("`{}` is not from 1s to 1h", value.text);
    let problem = Diagnostic::new(&codes::RANGE, value.span, message);
    reader.problem(problem.help("issuers count attempts that fail, and refuse who makes too many"));
    None
}

fn issuer(reader: &mut Reader<'_>, stmt: &Stmt, scope: Scope<'_>) {
    let (Scope::Root(draft), Some((first, options))) = (scope, stmt.words.split_first()) else {
        return;
    };
    let (directory, mut staging) = match first.text.as_str() {
        "letsencrypt" => (
            Url::parse(LETS_ENCRYPT.0).ok(),
            Url::parse(LETS_ENCRYPT.1).ok(),
        ),
        "letsencrypt-staging" => (Url::parse(LETS_ENCRYPT.1).ok(), None),
        _ => (url(reader, first.into()), None),
    };
    let (mut ca, mut kid, mut key) = (None, None, None);
    let known = ["ca", "staging", "kid", "key"];
    reader.options(options, &known, |reader, name, value| match name {
        "ca" => ca = written(reader, name, value),
        "staging" => staging = url(reader, value),
        "kid" => kid = Some((written(reader, name, value), value.span)),
        _ => key = Some((written(reader, name, value), value.span)),
    });
    let account = match (kid, key) {
        (Some((kid, _)), Some((key, _))) => {
            let both = kid.zip(key);
            both.map(|(kid, key)| ExternalAccount { kid, key })
        }
        (None, None) => None,
        (Some((_, half)), None) | (None, Some((_, half))) => {
            let message = "an account elsewhere has a name and a key";
            let problem = Diagnostic::new(&codes::OPTION, half, message);
            return reader.problem(problem.help("write `kid=NAME key=FILE`"));
        }
    };
    let Some(directory) = directory else { return };
    let mut known = draft.issuers.iter();
    let same = known.find(|(known, _)| known.directory.text == directory.text);
    if let Some((_, first)) = same {
        let problem = Diagnostic::new(&codes::REPEATED, stmt.span, "this issuer is said twice");
        return reader.problem(problem.related(*first, "first here"));
    }
    let issuer = Issuer {
        directory,
        ca,
        staging,
        account,
    };
    draft.issuers.push((issuer, stmt.span));
}

fn url(reader: &mut Reader<'_>, value: Value<'_>) -> Option<Url> {
    let why = match Url::parse(value.text) {
        Ok(url) if url.is_tls || url.is_loopback() => return Some(url),
        Ok(_) => "an issuer is asked over `https`",
        Err(BadUrl::Scheme) => "the directory of an issuer is a URL with `https`",
        Err(BadUrl::NoHost | BadUrl::Host) => "the URL names no host",
        Err(BadUrl::Port) => "the URL's port is not a number from 1 to 65535",
        Err(BadUrl::Credentials) => "the URL holds a user or a password",
        Err(BadUrl::Fragment | BadUrl::Character(_)) => "the URL holds what no URL does",
    };
    let problem = Diagnostic::new(&codes::URL, value.span, why);
    let help = "write `letsencrypt`, or a URL like `https://ca.internal/acme/directory`";
    reader.problem(problem.help(help));
    None
}

fn dns_update(reader: &mut Reader<'_>, stmt: &Stmt, scope: Scope<'_>) {
    let (Scope::Root(draft), Some((first, options))) = (scope, stmt.words.split_first()) else {
        return;
    };
    let server = match first.text.parse() {
        Ok(address) => Some(address),
        Err(_) => reader
            .ip(Value::from(first))
            .map(|ip| (ip, DNS_PORT).into()),
    };
    let (mut zone, mut key) = (Some(None), None);
    reader.options(
        options,
        &["zone", "key"],
        |reader, name, value| match name {
            "zone" => zone = zone_name(reader, value).map(Some),
            _ => key = written(reader, name, value),
        },
    );
    if key.is_none() && !options.iter().any(|word| word.text.starts_with("key=")) {
        let problem = Diagnostic::new(&codes::ARGUMENTS, stmt.span, "nothing says `key=`");
        reader.problem(problem.help("write `dns-update 10.0.0.2 zone=example.com key=FILE`"));
    }
    // Each may be missing for a reason that has been said.
    let Some(((server, zone), key)) = server.zip(zone).zip(key) else {
        return;
    };
    let mut known = draft.dns_updates.iter();
    if let Some((_, first)) = known.find(|(known, _)| known.zone == zone) {
        let message = "there is one line for each zone, and one for all others";
        let problem = Diagnostic::new(&codes::REPEATED, stmt.span, message);
        return reader.problem(problem.related(*first, "first here"));
    }
    let update = DnsUpdate { server, zone, key };
    draft.dns_updates.push((update, stmt.span));
}

fn zone_name(reader: &mut Reader<'_>, value: Value<'_>) -> Option<Box<str>> {
    let name = value.text.trim_end_matches('.');
    if is_name(name) {
        return Some(name.to_ascii_lowercase().into());
    }
    let message = format!("`{}` is no name of a zone", value.text);
    let problem = Diagnostic::new(&codes::VALUE, value.span, message);
    reader.problem(problem.help("write `zone=example.com`"));
    None
}

/// What is not empty.
fn written(reader: &mut Reader<'_>, name: &str, value: Value<'_>) -> Option<Box<str>> {
    if value.text.is_empty() {
        let message = format!("`{name}` names nothing");
        reader.problem(Diagnostic::new(&codes::VALUE, value.span, message));
        return None;
    }
    Some(value.text.into())
}
