//! Who may come in by what they know: `basic-auth`, `jwt`, `api-key`, `signed-url`, `forward-auth`.

use std::time::Duration;

use crate::arguments::Value;
use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::directive::{Context, Directive};
use crate::directives::header::field_name;
use crate::directives::key_set::Fetching;
use crate::draft::Scope;
use crate::model::{ApiKey, BasicAuth, Bearer, ForwardAuth, Jwt, KeySource, SignedUrl, Step};
use crate::read::Reader;
use crate::syntax::{Stmt, Word};

pub(crate) static ROWS: &[Directive] = &[
    Directive {
        name: "basic-auth",
        within: &[Context::Site, Context::Route],
        usage: "basic-auth FILE [realm=TEXT] [pass]",
        default: "off; realm=restricted, and servers do not see the password",
        doc: "Asks for a user and a password that FILE has: `user:hash` lines with bcrypt or argon2 hashes, as `htpasswd -B` makes them. \
              What was found good is good for five minutes without hashing again. The user is `${auth.user}`, and in the log; with `pass` \
              the field goes on to the server. FILE is read again when it changes; a bad one changes nothing.",
        words: (1, 3),
        variables: false,
        block: None,
        set: basic_auth,
    },
    Directive {
        name: "jwt",
        within: &[Context::Site, Context::Route],
        usage: "jwt FILE|URL algorithms=NAME,... [issuer=TEXT] [audience=TEXT] [claim:NAME[=VALUE,...]]... \
                [from=header:NAME|cookie:NAME|query:NAME] [leeway=DURATION] [expiry=optional] [ca=FILE] [refresh=DURATION]",
        default: "off; from `Authorization: Bearer`, leeway=60s; for a URL refresh=5m, and what the system trusts",
        doc: "Asks for a JSON Web Token that is signed by a key of FILE or URL (a JWK set) with one of these algorithms (RS256, RS384, RS512, PS256, \
              PS384, PS512, ES256, ES384, EdDSA, HS256, HS384, HS512), has not expired, and says what it must: every `claim` with one of its \
              values, or any. A token without `exp` never ends, and is good with `expiry=optional` alone. What it says is `${auth.claim.NAME}`, and its `sub` is `${auth.user}`. A token that is missing, bad or there twice is answered with 401 \
              (RFC 6750). FILE is read again when it changes. URL (`https`, or `http` on the same machine) is fetched before the start, again within \
              `refresh` (10s to 1d), and when a token names a key that the set does not have, but for that at most every ten seconds; `ca` is a PEM file \
              with the certificates to trust. One fetch has ten seconds and may bring 1MiB; redirects are not followed. What cannot be fetched or \
              used changes nothing. Until the first set has come, tokens are answered with 503.",
        words: (2, 32),
        variables: false,
        block: None,
        set: jwt,
    },
    Directive {
        name: "api-key",
        within: &[Context::Site, Context::Route],
        usage: "api-key FILE [from=header:NAME|cookie:NAME|query:NAME]",
        default: "off; from=header:X-Api-Key",
        doc: "Asks for a key that FILE has: `name:HASH` lines with the SHA-256 of each key, as `printf %s KEY | sha256sum` prints it. The name \
              is `${auth.user}`. A key that is missing, unknown or there twice is answered with 401. FILE is read again when it changes.",
        words: (1, 2),
        variables: false,
        block: None,
        set: api_key,
    },
    Directive {
        name: "signed-url",
        within: &[Context::Site, Context::Route],
        usage: "signed-url SECRET... [by=client-ip] [query=signed]",
        default: "off",
        doc: "Lets links in that carry `expires`, in seconds since 1970, and `signature`: the HMAC-SHA256 of path, newline and `expires` (with \
              `by=client-ip`, another newline and the client's address), in base64url without padding. A link is good for its path alone until it expires. \
              What else stands in the query anyone may change, unless it says `query=signed`: then `?` and the query without these two parameters follow the path. \
              Any of the secrets will do, so that they can be changed; read them from a file: `${file:secret}`. Others are refused with 403.",
        words: (1, 10),
        variables: false,
        block: None,
        set: signed_url,
    },
    Directive {
        name: "forward-auth",
        within: &[Context::Site, Context::Route],
        usage: "forward-auth POOL|HOST:PORT PATH [copy=HEADER,...]",
        default: "off",
        doc: "Asks a server of the pool whether a request may come in: with GET at PATH, the request's own fields, and `X-Forwarded-Method` and \
              `X-Forwarded-Uri`. With a 2xx answer the request goes on, with the fields in `copy` from that answer; what clients say in fields of these names is \
              taken out. A redirect, 401 or 403 is passed on to the client, with up to 64KiB of its body. When there is no good answer within the pool's \
              `timeout response`, from whichever server, or any other one, nobody comes in: 503.",
        words: (2, 3),
        variables: false,
        block: None,
        set: forward_auth,
    },
];

