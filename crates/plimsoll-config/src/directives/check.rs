//! `check`: how servers are asked whether they work.

use std::time::Duration;

use crate::arguments::{Value, is_name};
use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::directive::{Context, Directive};
use crate::directives::policy::on_off;
use crate::draft::Scope;
use crate::model::{Check, Probe, Role, ScriptStep, payload};
use crate::read::Reader;
use crate::suggest::nearest;
use crate::syntax::{Stmt, Word};

pub(crate) static ROWS: &[Directive] = &[Directive {
    name: "check",
    within: &[Context::Defaults, Context::Pool],
    usage: "check PROBE [every=DURATION] [fast=DURATION] [down=DURATION] [timeout=DURATION] [fall=N] [rise=N] [port=N] \
            [tls=on|off] [proxy-protocol=on|off] \
            [initial=up|down], or: check off",
    default: "off; every=2s fast=1s timeout=1s fall=3 rise=2 initial=up",
    doc: "Active checks. PROBE is `tcp`; an HTTP request, `GET /path` or another method, with `host=NAME`, \
          `expect=200-299,304`, `header=NAME:TEXT` and `body=TEXT`; `tls`; `grpc` with `service=NAME`; `postgres` with `role=primary|replica`, `user=NAME`, `password=TEXT` (SCRAM-SHA-256 or MD5) and `database=NAME`; `mysql` with `role=primary|replica` (by `read_only`) and `user=NAME`; \
          `redis` with `role=primary|replica`; `smtp`; `udp` with `send=TEXT` and `expect=TEXT`, one datagram and what has to be in the answer, \
          where `\\xHH` is a byte and `\\\\` a backslash (in double quotes a backslash is written twice); `dns NAME`, a question for an address that a name server has to \
          answer with NOERROR; `script` with `send=TEXT` and `expect=TEXT` in any order and number; `exec PROGRAM ARGUMENT...`, \
          which finds the server in `PLIMSOLL_SERVER_ADDRESS` and `PLIMSOLL_SERVER_PORT` and passes by exit status 0; or \
          `agent`, which reads one line such as `75%`, `drain`, `up` or `down`. A server goes down after `fall` failed \
          checks in a row and comes up after `rise` passed ones; the first check decides alone whether it is up. Checks come `every` so often, \
          `fast` while the state changes, and `down` apart while the server is down (as `every` when not said), each give or take a \
          tenth. `port` is another port than the server's. In a pool with `tls` the connection of a check has TLS as those of \
          requests have, unless the check says `tls=off`; `agent`, `exec`, `tls`, `udp` and `dns` go without. The same holds for `proxy-protocol`, which announces a check of our own. With several `check` lines all must pass.",
    words: (1, 32),
    variables: false,
    block: None,
    set: check,
}];

const PROBES: &[&str] = &[
    "tcp", "GET", "HEAD", "OPTIONS", "POST", "tls", "grpc", "postgres", "mysql", "redis", "smtp",
    "udp", "dns", "script", "exec", "agent",
];

/// Options of every check.
const COMMON: &[&str] = &[
    "every",
    "fast",
    "down",
    "timeout",
    "fall",
    "rise",
    "port",
    "tls",
    "proxy-protocol",
    "initial",
];

fn check(reader: &mut Reader<'_>, stmt: &Stmt, mut scope: Scope<'_>) {
    let Some((kind, rest)) = stmt.words.split_first() else {
        return;
    };
    if kind.text == "off" && rest.is_empty() {
        if let Some(settings) = scope.settings() {
            settings.checks.get_or_insert_default();
        }
        return;
    }
    let is_common = |word: &&Word| {
        COMMON.contains(&word.text.split('=').next().unwrap_or_default()) && word.text.contains('=')
    };
    let common: Vec<Word> = rest.iter().filter(is_common).cloned().collect();
    let own: Vec<Word> = rest
        .iter()
        .filter(|word| !is_common(word))
        .cloned()
        .collect();
    let Some(probe) = probe(reader, stmt, kind, &own) else {
        return;
    };
    let check = paced(reader, probe, &common);
    if let Some(settings) = scope.settings() {
        settings.checks.get_or_insert_default().push(check);
    }
}

