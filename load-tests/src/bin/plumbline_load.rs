//! Sends inference requests at a rate, or as fast as a number of connections allows, and tells what came back.

use std::io::Write as _;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use clap::Parser;
use http::{Method, Uri};
use plumbline_load_tests::client::{Http, Targets, Transport, Trust, tls_config};
use plumbline_load_tests::inputs::{self, InputSpec, Table};
use plumbline_load_tests::load::{self, Plan, Wait};
use plumbline_load_tests::request::{Encoding, Request};
use plumbline_load_tests::schedule::Arrivals;

/// A load on an inference server: open loop with `--rate`, closed loop without.
///
/// With `--rate`, latency counts from the time when a request was due, so that a server that stalls cannot hide it
/// (no coordinated omission). The exit status is 0 when every answer was right, 1 when some failed, 2 when the load
/// could not begin.
#[derive(Debug, Parser)]
#[command(version, name = "plumbline-load")]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
struct Arguments {
    /// `http://HOST:PORT` or `https://HOST:PORT`.
    url: Uri,
    /// The model. What it takes is asked of the server unless `--input` tells it.
    #[arg(long, required_unless_present = "body")]
    model: Option<String>,
    /// How requests are carried.
    #[arg(long, value_enum, default_value = "v2")]
    encoding: Encoding,
    /// HTTP's version; gRPC has 2, everything else 1 unless told.
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=2))]
    http: Option<u8>,
    /// Requests a second, whatever the server does. Without it: as many as the connections allow.
    #[arg(long)]
    rate: Option<f64>,
    /// Random arrivals (a Poisson process) at the rate instead of evenly spaced ones.
    #[arg(long, requires = "rate")]
    poisson: bool,
    /// Sleep until the next request is due instead of spinning: up to 2 ms late, for a generator that shares its CPUs
    /// with the server.
    #[arg(long, requires = "rate")]
    sleep: bool,
    /// Connections, each with one request in flight.
    #[arg(long, short, default_value_t = 16)]
    connections: usize,
    /// Threads of the generator.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Seconds that are recorded.
    #[arg(long, short, default_value_t = 10.0)]
    duration: f64,
    /// Seconds before that.
    #[arg(long, default_value_t = 1.0)]
    warm_up: f64,
    /// End after this many requests, if that is earlier.
    #[arg(long, short = 'n')]
    requests: Option<u64>,
    /// Seconds to wait for the last answers.
    #[arg(long, default_value_t = 10.0)]
    timeout: f64,
    /// Rows of a request; several sizes take turns.
    #[arg(long, value_delimiter = ',', default_value = "1")]
    batch: Vec<usize>,
    /// Different bodies, sent in turn.
    #[arg(long, default_value_t = 16)]
    bodies: usize,
    /// An input as `NAME:DATATYPE[:WIDTH]`, for servers that do not describe their models; may be repeated.
    #[arg(long = "input")]
    inputs: Vec<InputSpec>,
    /// Rows of a CSV file instead of random ones.
    #[arg(long)]
    rows: Option<PathBuf>,
    /// A whole body instead of rows of a model; may be repeated. Judged by the encoding that `--encoding` names.
    #[arg(long, requires = "path")]
    body: Vec<PathBuf>,
    /// Where the bodies go.
    #[arg(long)]
    path: Option<String>,
    /// `NAME: VALUE` sent with the bodies; may be repeated.
    #[arg(long = "header")]
    headers: Vec<String>,
    /// Count 429, 503 and their gRPC equivalents as refusals instead of failures.
    #[arg(long)]
    may_refuse: bool,
    /// Fail when the same bytes get another answer than before.
    #[arg(long)]
    same_answer: bool,
    /// Believe certificates that this PEM file's sign.
    #[arg(long)]
    cacert: Option<PathBuf>,
    /// Believe any certificate.
    #[arg(long, conflicts_with = "cacert")]
    insecure: bool,
    /// A process whose CPU time is told, with its children; may be repeated.
    #[arg(long)]
    pid: Vec<u32>,
    /// Of random rows and arrivals.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = plan(&arguments).and_then(|plan| load::run(&plan));
    let report = match outcome {
        Ok(report) => report,
        Err(error) => {
            let _closed_pipe = writeln!(std::io::stderr(), "plumbline-load: {error:#}");
            return ExitCode::from(2);
        }
    };
    let text = if arguments.json {
        format!("{}\n", report.json())
    } else {
        report.to_string()
    };
    let _closed_pipe = std::io::stdout().write_all(text.as_bytes());
    if report.tally.failed() == 0 && report.answers() > 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn plan(arguments: &Arguments) -> anyhow::Result<Plan> {
    let seconds = |name: &str, value: f64| {
        Duration::try_from_secs_f64(value).with_context(|| format!("{name} {value}: not a time"))
    };
    let (address, transport) = endpoint(arguments)?;
    let requests = if arguments.body.is_empty() {
        rows(arguments, address, &transport)?
    } else {
        bodies(arguments)?
    };
    let arrivals = match arguments.rate {
        None => Arrivals::Closed,
        Some(rate) if arguments.poisson => Arrivals::Poisson(rate),
        Some(rate) => Arrivals::Constant(rate),
    };
    let mut plan = Plan {
        arrivals,
        connections: arguments.connections,
        threads: arguments.threads,
        warm_up: seconds("--warm-up", arguments.warm_up)?,
        duration: seconds("--duration", arguments.duration)?,
        count: arguments.requests,
        timeout: seconds("--timeout", arguments.timeout)?,
        seed: arguments.seed,
        wait: if arguments.sleep { Wait::Sleep } else { Wait::Spin },
        processes: arguments.pid.clone(),
        ..Plan::new(Targets::new(vec![address]), transport, requests)
    };
    plan.expect.may_refuse = arguments.may_refuse;
    plan.expect.same_answer = arguments.same_answer;
    Ok(plan)
}

