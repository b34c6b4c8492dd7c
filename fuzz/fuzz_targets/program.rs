//! The target `program` for cargo-fuzz.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pktmine_fuzz::passes::program(data));