fn paced(reader: &mut Reader<'_>, probe: Probe, options: &[Word]) -> Check {
    let seconds = Duration::from_secs;
    let (mut every, mut fast, mut down) = (seconds(2), None, None);
    let (mut timeout, mut fall, mut rise) = (None, 3, 2);
    let (mut port, mut initially_up) = (None, true);
    let (mut tls, mut proxy_protocol) = (true, true);
    reader.options(options, COMMON, |reader, name, value| match name {
        "every" => every = reader.duration(value).unwrap_or(every),
        "fast" => fast = reader.duration(value),
        "down" => down = reader.duration(value),
        "timeout" => timeout = reader.duration(value),
        "fall" => fall = reader.number(value, 1, 1000).unwrap_or(fall),
        "rise" => rise = reader.number(value, 1, 1000).unwrap_or(rise),
        "port" => port = reader.number(value, 1, 65_535),
        "tls" => tls = on_off(reader, value),
        "proxy-protocol" => proxy_protocol = on_off(reader, value),
        _ => match value.text {
            "up" => initially_up = true,
            "down" => initially_up = false,
            other => {
                let message = format!("`{other}` is neither `up` nor `down`");
                reader.problem(Diagnostic::new(&codes::VALUE, value.span, message));
            }
        },
    });
    Check {
        probe,
        every,
        fast: fast.unwrap_or_else(|| every.min(seconds(1))),
        down: down.unwrap_or(every),
        timeout: timeout.unwrap_or_else(|| every.min(seconds(1))),
        fall,
        rise,
        port,
        tls,
        proxy_protocol,
        initially_up,
    }
}

fn probe(reader: &mut Reader<'_>, stmt: &Stmt, kind: &Word, own: &[Word]) -> Option<Probe> {
    let plain = |reader: &mut Reader<'_>, probe: Probe| {
        own_options(reader, own, &[], |_, _, _| {});
        Some(probe)
    };
    match kind.text.as_str() {
        "tcp" => plain(reader, Probe::Tcp),
        "tls" => plain(reader, Probe::Tls),
        "postgres" => Some(postgres(reader, own)),
        "mysql" => Some(mysql(reader, own)),
        "redis" => {
            let mut role = None;
            own_options(reader, own, &["role"], |reader, _, value| {
                role = self::role(reader, value);
            });
            Some(Probe::Redis(role))
        }
        "smtp" => plain(reader, Probe::Smtp),
        "agent" => plain(reader, Probe::Agent),
        "GET" | "HEAD" | "OPTIONS" | "POST" => http(reader, stmt, kind, own),
        "grpc" => {
            let mut service = Box::default();
            own_options(reader, own, &["service"], |_, _, value| {
                service = value.text.into()
            });
            Some(Probe::Grpc(service))
        }
        "udp" => udp(reader, stmt, own),
        "dns" => dns(reader, stmt, own),
        "script" => script(reader, stmt, own),
        "exec" if own.is_empty() => {
            reader.usage(
                stmt,
                "check exec PROGRAM ARGUMENT... [every=DURATION] [timeout=DURATION]",
            );
            None
        }
        "exec" => Some(Probe::Exec(
            own.iter().map(|word| word.text.as_str().into()).collect(),
        )),
        other => {
            let message = format!("`{other}` is not a check");
            let mut problem = Diagnostic::new(&codes::VALUE, kind.span, message);
            if let Some(near) = nearest(other, PROBES.iter().copied()) {
                problem = problem.label(format!("did you mean `{near}`?"));
            }
            reader.problem(problem.help(format!("known: {}", PROBES.join(", "))));
            None
        }
    }
}

