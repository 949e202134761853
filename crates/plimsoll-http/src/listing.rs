//! The page that lists a directory.

use crate::date::{Civil, two_digits};
use crate::h1::encode;
use crate::target;

/// What is known of a file or a directory in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name; no text that could be relied on.
    pub name: Vec<u8>,
    /// Its size in bytes; nothing of a directory.
    pub size: Option<u64>,
    /// When it was changed last, in seconds since 1970.
    pub modified: u64,
}

const HEAD: &str = "<meta charset=utf-8><meta name=viewport content=\"width=device-width\">\
<style>body{font:1rem/1.5 system-ui,sans-serif;margin:2rem auto;max-width:60rem;padding:0 1rem}\
table{border-collapse:collapse;width:100%}td{padding:.2rem 1rem .2rem 0}\
td+td{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}\
@media(prefers-color-scheme:dark){body{background:#111;color:#ddd}a{color:#8bf}}</style>";

/// Appends the page for the directory `path`, which ends in a slash; directories come first, then names
/// in the order of their bytes. `is_cut` tells that there are more.
pub fn write(path: &[u8], mut entries: Vec<Entry>, is_cut: bool, out: &mut Vec<u8>) {
    entries.sort_unstable_by(|a, b| (a.size.is_some(), &a.name).cmp(&(b.size.is_some(), &b.name)));
    out.extend_from_slice(b"<!doctype html><title>");
    text(path, out);
    out.extend_from_slice(b"</title>");
    out.extend_from_slice(HEAD.as_bytes());
    out.extend_from_slice(b"<h1>");
    text(path, out);
    out.extend_from_slice(b"</h1>\n<table>\n");
    if path != b"/" {
        out.extend_from_slice(b"<tr><td><a href=\"../\">../</a><td><td>\n");
    }
    for entry in &entries {
        row(entry, out);
    }
    out.extend_from_slice(b"</table>\n");
    if is_cut {
        out.extend_from_slice(b"<p>There are more.\n");
    }
}

fn row(entry: &Entry, out: &mut Vec<u8>) {
    let slash: &[u8] = if entry.size.is_none() { b"/" } else { b"" };
    // A name with a colon in it is no scheme behind `./`.
    out.extend_from_slice(b"<tr><td><a href=\"./");
    for &b in &entry.name {
        match b {
            b if b.is_ascii_alphanumeric() || b"-._~".contains(&b) => out.push(b),
            b => target::encode(b, out),
        }
    }
    out.extend_from_slice(slash);
    out.extend_from_slice(b"\">");
    text(&entry.name, out);
    out.extend_from_slice(slash);
    out.extend_from_slice(b"</a><td>");
    if let Some(size) = entry.size {
        encode::decimal(size, out);
    }
    out.extend_from_slice(b"<td>");
    date(entry.modified, out);
    out.push(b'\n');
}

/// `2024-02-29 23:59`
fn date(seconds: u64, out: &mut Vec<u8>) {
    let at = Civil::from_unix(seconds);
    encode::decimal(at.year.into(), out);
    for (between, number) in [
        (b'-', at.month),
        (b'-', at.day),
        (b' ', at.hour),
        (b':', at.minute),
    ] {
        out.push(between);
        out.extend_from_slice(&two_digits(number));
    }
}

/// Appends bytes as text of HTML; what is no UTF-8 is shown as such.
fn text(bytes: &[u8], out: &mut Vec<u8>) {
    for &b in String::from_utf8_lossy(bytes).as_bytes() {
        match b {
            b'&' => out.extend_from_slice(b"&amp;"),
            b'<' => out.extend_from_slice(b"&lt;"),
            b'>' => out.extend_from_slice(b"&gt;"),
            b'"' => out.extend_from_slice(b"&quot;"),
            b => out.push(b),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &[u8], size: Option<u64>) -> Entry {
        Entry {
            name: name.to_vec(),
            size,
            modified: 951_782_400,
        }
    }

    #[test]
    fn names_break_out_of_nothing() {
        let entries = vec![
            entry(b"b.txt", Some(12)),
            entry(b"\"><script>", Some(0)),
            entry(b"a:b c", Some(3)),
            entry(b"z", None),
            entry(b"\xff", Some(1)),
        ];
        let mut out = Vec::new();
        write(b"/a&b/", entries, true, &mut out);
        let page = String::from_utf8(out).unwrap();
        let rows: Vec<&str> = page
            .lines()
            .filter(|line| line.starts_with("<tr>"))
            .collect();
        assert_eq!(
            rows,
            [
                "<tr><td><a href=\"../\">../</a><td><td>",
                "<tr><td><a href=\"./z/\">z/</a><td><td>2000-02-29 00:00",
                "<tr><td><a href=\"./%22%3E%3Cscript%3E\">&quot;&gt;&lt;script&gt;</a><td>0<td>2000-02-29 00:00",
                "<tr><td><a href=\"./a%3Ab%20c\">a:b c</a><td>3<td>2000-02-29 00:00",
                "<tr><td><a href=\"./b.txt\">b.txt</a><td>12<td>2000-02-29 00:00",
                "<tr><td><a href=\"./%FF\">\u{fffd}</a><td>1<td>2000-02-29 00:00",
            ]
        );
        assert!(page.contains("<title>/a&amp;b/</title>") && page.ends_with("more.\n"));
    }
}
