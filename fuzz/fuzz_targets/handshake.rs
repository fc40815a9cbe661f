//! See `wire::check::handshake`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| wire::check::handshake(data));
