//! `Cache-Control` (RFC 9111 §5.2), and `CDN-Cache-Control` (RFC 9213), which is for caches like this one and
//! takes the place of it.

use crate::field::{self, Name};
use crate::head::Fields;

/// Beyond this, seconds are not counted (RFC 9111 §1.2.2).
pub const SECONDS_MAX: u32 = 1 << 31;

/// What a message says about caching. Of what it says twice, the stricter holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Directives {
    /// Nothing of it is stored.
    pub no_store: bool,
    /// It answers no request unless the server has been asked. A form that names fields counts as the whole.
    pub no_cache: bool,
    /// It is for one client. A form that names fields counts as the whole.
    pub private: bool,
    /// It is for every client, even one that had to say who it is.
    pub public: bool,
    /// It never answers when it is stale.
    pub must_revalidate: bool,
    /// The same, said to shared caches.
    pub proxy_revalidate: bool,
    /// It is stored by those alone who know its status.
    pub must_understand: bool,
    /// Only what is stored is wanted.
    pub only_if_cached: bool,
    /// For how many seconds it is fresh.
    pub max_age: Option<u32>,
    /// The same, said to shared caches.
    pub s_maxage: Option<u32>,
    /// For how many seconds it answers while the server is asked (RFC 5861 §3).
    pub stale_while_revalidate: Option<u32>,
    /// For how many seconds it answers in place of an error (RFC 5861 §4).
    pub stale_if_error: Option<u32>,
}

impl Directives {
    /// Reads `Cache-Control`; tells as well whether there is one.
    pub fn read(fields: &Fields, head: &[u8]) -> (Self, bool) {
        let (mut this, mut is_said) = (Self::default(), false);
        for line in fields.all(Name::CacheControl) {
            is_said = true;
            for member in members(line.value.of(head)) {
                let (name, value) = split(member);
                this.note(name, value);
            }
        }
        (this, is_said)
    }

    /// Reads `CDN-Cache-Control`; nothing where there is none that is a sound, filled dictionary (RFC 9213 §2.1).
    pub fn targeted(fields: &Fields, head: &[u8]) -> Option<Self> {
        let (mut this, mut is_said) = (Self::default(), false);
        for line in fields.all_by_text(head, b"cdn-cache-control") {
            let mut rest = line.value.of(head);
            while !rest.is_empty() {
                let (member, behind) = structured_member(rest)?;
                this.note_structured(member);
                (rest, is_said) = (behind, true);
            }
        }
        is_said.then_some(this)
    }

    /// Tells whether it may answer although it is stale.
    pub fn allows_stale(&self) -> bool {
        !(self.must_revalidate || self.proxy_revalidate || self.no_cache || self.s_maxage.is_some())
    }

    fn note(&mut self, name: &[u8], value: Option<&[u8]>) {
        match self.flag(name) {
            Some(flag) => *flag = true,
            None => self.note_seconds(name, value.map_or(0, seconds)),
        }
    }

    /// A member of a dictionary: one that has a value of another kind than it should is ignored.
    fn note_structured(&mut self, member: Member<'_>) {
        match (self.flag(member.key), member.value) {
            (Some(flag), Item::Flag(is_set)) => *flag = is_set,
            // The forms that name fields.
            (Some(flag), Item::Text) => *flag = true,
            (None, Item::Seconds(seconds)) => self.note_seconds(member.key, seconds),
            _ => {}
        }
    }

    fn note_seconds(&mut self, name: &[u8], seconds: u32) {
        if let Some(place) = self.seconds(name) {
            *place = Some(place.map_or(seconds, |other| other.min(seconds)));
        }
    }

    fn flag(&mut self, name: &[u8]) -> Option<&mut bool> {
        let is = |known: &[u8]| name.eq_ignore_ascii_case(known);
        Some(match name.len() {
            6 if is(b"public") => &mut self.public,
            7 if is(b"private") => &mut self.private,
            8 if is(b"no-store") => &mut self.no_store,
            8 if is(b"no-cache") => &mut self.no_cache,
            14 if is(b"only-if-cached") => &mut self.only_if_cached,
            15 if is(b"must-revalidate") => &mut self.must_revalidate,
            15 if is(b"must-understand") => &mut self.must_understand,
            16 if is(b"proxy-revalidate") => &mut self.proxy_revalidate,
            _ => return None,
        })
    }

