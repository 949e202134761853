//! Which parts of a request tell one stored answer from another, beside scheme, host and path.

use crate::caching::Selection;
use crate::head::RequestHead;
use crate::request;

/// What of a request belongs to a key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// Which parameters of the query count.
    pub parameters: Parameters,
    /// Whether the order of parameters with different names does not.
    pub is_sorted: bool,
    /// Fields that count: in lower case, in order, each once.
    pub headers: Box<[Box<[u8]>]>,
    /// Cookies that count.
    pub cookies: Box<[Box<[u8]>]>,
}

/// Parameters of a query. A name that ends in `*` stands for all that begin like it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Parameters {
    /// All of it, as it came.
    #[default]
    All,
    /// None.
    None,
    /// These.
    Only(Box<[Box<[u8]>]>),
    /// All but these.
    Without(Box<[Box<[u8]>]>),
}

impl Parameters {
    fn count(&self, pair: &[u8]) -> bool {
        // Some servers part parameters there too: what may hide another one counts.
        if pair.contains(&b';') {
            return true;
        }
        let name: Vec<u8> = request::unescaped(name(pair)).collect();
        let is_one = |names: &[Box<[u8]>]| names.iter().any(|known| fits(known, &name));
        match self {
            Self::All => true,
            Self::None => false,
            Self::Only(names) => is_one(names),
            Self::Without(names) => !is_one(names),
        }
    }
}

/// The name of a parameter, as it is written.
fn name(pair: &[u8]) -> &[u8] {
    pair.split(|byte| *byte == b'=').next().unwrap_or_default()
}

fn fits(known: &[u8], name: &[u8]) -> bool {
    match known.strip_suffix(b"*") {
        Some(start) => name.starts_with(start),
        None => name == known,
    }
}

impl Parts {
    /// Appends what counts of a query, with its question mark if anything does.
    pub fn write_query(&self, query: Option<&[u8]>, out: &mut Vec<u8>) {
        let Some(query) = query else { return };
        if self.parameters == Parameters::All && !self.is_sorted {
            out.push(b'?');
            out.extend_from_slice(query);
            return;
        }
        if self.parameters == Parameters::None {
            return;
        }
        let pairs = query.split(|byte| *byte == b'&');
        let mut pairs: Vec<&[u8]> = pairs.filter(|pair| self.parameters.count(pair)).collect();
        if self.is_sorted {
            pairs.sort_by_key(|pair| name(pair));
        }
        for (number, pair) in pairs.into_iter().enumerate() {
            out.push(if number == 0 { b'?' } else { b'&' });
            out.extend_from_slice(pair);
        }
    }

    /// Tells whether anything counts but the URL.
    pub fn has_fields(&self) -> bool {
        !(self.headers.is_empty() && self.cookies.is_empty())
    }

    /// Appends what counts of the fields of a request; each part begins with a byte that no URL has.
    pub fn write_fields(&self, head: &RequestHead, bytes: &[u8], out: &mut Vec<u8>) {
        if !self.headers.is_empty() {
            let said = Selection::by(&self.headers, head, bytes);
            said.values().for_each(|value| part(value, out));
        }
        for name in &self.cookies {
            // Several of one name are several values, in their order.
            let before = out.len();
            for value in request::cookies(head, bytes, name) {
                part(value, out);
            }
            if out.len() == before {
                out.extend_from_slice(b"\0-");
            }
        }
    }
}

/// What is there differs from what is not, and ends where the next one begins.
fn part(value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"\0+");
    out.extend_from_slice(itoa::Buffer::new().format(value.len()).as_bytes());
    out.push(b':');
    out.extend_from_slice(value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::caching::tests::request;

    fn names(names: &[&str]) -> Box<[Box<[u8]>]> {
        names.iter().map(|name| name.as_bytes().into()).collect()
    }

    fn query(parameters: &Parameters, is_sorted: bool, query: Option<&str>) -> String {
        let parts = Parts {
            parameters: parameters.clone(),
            is_sorted,
            ..Parts::default()
        };
        let mut out = Vec::new();
        parts.write_query(query.map(str::as_bytes), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn parameters_count_or_not() {
        let only = &Parameters::Only(names(&["page", "q*"]));
        let without = &Parameters::Without(names(&["utm_*", "fbclid"]));
        for (parameters, is_sorted, asked, expected) in [
            (&Parameters::All, false, Some("b=2&a=1"), "?b=2&a=1"),
            (&Parameters::All, false, Some(""), "?"),
            (&Parameters::All, false, None, ""),
            (&Parameters::All, true, Some("b=2&a=1&b=1"), "?a=1&b=2&b=1"),
            (&Parameters::All, true, Some("ab=1&a=2"), "?a=2&ab=1"),
            (&Parameters::None, false, Some("a=1"), ""),
            (
                only,
                false,
                Some("page=2&x=1&q=a&quiet"),
                "?page=2&q=a&quiet",
            ),
            (only, false, Some("x=1"), ""),
            (only, true, Some("q=a&page=2"), "?page=2&q=a"),
            // However it is written, and whatever it may hide.
            (only, false, Some("%70age=2"), "?%70age=2"),
            (only, false, Some("x=1;page=2"), "?x=1;page=2"),
            (without, false, Some("utm_source=x&a=1&fbclid=y"), "?a=1"),
            (without, false, Some("%75tm_source=x&a"), "?a"),
            (
                without,
                false,
                Some("utm_source=x;a=1"),
                "?utm_source=x;a=1",
            ),
            (without, false, Some("utm_source=x"), ""),
            (
                without,
                false,
                Some("xutm_a=1&fbclidx"),
                "?xutm_a=1&fbclidx",
            ),
        ] {
            assert_eq!(query(parameters, is_sorted, asked), expected, "{asked:?}");
        }
    }

    #[test]
    fn fields_and_cookies_are_parts_that_do_not_run_together() {
        let parts = Parts {
            headers: names(&["x-a", "x-b"]),
            cookies: names(&["c", "d"]),
            ..Parts::default()
        };
        assert!(parts.has_fields() && !Parts::default().has_fields());
        let of = |lines: &str| {
            let (head, bytes) = request(&format!("GET / HTTP/1.1\r\nHost: h\r\n{lines}\r\n"));
            let mut out = Vec::new();
            parts.write_fields(&head, &bytes, &mut out);
            out
        };
        let different = [
            "",
            "X-A: 1\r\n",
            "X-A:\r\n",
            "X-B: 1\r\n",
            "X-A: 1\r\nX-B: 1\r\n",
            "X-A: 2:1\r\n",
            "Cookie: c=1\r\n",
            "Cookie: d=1\r\n",
            "Cookie: c=\r\n",
            "Cookie: c=1; c=2\r\n",
            "Cookie: c=1; d=2\r\n",
            "Cookie: c=2; c=1\r\n",
        ];
        let keys: std::collections::BTreeSet<_> = different.iter().map(|lines| of(lines)).collect();
        assert_eq!(keys.len(), different.len());
        assert_eq!(of("X-A: 1\r\nX-C: 1\r\nCookie: e=1\r\n"), of("x-a: 1\r\n"));
    }
}
