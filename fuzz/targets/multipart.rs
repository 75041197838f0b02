//! Bodies of uploads: the `Content-Type` in the first line, then the parts.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| gateway::fuzzing::multipart(bytes));
