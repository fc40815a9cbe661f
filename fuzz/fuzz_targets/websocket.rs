//! See `wire::check::websocket`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| wire::check::websocket(data));