fn postgres(reader: &mut Reader<'_>, own: &[Word]) -> Probe {
    let (mut user, mut database) = ("plimsoll_check".into(), "postgres".into());
    let (mut password, mut role) = (None, None);
    let known = ["role", "user", "password", "database"];
    own_options(reader, own, &known, |reader, name, value| match name {
        "role" => role = self::role(reader, value),
        "user" => user = login_name(reader, value).unwrap_or_default(),
        "password" => password = Some(value.text.into()),
        _ => database = login_name(reader, value).unwrap_or_default(),
    });
    Probe::Postgres {
        user,
        database,
        password,
        role,
    }
}

fn mysql(reader: &mut Reader<'_>, own: &[Word]) -> Probe {
    let (mut user, mut role) = ("plimsoll_check".into(), None);
    own_options(
        reader,
        own,
        &["role", "user"],
        |reader, name, value| match name {
            "role" => role = self::role(reader, value),
            _ => user = login_name(reader, value).unwrap_or_default(),
        },
    );
    Probe::Mysql { user, role }
}

/// A name that databases know: they write a NUL behind it.
fn login_name(reader: &mut Reader<'_>, value: Value<'_>) -> Option<Box<str>> {
    if value.text.contains('\0') {
        let message = "a name in a database has no NUL";
        reader.problem(Diagnostic::new(&codes::VALUE, value.span, message));
        return None;
    }
    Some(value.text.into())
}

fn role(reader: &mut Reader<'_>, value: Value<'_>) -> Option<Role> {
    let mut roles = Role::NAMES.iter();
    let found = roles.find(|(name, _)| *name == value.text);
    if found.is_none() {
        let message = format!("`{}` is not what a database can be", value.text);
        let problem = Diagnostic::new(&codes::VALUE, value.span, message);
        reader.problem(problem.help("write `role=primary` or `role=replica`"));
    }
    found.map(|(_, role)| *role)
}

/// Reads the options of one kind of check; the common ones have been taken out, and are known to
/// messages.
fn own_options(
    reader: &mut Reader<'_>,
    words: &[Word],
    own: &[&str],
    mut set: impl FnMut(&mut Reader<'_>, &str, Value<'_>),
) {
    let known = [own, COMMON].concat();
    reader.options(words, &known, |reader, name, value| {
        if own.contains(&name) {
            return set(reader, name, value);
        }
        let message = format!("`{name}` needs a value");
        let problem = Diagnostic::new(&codes::VALUE, value.span, message);
        reader.problem(problem.help(format!("write it like `{name}=...`")));
    });
}

fn http(reader: &mut Reader<'_>, stmt: &Stmt, kind: &Word, own: &[Word]) -> Option<Probe> {
    let Some((path, options)) = own.split_first() else {
        reader.usage(
            stmt,
            "check GET /path [expect=200-399] [host=NAME] [every=DURATION]",
        );
        return None;
    };
    let is_visible = |text: &str| text.bytes().all(|b| (0x21..0x7f).contains(&b));
    if !path.text.starts_with('/') || !is_visible(&path.text) {
        let message = format!("`{}` is not a path", path.text);
        let problem = Diagnostic::new(&codes::PATH, path.span, message);
        reader.problem(problem.help("write it like `/healthz`"));
        return None;
    }
    let (mut host, mut expect, mut header, mut body) = (None, vec![(200, 399)], None, None);
    own_options(
        reader,
        options,
        &["host", "expect", "header", "body"],
        |reader, name, value| match name {
            "host" if is_visible(value.text) => host = Some(value.text.into()),
            "expect" => expect = statuses(reader, value).unwrap_or_default(),
            "header" => header = field(reader, value),
            "body" => body = Some(value.text.into()),
            _ => reader.problem(Diagnostic::new(
                &codes::VALUE,
                value.span,
                "a host has no blanks",
            )),
        },
    );
    Some(Probe::Http {
        method: kind.text.as_str().into(),
        path: path.text.as_str().into(),
        host,
        expect,
        header,
        body,
    })
}

