//! Trying things out with real requests: `mirror`, `fault`.

use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::directive::{Context, Directive};
use crate::draft::Scope;
use crate::model::{Abort, Fault, Mirror, Step};
use crate::read::Reader;
use crate::syntax::Stmt;

pub(crate) static ROWS: &[Directive] = &[
    Directive {
        name: "mirror",
        within: &[Context::Site, Context::Route],
        usage: "mirror POOL|HOST:PORT [share=PERCENT] [compare]",
        default: "none; share=100%",
        doc: "Sends a copy of requests that go to servers to this pool as well, as it is sent to the server; what comes back is thrown away, \
              and nobody waits for it. `share` is how many of them, drawn by lot. A request whose body has not come whole is not copied: \
              `buffer` holds bodies until they have. With `compare`, status, `Content-Type` and body are compared with the answer that the client \
              gets; what differs is logged with the request id, and `plimsoll_mirrored_total` counts it. At most 256 copies are under way on each worker.",
        words: (1, 3),
        variables: false,
        block: None,
        set: mirror,
    },
    Directive {
        name: "fault",
        within: &[Context::Site, Context::Route],
        usage: "fault [delay=DURATION] [abort=STATUS|reset] [share=PERCENT]",
        default: "none; share=100%",
        doc: "Makes requests fail on purpose, to find out what clients do: holds them up for `delay`, and answers them with STATUS or resets \
              their connection. `share` is how many of them, drawn by lot; a `header:` condition of the route chooses them one by one.",
        words: (1, 3),
        variables: false,
        block: None,
        set: fault,
    },
];

fn mirror(reader: &mut Reader<'_>, stmt: &Stmt, mut scope: Scope<'_>) {
    let Some((pool, options)) = stmt.words.split_first() else {
        return;
    };
    let mut mirror = Mirror {
        pool: usize::MAX,
        percent: 100,
        compare: false,
    };
    reader.options(
        options,
        &["share", "compare"],
        |reader, name, value| match name {
            "compare" => mirror.compare = true,
            _ => mirror.percent = reader.percent(value, 0).unwrap_or(100),
        },
    );
    scope.refer(pool);
    if let Some(steps) = scope.steps() {
        steps.push(Step::Mirror(mirror));
    }
}

fn fault(reader: &mut Reader<'_>, stmt: &Stmt, mut scope: Scope<'_>) {
    let mut fault = Fault {
        delay: None,
        abort: None,
        percent: 100,
    };
    let known = ["delay", "abort", "share"];
    reader.options(&stmt.words, &known, |reader, name, value| match name {
        "delay" => fault.delay = reader.duration(value),
        "share" => fault.percent = reader.percent(value, 0).unwrap_or(100),
        _ if value.text == "reset" => fault.abort = Some(Abort::Reset),
        _ => fault.abort = reader.number(value, 400, 599).map(Abort::Status),
    });
    if fault.delay.is_none() && fault.abort.is_none() && !reader.is_broken() {
        let message = "the fault is none";
        let problem = Diagnostic::new(&codes::ARGUMENTS, stmt.span, message);
        return reader.problem(problem.help("say `delay=200ms`, `abort=503` or both"));
    }
    if let Some(steps) = scope.steps() {
        steps.push(Step::Fault(fault));
    }
}
