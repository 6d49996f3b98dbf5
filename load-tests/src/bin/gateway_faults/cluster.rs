//! Four replicas, each on a machine of its own, and the gateway before them.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use http::StatusCode;
use plumbline_load_tests::client::{Http, Targets, Transport};
use plumbline_load_tests::load::{Plan, Wait};
use plumbline_load_tests::namespace::Namespace;
use plumbline_load_tests::process::{self, Server};
use plumbline_load_tests::proxy::Template;
use plumbline_load_tests::replica::{Behaviour, Replica};
use plumbline_load_tests::request::Encoding;
use plumbline_load_tests::schedule::Arrivals;
use plumbline_load_tests::{inputs, scrape};
use tokio::runtime::Runtime;

pub(crate) const REPLICAS: usize = 4;

/// Requests that a replica works on at the same time; others wait at it.
pub(crate) const WORKERS: usize = 4;

/// What a replica that is well takes for a request.
pub(crate) const SERVICE: Duration = Duration::from_millis(5);

/// The model that every replica serves.
pub(crate) const MODEL: &str = "churn";

/// The time for what should take a moment.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The machines, the replicas and where the programs are.
pub(crate) struct Cluster {
    pub(crate) replicas: Vec<Replica>,
    /// One for each replica; none where everything is on loopback.
    machines: Vec<Namespace>,
    /// The gateway's, and this program's.
    _own: Option<Namespace>,
    pub(crate) runtime: Runtime,
    programs: PathBuf,
}

impl Cluster {
    /// With namespaces, the calling thread and what it starts moves to the gateway's machine.
    pub(crate) fn start(namespaces: bool, programs: &Path) -> anyhow::Result<Self> {
        let (own, machines) = if namespaces {
            let (own, machines) = machines()?;
            own.enter()?;
            (Some(own), machines)
        } else {
            (None, Vec::new())
        };
        let mut cluster = Self {
            replicas: Vec::new(),
            machines,
            _own: own,
            runtime: tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()
                .context("cannot start a thread")?,
            programs: programs.to_owned(),
        };
        let port = if namespaces { 8080 } else { process::free_port()? };
        for index in 0..REPLICAS {
            let address = SocketAddr::from((address(namespaces, index), port));
            let listener = cluster.bind(index, address)?;
            let behaviour = Behaviour::Answers(SERVICE);
            let replica = Replica::start(cluster.runtime.handle(), listener, WORKERS, behaviour)?;
            cluster.replicas.push(replica);
        }
        Ok(cluster)
    }

    /// Where everything is.
    pub(crate) fn told(&self) -> String {
        let place = if self.machines.is_empty() {
            "replicas, gateway and generator on loopback addresses"
        } else {
            "each replica in a network namespace of its own, the gateway and the generator in another, links of veth between them"
        };
        format!(
            "{REPLICAS} replicas of {WORKERS} workers, {SERVICE:?} a request unless told otherwise (the delay is in the service time, \
             requests wait for a worker in order); {place}; all on the same CPUs."
        )
    }

    fn bind(&self, index: usize, address: SocketAddr) -> anyhow::Result<TcpListener> {
        let bind =
            || TcpListener::bind(address).with_context(|| format!("a replica cannot listen at {address}"));
        match self.machines.get(index) {
            Some(machine) => machine.within(bind),
            None => bind(),
        }
    }

    /// Starts a replica again where it was.
    pub(crate) fn restart(&mut self, index: usize) -> anyhow::Result<()> {
        let address = self.replicas[index].address();
        let listener = self.bind(index, address)?;
        self.replicas[index].serve(listener)
    }

    /// Takes the link of every replica down: packets vanish, and nobody says so. Or up again. False where there are no links.
    pub(crate) fn links(&self, up: bool) -> anyhow::Result<bool> {
        let state = if up { "up" } else { "down" };
        for machine in &self.machines {
            machine.ip(&format!("link set eth0 {state}"))?;
        }
        Ok(!self.machines.is_empty())
    }

    /// All replicas answer after this time.
    pub(crate) fn heal(&self, service: Duration) {
        for replica in &self.replicas {
            replica.behave(Behaviour::Answers(service));
        }
    }

    /// All replicas refuse with this status.
    pub(crate) fn refuse(&self, status: StatusCode) {
        for replica in &self.replicas {
            replica.behave(Behaviour::Refuses(status));
        }
    }

    /// Requests that have reached each replica so far.
    pub(crate) fn requests(&self) -> Vec<u64> {
        self.replicas.iter().map(Replica::requests).collect()
    }

