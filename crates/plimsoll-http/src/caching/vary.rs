//! Which requests an answer is for (RFC 9111 §4.1): those whose fields that `Vary` names say the same.

use crate::field;
use crate::head::{RequestHead, ResponseHead};

/// The fields that an answer varies by, and what the request said in them that it was given to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// In lower case, in order, each once.
    names: Box<[Box<[u8]>]>,
    /// What they said, in one form.
    values: Box<[Box<[u8]>]>,
}

impl Selection {
    /// Reads what an answer varies by; nothing when no other request may have it (`*`).
    pub fn read(
        (answer, answer_bytes): (&ResponseHead, &[u8]),
        (request, bytes): (&RequestHead, &[u8]),
    ) -> Option<Self> {
        let mut names = Vec::new();
        for line in answer.fields.all_by_text(answer_bytes, b"vary") {
            for name in field::list(line.value.of(answer_bytes)) {
                if name == b"*" {
                    return None;
                }
                names.push(Box::from(name.to_ascii_lowercase()));
            }
        }
        names.sort_unstable();
        names.dedup();
        let values = names.iter().map(|name| normal(name, request, bytes));
        Some(Self {
            values: values.map(Vec::into_boxed_slice).collect(),
            names: names.into_boxed_slice(),
        })
    }

    /// Tells whether it is for this request too.
    pub fn matches(&self, request: &RequestHead, bytes: &[u8]) -> bool {
        let mut parts = self.names.iter().zip(&self.values);
        parts.all(|(name, value)| *normal(name, request, bytes) == **value)
    }

    /// The same fields, as this request says them.
    #[must_use]
    pub fn of(&self, request: &RequestHead, bytes: &[u8]) -> Self {
        Self::by(&self.names, request, bytes)
    }

    /// The same without this field.
    #[must_use]
    pub fn without(self, name: &[u8]) -> Self {
        let parts = self.names.into_iter().zip(self.values);
        Self::of_parts(parts.filter(|(own, _)| **own != *name))
    }

    /// What these fields say in a request; the names are in lower case, in order, each once.
    pub fn by(names: &[Box<[u8]>], request: &RequestHead, bytes: &[u8]) -> Self {
        let values = names.iter().map(|name| normal(name, request, bytes));
        Self {
            values: values.map(Vec::into_boxed_slice).collect(),
            names: names.into(),
        }
    }

    /// One that was taken apart with [`Self::names`] and [`Self::values`].
    pub fn of_parts(parts: impl Iterator<Item = (Box<[u8]>, Box<[u8]>)>) -> Self {
        let (names, values): (Vec<_>, Vec<_>) = parts.unzip();
        Self {
            names: names.into(),
            values: values.into(),
        }
    }

    /// The names of the fields, in lower case and in order.
    pub fn names(&self) -> &[Box<[u8]>] {
        &self.names
    }

    /// What the fields say, for whoever keeps things apart by it.
    pub fn values(&self) -> impl Iterator<Item = &[u8]> {
        self.values.iter().map(AsRef::as_ref)
    }

    /// Bytes that it takes.
    pub fn size(&self) -> usize {
        let parts = self.names.iter().chain(&self.values);
        parts.map(|part| part.len() + size_of::<Box<[u8]>>()).sum()
    }
}

/// What a request says in a field, in one form: its lines as one list, without blanks around the members.
/// What is there differs from what is not, however empty it is.
fn normal(name: &[u8], request: &RequestHead, bytes: &[u8]) -> Vec<u8> {
    let lines = || request.fields.all_by_text(bytes, name);
    let mut out = Vec::new();
    if lines().next().is_none() {
        return out;
    }
    let members = lines().flat_map(|line| field::list(line.value.of(bytes)));
    if name == b"accept-encoding" {
        return codings(members);
    }
    for member in members {
        out.push(b',');
        out.extend_from_slice(member);
    }
    if out.is_empty() {
        out.push(b',');
    }
    out
}

/// The codings that are accepted, as a set: servers choose by it, and its spellings are without number.
fn codings<'a>(members: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut accepted = Vec::new();
    for member in members {
        let mut parts = member.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
        let mut coding = parts.next().unwrap_or_default().to_ascii_lowercase();
        if coding == b"x-gzip" {
            coding = b"gzip".to_vec();
        }
        let is_refused = parts.any(is_zero);
        // Without a word on it, no coding at all is accepted: only a refusal says something.
        if (coding == b"identity") == is_refused {
            if is_refused {
                coding.insert(0, b'!');
            }
            accepted.push(coding);
        }
    }
    accepted.sort_unstable();
    accepted.dedup();
    let mut out = vec![b','];
    out.extend_from_slice(&accepted.join(&b','));
    out
}

