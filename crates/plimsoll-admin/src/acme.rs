//! Orders of certificates, in Prometheus' format.

use std::fmt::Write;
use std::sync::atomic::Ordering::Relaxed;

use plimsoll_control::launch::Running;

/// Appends how orders went, where certificates are asked for.
pub(crate) fn render(running: &Running, out: &mut String) {
    let mut files = running.generation.materials.iter();
    if !files.any(|file| file.is_awaited) {
        return;
    }
    let orders = &running.orders;
    let name = "plimsoll_acme_orders_total";
    let _ = writeln!(
        out,
        "# HELP {name} Orders of certificates, by what came of them.\n# TYPE {name} counter"
    );
    for (result, count) in [
        ("issued", &orders.issued),
        ("failed", &orders.failed),
        ("trial", &orders.trials),
    ] {
        let count = count.load(Relaxed);
        let _ = writeln!(out, "{name}{{result=\"{result}\"}} {count}");
    }
}
