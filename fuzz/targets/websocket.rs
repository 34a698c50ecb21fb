#![no_main]

#[path = "../src/versions.rs"]
#[allow(dead_code)]
mod versions;

libfuzzer_sys::fuzz_target!(|input: &[u8]| versions::handshake(input));
