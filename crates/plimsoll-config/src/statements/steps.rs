//! Steps and actions of routes as statements.

use super::files::files;
use super::{Words, limit, words};
use crate::model::{
    Abort, Action, Bearer, Change, Config, CookieEdit, Cors, HeaderEdit, Jwt, KeySource,
    Maintenance, Piece, QueryEdit, Rewrite, Split, Step, Template, Whom,
};
use crate::text;
use crate::units::duration_text;

/// A step.
pub(crate) fn step(config: &Config, step: &Step) -> Words {
    match step {
        Step::Limit(of) => limit(of),
        Step::RequestHeader(edit) => header("request-header", edit),
        Step::ResponseHeader(edit) => header("response-header", edit),
        Step::Rewrite(Rewrite { pattern, with }) => words(["rewrite", pattern, with]),
        Step::StripPrefix(prefix) => words(["strip-prefix", prefix]),
        Step::Query(edit) => match edit {
            QueryEdit::Set(name, to) => words(["query", "set", name, &to.text]),
            QueryEdit::Add(name, to) => words(["query", "add", name, &to.text]),
            QueryEdit::Remove(name) => words(["query", "remove", name]),
        },
        Step::Cookie(edit) => cookie(edit),
        Step::Access(access) => {
            let verb = if access.allows { "allow" } else { "deny" };
            let whom = access.whom.iter().map(|whom| match whom {
                Whom::All => "all".to_owned(),
                Whom::Network(network) => network.to_string(),
                Whom::File(file) => format!("@{file}"),
                Whom::Country(country) => format!("country={country}"),
            });
            std::iter::once(verb.to_owned()).chain(whom).collect()
        }
        Step::Maintenance(maintenance) => maintenance_words(maintenance),
        Step::SecurityHeaders { strict: false } => words(["security-headers"]),
        Step::SecurityHeaders { strict: true } => words(["security-headers", "strict"]),
        Step::Cors(rule) => cors(rule),
        Step::BasicAuth(auth) => {
            let mut out = words(["basic-auth", &auth.file, &format!("realm={}", auth.realm)]);
            out.extend(auth.pass.then(|| "pass".to_owned()));
            out
        }
        Step::Jwt(rule) => jwt(rule),
        Step::ApiKey(key) => words(["api-key", &key.file, &from(&key.from)]),
        Step::SignedUrl(signed) => {
            let mut out = words(["signed-url"]);
            out.extend(signed.secrets.iter().map(ToString::to_string));
            out.extend(signed.by_client.then(|| "by=client-ip".to_owned()));
            out.extend(signed.with_query.then(|| "query=signed".to_owned()));
            out
        }
        Step::Mirror(mirror) => {
            let name = config.pools.get(mirror.pool).map_or("", |pool| &*pool.name);
            let mut out = words(["mirror", name, &format!("share={}%", mirror.percent)]);
            out.extend(mirror.compare.then(|| "compare".to_owned()));
            out
        }
        Step::Fault(fault) => {
            let mut out = words(["fault"]);
            out.extend(
                fault
                    .delay
                    .map(|delay| format!("delay={}", duration_text(delay))),
            );
            out.extend(fault.abort.map(|abort| match abort {
                Abort::Status(status) => format!("abort={status}"),
                Abort::Reset => "abort=reset".to_owned(),
            }));
            out.push(format!("share={}%", fault.percent));
            out
        }
        Step::ForwardAuth(auth) => {
            let name = config.pools.get(auth.pool).map_or("", |pool| &*pool.name);
            let mut out = words(["forward-auth", name, &auth.path]);
            out.extend((!auth.copy.is_empty()).then(|| format!("copy={}", auth.copy.join(","))));
            out
        }
    }
}

fn header(directive: &str, edit: &HeaderEdit) -> Words {
    match &edit.change {
        Change::Set(to) => words([directive, "set", &edit.name, &to.text]),
        Change::Add(to) => words([directive, "add", &edit.name, &to.text]),
        Change::Remove => words([directive, "remove", &edit.name]),
        Change::Replace(Rewrite { pattern, with }) => {
            words([directive, "replace", &edit.name, pattern, with])
        }
    }
}

fn maintenance_words(maintenance: &Maintenance) -> Words {
    let mut out = words(["maintenance"]);
    out.extend(maintenance.file.as_ref().map(|file| format!("file={file}")));
    let except: Vec<String> = maintenance.except.iter().map(ToString::to_string).collect();
    out.extend((!except.is_empty()).then(|| format!("except={}", except.join(","))));
    out.push(format!(
        "retry-after={}",
        duration_text(maintenance.retry_after)
    ));
    out
}

