//! What pages of other origins may do, and what browsers are told: `cors`, `security-headers`.

use crate::arguments::Value;
use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::directive::{Context, Directive};
use crate::draft::Scope;
use crate::model::{Cors, Step};
use crate::read::Reader;
use crate::syntax::Stmt;

pub(crate) static ROWS: &[Directive] = &[
    Directive {
        name: "cors",
        within: &[Context::Site, Context::Route],
        usage: "cors origin=ORIGIN,... [methods=METHOD,...] [headers=NAME,...] [expose=NAME,...] [credentials] [max-age=DURATION]",
        default: "off: servers answer for themselves",
        doc: "Lets pages of these origins (`https://example.com`, `https://*.example.com`, `*`) use the answers, as the Fetch standard has it. \
              Browsers that ask first (OPTIONS with `Access-Control-Request-Method`) are answered without a server; what servers say of CORS is \
              taken out. Without `methods` or `headers`, whatever a page asks for is granted. `credentials` lets cookies come along, and not with `origin=*`.",
        words: (1, 6),
        variables: false,
        block: None,
        set: cors,
    },
    Directive {
        name: "security-headers",
        within: &[Context::Site, Context::Route],
        usage: "security-headers [strict]",
        default: "off",
        doc: "Has browsers be careful: `X-Content-Type-Options: nosniff`, `X-Frame-Options: SAMEORIGIN`, `Referrer-Policy: \
              strict-origin-when-cross-origin`, and for clients that came over https `Strict-Transport-Security: max-age=31536000`. `strict` frames nothing \
              (`DENY`), refers to nothing (`no-referrer`), isolates the page (`Cross-Origin-Opener-Policy` and `Cross-Origin-Resource-Policy: same-origin`) and \
              includes subdomains. `response-header` lines behind it change single ones.",
        words: (0, 1),
        variables: false,
        block: None,
        set: security_headers,
    },
];

fn cors(reader: &mut Reader<'_>, stmt: &Stmt, mut scope: Scope<'_>) {
    let mut cors = Cors::default();
    let known = [
        "origin",
        "methods",
        "headers",
        "expose",
        "credentials",
        "max-age",
    ];
    let list = |value: Value<'_>| value.text.split(',').map(Into::into).collect();
    reader.options(&stmt.words, &known, |reader, name, value| match name {
        "origin" => {
            for origin in value.text.split(',') {
                check_origin(
                    reader,
                    Value {
                        text: origin,
                        ..value
                    },
                );
            }
            cors.origins = list(value);
        }
        "methods" => cors.methods = list(value),
        "headers" => cors.headers = list(value),
        "expose" => cors.expose = list(value),
        "credentials" => cors.credentials = true,
        _ => cors.max_age = reader.duration(value),
    });
    if cors.origins.is_empty() {
        return reader.usage(stmt, "cors origin=https://example.com");
    }
    if cors.credentials && cors.origins.iter().any(|origin| &**origin == "*") {
        let message = "every page of the world would act with its visitor's cookies";
        let problem = Diagnostic::new(&codes::VALUE, stmt.span, message);
        return reader.problem(problem.help("name the origins, or leave `credentials` out"));
    }
    if let Some(steps) = scope.steps() {
        steps.push(Step::Cors(cors));
    }
}

fn check_origin(reader: &mut Reader<'_>, value: Value<'_>) {
    let host = ["http://", "https://"]
        .into_iter()
        .find_map(|scheme| value.text.strip_prefix(scheme));
    let is_host = |host: &str| {
        let host = host.strip_prefix("*.").unwrap_or(host);
        let is_plain =
            |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.:[]".contains(c);
        !host.is_empty() && host.chars().all(is_plain)
    };
    if matches!(value.text, "*" | "null") || host.is_some_and(is_host) {
        return;
    }
    let message = format!("`{}` is not an origin", value.text);
    let problem = Diagnostic::new(&codes::VALUE, value.span, message);
    reader.problem(
        problem.help("write scheme and host in lower case, without a path: `https://example.com`"),
    );
}

fn security_headers(reader: &mut Reader<'_>, stmt: &Stmt, mut scope: Scope<'_>) {
    let strict = match stmt.words.first() {
        None => false,
        Some(word) if word.text == "strict" => true,
        Some(word) => {
            let message = format!("`{}` is no kind of security headers", word.text);
            let problem = Diagnostic::new(&codes::VALUE, word.span, message);
            return reader
                .problem(problem.help("write `security-headers` or `security-headers strict`"));
        }
    };
    if let Some(steps) = scope.steps() {
        steps.push(Step::SecurityHeaders { strict });
    }
}
