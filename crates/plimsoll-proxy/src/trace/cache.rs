//! What the cache of a route makes of a request.

use plimsoll_http::caching::{Directives, key};
use plimsoll_http::request;
use serde::{Deserialize, Serialize};

use crate::caching::Caching;
use crate::http::lookup::{self, Part};
use crate::seen::Seen;

/// The cache that a request comes to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Its name.
    pub name: String,
    /// What the answer is stored by, as a URL.
    pub key: String,
    /// What else of the request belongs to the key: `cookie theme: dark`.
    pub parts: Vec<String>,
    /// What the cache does with the request.
    pub verdict: String,
}

/// Tells what the cache of a route makes of a request.
pub(super) fn explain(caching: &Caching, seen: &Seen<'_>, has_body: bool) -> Kept {
    let parts = &caching.keeping.parts;
    let (head, bytes) = (seen.head, seen.bytes);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut url = Vec::new();
    let authority = seen.authority;
    let path = (seen.path(), seen.query());
    key::write(seen.origin.scheme, authority, path, parts, &mut url);
    let mut named = Vec::new();
    for name in &parts.headers {
        let lines = head.fields.all_by_text(bytes, name);
        let values: Vec<_> = lines.map(|line| text(line.value.of(bytes))).collect();
        named.push(format!("{}: {}", text(name), values.join(", ")));
    }
    for name in &parts.cookies {
        let values: Vec<_> = request::cookies(head, bytes, name).map(text).collect();
        named.push(format!("cookie {}: {}", text(name), values.join(", ")));
    }
    let asked = Directives::read(&head.fields, bytes).0;
    let verdict = match lookup::part(head, bytes, has_body, &asked) {
        Part::Both => "answers, or stores what the server allows",
        Part::Read => "answers, and stores nothing of what comes",
        Part::Nothing(_) => "passed by",
    };
    Kept {
        name: caching.keeping.cache.name.to_string(),
        key: text(&url),
        parts: named,
        verdict: verdict.to_owned(),
    }
}
