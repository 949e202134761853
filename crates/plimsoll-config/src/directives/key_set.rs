//! Where the keys of `jwt` come from: a file, or a URL that is fetched.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::arguments::Value;
use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::model::{BadUrl, KeySet, KeySource, Url};
use crate::read::Reader;
use crate::source::Span;

/// How old a set may become unless the rule says.
const REFRESH: Duration = Duration::from_secs(300);

/// What the rule may say: issuers do not like to be asked every second, and keys that have been
/// withdrawn are not to count for ever.
const REFRESH_RANGE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(86_400));

/// The sets that are fetched, and where each is named first.
#[derive(Debug, Default)]
pub(crate) struct KeySets(BTreeMap<Box<str>, (KeySet, Span)>);

/// What a rule says of how its set is fetched.
#[derive(Debug, Default)]
pub(crate) struct Fetching {
    ca: Option<(Box<str>, Span)>,
    refresh: Option<(Duration, Span)>,
}

impl Fetching {
    /// Takes `ca=` or `refresh=`.
    pub(crate) fn set(&mut self, reader: &mut Reader<'_>, name: &str, value: Value<'_>) {
        match name {
            "ca" if value.text.is_empty() => {
                let message = "`ca` names no file";
                let problem = Diagnostic::new(&codes::VALUE, value.span, message);
                reader.problem(problem.help("write `ca=/etc/plimsoll/ca.pem`"));
            }
            "ca" => self.ca = Some((value.text.into(), value.span)),
            _ => {
                let refresh = refresh(reader, value);
                self.refresh = refresh.map(|refresh| (refresh, value.span));
            }
        }
    }

    /// Where the keys are that a rule names with `word`; nothing when that is a problem.
    pub(crate) fn source(self, reader: &mut Reader<'_>, word: Value<'_>) -> Option<KeySource> {
        if !word.text.contains("://") {
            let ca = self.ca.map(|(_, span)| ("ca", span));
            let refresh = self.refresh.map(|(_, span)| ("refresh", span));
            for (name, span) in ca.into_iter().chain(refresh) {
                let message = format!("`{name}` is for key sets at a URL");
                let problem = Diagnostic::new(&codes::OPTION, span, message);
                reader.problem(problem.help("leave it out: a file is read again when it changes"));
            }
            return Some(KeySource::File(word.text.into()));
        }
        let url = url(reader, word)?;
        if let (false, Some((_, span))) = (url.is_tls, &self.ca) {
            let message = "`ca` is for `https`, and this set is fetched over plain HTTP";
            let problem = Diagnostic::new(&codes::OPTION, *span, message);
            reader.problem(problem.help("fetch it over `https`, or leave `ca` out"));
        }
        let set = KeySet {
            url,
            ca: self.ca.map(|(ca, _)| ca),
            refresh: self.refresh.map_or(REFRESH, |(refresh, _)| refresh),
        };
        note(reader, &set, word.span);
        Some(KeySource::Url(set))
    }
}

fn refresh(reader: &mut Reader<'_>, value: Value<'_>) -> Option<Duration> {
    let refresh = reader.duration(value)?;
    if (REFRESH_RANGE.0..=REFRESH_RANGE.1).contains(&refresh) {
        return Some(refresh);
    }
    let message = format!("`{}` is not from 10s to 1d", value.text);
    let problem = Diagnostic::new(&codes::RANGE, value.span, message);
    reader.problem(problem.help("a key that is new is fetched when a token names it"));
    None
}

fn url(reader: &mut Reader<'_>, word: Value<'_>) -> Option<Url> {
    let (message, help) = match Url::parse(word.text) {
        Ok(url) => return Some(url),
        Err(BadUrl::Scheme) => (
            "a key set is fetched by `https` or `http`".to_owned(),
            "write `https://…`, or the path of a file without a scheme",
        ),
        Err(BadUrl::NoHost) => (
            "the URL names no host".to_owned(),
            "write it like `https://id.example.com/.well-known/jwks.json`",
        ),
        Err(BadUrl::Host) => (
            "the URL's host is neither a name nor an address".to_owned(),
            "write it like `https://id.example.com/…`, `https://10.0.0.1/…` or `https://[::1]/…`",
        ),
        Err(BadUrl::Port) => (
            "the URL's port is not a number from 1 to 65535".to_owned(),
            "leave the port out if it is the usual one",
        ),
        Err(BadUrl::Credentials) => (
            "the URL holds a user or a password".to_owned(),
            "leave them out: keys that verify tokens are no secret, and the URL stands in logs and metrics",
        ),
        Err(BadUrl::Fragment) => (
            "the URL goes on behind a `#`".to_owned(),
            "leave that out: a fragment is never sent",
        ),
        Err(BadUrl::Character(c)) => (
            format!("{c:?} cannot stand in a URL as it is"),
            "escape it with `%` and two digits",
        ),
    };
    reader.problem(Diagnostic::new(&codes::URL, word.span, message).help(help));
    None
}

/// Notes a set that a rule names, which all rules must fetch in one way.
fn note(reader: &mut Reader<'_>, set: &KeySet, span: Span) {
    if let Some((known, first)) = reader.key_sets.0.get(&set.url.text) {
        if known != set {
            let message = "another rule fetches this key set in another way";
            let problem = Diagnostic::new(&codes::KEY_SET_TWICE, span, message);
            let problem = problem.related(*first, "first here");
            reader.problem(problem.help("say the same `ca` and `refresh` in both"));
        }
        return;
    }
    if !set.url.is_tls && !set.url.is_loopback() {
        let message = "keys that come unencrypted can be swapped by whoever sits in between";
        let problem = Diagnostic::new(&codes::PLAIN_KEYS, span, message);
        reader.problem(problem.help("fetch them over `https`; `ca=FILE` says whom to trust"));
    }
    let named = (set.clone(), span);
    reader.key_sets.0.insert(set.url.text.clone(), named);
}
