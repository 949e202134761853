#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| plimsoll_access::ja4::fuzz(bytes));
