//! Which pages of other origins may read answers: the CORS protocol of the Fetch standard.

/// What pages of other origins may do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// Origins: `https://example.com`, `https://*.example.com`, `*`, `null`.
    pub origins: Vec<Box<str>>,
    /// Methods; empty means those that the request asks for.
    pub methods: Vec<Box<str>>,
    /// Fields that pages may set; empty means those that the request asks for.
    pub headers: Vec<Box<str>>,
    /// Fields of answers that pages may read.
    pub expose: Vec<Box<str>>,
    /// Whether requests may carry cookies.
    pub credentials: bool,
    /// For how many seconds a browser need not ask again.
    pub max_age: Option<u32>,
}

/// What of a request says that a page asks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asked<'a> {
    /// `Origin`.
    pub origin: Option<&'a [u8]>,
    /// `Access-Control-Request-Method`, on an OPTIONS request.
    pub method: Option<&'a [u8]>,
    /// `Access-Control-Request-Headers`.
    pub headers: Option<&'a [u8]>,
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is served; `fields` are added to the answer.
    Serve,
    /// It is answered with 204 and the fields: a browser asks whether it may.
    Answer,
    /// It is refused: a browser asks, and may not.
    Refuse,
}

/// Tells what becomes of a request; appends the fields of the answer, as lines.
pub fn decide(rule: &Rule, asked: &Asked<'_>, out: &mut Vec<u8>) -> Verdict {
    let varies = !rule.origins.iter().any(|origin| &**origin == "*") || rule.credentials;
    let vary = |out: &mut Vec<u8>| {
        if varies {
            line("Vary", b"Origin", out);
        }
    };
    let Some(origin) = asked.origin else {
        vary(out);
        return Verdict::Serve;
    };
    if !rule.allows(origin) {
        vary(out);
        return match asked.method {
            Some(_) => Verdict::Refuse,
            None => Verdict::Serve, // without the field, a page cannot read it
        };
    }
    // A browser takes `*` for every origin, but not with cookies.
    let told = if varies { origin } else { b"*" };
    line("Access-Control-Allow-Origin", told, out);
    if rule.credentials {
        line("Access-Control-Allow-Credentials", b"true", out);
    }
    vary(out);
    let Some(method) = asked.method else {
        list("Access-Control-Expose-Headers", &rule.expose, out);
        return Verdict::Serve;
    };
    if !rule.methods.is_empty() && !rule.methods.iter().any(|known| known.as_bytes() == method) {
        return Verdict::Refuse;
    }
    match rule.methods.is_empty() {
        true => token_list("Access-Control-Allow-Methods", method, out),
        false => list("Access-Control-Allow-Methods", &rule.methods, out),
    }
    match (rule.headers.is_empty(), asked.headers) {
        (true, Some(headers)) => token_list("Access-Control-Allow-Headers", headers, out),
        _ => list("Access-Control-Allow-Headers", &rule.headers, out),
    }
    if let Some(seconds) = rule.max_age {
        line(
            "Access-Control-Max-Age",
            seconds.to_string().as_bytes(),
            out,
        );
    }
    Verdict::Answer
}

impl Rule {
    /// Tells whether every page could read what a client sees who is logged in: an origin may be
    /// `*` only where requests carry no cookies.
    pub fn gives_all_away(&self) -> bool {
        self.credentials && self.origins.iter().any(|origin| &**origin == "*")
    }

    fn allows(&self, origin: &[u8]) -> bool {
        self.origins.iter().any(|known| matches(known, origin))
    }
}

/// Tells whether an origin is one of those that are meant. An origin is compared byte for byte, as
/// browsers write it: scheme, host in lower case, and port unless it is the usual one.
fn matches(known: &str, origin: &[u8]) -> bool {
    match known.split_once("://*.") {
        _ if known == "*" => origin != b"null",
        None => known.as_bytes() == origin,
        Some((scheme, domain)) => {
            let host = origin
                .strip_prefix(scheme.as_bytes())
                .and_then(|rest| rest.strip_prefix(b"://"));
            let label = host.and_then(|host| host.strip_suffix(domain.as_bytes()));
            label
                .and_then(|label| label.strip_suffix(b"."))
                .is_some_and(|label| {
                    !label.is_empty()
                        && label
                            .iter()
                            .all(|b| b.is_ascii_alphanumeric() || b"-.".contains(b))
                })
        }
    }
}

