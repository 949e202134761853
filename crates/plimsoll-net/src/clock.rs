//! The only place where the data plane asks what time it is.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The monotonic time: for deadlines and durations.
#[expect(clippy::disallowed_methods, reason = "this is the clock")]
pub fn now() -> Instant {
    Instant::now()
}

/// The wall clock since 1970: for dates that people and caches read.
#[expect(clippy::disallowed_methods, reason = "this is the clock")]
pub fn unix_time() -> Duration {
    // A clock before 1970 is broken; zero is as good a date as any.
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}
