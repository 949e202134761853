#![no_main]
//! Whatever is accepted, an independent strict reader accepts, and understands in the same way.

#[path = "../../crates/plimsoll-http/tests/differential/law.rs"]
mod law;
#[path = "../../crates/plimsoll-http/tests/differential/strict.rs"]
mod strict;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    law::agree(bytes);
});
