//! What the sidecar costs in front of a model server, beside nginx as a plain proxy there: CPU time a request, added
//! latency, memory. The model server is the constant-answer one, so that the proxies are what is measured; everything is
//! interleaved in one run.

mod contender;
mod report;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use plumbline_load_tests::exit;
use plumbline_load_tests::process::Memory;
use plumbline_load_tests::proxy::{Contender as _, Settings, compare, constant_server};
use plumbline_load_tests::traffic::{Cell, Traffic};

use self::contender::{Name, Running, sidecar};

/// CPU a request, added latency and memory of the sidecar, beside nginx and nothing, interleaved.
#[derive(Debug, Parser)]
struct Arguments {
    /// Kinds of requests.
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "small-json,wide-json,wide-binary,small-grpc,wide-grpc"
    )]
    cells: Vec<Cell>,
    /// Who is measured; everybody unless told.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Name>,
    /// nginx.
    #[arg(long, default_value = "/usr/sbin/nginx")]
    nginx: PathBuf,
    #[command(flatten)]
    settings: Settings,
}

/// The sidecar's memory is looked at when what its start needed has been given back.
const SETTLE: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    exit::code("sidecar-cost", run(&Arguments::parse()).map(|()| true))
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let settings = &arguments.settings;
    settings.pin()?;
    let names = if arguments.only.is_empty() {
        &Name::ALL[..]
    } else {
        &arguments.only
    };
    let profiles = tempfile::tempdir()?;
    let traffics: Vec<Traffic> = arguments
        .cells
        .iter()
        .map(|cell| Traffic::new(*cell))
        .collect::<Result<_, _>>()?;
    let flags: Vec<String> = traffics
        .iter()
        .map(|traffic| traffic.write_profile(profiles.path()))
        .collect::<Result<_, _>>()?;

    let upstream = constant_server(settings)?;
    let start = |name| Running::start(name, settings, &arguments.nginx, upstream.address(), &flags);
    let contenders: Vec<(Name, Running)> = names
        .iter()
        .map(|name| Ok((*name, start(*name)?)))
        .collect::<anyhow::Result<_>>()?;
    let mut memories = idle(settings, upstream.address(), &contenders)?;
    let figures = compare(settings, &contenders, &traffics, vec![upstream.pid()])?;
    for (name, running) in &contenders {
        if let Some(pid) = running.pid() {
            memories.push((format!("{}, after the load", name.label()), Memory::of(pid)?));
        }
    }
    settings.write(&report::text(&figures, &traffics, names, &memories, settings))
}

/// Memory before the first request, of a sidecar with the profile of 30 features, of one without, and of nginx.
fn idle(
    settings: &Settings,
    upstream: SocketAddr,
    contenders: &[(Name, Running)],
) -> anyhow::Result<Vec<(String, Memory)>> {
    let directory = tempfile::tempdir()?;
    let small = Traffic::new(Cell::SmallJson)?.write_profile(directory.path())?;
    let mut memories = Vec::new();
    for (what, profiles) in [
        ("sidecar, idle, no profile", vec![]),
        ("sidecar, idle, a profile of 30 features", vec![small]),
    ] {
        let sidecar = sidecar(settings, upstream, "on", &profiles)?;
        std::thread::sleep(SETTLE);
        memories.push((what.to_owned(), Memory::of(sidecar.pid())?));
    }
    let nginx = contenders.iter().find(|(name, _)| *name == Name::Nginx);
    if let Some(pid) = nginx.and_then(|(_, nginx)| nginx.pid()) {
        memories.push(("nginx, idle, master and worker".to_owned(), Memory::of(pid)?));
    }
    Ok(memories)
}
