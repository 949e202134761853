//! `sticky`: how a client is kept on its server.

use std::time::Duration;

use crate::arguments::Value;
use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::directive::{Context, Directive};
use crate::directives::policy::{is_off, once};
use crate::directives::pool::hash_key;
use crate::draft::Scope;
use crate::model::{HashKey, SameSite, Sticky, StickyBy, StickyCookie};
use crate::read::Reader;
use crate::syntax::{Stmt, Word};

pub(crate) static ROWS: &[Directive] = &[Directive {
    name: "sticky",
    within: &[Context::Defaults, Context::Pool],
    usage: "sticky cookie=NAME [path=PATH] [domain=NAME] [max-age=DURATION] [max-idle=DURATION] \
            [max-life=DURATION] [same-site=strict|lax|none] [secure] \
            [http-only=no] [visible] [key=TEXT] [force], or: sticky rewrite=NAME|prefix=NAME [key=TEXT] [force], or: sticky \
            by=KEY|learn=cookie:NAME|learn=header:NAME [idle=DURATION] [entries=N] [force], or: sticky off",
    default: "off; path=/ same-site=lax http-only=yes idle=30m entries=65536",
    doc: "Keeps a client on the server that served it first. `cookie` sets one of our own, which servers do not see unless it is \
          `visible`; answers that set it are marked `Cache-Control: private`. `max-age` is for the client; a cookie that is older than `max-life`, \
          or whose client stayed away for longer than `max-idle`, is passed over whatever the client thinks. `rewrite` replaces the value of a cookie that the \
          application sets, `prefix` puts `TOKEN~` in front of it and takes it away again on the way to the server. Tokens are \
          made from the server's name with `key` (HMAC-SHA-256) and name no server to anyone else; nodes with the same \
          key and the same servers understand each other. `by` remembers a part of the request, as in `balance`; `learn` a cookie or \
          field that an answer brings and later requests repeat; both remember `entries` clients for as long as they come \
          back within `idle`. A client of a server that drains stays there; one whose server is down gets another one, and \
          keeps that, unless `force` says to stay. A client whose server is full waits in the `queue`, if there is one.",
    words: (1, 14),
    variables: false,
    block: None,
    set: sticky,
}];

const COOKIE: &[&str] = &[
    "path",
    "domain",
    "max-age",
    "max-idle",
    "max-life",
    "same-site",
    "secure",
    "http-only",
    "visible",
    "key",
    "force",
];
const OF_APPLICATION: &[&str] = &["key", "force"];
const REMEMBERED: &[&str] = &["idle", "entries", "force"];

fn sticky(reader: &mut Reader<'_>, stmt: &Stmt, mut scope: Scope<'_>) {
    let Some((first, options)) = stmt.words.split_first() else {
        return;
    };
    let Some(settings) = scope.settings() else {
        return;
    };
    if !once(reader, stmt, settings.sticky.is_some()) {
        return;
    }
    if is_off(stmt) {
        settings.sticky = Some(None);
        return;
    }
    settings.sticky = read(reader, stmt, first, options).map(Some);
}

fn read(reader: &mut Reader<'_>, stmt: &Stmt, first: &Word, options: &[Word]) -> Option<Sticky> {
    let (kind, text) = first.text.split_once('=').unwrap_or((&first.text, ""));
    let value = Value {
        text,
        span: first.span,
    };
    match kind {
        "cookie" => cookie(reader, value, options),
        "rewrite" | "prefix" => {
            let name: Box<str> = cookie_name(reader, value)?.into();
            let by = match kind {
                "rewrite" => StickyBy::Rewrite(name),
                _ => StickyBy::Prefix(name),
            };
            let (mut key, mut force) = (Box::default(), false);
            reader.options(options, OF_APPLICATION, |_, name, value| match name {
                "key" => key = value.text.into(),
                _ => force = true,
            });
            Some(Sticky { by, key, force })
        }
        "by" | "learn" => {
            let key = hash_key(reader, value)?;
            let is_learnt = kind == "learn";
            if is_learnt && !matches!(key, HashKey::Cookie(_) | HashKey::Header(_)) {
                let message = format!("`{text}` is nothing that an answer brings");
                let problem = Diagnostic::new(&codes::VALUE, value.span, message);
                reader.problem(problem.help("known: cookie:NAME, header:NAME"));
                return None;
            }
            Some(remembered(reader, key, is_learnt, options))
        }
        _ => {
            reader.usage(
                stmt,
                "sticky cookie=NAME, or rewrite=NAME, prefix=NAME, by=KEY, learn=cookie:NAME",
            );
            None
        }
    }
}

