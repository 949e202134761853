//! The servers as they are now, in Prometheus' format.

use std::fmt::Write;
use std::sync::atomic::Ordering::Relaxed;

use plimsoll_balance::{Server, Standing};
use plimsoll_control::launch::Running;
use plimsoll_observe::prometheus::escape;
use plimsoll_proxy::generation::Generation;
use plimsoll_proxy::material::Material;

type Row = (&'static str, &'static str, fn(&Server) -> f64);

const ROWS: [Row; 3] = [
    (
        "plimsoll_server_up",
        "Whether the server may receive new requests.",
        |server| {
            f64::from(matches!(
                server.standing(),
                Standing::Ready | Standing::Trial
            ))
        },
    ),
    (
        "plimsoll_server_weight",
        "The weight of the server, as much of it as it takes now.",
        |server| f64::from(server.weight()) * f64::from(server.share_percent()) / 100.0,
    ),
    (
        "plimsoll_server_requests_in_flight",
        "Requests that the server has now.",
        |server| f64::from(server.in_flight()),
    ),
];

/// Appends what is known of each server.
pub fn render(generation: &Generation, out: &mut String) {
    for (name, help, value) in ROWS {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} gauge");
        each(generation, |labels, server| {
            let _ = writeln!(out, "{name}{{{labels}}} {}", value(server));
        });
    }
    let name = "plimsoll_server_state";
    let _ = writeln!(
        out,
        "# HELP {name} The standing of the server, in a label.\n# TYPE {name} gauge"
    );
    each(generation, |labels, server| {
        let _ = writeln!(
            out,
            "{name}{{{labels},state=\"{}\"}} 1",
            server.standing().word()
        );
    });
}

/// Appends how many checks passed, failed, or could not be made.
pub fn render_checks(running: &Running, out: &mut String) {
    let name = "plimsoll_checks_total";
    let _ = writeln!(
        out,
        "# HELP {name} Active checks, by what they found.\n# TYPE {name} counter"
    );
    for pool in &running.generation.pools {
        for server in &pool.servers {
            let Some(count) = running.checks.get(server.id()) else {
                continue;
            };
            let labels = format!(
                "pool=\"{}\",server=\"{}\"",
                escape(&pool.name),
                escape(&server.name)
            );
            for (result, count) in [
                ("passed", &count.passed),
                ("failed", &count.failed),
                ("skipped", &count.skipped),
            ] {
                let _ = writeln!(
                    out,
                    "{name}{{{labels},result=\"{result}\"}} {}",
                    count.load(Relaxed)
                );
            }
        }
    }
}

/// Appends how looking names up went.
pub fn render_names(running: &Running, out: &mut String) {
    if running.names.is_empty() {
        return;
    }
    let name = "plimsoll_dns_lookups_total";
    let _ = writeln!(
        out,
        "# HELP {name} Look-ups of servers' names.\n# TYPE {name} counter"
    );
    for host in &running.names {
        let counts = [("found", &host.found), ("failed", &host.failed)];
        for (result, count) in counts {
            let count = count.load(Relaxed);
            let host = escape(&host.host);
            let _ = writeln!(out, "{name}{{name=\"{host}\",result=\"{result}\"}} {count}");
        }
    }
    let name = "plimsoll_dns_age_seconds";
    let _ = writeln!(
        out,
        "# HELP {name} How old the last good answer is.\n# TYPE {name} gauge"
    );
    for host in &running.names {
        if let Some(age) = host.age() {
            let host = escape(&host.host);
            let _ = writeln!(out, "{name}{{name=\"{host}\"}} {:.3}", age.as_secs_f64());
        }
    }
}

/// Appends how reading the files went that rules look into, and fetching what stands elsewhere.
pub fn render_materials(generation: &Generation, out: &mut String) {
    // A switch holds nothing that could be read.
    let files = || generation.materials.iter().filter(|file| !file.is_switch());
    let key_sets = || generation.key_sets.iter().map(|set| &set.material);
    let stapled = generation.stapled.iter();
    let asked: Vec<_> = stapled.filter(|stapled| stapled.has_responder()).collect();
    let asked = || asked.iter().map(|stapled| &stapled.material);
    let materials = || files().chain(key_sets()).chain(asked());
    if materials().next().is_none() {
        return;
    }
    let labels =
        |file: &Material| format!("file=\"{}\",kind=\"{}\"", escape(&file.path), file.kind());
    let name = "plimsoll_file_reads_total";
    let _ = writeln!(
        out,
        "# HELP {name} Reads of files that rules look into, and fetches of key sets and of what issuers say of certificates, by what came of them.\n# TYPE {name} counter"
    );
    for file in materials() {
        for (result, count) in [("taken", &file.taken), ("refused", &file.refused)] {
            let (labels, count) = (labels(file), count.load(Relaxed));
            let _ = writeln!(out, "{name}{{{labels},result=\"{result}\"}} {count}");
        }
    }
    let name = "plimsoll_file_current";
    let _ = writeln!(
        out,
        "# HELP {name} Whether what is in force is what stands in the file, or was fetched last.\n# TYPE {name} gauge"
    );
    for file in materials() {
        let is_current = u8::from(file.is_current.load(Relaxed));
        let _ = writeln!(out, "{name}{{{}}} {is_current}", labels(file));
    }
}

/// Appends what bodies that wait take on disk, and how often that failed.
pub fn render_spool(generation: &Generation, out: &mut String) {
    let Some(spool) = &generation.spool else {
        return;
    };
    let all = [
        (
            "bytes",
            "gauge",
            "Bytes of bodies that wait on disk.",
            spool.used(),
        ),
        ("max_bytes", "gauge", "How many there may be.", spool.max),
        (
            "errors_total",
            "counter",
            "How often the disk failed.",
            spool.errors(),
        ),
    ];
    for (name, kind, help, value) in all {
        let name = format!("plimsoll_spool_{name}");
        let _ = writeln!(
            out,
            "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}"
        );
    }
}

/// Appends how many requests wait before each pool that lets them.
pub fn render_queues(generation: &Generation, out: &mut String) {
    let name = "plimsoll_queue_length";
    let _ = writeln!(
        out,
        "# HELP {name} Requests that wait for a server with room.\n# TYPE {name} gauge"
    );
    for pool in &generation.pools {
        if let Some(board) = &pool.line {
            let _ = writeln!(
                out,
                "{name}{{pool=\"{}\"}} {}",
                escape(&pool.name),
                board.waiting()
            );
        }
    }
}

fn each(generation: &Generation, mut visit: impl FnMut(&str, &Server)) {
    for pool in &generation.pools {
        for server in pool.balancer.servers() {
            let labels = format!(
                "pool=\"{}\",server=\"{}\"",
                escape(&pool.name),
                escape(server.name())
            );
            visit(&labels, server);
        }
    }
}
