//! The target `files` for cargo-fuzz.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pktmine_fuzz::readers::files(data));
