//! The plumbline command.

fn main() -> std::process::ExitCode {
    plumbline_cli::run(std::env::args_os())
}