    fn seconds(&mut self, name: &[u8]) -> Option<&mut Option<u32>> {
        let is = |known: &[u8]| name.eq_ignore_ascii_case(known);
        Some(match name.len() {
            7 if is(b"max-age") => &mut self.max_age,
            8 if is(b"s-maxage") => &mut self.s_maxage,
            14 if is(b"stale-if-error") => &mut self.stale_if_error,
            22 if is(b"stale-while-revalidate") => &mut self.stale_while_revalidate,
            _ => return None,
        })
    }
}

/// Members of a list in which commas between quotes separate nothing.
fn members(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(value);
    std::iter::from_fn(move || {
        let whole = rest?;
        let end = unquoted_comma(whole);
        rest = end.and_then(|end| whole.get(end + 1..));
        whole.get(..end.unwrap_or(whole.len()))
    })
    .map(<[u8]>::trim_ascii)
    .filter(|member| !member.is_empty())
}

fn unquoted_comma(text: &[u8]) -> Option<usize> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    text.iter().position(|&byte| {
        let was_escaped = std::mem::take(&mut is_escaped);
        match byte {
            b'\\' => is_escaped = is_quoted && !was_escaped,
            b'"' if !was_escaped => is_quoted = !is_quoted,
            _ => {}
        }
        byte == b',' && !is_quoted
    })
}

/// Name and value of a member. Blanks beside the sign belong to them, and make neither what it should be.
fn split(member: &[u8]) -> (&[u8], Option<&[u8]>) {
    let end = memchr::memchr(b'=', member);
    let (name, value) = member.split_at(end.unwrap_or(member.len()));
    (name.trim_ascii(), value.get(1..))
}

/// Delta-seconds, quoted or not; what is none counts as 0, which keeps nothing fresh.
fn seconds(value: &[u8]) -> u32 {
    let inner = value
        .strip_prefix(b"\"")
        .and_then(|v| v.strip_suffix(b"\""));
    digits(inner.unwrap_or(value)).unwrap_or(0)
}

/// A number of seconds; nothing unless there are only digits.
pub(crate) fn digits(text: &[u8]) -> Option<u32> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(text.iter().fold(0_u32, |sum, digit| {
        let sum = sum
            .saturating_mul(10)
            .saturating_add(u32::from(digit - b'0'));
        sum.min(SECONDS_MAX)
    }))
}

/// A member of a dictionary (RFC 9651 §3.2), as far as it matters here.
#[derive(Clone, Copy, Debug)]
struct Member<'a> {
    key: &'a [u8],
    value: Item,
}

#[derive(Clone, Copy, Debug)]
enum Item {
    Flag(bool),
    Seconds(u32),
    /// A string.
    Text,
    Other,
}

/// Takes one member off the front, with the comma behind it.
fn structured_member(text: &[u8]) -> Option<(Member<'_>, &[u8])> {
    let (key, rest) = structured_key(text.trim_ascii_start())?;
    let (value, rest) = match rest.strip_prefix(b"=") {
        Some(rest) => structured_item(rest)?,
        None => (Item::Flag(true), rest),
    };
    let rest = structured_parameters(rest)?.trim_ascii_start();
    let rest = match rest.split_first() {
        None => rest,
        // A comma must be followed by a member.
        Some((b',', rest)) => {
            let rest = rest.trim_ascii_start();
            (!rest.is_empty()).then_some(rest)?
        }
        Some(_) => return None,
    };
    Some((Member { key, value }, rest))
}

fn structured_key(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let is_first = |byte: &u8| byte.is_ascii_lowercase() || *byte == b'*';
    let is_more = |byte: &u8| is_first(byte) || byte.is_ascii_digit() || b"_-.".contains(byte);
    text.first().filter(|byte| is_first(byte))?;
    Some(text.split_at(length(text, is_more)))
}

fn structured_item(text: &[u8]) -> Option<(Item, &[u8])> {
    match text.first()? {
        b'?' => match text.get(1)? {
            b'0' => Some((Item::Flag(false), text.get(2..)?)),
            b'1' => Some((Item::Flag(true), text.get(2..)?)),
            _ => None,
        },
        b'-' | b'0'..=b'9' => structured_number(text),
        b'"' => structured_string(text.get(1..)?).map(|rest| (Item::Text, rest)),
        b'*' | b'a'..=b'z' | b'A'..=b'Z' => {
            let is_more = |byte: &u8| field::is_tchar(*byte) || b":/".contains(byte);
            Some((Item::Other, text.get(length(text, is_more)..)?))
        }
        _ => None,
    }
}

