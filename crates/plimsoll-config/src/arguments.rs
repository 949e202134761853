//! Words to values, with a problem for each that is none.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::model::{self, Host, PathPattern, ServerAddress};
use crate::read::Reader;
use crate::source::Span;
use crate::suggest::nearest;
use crate::syntax::{Stmt, Word};
use crate::units::{self, BadUnit};

/// A value of an option, or a whole word, and its place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Value<'a> {
    pub(crate) text: &'a str,
    pub(crate) span: Span,
}

impl<'a> From<&'a Word> for Value<'a> {
    fn from(word: &'a Word) -> Self {
        Self {
            text: &word.text,
            span: word.span,
        }
    }
}

impl Reader<'_> {
    /// Reads `name=value` words: `known` are the names; `set` gets each once.
    pub(crate) fn options(
        &mut self,
        words: &[Word],
        known: &[&str],
        mut set: impl FnMut(&mut Self, &str, Value<'_>),
    ) {
        let mut seen: Vec<(&str, Span)> = Vec::new();
        for word in words {
            let (name, value) = word.text.split_once('=').unwrap_or((&word.text, ""));
            if !known.contains(&name) {
                let mut problem = Diagnostic::new(
                    &codes::OPTION,
                    word.span,
                    format!("unknown option `{name}`"),
                );
                if let Some(near) = nearest(name, known.iter().copied()) {
                    problem = problem.label(format!("did you mean `{near}`?"));
                }
                self.problem(problem.help(format!("known here: {}", known.join(", "))));
                continue;
            }
            if let Some((_, first)) = seen.iter().find(|(seen, _)| *seen == name) {
                let problem = Diagnostic::new(
                    &codes::REPEATED,
                    word.span,
                    format!("`{name}` is said twice"),
                );
                self.problem(problem.related(*first, "first here"));
                continue;
            }
            seen.push((name, word.span));
            set(
                self,
                name,
                Value {
                    text: value,
                    span: word.span,
                },
            );
        }
    }

    pub(crate) fn duration(&mut self, value: Value<'_>) -> Option<Duration> {
        let parsed = units::duration(value.text);
        let parsed = self.unit(
            value,
            parsed,
            "duration",
            "500ms, 10s, 5m, 1h",
            units::DURATIONS,
        )?;
        // Beyond this, "never" was meant, and some clocks do not reach.
        let (least, most) = (Duration::from_millis(1), Duration::from_secs(365 * 86_400));
        if (least..=most).contains(&parsed) {
            return Some(parsed);
        }
        self.problem(Diagnostic::new(
            &codes::RANGE,
            value.span,
            "a duration is from 1ms to 365d",
        ));
        None
    }

    pub(crate) fn size(&mut self, value: Value<'_>) -> Option<u64> {
        let parsed = units::size(value.text);
        self.unit(value, parsed, "size", "64KiB, 1MiB", units::SIZES)
    }

    pub(crate) fn byte_rate(&mut self, value: Value<'_>) -> Option<u64> {
        let parsed = units::byte_rate(value.text);
        self.unit(value, parsed, "rate", "240B/s, 1KiB/s", units::SIZES)
    }

    fn unit<T>(
        &mut self,
        value: Value<'_>,
        parsed: Result<T, BadUnit>,
        kind: &str,
        examples: &str,
        units: &[(&str, u64)],
    ) -> Option<T> {
        let text = value.text;
        let problem = |code, message| Diagnostic::new(code, value.span, message);
        let problem = match parsed {
            Ok(parsed) => return Some(parsed),
            Err(BadUnit::Missing) => problem(&codes::UNIT, format!("a {kind} needs a unit")),
            Err(BadUnit::Unknown(unit)) => {
                let problem = problem(&codes::UNIT, format!("unknown unit `{unit}` of a {kind}"));
                match nearest(&unit, units.iter().map(|(name, _)| *name)) {
                    Some(near) => {
                        let per_second = if kind == "rate" { "/s" } else { "" };
                        problem.label(format!("did you mean `{near}{per_second}`?"))
                    }
                    None => problem,
                }
            }
            Err(BadUnit::NotANumber) => problem(&codes::UNIT, format!("`{text}` is not a {kind}")),
            Err(BadUnit::TooLarge) => problem(&codes::RANGE, format!("`{text}` is too large")),
        };
        self.problem(problem.help(format!("write it like {examples}")));
        None
    }

    /// A whole number within `range`.
    pub(crate) fn number<T: TryFrom<u64>>(
        &mut self,
        value: Value<'_>,
        least: u64,
        most: u64,
    ) -> Option<T> {
        let parsed = value
            .text
            .parse::<u64>()
            .ok()
            .filter(|n| (least..=most).contains(n));
        if let Some(n) = parsed.and_then(|n| T::try_from(n).ok()) {
            return Some(n);
        }
        let message = format!("`{}` is not a number from {least} to {most}", value.text);
        self.problem(Diagnostic::new(&codes::RANGE, value.span, message));
        None
    }

    /// A share, `20%`, of at least `least` percent.
    pub(crate) fn percent(&mut self, value: Value<'_>, least: u8) -> Option<u8> {
        let parsed = value.text.strip_suffix('%').and_then(|n| n.parse().ok());
        let parsed = parsed.filter(|percent| (least..=100).contains(percent));
        if parsed.is_none() {
            let message = format!("`{}` is not a share from {least}% to 100%", value.text);
            self.problem(Diagnostic::new(&codes::RANGE, value.span, message));
        }
        parsed
    }

    /// A number a second, `10/s`.
    pub(crate) fn per_second(&mut self, value: Value<'_>, most: u32) -> Option<u32> {
        let parsed = value.text.strip_suffix("/s").and_then(|n| n.parse().ok());
        let parsed = parsed.filter(|rate| *rate <= most);
        if parsed.is_none() {
            let message = format!("`{}` is not a rate", value.text);
            let problem = Diagnostic::new(&codes::UNIT, value.span, message);
            self.problem(problem.help("write it like 10/s, 100/s"));
        }
        parsed
    }

    /// A number in a time: `20/s`, `100/m`, `1000/h`.
    pub(crate) fn rate(&mut self, value: Value<'_>) -> Option<(u32, Duration)> {
        let parsed = value.text.split_once('/').and_then(|(count, unit)| {
            let per = Duration::from_secs(match unit {
                "s" => 1,
                "m" => 60,
                "h" => 3600,
                _ => return None,
            });
            let count = count.parse().ok();
            let count = count.filter(|count| (1..=100_000_000).contains(count))?;
            Some((count, per))
        });
        if parsed.is_none() {
            let message = format!("`{}` is not a limit", value.text);
            let problem = Diagnostic::new(&codes::UNIT, value.span, message);
            let help = "write it like `20/s`, `100/m` or `1000/h`";
            self.problem(problem.help(help));
        }
        parsed
    }

    /// A small decimal number such as `1.9`, in thousandths.
    pub(crate) fn thousandths(&mut self, value: Value<'_>) -> Option<u32> {
        let (whole, fraction) = value.text.split_once('.').unwrap_or((value.text, "0"));
        let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
        let is_number = digits(whole) && digits(fraction) && (1..=3).contains(&fraction.len());
        let parsed = is_number
            .then(|| format!("{whole}{fraction:0<3}").parse().ok())
            .flatten()
            .filter(|n: &u32| (1..=100_000).contains(n));
        if parsed.is_none() {
            let message = format!("`{}` is not a number from 0.001 to 100", value.text);
            self.problem(Diagnostic::new(&codes::RANGE, value.span, message));
        }
        parsed
    }

    /// A size within a range.
    pub(crate) fn size_within(&mut self, value: Value<'_>, least: u64, most: u64) -> Option<u64> {
        let size = self.size(value)?;
        if (least..=most).contains(&size) {
            return Some(size);
        }
        let (least, most) = (units::size_text(least), units::size_text(most));
        let message = format!("`{}` is not from {least} to {most}", value.text);
        self.problem(Diagnostic::new(&codes::RANGE, value.span, message));
        None
    }

    /// Where to listen: `:80`, `127.0.0.1:80`, `[::1]:80`.
    pub(crate) fn listen_address(&mut self, value: Value<'_>) -> Option<SocketAddr> {
        let parsed = match value.text.strip_prefix(':') {
            Some(port) => port
                .parse()
                .ok()
                .map(|port: u16| SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))),
            None => value.text.parse().ok(),
        };
        if let Some(address) = parsed.filter(|address| address.port() != 0) {
            return Some(address);
        }
        if value.text.starts_with("unix:") {
            let problem = Diagnostic::new(
                &codes::NOT_YET,
                value.span,
                "Unix sockets are not in this version",
            );
            self.problem(problem.help("listen on a loopback address: `127.0.0.1:8080`"));
            return None;
        }
        let message = format!("`{}` is not an address to listen on", value.text);
        let problem = Diagnostic::new(&codes::ADDRESS, value.span, message);
        self.problem(problem.help("write it like `:8080`, `127.0.0.1:8080` or `[::1]:8080`"));
        None
    }

    /// An address without a port.
    pub(crate) fn ip(&mut self, value: Value<'_>) -> Option<IpAddr> {
        let text = value.text.trim_matches(['[', ']']);
        let parsed = text.parse().ok();
        if parsed.is_none() {
            let message = format!("`{}` is not an IP address", value.text);
            let problem = Diagnostic::new(&codes::ADDRESS, value.span, message);
            self.problem(problem.help("write it like `10.0.0.1` or `2001:db8::1`"));
        }
        parsed
    }

    /// Where a server is: an address or a host name, and a port.
    pub(crate) fn server_address(&mut self, value: Value<'_>) -> Option<ServerAddress> {
        if let Some(address) = server_address(value.text) {
            return Some(address);
        }
        let scheme = value.text.split_once("://").map(|(scheme, _)| scheme);
        let problem = match scheme {
            Some("srv" | "https" | "h2" | "h2c") => {
                let message = format!(
                    "`{}://` servers are not in this version",
                    scheme.unwrap_or_default()
                );
                Diagnostic::new(&codes::NOT_YET, value.span, message)
                    .help("write it like `10.0.0.1:8080`")
            }
            Some(_) => {
                let problem = Diagnostic::new(
                    &codes::ADDRESS,
                    value.span,
                    "a server is written without a scheme",
                );
                problem.help("write it like `10.0.0.1:8080` or `app.internal:8080`")
            }
            None if value.text.starts_with("unix:") => Diagnostic::new(
                &codes::NOT_YET,
                value.span,
                "Unix sockets are not in this version",
            )
            .help("write it like `10.0.0.1:8080`"),
            None => {
                let message = format!("`{}` is not a server", value.text);
                let problem = Diagnostic::new(&codes::ADDRESS, value.span, message);
                problem.help("write host and port, like `10.0.0.1:8080`, `[::1]:8080` or `app.internal:8080`")
            }
        };
        self.problem(problem);
        None
    }

    /// A host that a site answers for.
    pub(crate) fn host(&mut self, value: Value<'_>) -> Option<Host> {
        if let Some(text) = value.text.strip_prefix('~') {
            let expression = self.expression(Value { text, ..value })?;
            return Some(Host::Expression(expression));
        }
        let text = value
            .text
            .strip_suffix('.')
            .unwrap_or(value.text)
            .to_ascii_lowercase();
        let host = match text.strip_prefix("*.") {
            _ if text == "*" => Some(Host::Any),
            Some(rest) if is_name(rest) => Some(Host::Suffix(format!(".{rest}").into())),
            Some(_) => None,
            None if is_name(&text) => Some(Host::Exact(text.into())),
            None => bracketed(&text).map(|ip| Host::Exact(format!("[{ip}]").into())),
        };
        if host.is_none() {
            let message = format!("`{}` is not a host", value.text);
            let problem = Diagnostic::new(&codes::HOST, value.span, message);
            let help = match value.text {
                text if text.contains("://") => "leave the scheme out",
                text if text.contains('/') => "leave the path out: that is what `route` is for",
                text if text.contains(':') => "leave the port out: that is what `listen` is for",
                _ => {
                    "write it like `example.com`, `*.example.com`, `*`, or an expression `~^www[0-9]`"
                }
            };
            self.problem(problem.help(help));
        }
        host
    }

    /// A path that a route takes.
    pub(crate) fn path(&mut self, value: Value<'_>) -> Option<PathPattern> {
        let text = value.text;
        if text == "*" {
            return Some(PathPattern::Any);
        }
        let prefix = text
            .strip_suffix('*')
            .filter(|path| path.ends_with('/') && !path.contains('*'));
        let path = prefix.unwrap_or(text);
        let is_prefix = prefix.is_some();
        let problem = |message: String| Diagnostic::new(&codes::PATH, value.span, message);
        let problem = if !text.starts_with('/') {
            problem(format!("`{text}` is not a path"))
                .help(format!("a path begins with a slash: `/{text}`"))
        } else if path.contains(['?', '#']) {
            problem(format!("`{text}` is more than a path"))
                .help("a route takes paths; leave out what follows `?` or `#`")
        } else {
            match canonical(path) {
                Some(canonical) if canonical == path => {
                    let path = path.into();
                    return Some(match is_prefix {
                        true => PathPattern::Prefix(path),
                        false if text.contains('*') => PathPattern::Glob(path),
                        false => PathPattern::Exact(path),
                    });
                }
                Some(canonical) => {
                    let star = if is_prefix { "*" } else { "" };
                    problem(format!(
                        "`{text}` is not in the form in which paths are compared"
                    ))
                    .help(format!("write `{canonical}{star}`"))
                }
                None => problem(format!("`{text}` is refused in requests"))
                    .help("no request with it reaches a route"),
            }
        };
        self.problem(problem);
        None
    }

    /// A regular expression that compiles. Its syntax has no backtracking, so that no request can make
    /// it slow.
    pub(crate) fn expression(&mut self, value: Value<'_>) -> Option<Box<str>> {
        match model::expression(value.text) {
            Ok(_) => Some(value.text.into()),
            Err(error) => {
                let error = error.to_string();
                let why = error.lines().last().unwrap_or_default();
                let why = why.trim_start_matches("error: ");
                let message = format!("`{}` is not a regular expression: {why}", value.text);
                self.problem(Diagnostic::new(&codes::VALUE, value.span, message));
                None
            }
        }
    }

    /// Refuses a setting that was made already.
    pub(crate) fn once<T>(&mut self, stmt: &Stmt, place: &mut Option<(T, Span)>, value: T) {
        match place {
            Some((_, first)) => {
                let message = format!("`{}` is said twice", stmt.name.text);
                let problem = Diagnostic::new(&codes::REPEATED, stmt.span, message);
                self.problem(problem.related(*first, "first here"));
            }
            None => *place = Some((value, stmt.span)),
        }
    }
}