fn push(mut scope: Scope<'_>, step: Step) {
    if let Some(steps) = scope.steps() {
        steps.push(step);
    }
}

fn basic_auth(reader: &mut Reader<'_>, stmt: &Stmt, scope: Scope<'_>) {
    let Some((file, options)) = stmt.words.split_first() else {
        return;
    };
    let mut auth = BasicAuth {
        file: file.text.as_str().into(),
        realm: "restricted".into(),
        pass: false,
    };
    reader.options(
        options,
        &["realm", "pass"],
        |reader, name, value| match name {
            "pass" => auth.pass = true,
            _ if value
                .text
                .chars()
                .any(|c| c.is_control() || c == '"' || c == '\\') =>
            {
                let message = "a realm has no quotes and no control characters";
                reader.problem(Diagnostic::new(&codes::VALUE, value.span, message));
            }
            _ => auth.realm = value.text.into(),
        },
    );
    push(scope, Step::BasicAuth(auth));
}

const ALGORITHMS: [&str; 12] = [
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA", "HS256",
    "HS384", "HS512",
];

fn jwt(reader: &mut Reader<'_>, stmt: &Stmt, scope: Scope<'_>) {
    let Some((file, options)) = stmt.words.split_first() else {
        return;
    };
    let mut fetching = Fetching::default();
    let mut jwt = Jwt {
        keys: KeySource::File(Box::default()),
        algorithms: Vec::new(),
        issuer: None,
        audience: None,
        leeway: Duration::from_secs(60),
        is_endless: false,
        claims: Vec::new(),
        from: Bearer::Authorization,
    };
    let (claims, options): (Vec<Word>, Vec<Word>) = options
        .iter()
        .cloned()
        .partition(|word| word.text.starts_with("claim:"));
    jwt.claims.extend(claims.iter().map(claim));
    let known = [
        "algorithms",
        "issuer",
        "audience",
        "from",
        "leeway",
        "expiry",
        "ca",
        "refresh",
    ];
    reader.options(&options, &known, |reader, name, value| match name {
        "algorithms" => jwt.algorithms = algorithms(reader, value),
        "issuer" => jwt.issuer = Some(value.text.into()),
        "audience" => jwt.audience = Some(value.text.into()),
        "expiry" if value.text == "optional" => jwt.is_endless = true,
        "expiry" => {
            let message = format!("`{}` is no rule for the end of tokens", value.text);
            let problem = Diagnostic::new(&codes::VALUE, value.span, message);
            reader.problem(problem.help("write `expiry=optional`, or leave it out"));
        }
        "from" => jwt.from = bearer(reader, value).unwrap_or(Bearer::Authorization),
        "ca" | "refresh" => fetching.set(reader, name, value),
        _ => jwt.leeway = reader.duration(value).unwrap_or(jwt.leeway),
    });
    if jwt.algorithms.is_empty() {
        let message = "the rule does not say which algorithms are good";
        let problem = Diagnostic::new(&codes::ARGUMENTS, stmt.span, message);
        return reader.problem(
            problem.help(
                "say what your issuer signs with: `algorithms=RS256`; a token must not choose",
            ),
        );
    }
    if let Some(keys) = fetching.source(reader, file.into()) {
        jwt.keys = keys;
        push(scope, Step::Jwt(jwt));
    }
}

