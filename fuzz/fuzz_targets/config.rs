#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| plimsoll_config::fuzz_load(bytes));
