//! Which file a path names: below a directory, and never outside of it.

use crate::request;

/// What begins with a dot and is shown all the same (RFC 8615).
const WELL_KNOWN: &[u8] = b".well-known";

/// Appends the name, below a directory, of the file that a canonical path stands for; a path that ends in
/// a slash keeps it. Tells whether there can be one: names that begin with a dot are not shown, unless
/// `shows_hidden`.
pub fn below(path: &[u8], shows_hidden: bool, out: &mut Vec<u8>) -> bool {
    let Some(path) = path.strip_prefix(b"/") else {
        return false;
    };
    let start = out.len();
    out.extend(request::unescaped_path(path));
    let name = out.get(start..).unwrap_or_default();
    let may_be_shown = |(at, segment): (usize, &[u8])| match segment {
        // A canonical path has none of these; a file must not depend on that.
        b"." | b".." => false,
        [b'.', ..] => shows_hidden || (at == 0 && segment == WELL_KNOWN),
        _ => true,
    };
    !name.contains(&0) && name.split(|&b| b == b'/').enumerate().all(may_be_shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_below_and_not_hidden() {
        for (path, name) in [
            ("/", Some("")),
            ("/a", Some("a")),
            ("/a/", Some("a/")),
            ("/a%20b+c", Some("a b+c")),
            ("/%C3%A9.html", Some("é.html")),
            ("/a%", Some("a%")),
            ("/a./b ", Some("a./b ")),
            (
                "/.well-known/security.txt",
                Some(".well-known/security.txt"),
            ),
            ("/a/.well-known/x", None),
            ("/.git/config", None),
            ("/a/.env", None),
            ("/%2Egit/config", None),
            ("/..", None),
            ("/a/%2e%2e/b", None),
            ("/a%00b", None),
            ("*", None),
            ("a", None),
        ] {
            let mut out = Vec::new();
            let is_shown = below(path.as_bytes(), false, &mut out);
            let found = is_shown.then(|| String::from_utf8(out).unwrap());
            assert_eq!(found.as_deref(), name, "{path}");
        }
        let mut out = Vec::new();
        assert!(below(b"/a/.env", true, &mut out));
        assert!(!below(b"/a/../b", true, &mut out));
    }
}
