//! `plumbline-analysis-worker`: alerts and drift events in, validated reports out.

use std::process::ExitCode;

fn main() -> ExitCode {
    plumbline_analysis_worker::main(std::env::args().skip(1))
}