/// `200`, `200-299`, `200-299,304`.
fn statuses(reader: &mut Reader<'_>, value: Value<'_>) -> Option<Vec<(u16, u16)>> {
    let range = |text: &str| {
        let (from, to) = text.split_once('-').unwrap_or((text, text));
        let (from, to) = (from.parse().ok()?, to.parse().ok()?);
        (100 <= from && from <= to && to <= 599).then_some((from, to))
    };
    let ranges: Option<Vec<_>> = value.text.split(',').map(range).collect();
    if ranges.is_none() {
        let message = format!("`{}` is not a set of status codes", value.text);
        let problem = Diagnostic::new(&codes::VALUE, value.span, message);
        reader.problem(problem.help("write it like `200`, `200-299` or `200-299,304`"));
    }
    ranges
}

/// `NAME:TEXT`, or a name alone.
fn field(reader: &mut Reader<'_>, value: Value<'_>) -> Option<(Box<str>, Box<str>)> {
    let (name, text) = value.text.split_once(':').unwrap_or((value.text, ""));
    let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if !name.is_empty() && name.bytes().all(is_token) {
        return Some((name.to_ascii_lowercase().into(), text.trim().into()));
    }
    let message = format!("`{name}` is not the name of a field");
    let problem = Diagnostic::new(&codes::VALUE, value.span, message);
    reader.problem(problem.help("write it like `header=x-ready:yes`"));
    None
}

fn udp(reader: &mut Reader<'_>, stmt: &Stmt, own: &[Word]) -> Option<Probe> {
    let (mut send, mut expect) = (None, Box::default());
    own_options(reader, own, &["send", "expect"], |reader, name, value| {
        match name {
            "send" => send = Some(value.text.into()),
            _ => expect = value.text.into(),
        }
        if payload(value.text).is_none() {
            let message = "a backslash stands before `xHH`, a byte, or before another backslash";
            let problem = Diagnostic::new(&codes::VALUE, value.span, message);
            reader.problem(problem.help("write it like `send=\\x00\\x01ping`"));
        }
    });
    if send.is_none() {
        reader.usage(stmt, "check udp send=TEXT [expect=TEXT] [every=DURATION]");
    }
    Some(Probe::Udp {
        send: send?,
        expect,
    })
}

fn dns(reader: &mut Reader<'_>, stmt: &Stmt, own: &[Word]) -> Option<Probe> {
    let [name] = own else {
        reader.usage(stmt, "check dns NAME [every=DURATION]");
        return None;
    };
    if !is_name(name.text.trim_end_matches('.')) {
        let message = format!("`{}` is not a name", name.text);
        let problem = Diagnostic::new(&codes::VALUE, name.span, message);
        reader.problem(problem.help("write it like `check dns example.com`"));
        return None;
    }
    Some(Probe::Dns(name.text.as_str().into()))
}

fn script(reader: &mut Reader<'_>, stmt: &Stmt, own: &[Word]) -> Option<Probe> {
    let mut steps = Vec::new();
    for word in own {
        match word.text.split_once('=') {
            Some(("send", text)) => steps.push(ScriptStep::Send(text.into())),
            Some(("expect", text)) if !text.is_empty() => {
                steps.push(ScriptStep::Expect(text.into()))
            }
            _ => {
                let message = format!("`{}` is not a step of a script", word.text);
                let problem = Diagnostic::new(&codes::OPTION, word.span, message);
                reader.problem(problem.help("steps are `send=\"TEXT\"` and `expect=\"TEXT\"`"));
            }
        }
    }
    if steps.is_empty() {
        reader.usage(stmt, "check script send=\"PING\\u{d}\\n\" expect=+PONG");
        return None;
    }
    Some(Probe::Script(steps))
}
