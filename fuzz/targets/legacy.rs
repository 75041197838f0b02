//! JSON bodies of the legacy API, with base64.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| gateway::fuzzing::legacy(bytes));
