//! `plumbline-gateway`.

use std::io::Write as _;
use std::process::ExitCode;

use plumbline_gateway::{App, Config, PART, SETTINGS};
use plumbline_service::config::Common;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1).peekable();
    if arguments.next_if(|argument| argument == "new-key").is_some() {
        return new_key(arguments);
    }
    plumbline_service::run(
        PART,
        &[&Common::settings("0.0.0.0:8080", "0.0.0.0:9901"), SETTINGS],
        arguments,
        Config::read,
        async |config, process| App::bind(config, &process)?.serve().await,
    )
}

/// `plumbline-gateway new-key PRINCIPAL`.
fn new_key(mut arguments: impl Iterator<Item = String>) -> ExitCode {
    let made = match (arguments.next(), arguments.next()) {
        (Some(principal), None) => plumbline_gateway::new_key(&principal),
        _ => Err("expected one argument: plumbline-gateway new-key PRINCIPAL".to_owned()),
    };
    let written = match &made {
        Ok(text) => std::io::stdout().write_all(text.as_bytes()),
        Err(problem) => writeln!(std::io::stderr(), "gateway: {problem}"),
    };
    match (made, written) {
        (Ok(_), Ok(())) => ExitCode::SUCCESS,
        (Ok(_), Err(_)) => ExitCode::FAILURE,
        (Err(_), _) => ExitCode::from(2),
    }
}