fn line(name: &str, value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

fn list(name: &str, values: &[Box<str>], out: &mut Vec<u8>) {
    if !values.is_empty() {
        line(name, values.join(", ").as_bytes(), out);
    }
}

/// What a browser asked for, given back: tokens and commas alone.
fn token_list(name: &str, value: &[u8], out: &mut Vec<u8>) {
    let is_plain = |b: &u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~, ".contains(b);
    if value.iter().all(is_plain) {
        line(name, value, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decided(
        rule: &Rule,
        origin: &str,
        method: Option<&str>,
        headers: Option<&str>,
    ) -> (Verdict, String) {
        let mut out = Vec::new();
        let asked = Asked {
            origin: (!origin.is_empty()).then_some(origin.as_bytes()),
            method: method.map(str::as_bytes),
            headers: headers.map(str::as_bytes),
        };
        let verdict = decide(rule, &asked, &mut out);
        (verdict, String::from_utf8(out).unwrap())
    }

    fn rule(origins: &[&str]) -> Rule {
        Rule {
            origins: origins.iter().map(|text| (*text).into()).collect(),
            ..Rule::default()
        }
    }

    #[test]
    fn origins_are_compared_whole() {
        let rule = rule(&["https://a.example", "https://*.b.example", "http://c:8080"]);
        for (origin, is_allowed) in [
            ("https://a.example", true),
            ("http://a.example", false),
            ("https://a.example:444", false),
            ("https://a.example.evil", false),
            ("https://evil-a.example", false),
            ("https://x.b.example", true),
            ("https://x.y.b.example", true),
            ("https://b.example", false),
            ("https://.b.example", false),
            ("https://evil/.b.example", false),
            ("https://evil:1.b.example", false),
            ("https://xb.example", false),
            ("http://c:8080", true),
            ("null", false),
        ] {
            let (verdict, fields) = decided(&rule, origin, None, None);
            assert_eq!(verdict, Verdict::Serve);
            let expected = match is_allowed {
                true => format!("Access-Control-Allow-Origin: {origin}\r\nVary: Origin\r\n"),
                false => "Vary: Origin\r\n".to_owned(),
            };
            assert_eq!(fields, expected, "{origin}");
        }
    }

    #[test]
    fn a_browser_that_asks_is_told() {
        let mut rule = rule(&["https://a.example"]);
        let origin = "https://a.example";
        let head = "Access-Control-Allow-Origin: https://a.example\r\n";
        assert_eq!(
            decided(&rule, origin, Some("PUT"), Some("x-a, content-type")),
            (
                Verdict::Answer,
                format!(
                    "{head}Vary: Origin\r\nAccess-Control-Allow-Methods: PUT\r\nAccess-Control-Allow-Headers: x-a, content-type\r\n"
                )
            )
        );
        assert_eq!(
            decided(&rule, "https://evil", Some("PUT"), None).0,
            Verdict::Refuse
        );
        rule.methods = vec!["GET".into(), "PUT".into()];
        rule.headers = vec!["X-A".into()];
        rule.credentials = true;
        rule.max_age = Some(600);
        rule.expose = vec!["X-B".into()];
        assert_eq!(
            decided(&rule, origin, Some("PUT"), Some("x-a")),
            (
                Verdict::Answer,
                format!(
                    "{head}Access-Control-Allow-Credentials: true\r\nVary: Origin\r\nAccess-Control-Allow-Methods: GET, PUT\r\nAccess-Control-Allow-Headers: X-A\r\nAccess-Control-Max-Age: 600\r\n"
                )
            )
        );
        assert_eq!(
            decided(&rule, origin, Some("DELETE"), None).0,
            Verdict::Refuse
        );
        let (verdict, fields) = decided(&rule, origin, None, None);
        assert_eq!(verdict, Verdict::Serve);
        assert!(
            fields.ends_with("Access-Control-Expose-Headers: X-B\r\n"),
            "{fields}"
        );
    }

    #[test]
    fn everybody_may_not_have_cookies() {
        let rule = |origin: &str, credentials| Rule {
            credentials,
            ..rule(&["https://a.example", origin])
        };
        assert!(rule("*", true).gives_all_away());
        assert!(!rule("*", false).gives_all_away());
        assert!(!rule("https://*.a.example", true).gives_all_away());
    }

    proptest::proptest! {
        #[test]
        fn an_origin_is_given_back_only_if_it_is_listed(
            origin in "(https?://)?[a-z.*:/]{0,12}(a\\.example|evil)?(:[0-9]{1,3})?",
            method in proptest::option::of("[A-Z]{1,6}"),
        ) {
            let rule = rule(&["https://a.example", "https://*.a.example"]);
            let (_, fields) = decided(&rule, &origin, method.as_deref(), None);
            let is_given = fields.contains("Access-Control-Allow-Origin");
            let label = origin.strip_prefix("https://").and_then(|host| host.strip_suffix(".a.example"));
            let is_plain = |label: &str| !label.is_empty() && label.chars().all(|c| c.is_ascii_lowercase() || c == '.');
            proptest::prop_assert_eq!(is_given, origin == "https://a.example" || label.is_some_and(is_plain));
        }
    }

    #[test]
    fn everybody_is_a_star_and_nobody_is_nothing() {
        let all = rule(&["*"]);
        assert_eq!(
            decided(&all, "https://x", None, None).1,
            "Access-Control-Allow-Origin: *\r\n"
        );
        assert_eq!(decided(&all, "null", None, None).1, "");
        assert_eq!(
            decided(&all, "", None, None),
            (Verdict::Serve, String::new())
        );
        let null = rule(&["null"]);
        assert!(
            decided(&null, "null", None, None)
                .1
                .starts_with("Access-Control-Allow-Origin: null")
        );
    }
}
