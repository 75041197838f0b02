//! The program on a free port, for the tests of its commands and of the demo.

use std::io::{BufRead, BufReader, Lines};
use std::process::{Child, ChildStdout, Command, Stdio};

pub(crate) const BEDSIDE: &str = env!("CARGO_BIN_EXE_bedside");

/// A running program. Dropping it stops the program.
pub(crate) struct Program {
    pub(crate) process: Child,
    pub(crate) address: String,
    /// The lines that it printed before its address, and the line of the address.
    #[allow(dead_code, reason = "not every test reads it")]
    pub(crate) banner: String,
    /// The following lines. Not every test reads them, but the pipe stays open.
    #[allow(dead_code, reason = "only one of the tests reads them")]
    pub(crate) output: Lines<BufReader<ChildStdout>>,
}

impl Program {
    /// Starts the program on a free port and waits for its address.
    #[allow(dead_code, reason = "not every test uses it")]
    pub(crate) fn start(command: &mut Command) -> Self {
        Program::start_at("127.0.0.1:0", command)
    }

    /// Like [`Program::start`], on an address.
    pub(crate) fn start_at(address: &str, command: &mut Command) -> Self {
        let mut process = command.args(["--listen", address]).stdout(Stdio::piped()).spawn().unwrap();
        let mut output = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut banner = String::new();
        let address = loop {
            let line = output.next().expect("the program starts").unwrap();
            banner.push_str(&line);
            banner.push('\n');
            if let Some(address) = line.strip_prefix("Bedside listens on ") {
                break address.to_owned();
            }
        };
        Program { process, address, banner, output }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