fn remembered(reader: &mut Reader<'_>, key: HashKey, is_learnt: bool, options: &[Word]) -> Sticky {
    let (mut idle, mut entries, mut force) = (Duration::from_secs(30 * 60), 65_536, false);
    reader.options(options, REMEMBERED, |reader, name, value| match name {
        "idle" => idle = reader.duration(value).unwrap_or(idle),
        "entries" => entries = reader.number(value, 64, 1 << 26).unwrap_or(entries),
        _ => force = true,
    });
    let by = if is_learnt {
        StickyBy::Learn { key, idle, entries }
    } else {
        StickyBy::Key { key, idle, entries }
    };
    Sticky {
        by,
        key: Box::default(),
        force,
    }
}

fn cookie(reader: &mut Reader<'_>, value: Value<'_>, options: &[Word]) -> Option<Sticky> {
    let mut cookie = StickyCookie {
        name: cookie_name(reader, value)?.into(),
        path: "/".into(),
        domain: None,
        max_age: None,
        max_idle: None,
        max_life: None,
        same_site: SameSite::Lax,
        secure: false,
        http_only: true,
        visible: false,
    };
    let (mut key, mut force) = (Box::default(), false);
    reader.options(options, COOKIE, |reader, name, value| match name {
        "path" => cookie.path = attribute(reader, value).unwrap_or_else(|| cookie.path.clone()),
        "domain" => cookie.domain = attribute(reader, value),
        "max-age" => cookie.max_age = reader.duration(value),
        "max-idle" => cookie.max_idle = whole_seconds(reader, value),
        "max-life" => cookie.max_life = whole_seconds(reader, value),
        "same-site" => cookie.same_site = same_site(reader, value),
        "secure" => cookie.secure = true,
        "http-only" => cookie.http_only = value.text != "no",
        "visible" => cookie.visible = true,
        "key" => key = value.text.into(),
        _ => force = true,
    });
    if cookie.same_site == SameSite::None && !cookie.secure {
        let problem = Diagnostic::new(
            &codes::VALUE,
            value.span,
            "clients refuse a cookie with `same-site=none` that is not `secure`",
        );
        reader.problem(problem.help("add `secure`"));
    }
    let by = StickyBy::Cookie(cookie);
    Some(Sticky { by, key, force })
}

/// A duration that a stamp can tell.
fn whole_seconds(reader: &mut Reader<'_>, value: Value<'_>) -> Option<Duration> {
    let duration = reader.duration(value)?;
    if duration.subsec_nanos() == 0 {
        return Some(duration);
    }
    let message = format!("`{}` is not a number of whole seconds", value.text);
    reader.problem(Diagnostic::new(&codes::RANGE, value.span, message));
    None
}

fn same_site(reader: &mut Reader<'_>, value: Value<'_>) -> SameSite {
    match value.text {
        "strict" => SameSite::Strict,
        "none" => SameSite::None,
        "lax" => SameSite::Lax,
        other => {
            let message = format!("`{other}` is not a value of `same-site`");
            let problem = Diagnostic::new(&codes::VALUE, value.span, message);
            reader.problem(problem.help("known: strict, lax, none"));
            SameSite::Lax
        }
    }
}

fn cookie_name<'v>(reader: &mut Reader<'_>, value: Value<'v>) -> Option<&'v str> {
    let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if !value.text.is_empty() && value.text.bytes().all(is_token) {
        return Some(value.text);
    }
    let message = format!("`{}` is not the name of a cookie", value.text);
    let problem = Diagnostic::new(&codes::VALUE, value.span, message);
    reader.problem(problem.help("a name has letters, digits and `-_.`"));
    None
}

/// The value of a cookie's attribute: visible characters without `;`.
fn attribute(reader: &mut Reader<'_>, value: Value<'_>) -> Option<Box<str>> {
    let is_plain = |b: u8| (0x21..0x7f).contains(&b) && b != b';';
    if !value.text.is_empty() && value.text.bytes().all(is_plain) {
        return Some(value.text.into());
    }
    let message = format!("`{}` cannot stand in a cookie", value.text);
    reader.problem(Diagnostic::new(&codes::VALUE, value.span, message));
    None
}
