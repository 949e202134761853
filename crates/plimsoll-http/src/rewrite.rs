//! A target that rules change on its way to a server. What comes out is canonical, like what came
//! in: no rule leads where a request could not have gone by itself.

use crate::edit::Replacement;
use crate::request;
use crate::target::{self, BadTarget};

/// A path and a query that rules may change. Beginning again reuses the memory.
#[derive(Debug, Default)]
pub struct Rewritten {
    path: Vec<u8>,
    query: Vec<u8>,
    has_query: bool,
    spare: Vec<u8>,
}

impl Rewritten {
    /// Begins with what came.
    pub fn begin(&mut self, path: &[u8], query: Option<&[u8]>) {
        self.path.clear();
        self.path.extend_from_slice(path);
        self.query.clear();
        self.query.extend_from_slice(query.unwrap_or_default());
        self.has_query = query.is_some();
    }

    /// The path.
    pub fn path(&self) -> &[u8] {
        &self.path
    }

    /// The query, without its question mark.
    pub fn query(&self) -> Option<&[u8]> {
        self.has_query.then_some(&self.query)
    }

    /// Takes `prefix`, which ends in no slash, off the start of the path.
    pub fn strip_prefix(&mut self, prefix: &[u8]) {
        match self.path.strip_prefix(prefix) {
            Some([]) => {
                self.path.clear();
                self.path.push(b'/');
            }
            Some([b'/', ..]) => drop(self.path.drain(..prefix.len())),
            _ => {}
        }
    }

    /// Replaces what an expression finds in the path. What then follows a question mark is put in
    /// front of the query.
    ///
    /// # Errors
    /// The result has no canonical form.
    pub fn replace(&mut self, replacement: &Replacement) -> Result<(), BadTarget> {
        // `OPTIONS *` has no path to change.
        if self.path == b"*" {
            return Ok(());
        }
        self.spare.clear();
        if !replacement.write(&self.path, &mut self.spare) {
            return Ok(());
        }
        let end = memchr::memchr(b'?', &self.spare).unwrap_or(self.spare.len());
        let (path, query) = self.spare.split_at_checked(end).unwrap_or_default();
        target::canonical(path, &mut self.path)?;
        if let Some((_, query)) = query.split_first() {
            if query.iter().any(|&b| b <= b' ' || b >= 0x7f || b == b'#') {
                return Err(BadTarget::Byte);
            }
            let between: &[u8] = if self.query.is_empty() { b"" } else { b"&" };
            self.query.splice(..0, query.iter().chain(between).copied());
            self.has_query = true;
        }
        Ok(())
    }

    /// Takes every parameter called `name` out of the query.
    pub fn remove_parameter(&mut self, name: &[u8]) {
        let is_it = |pair: &[u8]| {
            let text = pair.split(|b| *b == b'=').next().unwrap_or_default();
            request::unescaped(text).eq(name.iter().copied())
        };
        self.spare.clear();
        for pair in self.query.split(|b| *b == b'&').filter(|pair| !is_it(pair)) {
            if !self.spare.is_empty() {
                self.spare.push(b'&');
            }
            self.spare.extend_from_slice(pair);
        }
        std::mem::swap(&mut self.query, &mut self.spare);
        self.has_query &= !self.query.is_empty();
    }

    /// Adds a parameter to the query; `write` appends its value as plain text.
    pub fn add_parameter(&mut self, name: &[u8], write: impl FnOnce(&mut Vec<u8>)) {
        self.spare.clear();
        write(&mut self.spare);
        if !self.query.is_empty() {
            self.query.push(b'&');
        }
        escape(name, &mut self.query);
        self.query.push(b'=');
        escape(&self.spare, &mut self.query);
        self.has_query = true;
    }
}

/// Appends text as a name or a value of a query.
fn escape(text: &[u8], out: &mut Vec<u8>) {
    for &b in text {
        if b.is_ascii_alphanumeric() || b"-._~".contains(&b) {
            out.push(b);
        } else {
            target::encode(b, out);
        }
    }
}

