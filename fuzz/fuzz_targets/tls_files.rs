#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| plimsoll_proxy::fuzz::fuzz_tls_files(bytes));