fn cors(rule: &Cors) -> Words {
    let list = |name: &str, values: &[Box<str>]| {
        (!values.is_empty()).then(|| format!("{name}={}", values.join(",")))
    };
    let mut out = words(["cors"]);
    out.extend(list("origin", &rule.origins));
    out.extend(list("methods", &rule.methods));
    out.extend(list("headers", &rule.headers));
    out.extend(list("expose", &rule.expose));
    out.extend(rule.credentials.then(|| "credentials".to_owned()));
    let max_age = rule.max_age.map(duration_text);
    out.extend(max_age.map(|age| format!("max-age={age}")));
    out
}

fn jwt(rule: &Jwt) -> Words {
    let algorithms = format!("algorithms={}", rule.algorithms.join(","));
    let source = match &rule.keys {
        KeySource::File(path) => path,
        KeySource::Url(set) => &set.url.text,
    };
    let mut out = words(["jwt", source, &algorithms]);
    if let KeySource::Url(set) = &rule.keys {
        out.extend(set.ca.as_ref().map(|ca| format!("ca={ca}")));
        out.push(format!("refresh={}", duration_text(set.refresh)));
    }
    out.extend(
        rule.issuer
            .as_ref()
            .map(|issuer| format!("issuer={issuer}")),
    );
    out.extend(
        rule.audience
            .as_ref()
            .map(|audience| format!("audience={audience}")),
    );
    out.extend(
        rule.claims
            .iter()
            .map(|(name, values)| match values.is_empty() {
                true => format!("claim:{name}"),
                false => format!("claim:{name}={}", values.join(",")),
            }),
    );
    let place = Some(from(&rule.from)).filter(|place| !place.is_empty());
    out.extend(place);
    out.push(format!("leeway={}", duration_text(rule.leeway)));
    out.extend(rule.is_endless.then(|| "expiry=optional".to_owned()));
    out
}

/// Where a token is; nothing for the usual place.
fn from(bearer: &Bearer) -> String {
    match bearer {
        Bearer::Authorization => String::new(),
        Bearer::Header(name) => format!("from=header:{name}"),
        Bearer::Cookie(name) => format!("from=cookie:{name}"),
        Bearer::Query(name) => format!("from=query:{name}"),
    }
}

fn cookie(edit: &CookieEdit) -> Words {
    let yes_no = |name: &str, is: Option<bool>| {
        is.map(|is| format!("{name}={}", if is { "yes" } else { "no" }))
    };
    let said = |name: &str, value: &Option<Box<str>>| {
        value.as_ref().map(|value| format!("{name}={value}"))
    };
    let mut out = words(["response-cookie", &edit.name]);
    out.extend(yes_no("secure", edit.secure));
    out.extend(yes_no("http-only", edit.http_only));
    out.extend(said("same-site", &edit.same_site));
    out.extend(edit.domain.as_deref().map(|domain| match domain {
        "" => "domain=none".to_owned(),
        domain => format!("domain={domain}"),
    }));
    out.extend(said("path", &edit.path));
    out
}

/// What a route does; nothing for what the forms write in a way of their own.
pub(crate) fn action(config: &Config, action: &Action) -> Vec<Words> {
    match action {
        Action::Proxy(_) | Action::Respond { .. } => Vec::new(),
        Action::Redirect { status, to } => {
            vec![words(["redirect", &to.text, &status.to_string()])]
        }
        Action::Split(split) => shares(config, split),
        Action::Files(of) => vec![files(of)],
    }
}

fn shares(config: &Config, split: &Split) -> Vec<Words> {
    let share = |(share, pool): &(u32, usize)| {
        let name = config.pools.get(*pool).map_or("", |pool| &*pool.name);
        let mut out = words(["split", &share.to_string(), name]);
        let sticky = split.sticky.as_ref();
        out.extend(sticky.map(|key| format!("sticky={}", text::key(key))));
        out
    };
    split.shares.iter().map(share).collect()
}

/// Makes a template of a text without variables.
impl From<&str> for Template {
    fn from(text: &str) -> Self {
        let pieces = match text {
            "" => Vec::new(),
            _ => vec![Piece::Text(text.into())],
        };
        Self {
            text: text.replace("${", "$${").into(),
            pieces,
        }
    }
}
