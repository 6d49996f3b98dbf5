//! A gateway with very many routes: its memory, and how soon a change of one of them is effective.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use plumbline_load_tests::client::{Client, Http, Targets, Transport};
use plumbline_load_tests::process::{Memory, Server};
use plumbline_load_tests::proxy::{Settings, Template, progress};
use plumbline_load_tests::request::Request;
use plumbline_testkit::kubernetes::{FakeApiServer, endpoint_slice, inference_service};
use serde_json::json;
use tokio::runtime::Runtime;

use crate::SETTLE;
use crate::contender::start_gateway;

/// How large, and how often it is changed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    pub(crate) routes: usize,
    pub(crate) endpoints: usize,
    pub(crate) changes: usize,
}

/// What was found for one way to tell the gateway its routes.
pub(crate) struct Found {
    pub(crate) what: &'static str,
    /// Before the first request.
    pub(crate) memory: Memory,
    /// From a change to the first request that it is effective for, milliseconds.
    pub(crate) milliseconds: Vec<f64>,
}

/// A change that is not effective after this time never will be.
const PATIENCE: Duration = Duration::from_secs(30);

/// Between two changes; the gateway rests four times as long as a change from Kubernetes took it.
const PAUSE: Duration = Duration::from_millis(500);

/// Routes in a file, one more at each change; the file is taken up at SIGHUP.
pub(crate) fn of_file(settings: &Settings, scale: Scale, live: SocketAddr) -> anyhow::Result<Found> {
    progress("routes in a file");
    // Only a signal makes it look.
    let mut text = "config_poll = \"1h\"\n".to_owned();
    for route in 0..scale.routes {
        let endpoints: Vec<String> = (0..scale.endpoints)
            .map(|endpoint| format!("\"http://{}:8080\"", pod(route, endpoint)))
            .collect();
        write!(
            text,
            "[[route]]\nmodel = \"model-{route}\"\nendpoints = [{}]\n",
            endpoints.join(", ")
        )?;
    }
    let file = Template::of_text("gateway.toml", &text)?;
    let gateway = start_gateway(settings, &["--config", file.file()?])?;
    let runtime = runtime()?;
    let change = |name: &str| {
        write!(
            text,
            "[[route]]\nmodel = \"{name}\"\nendpoints = [\"http://{live}\"]\n"
        )?;
        std::fs::write(file.file()?, &text)?;
        let began = Instant::now();
        gateway.signal("HUP")?;
        Ok(began)
    };
    changes(&runtime, &gateway, "a file, from SIGHUP", scale, change)
}

/// Routes from Kubernetes, where each change gives one more model its pod.
pub(crate) fn of_kubernetes(settings: &Settings, scale: Scale, live: SocketAddr) -> anyhow::Result<Found> {
    progress("routes from Kubernetes");
    let runtime = runtime()?;
    let server = runtime.block_on(FakeApiServer::start());
    for route in 0..scale.routes {
        let name = format!("model-{route}");
        let pods: Vec<String> = (0..scale.endpoints)
            .map(|endpoint| pod(route, endpoint))
            .collect();
        server.apply(inference_service(&name));
        server.apply(endpoint_slice(&name, &pods, 8080));
    }
    for change in 0..scale.changes {
        server.apply(inference_service(&added(change)));
    }
    let kubeconfig = Template::of_text("kubeconfig", &server.kubeconfig())?;
    let flags = ["--kubernetes", "--kubeconfig", kubeconfig.file()?];
    let gateway = start_gateway(settings, &flags)?;
    let change = |name: &str| {
        let began = Instant::now();
        server.apply(endpoint_slice(name, &[live.ip().to_string()], live.port()));
        Ok(began)
    };
    changes(&runtime, &gateway, "Kubernetes, from the event", scale, change)
}

/// Makes changes, each of which gives one more model an endpoint that answers, and asks until it does.
fn changes(
    runtime: &Runtime,
    gateway: &Server,
    what: &'static str,
    scale: Scale,
    mut change: impl FnMut(&str) -> anyhow::Result<Instant>,
) -> anyhow::Result<Found> {
    std::thread::sleep(SETTLE);
    let memory = Memory::of(gateway.pid())?;
    let mut client = Client::new(
        Targets::new(vec![gateway.address()]),
        Transport::plain(Http::One),
        0,
    );
    let mut milliseconds = Vec::with_capacity(scale.changes);
    for index in 0..scale.changes {
        let name = added(index);
        let request = Request::post(&format!("/v2/models/{name}/infer"), &json!({"inputs": []}))?;
        let mut status = || {
            let call = client.call(&request, |answer| answer.status);
            runtime.block_on(call).map_err(|fault| anyhow::anyhow!("{fault}"))
        };
        ensure!(status()? != 200, "{what}: {name} is there before it was added");
        let began = change(&name)?;
        while status()? != 200 {
            ensure!(
                began.elapsed() < PATIENCE,
                "{what}: {name} is not there after {PATIENCE:?}:\n{}",
                gateway.log()
            );
        }
        milliseconds.push(began.elapsed().as_secs_f64() * 1e3);
        std::thread::sleep(PAUSE);
    }
    Ok(Found {
        what,
        memory,
        milliseconds,
    })
}

fn runtime() -> anyhow::Result<Runtime> {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime
        .worker_threads(1)
        .enable_all()
        .build()
        .context("cannot start a thread")
}

fn added(change: usize) -> String {
    format!("added-{change}")
}

/// An address of its own for each; nothing is ever sent there.
fn pod(route: usize, endpoint: usize) -> String {
    let pod = (route * 16 + endpoint) as u32;
    std::net::Ipv4Addr::from((10 << 24) + pod).to_string()
}
