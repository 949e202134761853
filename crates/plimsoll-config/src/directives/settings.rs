//! What `defaults` hands down to sites and pools.

use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::directive::{Context, Directive};
use crate::directives::log::log;
use crate::draft::Scope;
use crate::read::Reader;
use crate::syntax::Stmt;

pub(crate) static ROWS: &[Directive] = &[
    Directive {
        name: "timeout",
        within: &[
            Context::Defaults,
            Context::Site,
            Context::Tcp,
            Context::Udp,
            Context::Pool,
        ],
        usage: "timeout [header=DURATION] [idle=DURATION] [body=DURATION] [tunnel=DURATION] [lifetime=DURATION] [detect=DURATION] [connect=DURATION] [response=DURATION]",
        default: "header=10s idle=60s body=30s tunnel=1h detect=5s connect=3s response=60s, and no lifetime",
        doc: "Deadlines. Of a site: `header`, from the first byte of a request to the end of its head, which bytes do \
              not move; `idle`, how long a client's connection may wait for its next request; `body`, for one piece of \
              a body, either way; `tunnel`, how long neither end of a WebSocket, or of another protocol that a \
              connection was switched to, may say anything. Of `tcp`: `tunnel`, the same for a connection that is relayed; `lifetime`, how \
              long it may last at all; `detect`, how long its client may take to say what `sni`, `alpn` and `protocol` ask for, which bytes do not move; `header`, for what the PROXY protocol says and for the handshake of TLS. Of `udp`: `idle`, how long neither end of a flow may \
              say anything, 30s when neither the service nor `defaults` says so. Of a pool: `connect`, to open a connection; `response`, from the end of the request \
              to the end of the response's head. `defaults` takes all of them but `lifetime` and `detect`.",
        words: (1, 6),
        variables: false,
        block: None,
        set: timeout,
    },
    Directive {
        name: "request-limits",
        within: &[Context::Defaults, Context::Site],
        usage: "request-limits [head=SIZE] [fields=N] [uri=SIZE] [body=SIZE|unlimited] [min-rate=RATE|off]",
        default: "head=32KiB fields=100 uri=8KiB body=unlimited min-rate=240B/s",
        doc: "What a request may measure. What is larger is refused: 431 for `head` and `fields`, 414 for `uri`, 413 for \
              `body`. `min-rate` is the least speed of a request's body once it is 5 seconds old.",
        words: (1, 5),
        variables: false,
        block: None,
        set: request_limits,
    },
    Directive {
        name: "log",
        within: &[Context::Defaults, Context::Site, Context::Tcp, Context::Udp],
        usage: "log PATH|stdout|syslog|syslog:/PATH|syslog:udp:ADDRESS|syslog:tcp:ADDRESS [json|json+ja4|combined|haproxy] [facility=NAME] [severity=NAME] [tag=NAME] [rfc=5424|3164], or: log off",
        default: "off; the format is json",
        doc: "The access log: one line for each exchange, relayed connection or flow of datagrams, when it has ended. `json` is one object a line, `json+ja4` the same with the fingerprint of how \
              the client begins TLS as `ja4`, `combined` is \
              NGINX's format, which is for requests only, `haproxy` is HAProxy's, of requests and of connections; flows are told of in JSON only. Several `log` lines write several logs. A site's own replace those \
              of `defaults`. A log that cannot be written loses lines, which are counted, and never holds a request up. \
              Values of query parameters that look like secrets are replaced. `syslog` is `/dev/log`; another daemon is named by its socket, or by its address, for UDP or for TCP, where \
              each line says first how long it is. Its lines are of facility `local0`, severity `info` and tag `plimsoll` unless something else is said, in the form of RFC 5424 over a network and of RFC \
              3164 on the own machine.",
        words: (1, 6),
        variables: false,
        block: None,
        set: log,
    },
];

const CLIENT: &[&str] = &["header", "idle", "body", "tunnel"];
const TCP: &[&str] = &["header", "tunnel", "lifetime", "detect"];
const UDP: &[&str] = &["idle"];
const SERVER: &[&str] = &["connect", "response"];

fn timeout(reader: &mut Reader<'_>, stmt: &Stmt, mut scope: Scope<'_>) {
    let known: Vec<&str> = match scope {
        Scope::Site(_) => CLIENT.to_vec(),
        Scope::Tcp(_) => TCP.to_vec(),
        Scope::Udp(_) => UDP.to_vec(),
        Scope::Pool(_) => SERVER.to_vec(),
        _ => [CLIENT, SERVER].concat(),
    };
    let elsewhere = if matches!(scope, Scope::Pool(_)) {
        (CLIENT, "site")
    } else {
        (SERVER, "pool")
    };
    let (own, foreign): (Vec<_>, Vec<_>) = stmt.words.iter().cloned().partition(|word| {
        let name = word.text.split('=').next().unwrap_or_default();
        known.contains(&name) || !elsewhere.0.contains(&name)
    });
    for word in foreign {
        let name = word.text.split('=').next().unwrap_or_default();
        let message = format!("`{name}` is a timeout of a {}", elsewhere.1);
        let help = format!("write it in the `{}` block, or in `defaults`", elsewhere.1);
        reader.problem(Diagnostic::new(&codes::MISPLACED, word.span, message).help(help));
    }
    let Some(settings) = scope.settings() else {
        return;
    };
    reader.options(&own, &known, |reader, name, value| {
        let place = match name {
            "header" => &mut settings.header,
            "idle" => &mut settings.idle,
            "body" => &mut settings.body,
            "tunnel" => &mut settings.tunnel,
            "lifetime" => &mut settings.lifetime,
            "detect" => &mut settings.detect,
            "connect" => &mut settings.connect,
            _ => &mut settings.response,
        };
        *place = reader.duration(value).or(*place);
    });
}

fn request_limits(reader: &mut Reader<'_>, stmt: &Stmt, mut scope: Scope<'_>) {
    let Some(settings) = scope.settings() else {
        return;
    };
    let known = ["head", "fields", "uri", "body", "min-rate"];
    reader.options(&stmt.words, &known, |reader, name, value| match name {
        "head" => {
            let size = reader.size_within(value, 1024, 32 * 1024);
            settings.head_bytes = size
                .and_then(|size| u32::try_from(size).ok())
                .or(settings.head_bytes);
        }
        "fields" => settings.fields = reader.number(value, 1, 100).or(settings.fields),
        "uri" => {
            let size = reader.size_within(value, 64, 31 * 1024);
            settings.uri_bytes = size
                .and_then(|size| u32::try_from(size).ok())
                .or(settings.uri_bytes);
        }
        "body" if value.text == "unlimited" => settings.body_bytes = Some(None),
        "body" => settings.body_bytes = reader.size(value).map(Some).or(settings.body_bytes),
        _ if value.text == "off" => settings.min_rate = Some(0),
        _ => {
            let rate = reader.byte_rate(value);
            settings.min_rate = rate
                .map(|rate| u32::try_from(rate).unwrap_or(u32::MAX))
                .or(settings.min_rate);
        }
    });
}
