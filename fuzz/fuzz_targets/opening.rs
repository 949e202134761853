#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    plimsoll_access::client_hello::fuzz(bytes);
    plimsoll_access::opening::fuzz(bytes);
});