fn endpoint(arguments: &Arguments) -> anyhow::Result<(SocketAddr, Transport)> {
    let url = &arguments.url;
    let is_tls = match url.scheme_str() {
        Some("http") => false,
        Some("https") => true,
        _ => bail!("`{url}`: expected http://HOST:PORT or https://HOST:PORT"),
    };
    let host = url.host().context("a URL with a host")?.trim_matches(['[', ']']);
    let port = url.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
    let address = (host, port)
        .to_socket_addrs()
        .with_context(|| format!("cannot look up `{host}`"))?
        .next()
        .with_context(|| format!("`{host}` has no address"))?;
    let http = match (arguments.http, arguments.encoding) {
        (Some(1), Encoding::Grpc) => bail!("gRPC needs HTTP/2"),
        (Some(2), _) | (None, Encoding::Grpc) => Http::Two,
        _ => Http::One,
    };
    let mut transport = Transport::plain(http);
    if is_tls {
        let trust = match &arguments.cacert {
            Some(file) => Trust::Roots(file),
            None if arguments.insecure => Trust::Anybody,
            None => bail!("https needs --cacert FILE or --insecure"),
        };
        let protocol: &[u8] = if http == Http::Two { b"h2" } else { b"http/1.1" };
        transport.tls = Some((tls_config(trust, protocol)?, host.to_owned().try_into()?));
    }
    Ok((address, transport))
}

/// Rows of the model: of the table, or random ones.
fn rows(arguments: &Arguments, address: SocketAddr, transport: &Transport) -> anyhow::Result<Vec<Request>> {
    let model = arguments.model.as_deref().context("--model NAME")?;
    ensure!(
        arguments.bodies > 0 && arguments.batch.iter().all(|rows| *rows > 0),
        "--bodies and --batch: at least 1"
    );
    let specs = if arguments.inputs.is_empty() {
        inputs::of_model(address, transport, model)?
    } else {
        arguments.inputs.clone()
    };
    let table = arguments.rows.as_deref().map(Table::read).transpose()?;
    inputs::requests(
        arguments.encoding,
        model,
        &specs,
        table.as_ref(),
        &arguments.batch,
        arguments.bodies,
        arguments.seed,
    )
}

fn bodies(arguments: &Arguments) -> anyhow::Result<Vec<Request>> {
    let path = arguments.path.as_deref().context("--path")?;
    let headers: Vec<(String, String)> = arguments
        .headers
        .iter()
        .map(|header| {
            let (name, value) = header
                .split_once(':')
                .with_context(|| format!("header `{header}`: expected NAME: VALUE"))?;
            Ok((name.trim().to_owned(), value.trim().to_owned()))
        })
        .collect::<anyhow::Result<_>>()?;
    let headers: Vec<(&str, String)> = headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.clone()))
        .collect();
    arguments
        .body
        .iter()
        .map(|file| {
            let body = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
            Request::new(
                arguments.encoding,
                Method::POST,
                path,
                &headers,
                Bytes::from(body),
            )
        })
        .collect()
}
