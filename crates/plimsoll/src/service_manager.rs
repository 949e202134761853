//! What the service manager is told (sd_notify(3)), if there is one.

use std::time::Duration;

use sd_notify::NotifyState;

/// Tells it that everything is served.
pub(crate) fn ready() {
    tell(&[NotifyState::Ready]);
}

/// Tells it that another process is the one to look at.
pub(crate) fn succeeded_by(process: u32) {
    tell(&[NotifyState::MainPid(process)]);
}

/// Tells it that this is the end.
pub(crate) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Tells it again and again that all is well, if it wants to hear that, unless something has been stuck for half of the
/// time that it waits.
pub(crate) async fn reassure(stuck_for: impl Fn() -> Duration) {
    let Some(patience) = sd_notify::watchdog_enabled() else {
        return;
    };
    // It is told four times in that time: twice is what is advised, and one may be left out.
    let mut ticks = tokio::time::interval((patience / 4).max(Duration::from_millis(1)));
    loop {
        ticks.tick().await;
        if stuck_for() < patience / 2 {
            tell(&[NotifyState::Watchdog]);
        }
    }
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "the service manager cannot be told");
    }
}
