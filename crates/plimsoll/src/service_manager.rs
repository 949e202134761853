//! What the service manager is told (sd_notify(3)), if there is one.

use sd_notify::NotifyState;

/// Tells it that everything is served.
pub(crate) fn ready() {
    tell(&[NotifyState::Ready]);
}

/// Tells it that this is the end.
pub(crate) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "the service manager cannot be told");
    }
}
