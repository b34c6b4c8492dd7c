//! The target `saved_run` for cargo-fuzz.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pktmine_fuzz::readers::saved_run(data));
