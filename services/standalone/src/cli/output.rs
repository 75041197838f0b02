//! Standard output of the commands: text, or JSON with one object per line.

use std::fmt::Display;
use std::io::{self, Write};

use serde::Serialize;

use super::error::CliError;

/// The `--json` flag.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(super) struct OutputArgs {
    /// Print JSON, one object per line, instead of text
    #[arg(long)]
    json: bool,
}

impl OutputArgs {
    pub(super) fn is_json(self) -> bool {
        self.json
    }

    /// Prints `value` with `--json`, otherwise `text`.
    pub(super) fn print(self, text: impl Display, value: &impl Serialize) -> Result<(), CliError> {
        if self.json { print_json(value) } else { print_line(text) }
    }

    /// Prints a line of text. Prints nothing with `--json`.
    pub(super) fn print_text(self, text: impl Display) -> Result<(), CliError> {
        if self.json { Ok(()) } else { print_line(text) }
    }
}

/// Writes a line to standard output and flushes it.
pub(super) fn print_line(line: impl Display) -> Result<(), CliError> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()?;
    Ok(())
}

/// Writes a value as one line of JSON.
pub(super) fn print_json(value: &impl Serialize) -> Result<(), CliError> {
    print_line(serde_json::to_string(value).map_err(CliError::failed)?)
}
