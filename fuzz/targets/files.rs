//! Detection of image and ECG formats from the first bytes.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| gateway::fuzzing::files(bytes));
