#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| plimsoll_http::fuzz::fuzz_datagram(bytes));
