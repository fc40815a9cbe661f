//! Recovery of the log from any bytes: see `myriad::log::fuzz_recover`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| myriad::log::fuzz_recover(input));
