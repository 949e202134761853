#![no_main]
//! Two readers of the same bytes must agree. The test of the same name runs the same law.

#[path = "../../crates/plimsoll-http/tests/differential/edits.rs"]
mod edits;
#[path = "../../crates/plimsoll-http/tests/differential/law.rs"]
mod law;
#[path = "../../crates/plimsoll-http/tests/differential/strict.rs"]
mod strict;

libfuzzer_sys::fuzz_target!(|script: &[u8]| {
    law::agree(&edits::message(script));
});
