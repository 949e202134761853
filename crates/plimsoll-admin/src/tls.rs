//! What is known of TLS with clients.

use std::fmt::Write;

use plimsoll_observe::prometheus::escape;
use plimsoll_proxy::generation::Generation;

/// Appends how many handshakes there were, and until when certificates are good.
pub(crate) fn render(generation: &Generation, out: &mut String) {
    if generation.listeners.iter().any(|at| at.is_secure()) {
        let name = "plimsoll_tls_handshakes_total";
        let _ = writeln!(
            out,
            "# HELP {name} Handshakes with clients, by version and whether an earlier session went on.\n# TYPE {name} counter"
        );
        for (version, resumed, count) in generation.sessions.handshakes() {
            let _ = writeln!(
                out,
                "{name}{{version=\"{version}\",resumed=\"{resumed}\"}} {count}"
            );
        }
    }
    let files = generation.materials.iter();
    let mut ends = files.filter_map(|file| Some((&file.path, file.expires()?)));
    let name = "plimsoll_certificate_expiry_timestamp_seconds";
    if let Some(first) = ends.next() {
        let _ = writeln!(
            out,
            "# HELP {name} Until when a certificate is good, since 1970.\n# TYPE {name} gauge"
        );
        for (path, end) in std::iter::once(first).chain(ends) {
            let _ = writeln!(out, "{name}{{file=\"{}\"}} {end}", escape(path));
        }
    }
}
