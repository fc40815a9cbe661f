//! See `wire::check::frame`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| wire::check::frame(data));