/// Tells whether a parameter is a weight of nothing.
fn is_zero(parameter: &[u8]) -> bool {
    let weight = parameter
        .strip_prefix(b"q=")
        .or_else(|| parameter.strip_prefix(b"Q="));
    weight.is_some_and(|weight| {
        weight.starts_with(b"0") && weight.iter().all(|byte| b"0.".contains(byte))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::caching::tests::{answer, request};

    /// Whether what was given to `first`, and varies by `vary`, is for `second` too.
    fn is_for_both(vary: &str, first: &str, second: &str) -> Option<bool> {
        let (head, bytes) = answer(&format!("HTTP/1.1 200 OK\r\n{vary}\r\n"));
        let of = |lines: &str| request(&format!("GET / HTTP/1.1\r\nHost: h\r\n{lines}\r\n"));
        let (first, first_bytes) = of(first);
        let (second, second_bytes) = of(second);
        let selection = Selection::read((&head, &bytes), (&first, &first_bytes))?;
        assert!(selection.matches(&first, &first_bytes));
        let matches = selection.matches(&second, &second_bytes);
        assert_eq!(selection.of(&second, &second_bytes) == selection, matches);
        Some(matches)
    }

    #[test]
    fn answers_are_for_those_who_say_the_same() {
        for (vary, first, second, expected) in [
            ("", "A: 1\r\n", "A: 2\r\n", Some(true)),
            ("Vary:\r\n", "A: 1\r\n", "A: 2\r\n", Some(true)),
            ("Vary: A\r\n", "A: 1\r\n", "A: 1\r\n", Some(true)),
            ("Vary: A\r\n", "A: 1\r\n", "a: 1\r\n", Some(true)),
            ("vary: a\r\n", "A: 1\r\n", "A: 2\r\n", Some(false)),
            ("Vary: A\r\n", "A: 1\r\n", "", Some(false)),
            ("Vary: A\r\n", "", "A: 1\r\n", Some(false)),
            ("Vary: A\r\n", "", "", Some(true)),
            ("Vary: A\r\n", "", "A:\r\n", Some(false)),
            ("Vary: A\r\n", "A: 1, 2\r\n", "A: 1,2\r\n", Some(true)),
            ("Vary: A\r\n", "A: 1, 2\r\n", "A: 1\r\nA: 2\r\n", Some(true)),
            ("Vary: A\r\n", "A: 1, 2\r\n", "A: 2, 1\r\n", Some(false)),
            ("Vary: A\r\n", "A: x\r\n", "A: X\r\n", Some(false)),
            (
                "Vary: A, B\r\n",
                "A: 1\r\nB: 2\r\n",
                "B: 2\r\nA: 1\r\n",
                Some(true),
            ),
            (
                "Vary: B, A\r\n",
                "A: 1\r\nB: 2\r\n",
                "A: 1\r\nB: 3\r\n",
                Some(false),
            ),
            (
                "Vary: A\r\nVary: B\r\n",
                "A: 1\r\nB: 2\r\n",
                "A: 1\r\n",
                Some(false),
            ),
            ("Vary: A, a, A\r\n", "A: 1\r\n", "A: 1\r\n", Some(true)),
            // Two fields do not make up for each other.
            ("Vary: A, B\r\n", "A: x\r\n", "B: x\r\n", Some(false)),
            ("Vary: *\r\n", "", "", None),
            ("Vary: A, *\r\n", "", "", None),
            ("Vary: A\r\nVary: *\r\n", "", "", None),
            (
                "Vary: Cookie\r\n",
                "Cookie: a=1\r\n",
                "Cookie: a=2\r\n",
                Some(false),
            ),
        ] {
            assert_eq!(
                is_for_both(vary, first, second),
                expected,
                "{vary} {first} {second}"
            );
        }
    }

    #[test]
    fn codings_are_a_set() {
        for (first, second, expected) in [
            ("gzip, br", "br, gzip", true),
            ("gzip, br", "br,gzip", true),
            ("gzip;q=0.5, br", "br, gzip;q=1", true),
            ("gzip", "GZIP", true),
            ("gzip", "x-gzip", true),
            ("gzip, gzip", "gzip", true),
            ("gzip, br;q=0", "gzip", true),
            ("gzip, br;q=0.000", "gzip", true),
            ("gzip, br; q=0", "gzip", true),
            ("gzip, identity", "gzip", true),
            ("gzip, identity;q=0", "gzip", false),
            ("gzip", "br", false),
            ("gzip", "gzip, br", false),
            ("*", "gzip", false),
            ("br;q=0.001", "br;q=0", false),
            ("", "identity", true),
        ] {
            let line = |value: &str| format!("Accept-Encoding: {value}\r\n");
            let vary = "Vary: Accept-Encoding\r\n";
            let is = is_for_both(vary, &line(first), &line(second));
            assert_eq!(is, Some(expected), "{first} | {second}");
        }
    }
}
