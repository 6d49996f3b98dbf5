//! The sidecar as a program.

use std::process::ExitCode;

use plumbline_service::config::Common;
use plumbline_service::{Part, run};
use plumbline_sidecar::{App, Config, PORTS, SETTINGS};

fn main() -> ExitCode {
    let part = Part {
        name: "sidecar",
        version: env!("CARGO_PKG_VERSION"),
    };
    let common = Common::settings(PORTS[0], PORTS[1]);
    run(
        part,
        &[&common, SETTINGS],
        std::env::args().skip(1),
        Config::read,
        async |config, process| App::bind(config, &process).await?.serve().await,
    )
}
