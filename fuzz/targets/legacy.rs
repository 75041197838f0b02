//! JSON bodies of the documented route, with their base64.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| gateway::fuzzing::legacy(bytes));
