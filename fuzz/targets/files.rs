//! Pictures and ECG files, told from their first bytes.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| gateway::fuzzing::files(bytes));