/// `claim:NAME` or `claim:NAME=VALUE,...`.
fn claim(word: &Word) -> (Box<str>, Vec<Box<str>>) {
    let text = word.text.strip_prefix("claim:").unwrap_or_default();
    match text.split_once('=') {
        Some((name, values)) => (name.into(), values.split(',').map(Into::into).collect()),
        None => (text.into(), Vec::new()),
    }
}

fn algorithms(reader: &mut Reader<'_>, value: Value<'_>) -> Vec<Box<str>> {
    let names = value.text.split(',').filter(|name| {
        let is_known = ALGORITHMS.contains(name);
        if !is_known {
            let message = format!("`{name}` is not an algorithm for signatures");
            let problem = Diagnostic::new(&codes::VALUE, value.span, message);
            reader.problem(problem.help(format!("known: {}", ALGORITHMS.join(", "))));
        }
        is_known
    });
    names.map(Into::into).collect()
}

fn bearer(reader: &mut Reader<'_>, value: Value<'_>) -> Option<Bearer> {
    let named = value
        .text
        .split_once(':')
        .filter(|(_, name)| !name.is_empty());
    match named {
        Some(("header", name)) => Some(Bearer::Header(name.into())),
        Some(("cookie", name)) => Some(Bearer::Cookie(name.into())),
        Some(("query", name)) => Some(Bearer::Query(name.into())),
        _ => {
            let message = format!("`{}` is not a place in a request", value.text);
            let problem = Diagnostic::new(&codes::VALUE, value.span, message);
            reader.problem(problem.help("write header:NAME, cookie:NAME or query:NAME"));
            None
        }
    }
}

fn api_key(reader: &mut Reader<'_>, stmt: &Stmt, scope: Scope<'_>) {
    let Some((file, options)) = stmt.words.split_first() else {
        return;
    };
    let mut key = ApiKey {
        file: file.text.as_str().into(),
        from: Bearer::Header("X-Api-Key".into()),
    };
    reader.options(options, &["from"], |reader, _, value| {
        key.from = bearer(reader, value).unwrap_or(Bearer::Authorization);
    });
    push(scope, Step::ApiKey(key));
}

fn signed_url(reader: &mut Reader<'_>, stmt: &Stmt, scope: Scope<'_>) {
    let mut signed = SignedUrl {
        secrets: Vec::new(),
        by_client: false,
        with_query: false,
    };
    for word in &stmt.words {
        match word.text.as_str() {
            "by=client-ip" => signed.by_client = true,
            "query=signed" => signed.with_query = true,
            secret if secret.len() < 16 => {
                let message = "a secret has at least 16 characters";
                let problem = Diagnostic::new(&codes::VALUE, word.span, message);
                reader.problem(problem.help("make one with `openssl rand -hex 32`"));
            }
            secret => signed.secrets.push(secret.into()),
        }
    }
    if signed.secrets.is_empty() && !reader.is_broken() {
        return reader.usage(stmt, "signed-url SECRET... [by=client-ip] [query=signed]");
    }
    push(scope, Step::SignedUrl(signed));
}

fn forward_auth(reader: &mut Reader<'_>, stmt: &Stmt, mut scope: Scope<'_>) {
    let [target, path, options @ ..] = stmt.words.as_slice() else {
        return;
    };
    if !path.text.starts_with('/') || !path.text.chars().all(|c| c.is_ascii_graphic()) {
        let message = format!("`{}` is not a path to ask at", path.text);
        let problem = Diagnostic::new(&codes::PATH, path.span, message);
        reader.problem(problem.help("a path begins with a slash: `/auth`"));
    }
    let mut copy = Vec::new();
    reader.options(options, &["copy"], |reader, _, value| {
        for name in value.text.split(',') {
            let word = Word {
                text: name.to_owned(),
                span: value.span,
                raw: true,
            };
            copy.extend(field_name(reader, &word));
        }
    });
    scope.refer(target);
    push(
        scope,
        Step::ForwardAuth(ForwardAuth {
            pool: usize::MAX,
            path: path.text.as_str().into(),
            copy,
        }),
    );
}
