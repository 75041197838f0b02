//! Exit codes of the example programs.

pub(crate) use ecg_cli::exit::exit_code;
