#![no_main]

#[path = "../src/h2.rs"]
#[allow(dead_code)]
mod h2;

libfuzzer_sys::fuzz_target!(|input: &[u8]| h2::hpack(input));
