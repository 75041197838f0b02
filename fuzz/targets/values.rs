//! Names, numbers, times and file names of forms.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| gateway::fuzzing::values(bytes));
