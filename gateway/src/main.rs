//! `plumbline-gateway`.

use std::process::ExitCode;

use plumbline_gateway::{App, Config, PART, SETTINGS};
use plumbline_service::config::Common;

fn main() -> ExitCode {
    plumbline_service::run(
        PART,
        &[&Common::settings("0.0.0.0:8080", "0.0.0.0:9901"), SETTINGS],
        std::env::args().skip(1),
        Config::read,
        async |config, process| App::bind(config, &process)?.serve().await,
    )
}
