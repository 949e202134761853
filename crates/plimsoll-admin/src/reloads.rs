//! What is told of configurations that were to be served, to the metrics.

use std::fmt::Write;
use std::sync::atomic::Ordering::Relaxed;

use plimsoll_control::engine::Engine;

/// Appends how often another configuration was to be served, and which one is.
pub(crate) fn render(engine: &Engine, out: &mut String) {
    let reloads = &engine.reloads;
    let name = "plimsoll_workers";
    let help = "Worker threads that accept connections.";
    let count = engine.now().peers.count();
    let _ = writeln!(
        out,
        "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {count}"
    );
    let name = "plimsoll_config_reloads_total";
    let help = "Reloads of the configuration, by what came of them.";
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} counter");
    for (result, count) in [("done", &reloads.done), ("refused", &reloads.refused)] {
        let count = count.load(Relaxed);
        let _ = writeln!(out, "{name}{{result=\"{result}\"}} {count}");
    }
    let is_last_done = !reloads.is_last_refused.load(Relaxed);
    for (name, kind, help, value) in [
        (
            "plimsoll_config_last_reload_successful",
            "gauge",
            "Whether what the file said at the last reload is served.",
            u64::from(is_last_done),
        ),
        (
            "plimsoll_config_generation",
            "gauge",
            "Which configuration is served, the first one being 1.",
            engine.now().generation.number,
        ),
        (
            "plimsoll_config_generations_ended_total",
            "counter",
            "Configurations whose last exchanges were ended because too many were in use.",
            reloads.ended.load(Relaxed),
        ),
        (
            "plimsoll_worker_stalls_total",
            "counter",
            "How often a worker did not go on for a second.",
            engine.stalls.seen.load(Relaxed),
        ),
    ] {
        let _ = writeln!(
            out,
            "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}"
        );
    }
}
