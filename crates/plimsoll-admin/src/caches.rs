//! What caches hold, in Prometheus' format, and how it is purged.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use plimsoll_proxy::caching::Keeping;
use plimsoll_proxy::generation::Generation;

use plimsoll_observe::prometheus::escape;

type Value = fn(&Keeping) -> u64;

/// Appends how full caches are, and what went in and out.
pub(crate) fn render(generation: &Generation, out: &mut String) {
    if generation.caches.is_empty() {
        return;
    }
    let all: [(&str, &str, &str, Value); 5] = [
        ("bytes", "gauge", "Bytes that are stored.", |of| {
            of.cache.size()
        }),
        ("max_bytes", "gauge", "Bytes that may be.", |of| {
            of.cache.room()
        }),
        (
            "keys",
            "gauge",
            "URLs that something is stored for.",
            |of| of.cache.len() as u64,
        ),
        (
            "stored_total",
            "counter",
            "Answers that were stored.",
            |of| of.cache.stats.stored.load(Relaxed),
        ),
        (
            "purged_total",
            "counter",
            "Answers that were purged.",
            |of| of.cache.stats.purged.load(Relaxed),
        ),
    ];
    for (name, kind, help, value) in all {
        let rows = generation.caches.iter();
        let rows = rows.map(|keeping| (keeping, value(keeping)));
        table((name, kind, help), rows, out);
    }
}

/// Appends one metric of caches.
pub(crate) fn table<'a>(
    (name, kind, help): (&str, &str, &str),
    rows: impl Iterator<Item = (&'a Arc<Keeping>, u64)>,
    out: &mut String,
) {
    let name = format!("plimsoll_cache_{name}");
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
    for (keeping, value) in rows {
        let cache = escape(&keeping.cache.name);
        let _ = writeln!(out, "{name}{{cache=\"{cache}\"}} {value}");
    }
}
