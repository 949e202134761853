//! What is known of TLS with clients.

use std::collections::BTreeMap;
use std::fmt::Write;

use plimsoll_net::clock;
use plimsoll_observe::prometheus::escape;
use plimsoll_proxy::generation::Generation;

/// Appends how many handshakes there were, until when certificates are good, and which of them lack
/// something.
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
    render_insisted_on(generation, out);
}

/// Appends which certificates are shown as clients will not take them.
fn render_insisted_on(generation: &Generation, out: &mut String) {
    let now = clock::unix_time().as_secs();
    let all = generation.stapled.iter().filter(|one| one.is_insisted_on());
    let mut missing = BTreeMap::<&str, bool>::new();
    for stapled in all {
        *missing.entry(&stapled.material.path).or_default() |= !stapled.has_staple(now);
    }
    if missing.is_empty() {
        return;
    }
    let name = "plimsoll_certificate_staple_missing";
    let _ = writeln!(
        out,
        "# HELP {name} Whether a certificate that clients do not take without what its issuer says of it is shown without.\n# TYPE {name} gauge"
    );
    for (file, is_missing) in missing {
        let (file, is_missing) = (escape(file), u8::from(is_missing));
        let _ = writeln!(out, "{name}{{file=\"{file}\"}} {is_missing}");
    }
}