/// Host and port of a server.
pub(crate) fn server_address(text: &str) -> Option<ServerAddress> {
    let (host, port) = text.rsplit_once(':')?;
    let port = port.parse().ok().filter(|port| *port != 0)?;
    if let Some(ip) = bracketed(host) {
        return Some(ServerAddress::Ip(IpAddr::V6(ip), port));
    }
    if let Ok(ip) = host.parse() {
        return Some(ServerAddress::Ip(IpAddr::V4(ip), port));
    }
    // A name of digits and dots is an address that was misspelt.
    let is_address = host.chars().all(|c| c.is_ascii_digit() || c == '.');
    (is_name(host) && !is_address).then(|| ServerAddress::Name(host.into(), port))
}

fn bracketed(text: &str) -> Option<Ipv6Addr> {
    text.strip_prefix('[')?.strip_suffix(']')?.parse().ok()
}

pub(crate) fn is_name(text: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-_~".contains(c))
    };
    !text.is_empty() && text.len() <= 253 && text.split('.').all(label)
}

/// The canonical form of a path as requests have it. This crate may not depend on the one that
/// reads requests; a test beside the data plane holds the two together.
fn canonical(path: &str) -> Option<String> {
    let mut decoded = String::new();
    let mut bytes = path.bytes();
    while let Some(b) = bytes.next() {
        let mut digit = || char::from(bytes.next()?).to_digit(16);
        let b = match b {
            b'%' => match digit()? * 16 + digit()? {
                n if matches!(u8::try_from(n), Ok(b'/' | b'\\' | 0)) => return None,
                n => (u8::try_from(n).ok()?, true),
            },
            b if b <= b' ' || b >= 0x7f || b == b'\\' => return None,
            b => (b, false),
        };
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
        let allowed = |b: u8| plain(b) || b"!$&'()*+,/:;=@".contains(&b);
        match b {
            (b, true) if plain(b) => decoded.push(char::from(b)),
            (b, false) if allowed(b) => decoded.push(char::from(b)),
            (b, _) => decoded.push_str(&format!("%{b:02X}")),
        }
    }
    let mut kept: Vec<&str> = Vec::new();
    let ends_inside = decoded.ends_with('/') || decoded.ends_with("/.") || decoded.ends_with("/..");
    for segment in decoded.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(kept.pop()?),
            segment if segment.starts_with(".;") || segment.starts_with("..;") => return None,
            segment => kept.push(segment),
        }
    }
    let slash = if ends_inside && !kept.is_empty() {
        "/"
    } else {
        ""
    };
    Some(format!("/{}{slash}", kept.join("/")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_addresses() {
        assert!(matches!(
            server_address("10.0.0.1:80"),
            Some(ServerAddress::Ip(IpAddr::V4(_), 80))
        ));
        assert!(matches!(
            server_address("[::1]:80"),
            Some(ServerAddress::Ip(IpAddr::V6(_), 80))
        ));
        assert!(matches!(
            server_address("app.internal:80"),
            Some(ServerAddress::Name(_, 80))
        ));
        for bad in [
            "app",
            "app:",
            "app:0",
            "app:99999",
            ":80",
            "::1:80",
            "10.0.0:80",
            "a b:80",
            "10.0.0.256:80",
            "a/b:1",
        ] {
            assert_eq!(server_address(bad), None, "{bad}");
        }
    }

    #[test]
    fn canonical_paths() {
        for (path, form) in [
            ("/", Some("/")),
            ("/a/b/", Some("/a/b/")),
            ("/a/../b", Some("/b")),
            ("/a//b", Some("/a/b")),
            ("/%41%2e", Some("/A.")),
            ("/a b", None),
            ("/a|b", Some("/a%7Cb")),
            ("/%2f", None),
            ("/..", None),
            ("/a/.", Some("/a/")),
        ] {
            assert_eq!(canonical(path).as_deref(), form, "{path}");
        }
    }
}
