//! Multipart bodies: the first line is the `Content-Type`, the rest the body.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| gateway::fuzzing::multipart(bytes));
