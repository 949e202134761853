//! Media types of files, by what their names end in.

/// What is said of a file that nothing is known of.
const UNKNOWN: &str = "application/octet-stream";

/// Types that are text without being called so; each is UTF-8 by now.
const TEXTS: [&str; 6] = [
    "application/json",
    "application/manifest+json",
    "application/xml",
    "application/xhtml+xml",
    "application/ld+json",
    "image/svg+xml",
];

/// Appends the `Content-Type` of a file with this name.
pub fn write(name: &[u8], out: &mut Vec<u8>) {
    let kind = of(name);
    out.extend_from_slice(kind.as_bytes());
    if kind.starts_with("text/") || TEXTS.contains(&kind) {
        out.extend_from_slice(b"; charset=utf-8");
    }
}

/// The media type of a file with this name, without parameters.
fn of(name: &[u8]) -> &'static str {
    let last = name.rsplit(|&b| b == b'/').next().unwrap_or_default();
    let dot = memchr::memrchr(b'.', last);
    let end = dot.and_then(|dot| std::str::from_utf8(last.get(dot + 1..)?).ok());
    let end = end.unwrap_or_default();
    // Newer than the table: RFC 9512 and what browsers ask for.
    match end {
        "yaml" | "yml" => "application/yaml",
        "mjs" => "text/javascript",
        "webmanifest" => "application/manifest+json",
        end => mime_guess::from_ext(end).first_raw().unwrap_or(UNKNOWN),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_follow_names() {
        for (name, expected) in [
            ("index.html", "text/html; charset=utf-8"),
            ("a/b.CSS", "text/css; charset=utf-8"),
            ("app.js", "text/javascript; charset=utf-8"),
            ("app.mjs", "text/javascript; charset=utf-8"),
            ("data.json", "application/json; charset=utf-8"),
            ("a.svg", "image/svg+xml; charset=utf-8"),
            ("a.png", "image/png"),
            ("a.avif", "image/avif"),
            ("a.wasm", "application/wasm"),
            ("a.woff2", "font/woff2"),
            ("a.mp4", "video/mp4"),
            ("a.webm", "video/webm"),
            ("a.tar.gz", "application/gzip"),
            ("a.b/c", "application/octet-stream"),
            ("a.", "application/octet-stream"),
            ("", "application/octet-stream"),
            ("a.\u{fc}", "application/octet-stream"),
        ] {
            let mut out = Vec::new();
            write(name.as_bytes(), &mut out);
            assert_eq!(String::from_utf8_lossy(&out), expected, "{name}");
        }
    }
}
