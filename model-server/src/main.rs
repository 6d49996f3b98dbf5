//! `plumbline-model-server`.

use std::process::ExitCode;

use plumbline_model_server::{App, Config, PART, SETTINGS};
use plumbline_service::config::Common;

fn main() -> ExitCode {
    plumbline_service::run(
        PART,
        &[&Common::settings("0.0.0.0:8082", "0.0.0.0:9903"), SETTINGS],
        std::env::args().skip(1),
        Config::read,
        async |config, process| App::bind(config, &process).await?.serve().await,
    )
}
