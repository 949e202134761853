//! Waiting for something to become true, with a deadline and without fixed sleeps.

use std::thread;
use std::time::{Duration, Instant};

/// How often [`until`] looks again.
const INTERVAL: Duration = Duration::from_millis(5);

/// Calls `check` until it returns a value, or gives up `within` from now.
pub fn until<T>(within: Duration, mut check: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + within;
    loop {
        let found = check();
        if found.is_some() || Instant::now() >= deadline {
            return found;
        }
        thread::sleep(INTERVAL);
    }
}

/// Waits until `check` is true and panics with `what` if it is not `within` from now.
pub fn expect(what: &str, within: Duration, mut check: impl FnMut() -> bool) {
    let held = until(within, || check().then_some(()));
    assert!(held.is_some(), "not within {within:?}: {what}");
}
