//! The gateway beside nginx, haproxy and Envoy, each as the one hop in front of the same two constant-answer servers: CPU
//! time a request, added latency, throughput, memory; and a gateway with thousands of routes. Everything is interleaved
//! in one run.

mod contender;
mod report;
mod scale;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use plumbline_load_tests::exit;
use plumbline_load_tests::process::{Memory, Server};
use plumbline_load_tests::proxy::{Contender as _, Settings, compare, constant_server};
use plumbline_load_tests::traffic::{Cell, Traffic};

use self::contender::{KEY, Name, Programs, Running};
use self::report::Outcome;
use self::scale::Scale;

/// CPU a request, added latency and memory of the gateway, nginx, haproxy and Envoy, interleaved.
#[derive(Debug, Parser)]
struct Arguments {
    /// Kinds of requests.
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "small-json,small-json-http2,small-grpc"
    )]
    cells: Vec<Cell>,
    /// Who is measured; everybody unless told.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Name>,
    /// Routes of the large gateway, with ten endpoints each.
    #[arg(long, default_value_t = 5_000)]
    routes: usize,
    /// Changes of a route of the large gateway, in each of the two ways to tell them; 0 for no such gateway.
    #[arg(long, default_value_t = 20)]
    changes: usize,
    #[command(flatten)]
    programs: Programs,
    #[command(flatten)]
    settings: Settings,
}

/// Memory is looked at when what the start needed has been given back.
pub(crate) const SETTLE: Duration = Duration::from_secs(1);

/// Endpoints of each route of the large gateway.
const ENDPOINTS: usize = 10;

fn main() -> ExitCode {
    exit::code("gateway-peers", run(&Arguments::parse()).map(|()| true))
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let settings = &arguments.settings;
    settings.pin()?;
    let names = if arguments.only.is_empty() {
        &Name::ALL[..]
    } else {
        &arguments.only
    };
    let traffics: Vec<Traffic> = arguments
        .cells
        .iter()
        .map(|cell| Traffic::new(*cell)?.with_header("x-api-key", KEY))
        .collect::<Result<_, _>>()?;
    let upstreams = [constant_server(settings)?, constant_server(settings)?];
    let endpoints = [upstreams[0].address(), upstreams[1].address()];

    let start = |name| Running::start(name, settings, &arguments.programs, endpoints);
    let contenders: Vec<(Name, Running)> = names
        .iter()
        .map(|name| Ok((*name, start(*name)?)))
        .collect::<anyhow::Result<_>>()?;
    std::thread::sleep(SETTLE);
    let idle = memories(&contenders)?;
    let figures = compare(
        settings,
        &contenders,
        &traffics,
        upstreams.iter().map(Server::pid).collect(),
    )?;
    let loaded = memories(&contenders)?;
    drop(contenders);

    let scale = Scale {
        routes: arguments.routes,
        endpoints: ENDPOINTS,
        changes: arguments.changes,
    };
    let mut large = Vec::new();
    if scale.changes > 0 {
        large.push(scale::of_file(settings, scale, endpoints[0])?);
        large.push(scale::of_kubernetes(settings, scale, endpoints[0])?);
    }
    let outcome = Outcome {
        figures,
        names,
        idle,
        loaded,
        scale,
        large,
    };
    settings.write(&report::text(&outcome, &traffics, settings))
}

/// Of those who have processes.
fn memories(contenders: &[(Name, Running)]) -> anyhow::Result<Vec<(Name, Memory)>> {
    contenders
        .iter()
        .filter_map(|(name, running)| Some((*name, running.pid()?)))
        .map(|(name, pid)| Ok((name, Memory::of(pid)?)))
        .collect()
}
