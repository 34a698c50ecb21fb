#![no_main]

#[path = "../src/properties.rs"]
#[allow(dead_code)]
mod properties;

libfuzzer_sys::fuzz_target!(|input: &[u8]| properties::proxy_protocol(input));