    /// These replicas as the file's endpoints.
    pub(crate) fn endpoints(&self, replicas: std::ops::Range<usize>) -> String {
        let urls: Vec<String> = self.replicas[replicas]
            .iter()
            .map(|replica| format!("\"http://{}\"", replica.address()))
            .collect();
        format!("[{}]", urls.join(", "))
    }

    /// A gateway that is ready, with a file in which the route of [`MODEL`] to all replicas has `more` lines.
    pub(crate) fn gateway(&self, more: &str) -> anyhow::Result<Gateway> {
        let endpoints = self.endpoints(0..REPLICAS);
        self.gateway_with(
            &format!("[[route]]\nmodel = \"{MODEL}\"\nendpoints = {endpoints}\n{more}\n"),
            &[],
        )
    }

    /// A gateway that is ready, with this file and these flags.
    pub(crate) fn gateway_with(&self, text: &str, flags: &[&str]) -> anyhow::Result<Gateway> {
        let file = Template::of_text("gateway.toml", text)?;
        let server = self.gateway_of(&file, flags)?;
        Ok(Gateway { server, file })
    }

    /// As [`Self::gateway_with`], with a file that is there.
    pub(crate) fn gateway_of(&self, file: &Template, flags: &[&str]) -> anyhow::Result<Server> {
        let flags: Vec<String> = ["--config", file.file()?]
            .iter()
            .chain(flags)
            .map(|flag| (*flag).to_owned())
            .collect();
        let mut server = Server::start(&self.programs.join("plumbline-gateway"), &flags, None)?;
        server
            .wait_until_ready("/v2/health/ready")
            .context("the gateway")?;
        Ok(server)
    }
}

/// A gateway and its file.
pub(crate) struct Gateway {
    pub(crate) server: Server,
    pub(crate) file: Template,
}

impl Gateway {
    /// A load of V2 JSON over HTTP/1.1, 128 connections, that arrives at random.
    pub(crate) fn plan(&self, rate: f64, duration: Duration) -> anyhow::Result<Plan> {
        let spec = "X:FP32:20".parse().map_err(anyhow::Error::msg)?;
        let requests = inputs::requests(Encoding::V2, MODEL, &[spec], None, &[1], 48, 1)?;
        Ok(Plan {
            arrivals: Arrivals::Poisson(rate),
            connections: 128,
            duration,
            warm_up: Duration::ZERO,
            // The gateway and the replicas need the CPUs, too.
            wait: Wait::Sleep,
            ..Plan::new(self.targets(), Transport::plain(Http::One), requests)
        })
    }

    pub(crate) fn targets(&self) -> Arc<Targets> {
        Targets::new(vec![self.server.address()])
    }

    /// A counter of the gateway's, summed over the series that have all of `labels`.
    pub(crate) fn counted(&self, name: &str, labels: &[&str]) -> anyhow::Result<f64> {
        Ok(scrape::total(
            &scrape::metrics(self.server.admin()?)?,
            name,
            labels,
        ))
    }
}

/// Waits, bounded, until something is so.
pub(crate) fn until(what: &str, is: impl Fn() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    let began = Instant::now();
    while !is()? {
        ensure!(began.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// The gateway's machine, and one for each replica at the end of a link.
fn machines() -> anyhow::Result<(Namespace, Vec<Namespace>)> {
    let own = Namespace::new()?;
    let machine = |index| {
        let machine = Namespace::new()?;
        let (device, subnet) = (format!("replica{index}"), format!("10.77.{index}"));
        own.link(&device, &machine, "eth0")?;
        own.ip(&format!("addr add {subnet}.1/30 dev {device}"))?;
        own.ip(&format!("link set {device} up"))?;
        machine.ip(&format!("addr add {subnet}.2/30 dev eth0"))?;
        machine.ip(&format!("link set eth0 address {HARDWARE_ADDRESS} up"))?;
        // Known for good, as behind a router: of a machine that is gone nobody says so.
        own.ip(&format!(
            "neigh replace {subnet}.2 lladdr {HARDWARE_ADDRESS} dev {device} nud permanent"
        ))?;
        Ok(machine)
    };
    let machines = (0..REPLICAS).map(machine).collect::<anyhow::Result<_>>()?;
    Ok((own, machines))
}

/// Of every replica, each at the end of a link of its own; a locally administered one.
const HARDWARE_ADDRESS: &str = "02:00:00:00:00:02";

/// Where replica `index` is.
fn address(namespaces: bool, index: usize) -> Ipv4Addr {
    let index = index as u8;
    if namespaces {
        Ipv4Addr::new(10, 77, index, 2)
    } else {
        // All of 127.0.0.0/8 is this machine.
        Ipv4Addr::new(127, 0, 77, index + 1)
    }
}