fn structured_number(text: &[u8]) -> Option<(Item, &[u8])> {
    let is_negative = text.first() == Some(&b'-');
    let unsigned = text.get(usize::from(is_negative)..)?;
    let (whole, rest) = unsigned.split_at(length(unsigned, u8::is_ascii_digit));
    if !(1..=15).contains(&whole.len()) {
        return None;
    }
    if let Some(fraction) = rest.strip_prefix(b".") {
        let places = length(fraction, u8::is_ascii_digit);
        let is_sound = whole.len() <= 12 && (1..=3).contains(&places);
        return is_sound.then_some((Item::Other, fraction.get(places..)?));
    }
    let seconds = if is_negative { 0 } else { digits(whole)? };
    Some((Item::Seconds(seconds), rest))
}

/// What follows a string whose opening quote has been taken.
fn structured_string(text: &[u8]) -> Option<&[u8]> {
    let mut rest = text;
    loop {
        let (byte, behind) = rest.split_first()?;
        rest = match byte {
            b'"' => return Some(behind),
            b'\\' => {
                let (escaped, behind) = behind.split_first()?;
                b"\\\"".contains(escaped).then_some(behind)?
            }
            b' '..=b'~' => behind,
            _ => return None,
        };
    }
}

/// Takes parameters off the front: none of them means anything here.
fn structured_parameters(text: &[u8]) -> Option<&[u8]> {
    let mut rest = text;
    while let Some(behind) = rest.strip_prefix(b";") {
        let behind = behind.trim_ascii_start();
        let (_, behind) = structured_key(behind)?;
        rest = match behind.strip_prefix(b"=") {
            Some(value) => structured_item(value)?.1,
            None => behind,
        };
    }
    Some(rest)
}