/// Appends a URI reference for a `Location` field: bytes that no URI may hold are escaped, and a
/// path that a browser could take for a host (`//host`, `/\host`) is made one that it cannot.
///
/// # Errors
/// It is a URI without a host (`https:///x`), for which a browser would take what follows.
pub fn location(text: &[u8], out: &mut Vec<u8>) -> Result<(), BadTarget> {
    let scheme = text
        .iter()
        .take_while(|b| b.is_ascii_alphanumeric())
        .count();
    let authority = text
        .get(scheme..)
        .and_then(|rest| rest.strip_prefix(b"://"));
    if authority.is_some_and(|rest| matches!(rest, [] | [b'/' | b'\\' | b'?' | b'#' | b':', ..])) {
        return Err(BadTarget::Authority);
    }
    let lead = text
        .iter()
        .take_while(|b| matches!(b, b'/' | b'\\'))
        .count();
    let text = match lead {
        0 | 1 => text,
        _ => {
            out.push(b'/');
            text.get(lead..).unwrap_or_default()
        }
    };
    for &b in text {
        if b.is_ascii_alphanumeric() || b"-._~:/?#[]@!$&'()*+,;=%".contains(&b) {
            out.push(b);
        } else {
            target::encode(b, out);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use regex::bytes::Regex;

    fn replaced(target: &str, pattern: &str, with: &str) -> Result<String, BadTarget> {
        let mut rewritten = Rewritten::default();
        let (path, query) = target
            .split_once('?')
            .map_or((target, None), |(p, q)| (p, Some(q)));
        rewritten.begin(path.as_bytes(), query.map(str::as_bytes));
        rewritten.replace(&Replacement {
            pattern: Regex::new(pattern).unwrap(),
            with: with.as_bytes().into(),
        })?;
        Ok(text(&rewritten))
    }

    fn text(rewritten: &Rewritten) -> String {
        let text = |b: &[u8]| String::from_utf8(b.to_vec()).unwrap();
        let query = rewritten.query().map(|query| format!("?{}", text(query)));
        text(rewritten.path()) + &query.unwrap_or_default()
    }

    #[test]
    fn paths_are_replaced_and_stay_canonical() {
        for (target, pattern, with, expected) in [
            ("/a/b", "^/a/(.*)$", "/x/$1", "/x/b"),
            ("/a/b?q=1", "^/a/(.*)$", "/x?id=$1", "/x?id=b&q=1"),
            ("/a/b?", "^/a/(.*)$", "/x?id=$1", "/x?id=b"),
            ("/a/b?q", "^/b", "/x", "/a/b?q"),
            ("/a/b", "/b", "/../c", "/c"),
            ("/a/b", "^/a", "", "/b"),
            ("/a", "^/a$", "", "/"),
            ("/a", "^/a$", "/ö|", "/%C3%B6%7C"),
            ("/a/b", "^/(.*)$", "//evil.com/$1", "/evil.com/a/b"),
            ("*", ".*", "/x", "*"),
        ] {
            let out = replaced(target, pattern, with);
            assert_eq!(out.as_deref(), Ok(expected), "{target} {pattern} {with}");
        }
        for (with, fault) in [
            ("/../x", BadTarget::DotSegment),
            ("/..;/x", BadTarget::DotSegment),
            ("/%2fx", BadTarget::EncodedSeparator),
            ("/%zz", BadTarget::Percent),
            ("/a\\b", BadTarget::Byte),
            ("x", BadTarget::Form),
            ("/x?a b", BadTarget::Byte),
        ] {
            assert_eq!(replaced("/a", "^/a$", with), Err(fault), "{with}");
        }
    }

    #[test]
    fn prefixes_are_taken_off_at_slashes_only() {
        for (path, expected) in [
            ("/api/users", "/users"),
            ("/api", "/"),
            ("/api/", "/"),
            ("/apis", "/apis"),
            ("/x/api/y", "/x/api/y"),
        ] {
            let mut rewritten = Rewritten::default();
            rewritten.begin(path.as_bytes(), None);
            rewritten.strip_prefix(b"/api");
            assert_eq!(text(&rewritten), expected, "{path}");
        }
    }

    #[test]
    fn parameters_come_and_go_however_they_are_escaped() {
        let mut rewritten = Rewritten::default();
        rewritten.begin(b"/", Some(b"a=1&b&%61=2&c=3"));
        rewritten.remove_parameter(b"a");
        assert_eq!(text(&rewritten), "/?b&c=3");
        rewritten.add_parameter(b"a b", |out| out.extend_from_slice(b"x&y=\xc3\xa9"));
        assert_eq!(text(&rewritten), "/?b&c=3&a%20b=x%26y%3D%C3%A9");
        for name in ["b", "c", "a b"] {
            rewritten.remove_parameter(name.as_bytes());
        }
        assert_eq!(text(&rewritten), "/");
        rewritten.add_parameter(b"n", |_| {});
        assert_eq!(text(&rewritten), "/?n=");
    }

    #[test]
    fn locations_hold_nothing_but_a_uri() {
        for (given, expected) in [
            ("https://a/b?c=d%20e", "https://a/b?c=d%20e"),
            ("/a b\r\nX: y", "/a%20b%0D%0AX:%20y"),
            ("//evil.com/x", "/evil.com/x"),
            ("/\\evil.com", "/evil.com"),
            ("\\\\evil.com", "/evil.com"),
            ("/é\"<>", "/%C3%A9%22%3C%3E"),
        ] {
            let mut out = Vec::new();
            location(given.as_bytes(), &mut out).unwrap();
            assert_eq!(String::from_utf8(out).unwrap(), expected, "{given}");
        }
        for given in [
            "https://",
            "https:///evil.com",
            "http://\\evil.com",
            "https://?a",
            "https://:80/",
        ] {
            let refused = location(given.as_bytes(), &mut Vec::new());
            assert_eq!(refused, Err(BadTarget::Authority), "{given}");
        }
    }
}
