//! What clients see of answers that are Plimsoll's own, or better hidden: `error`, `hide`, `monitor`.

use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::directive::{Context, Directive};
use crate::directives::policy::{is_off, once};
use crate::draft::{MonitorDraft, Scope};
use crate::model::{ErrorPage, Hide, PageSource, PathPattern};
use crate::read::Reader;
use crate::syntax::Stmt;

pub(crate) static ROWS: &[Directive] = &[
    Directive {
        name: "error",
        within: &[Context::Defaults, Context::Site, Context::Route],
        usage: "error STATUS... FILE|TEXT",
        default: "small pages in the form that the client likes: HTML, JSON (RFC 9457) or plain text",
        doc: "What Plimsoll says when it answers with an error of its own: the contents of FILE (`.html`, `.json` or `.txt`; a word that begins with \
              `/` or `./` is a file too), or TEXT as plain text. `${request.id}` and `${response.status}` in it are filled in. A route's come before those of \
              its site, and those before the ones of `defaults`, for each status. FILE is read again when it changes. Answers of servers pass as they \
              are, unless `hide errors` says otherwise.",
        words: (2, 64),
        variables: true,
        block: None,
        set: error,
    },
    Directive {
        name: "hide",
        within: &[Context::Defaults, Context::Site],
        usage: "hide server|errors ..., or: hide off",
        default: "off: clients see what servers say, and `Server: plimsoll` on answers of Plimsoll's own",
        doc: "`server` takes out what tells which programs are behind: `Server`, `X-Powered-By`, `X-AspNet-Version`, `X-AspNetMvc-Version`, `X-Runtime`, \
              `X-Version`, `X-Generator`, `Via` and `Proxy-Status`, and leaves the reason out of error pages. `errors` puts the error page in the place of every answer of a server \
              from 500 on.",
        words: (1, 2),
        variables: false,
        block: None,
        set: hide,
    },
    Directive {
        name: "monitor",
        within: &[Context::Site],
        usage: "monitor PATH [POOL...]",
        default: "none",
        doc: "Answers PATH with 200 for a balancer in front, before anything else is done with the request, and with 503 while Plimsoll drains or \
              when one of the pools has no server that may be used. Such requests are neither logged nor counted.",
        words: (1, 32),
        variables: false,
        block: None,
        set: monitor,
    },
];

/// The longest text of a page in the configuration.
const TEXT_BYTES_MAX: usize = 64 * 1024;

fn error(reader: &mut Reader<'_>, stmt: &Stmt, scope: Scope<'_>) {
    let Some((last, words)) = stmt.words.split_last() else {
        return;
    };
    let mut status = Vec::new();
    for word in words {
        let known = word.text.parse().ok();
        match known.filter(|status| (400..=599).contains(status)) {
            Some(code) => status.push(code),
            None => {
                let message = format!("`{}` is not the status of an error", word.text);
                let problem = Diagnostic::new(&codes::STATUS, word.span, message);
                reader.problem(problem.help("errors are from 400 to 599"));
            }
        }
    }
    let text = last.text.as_str();
    let is_file = ["/", "./", "../"]
        .iter()
        .any(|start| text.starts_with(start))
        || [".html", ".htm", ".json", ".txt"]
            .iter()
            .any(|end| text.ends_with(end));
    if text.len() > TEXT_BYTES_MAX {
        let message = "the text is longer than 64 KiB";
        let problem = Diagnostic::new(&codes::RANGE, last.span, message);
        return reader.problem(problem.help("put it into a file"));
    }
    let page = ErrorPage {
        status,
        source: match is_file {
            true => PageSource::File(text.into()),
            false => PageSource::Text(text.into()),
        },
    };
    match scope {
        Scope::Defaults(settings) => settings.errors.push(page),
        Scope::Site(site) => site.settings.errors.push(page),
        Scope::Route(route) => route.errors.push(page),
        Scope::Root(_) | Scope::Tcp(_) | Scope::Udp(_) | Scope::Pool(_) | Scope::Cache(_) => {}
    }
}

fn hide(reader: &mut Reader<'_>, stmt: &Stmt, mut scope: Scope<'_>) {
    let Some(settings) = scope.settings() else {
        return;
    };
    if !once(reader, stmt, settings.hide.is_some()) {
        return;
    }
    let mut hide = Hide::default();
    let words = if is_off(stmt) { &[][..] } else { &stmt.words };
    for word in words {
        match word.text.as_str() {
            "server" => hide.server = true,
            "errors" => hide.errors = true,
            other => {
                let message = format!("`{other}` is nothing that can be hidden");
                let problem = Diagnostic::new(&codes::VALUE, word.span, message);
                reader.problem(problem.help("known: server, errors, off"));
            }
        }
    }
    settings.hide = Some(hide);
}

fn monitor(reader: &mut Reader<'_>, stmt: &Stmt, scope: Scope<'_>) {
    let (Scope::Site(site), Some((path, pools))) = (scope, stmt.words.split_first()) else {
        return;
    };
    let word = path;
    let path = match reader.path(word.into()) {
        Some(PathPattern::Exact(path)) => path,
        Some(_) => {
            let message = "what is monitored is one path";
            let problem = Diagnostic::new(&codes::PATH, word.span, message);
            return reader.problem(problem.help("write it like `monitor /ready`"));
        }
        None => return,
    };
    let monitor = MonitorDraft {
        path,
        pools: pools.to_vec(),
    };
    reader.once(stmt, &mut site.monitor, monitor);
}