/// How many bytes at the front are of a kind.
fn length(text: &[u8], is: impl Fn(&u8) -> bool) -> usize {
    text.iter().position(|byte| !is(byte)).unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::caching::tests::answer;

    fn read(lines: &str) -> Directives {
        let (head, bytes) = answer(&format!("HTTP/1.1 200 OK\r\n{lines}\r\n"));
        Directives::read(&head.fields, &bytes).0
    }

    fn targeted(lines: &str) -> Option<Directives> {
        let (head, bytes) = answer(&format!("HTTP/1.1 200 OK\r\n{lines}\r\n"));
        Directives::targeted(&head.fields, &bytes)
    }

    /// However a lifetime is written, and what it counts as.
    #[test]
    fn seconds_are_read_in_every_form_and_never_to_the_advantage_of_a_fault() {
        for (value, expected) in [
            ("max-age=100", Some(100)),
            ("max-age=0", Some(0)),
            ("max-age=007", Some(7)),
            ("MAX-AGE=100", Some(100)),
            ("Max-Age=\"100\"", Some(100)),
            ("max-age=100, max-age=100", Some(100)),
            ("max-age=100, max-age=5", Some(5)),
            ("max-age=5, max-age=100", Some(5)),
            (",,max-age=100,,", Some(100)),
            ("\tmax-age=100 ", Some(100)),
            ("x=\"a, max-age=1\", max-age=100", Some(100)),
            ("x=\"a\\\", max-age=1\", max-age=100", Some(100)),
            ("max-age=2147483647", Some(2_147_483_647)),
            ("max-age=2147483648", Some(SECONDS_MAX)),
            ("max-age=4294967296", Some(SECONDS_MAX)),
            ("max-age=18446744073709551616", Some(SECONDS_MAX)),
            ("max-age=99999999999999999999999999", Some(SECONDS_MAX)),
            ("max-age=-1", Some(0)),
            ("max-age=+1", Some(0)),
            ("max-age=1.5", Some(0)),
            ("max-age=1e3", Some(0)),
            ("max-age=0x10", Some(0)),
            ("max-age=", Some(0)),
            ("max-age", Some(0)),
            ("max-age=\"\"", Some(0)),
            ("max-age='100'", Some(0)),
            ("max-age=\"100", Some(0)),
            ("max-age= 100", Some(0)),
            ("max-age=100;x", Some(0)),
            ("max-age=abc", Some(0)),
            ("xmax-age=100", None),
            ("max-agex=100", None),
            ("s-maxage=100", None),
            ("x=\"max-age=100\"", None),
            ("x=\", max-age=100", None),
            ("", None),
        ] {
            let said = read(&format!("Cache-Control: {value}\r\n"));
            assert_eq!(said.max_age, expected, "{value}");
        }
    }

    #[test]
    fn flags_are_read_in_every_form() {
        let only = |set: fn(&mut Directives)| {
            let mut directives = Directives::default();
            set(&mut directives);
            directives
        };
        let no_cache = only(|d| d.no_cache = true);
        let private = only(|d| d.private = true);
        for (value, expected) in [
            ("no-store", only(|d| d.no_store = true)),
            ("No-Store", only(|d| d.no_store = true)),
            ("no-store=x", only(|d| d.no_store = true)),
            ("no-cache", no_cache),
            ("no-cache=\"set-cookie\"", no_cache),
            ("no-cache=\"a, b\"", no_cache),
            ("private", private),
            ("private=\"x-user\"", private),
            ("private=x-user", private),
            ("public", only(|d| d.public = true)),
            ("must-revalidate", only(|d| d.must_revalidate = true)),
            ("proxy-revalidate", only(|d| d.proxy_revalidate = true)),
            ("must-understand", only(|d| d.must_understand = true)),
            ("only-if-cached", only(|d| d.only_if_cached = true)),
            ("no-transform, immutable, x", Directives::default()),
            ("no-stor, no-storee, nostore", Directives::default()),
        ] {
            assert_eq!(
                read(&format!("cache-control: {value}\r\n")),
                expected,
                "{value}"
            );
        }
    }

    #[test]
    fn lines_add_up() {
        let said =
            read("Cache-Control: public\r\nA: b\r\ncache-control: s-maxage=9, max-age=1\r\n");
        assert!(said.public);
        assert_eq!((said.s_maxage, said.max_age), (Some(9), Some(1)));
        let said = read("Cache-Control: stale-while-revalidate=3, stale-if-error=\"4\"\r\n");
        let stale = (said.stale_while_revalidate, said.stale_if_error);
        assert_eq!(stale, (Some(3), Some(4)));
        assert!(said.allows_stale());
        for strict in [
            "must-revalidate",
            "proxy-revalidate",
            "no-cache",
            "s-maxage=1",
        ] {
            let said = read(&format!("Cache-Control: {strict}\r\n"));
            assert!(!said.allows_stale(), "{strict}");
        }
    }

    #[test]
    fn what_is_meant_for_us_is_a_sound_dictionary_or_nothing() {
        let age = |seconds| Some(Some(seconds));
        for (value, expected) in [
            ("max-age=600", age(600)),
            ("max-age=600, no-store=?0", age(600)),
            ("max-age=600;x=1;y", age(600)),
            ("max-age=600; x", age(600)),
            ("max-age=600 , public", age(600)),
            ("x=\"a, b\", max-age=6", age(6)),
            ("x=a/b:c, max-age=6", age(6)),
            ("x=1.5, max-age=6", age(6)),
            ("max-age=-5", age(0)),
            ("max-age=999999999999999", age(SECONDS_MAX)),
            ("max-age=\"600\"", Some(None)),
            ("max-age=6.5", Some(None)),
            ("max-age", Some(None)),
            ("no-store", Some(None)),
            ("", None),
            ("max-age=", None),
            ("max-age=600,", None),
            ("Max-Age=600", None),
            ("max-age=600 x", None),
            ("max-age=9999999999999999", None),
            ("max-age=1.5555", None),
            ("x=\"a", None),
            ("x=?2", None),
            ("1=1", None),
            ("max-age =600", None),
            ("x=(a b)", None),
        ] {
            let said = targeted(&format!("CDN-Cache-Control: {value}\r\n"));
            assert_eq!(said.map(|said| said.max_age), expected, "{value}");
        }
        assert_eq!(targeted("A: b\r\n"), None);
        let said = targeted("CDN-Cache-Control: max-age=9\r\nCDN-Cache-Control: private=\"a\"\r\n");
        assert!(said.is_some_and(|said| said.private && said.max_age == Some(9)));
    }
}
