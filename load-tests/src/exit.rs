//! How a program ends.

use std::io::Write as _;
use std::process::ExitCode;

/// 0 when all was well, 1 when it was not, and 2 with the reason on standard error when that could not be found out.
pub fn code(program: &str, outcome: anyhow::Result<bool>) -> ExitCode {
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let _closed_pipe = writeln!(std::io::stderr(), "{program}: {error:#}");
            ExitCode::from(2)
        }
    }
}
