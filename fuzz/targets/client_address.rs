#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| service::fuzzing::client_address(data));
