//! Names, numbers, times and file names in forms.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| gateway::fuzzing::values(bytes));
