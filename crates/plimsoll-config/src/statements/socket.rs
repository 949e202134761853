//! What the system does for connections, as statements.

use super::{Words, words};
use crate::model::{SocketOptions, Source};
use crate::units::duration_text;

/// What it does for those of a site, a service or a pool; nothing when that is the default.
pub(crate) fn socket(socket: &SocketOptions) -> Option<Words> {
    let mut out = words(["socket"]);
    let times = [
        ("keepalive", socket.keepalive),
        ("user-timeout", socket.user_timeout),
    ];
    let times = times.into_iter();
    out.extend(times.filter_map(|(name, time)| Some(format!("{name}={}", duration_text(time?)))));
    out.extend(socket.fast_open.then(|| "fast-open".to_owned()));
    out.extend(socket.multipath.then(|| "mptcp".to_owned()));
    (out.len() > 1).then_some(out)
}

/// From where connections to servers are made; nothing when that is the default.
pub(crate) fn source(source: &Source) -> Option<Words> {
    let mut out = words(["source"]);
    match source {
        Source::System => return None,
        Source::Addresses(addresses) => out.extend(addresses.iter().map(ToString::to_string)),
        Source::Client => out.push("transparent".to_owned()),
    }
    Some(out)
}
