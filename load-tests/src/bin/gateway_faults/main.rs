//! Faults around a gateway with four replicas, each told with its goal: a slow replica, one that refuses, an outage, an overload;
//! and changes under load in which not one request may fail.

mod balance;
mod beyond;
mod changes;
mod cluster;
mod goal;
mod outage;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser;
use plumbline_load_tests::exit;

use self::cluster::Cluster;
use self::goal::Found;

/// A gateway and four replicas, and what goes wrong; the exit status is 1 when a request failed that must not.
#[derive(Debug, Parser)]
struct Arguments {
    /// What goes wrong; everything unless told.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Part>,
    /// Rounds with all replicas well and with one slow, by turns.
    #[arg(long, default_value_t = 8)]
    rounds: usize,
    /// Seconds of one measurement.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Swaps of a route's endpoints.
    #[arg(long, default_value_t = 1_000)]
    swaps: usize,
    /// Restarts of a replica, in each of the two ways to end.
    #[arg(long, default_value_t = 100)]
    backend_restarts: usize,
    /// Restarts of the gateway.
    #[arg(long, default_value_t = 100)]
    gateway_restarts: usize,
    /// Certificates after the first.
    #[arg(long, default_value_t = 100)]
    rotations: usize,
    /// Requests a second while something changes.
    #[arg(long, default_value_t = 500.0)]
    rate: f64,
    /// Everything on loopback addresses: where there is no right to make network namespaces. No link can go down then.
    #[arg(long)]
    no_namespaces: bool,
    /// Where the release programs are.
    #[arg(long, default_value = "target/release")]
    programs: PathBuf,
    /// Where the report is written, besides standard output.
    #[arg(long)]
    output: Option<PathBuf>,
}

/// What goes wrong, or changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// One replica is ten times slower.
    Slow,
    /// One replica answers 429 at once.
    Refusing,
    /// No replica can do its work.
    Outage,
    /// Three times as much arrives as the replicas can do.
    Overload,
    /// The endpoints of a route are swapped in the file.
    Swaps,
    /// Replicas are restarted.
    Backends,
    /// The gateway is replaced by another process.
    Gateways,
    /// The certificate is replaced.
    Certificates,
    /// Kubernetes' API server goes away.
    ApiServer,
}

impl Part {
    const ALL: [Self; 9] = [
        Self::Slow,
        Self::Refusing,
        Self::Outage,
        Self::Overload,
        Self::Swaps,
        Self::Backends,
        Self::Gateways,
        Self::Certificates,
        Self::ApiServer,
    ];

    fn run(self, cluster: &mut Cluster, arguments: &Arguments) -> anyhow::Result<Found> {
        cluster.heal(cluster::SERVICE);
        match self {
            Part::Slow => balance::slow(cluster, arguments),
            Part::Refusing => balance::refusing(cluster, arguments),
            Part::Outage => outage::run(cluster, arguments),
            Part::Overload => beyond::run(cluster, arguments),
            Part::Swaps => changes::swaps(cluster, arguments),
            Part::Backends => changes::backends(cluster, arguments),
            Part::Gateways => changes::gateways(cluster, arguments),
            Part::Certificates => changes::certificates(cluster, arguments),
            Part::ApiServer => changes::api_server(cluster, arguments),
        }
    }
}

fn main() -> ExitCode {
    exit::code("gateway-faults", run(&Arguments::parse()))
}

fn run(arguments: &Arguments) -> anyhow::Result<bool> {
    let mut cluster = Cluster::start(!arguments.no_namespaces, &arguments.programs)?;
    let parts = if arguments.only.is_empty() {
        &Part::ALL[..]
    } else {
        &arguments.only
    };
    let mut found = Vec::new();
    for part in parts {
        goal::progress(&format!("{part:?}"));
        let part = part
            .run(&mut cluster, arguments)
            .with_context(|| format!("{part:?}"))?;
        goal::progress(&part.text);
        found.push(part);
    }
    let text = goal::report(&found, &cluster.told());
    std::io::Write::write_all(&mut std::io::stdout(), text.as_bytes())?;
    if let Some(output) = &arguments.output {
        std::fs::write(output, text).with_context(|| format!("cannot write {}", output.display()))?;
    }
    Ok(found.iter().flat_map(|part| &part.goals).all(goal::Goal::is_good))
}
