//! A burst of alerts at the worker: what it takes in, how soon each incident has its report, and what memory that costs.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use clap::Parser;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use plumbline_load_tests::exit;
use plumbline_load_tests::process::{Server, resident_memory};
use plumbline_load_tests::scrape::{metrics, total};
use plumbline_load_tests::table::figure;
use serde_json::json;

/// Sends alerts of a number of incidents, each several times as the replicas of a highly available Alertmanager do, from
/// several connections at once, and waits for the reports.
///
/// The exit status is 0 when every alert was acknowledged, there is one incident and one report for each that there should
/// be, the worker's accounts say the same, and memory and time are within their goals.
#[derive(Debug, Parser)]
struct Arguments {
    /// Alerts, repetitions not counted.
    #[arg(long, default_value_t = 10_000)]
    alerts: usize,
    /// Incidents that they belong to.
    #[arg(long, default_value_t = 50)]
    incidents: usize,
    /// Deliveries of each alert.
    #[arg(long, default_value_t = 3)]
    replicas: usize,
    /// Alerts of one notification.
    #[arg(long, default_value_t = 10)]
    group: usize,
    /// Connections.
    #[arg(long, default_value_t = 16)]
    connections: usize,
    /// Largest resident memory, MB.
    #[arg(long, default_value_t = 64.0)]
    memory: f64,
    /// Where the release programs are.
    #[arg(long, default_value = "target/release")]
    programs: PathBuf,
    /// Where the table is written, besides standard output.
    #[arg(long)]
    output: Option<PathBuf>,
}

/// The time for all of it.
const PATIENCE: Duration = Duration::from_mins(5);
/// Memory is looked at so often.
const LOOK: Duration = Duration::from_millis(20);
/// The goal for the time from an alert to its report.
const TO_REPORT: Duration = Duration::from_secs(2);

const MB: f64 = 1e6;

fn main() -> ExitCode {
    exit::code("worker-burst", run(&Arguments::parse()))
}

fn run(arguments: &Arguments) -> anyhow::Result<bool> {
    ensure!(
        arguments.group > 0 && arguments.incidents > 0 && arguments.alerts >= arguments.incidents,
        "at least one alert for each incident, and one in a notification"
    );
    let directory = tempfile::tempdir()?;
    let store = directory.path().join("worker.db");
    let flags = ["--store".to_owned(), store.display().to_string()];
    let mut worker = Server::start(
        &arguments.programs.join("plumbline-analysis-worker"),
        &flags,
        None,
    )?;
    worker.wait_until_ready("/api/v1/incidents")?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("cannot start a thread")?;
    let idle = resident_memory(worker.pid())?;

    // One alert first: how long a report takes when nothing else is going on.
    let alone = alone(&runtime, &worker)?;
    let began = Instant::now();
    let sending = runtime.spawn(send_all(
        worker.address(),
        notifications(arguments),
        arguments.connections,
    ));
    let mut most = idle;
    while !sending.is_finished() {
        most = most.max(resident_memory(worker.pid())?);
        std::thread::sleep(LOOK);
    }
    let sent = runtime.block_on(sending)??;
    let taken_in = began.elapsed();
    let expected = (arguments.incidents + 1) as f64;
    loop {
        let found = metrics(worker.admin()?)?;
        most = most.max(resident_memory(worker.pid())?);
        let waiting = total(&found, "plumbline_worker_jobs", &[]);
        if waiting == 0.0 && total(&found, "plumbline_worker_reports_total", &[]) >= expected {
            break;
        }
        ensure!(
            began.elapsed() < PATIENCE,
            "{waiting} analyses still wait after {PATIENCE:?}"
        );
        std::thread::sleep(LOOK);
    }
    let reported = began.elapsed();
    let accounts = metrics(worker.admin()?)?;
    let incidents = runtime.block_on(incidents(worker.address()))?;

    let found = Found {
        idle,
        most,
        alone,
        taken_in,
        reported,
        signals: total(&accounts, "plumbline_worker_signals_total", &[]),
        incidents,
        sent,
    };
    let (text, good) = found.table(arguments);
    std::io::stdout().write_all(text.as_bytes())?;
    if let Some(output) = &arguments.output {
        std::fs::write(output, text).with_context(|| format!("cannot write {}", output.display()))?;
    }
    Ok(good)
}

/// What came of it.
struct Found {
    /// Resident memory before, in bytes.
    idle: u64,
    /// And the most that was seen.
    most: u64,
    /// From an alert without any other to its report.
    alone: Duration,
    /// From the first alert to the last acknowledgement.
    taken_in: Duration,
    /// And to the last report.
    reported: Duration,
    signals: f64,
    incidents: usize,
    sent: Sent,
}

impl Found {
    /// The table, and whether all of it is good.
    fn table(&self, arguments: &Arguments) -> (String, bool) {
        let alerts = arguments.alerts * arguments.replicas;
        let expected = arguments.incidents + 1;
        let rows = [
            (
                "alerts acknowledged",
                format!("{} of {alerts}", self.sent.alerts),
                self.sent.alerts == alerts,
            ),
            (
                "counted by the worker, the first one with them",
                self.signals.to_string(),
                self.signals == (alerts + 1) as f64,
            ),
            (
                "incidents",
                format!("{} of {expected}", self.incidents),
                self.incidents == expected,
            ),
            (
                "an alert alone to its report, s",
                figure(self.alone.as_secs_f64()),
                self.alone <= TO_REPORT,
            ),
            (
                "resident memory, most, MB",
                figure(self.most as f64 / MB),
                self.most as f64 / MB <= arguments.memory,
            ),
        ];
        let mut text = format!(
            "{} alerts of {} incidents, each delivered {} times, {} in a notification, over {} connections; the offline analysis, no sources.\n\n\
         Taken in within {} s: {} alerts a second, acknowledged after p50 {} ms, p99 {} ms, most {} ms; {} notifications were told to come again and did. All \
         reports {} s after the first alert. {} MB before.\n\n| what | found | |\n| --- | --- | --- |\n",
            arguments.alerts,
            arguments.incidents,
            arguments.replicas,
            arguments.group,
            arguments.connections,
            figure(self.taken_in.as_secs_f64()),
            figure(alerts as f64 / self.taken_in.as_secs_f64()),
            figure(self.sent.quantile(0.5)),
            figure(self.sent.quantile(0.99)),
            figure(self.sent.quantile(1.0)),
            self.sent.again,
            figure(self.reported.as_secs_f64()),
            figure(self.idle as f64 / MB),
        );
        for (what, found, good) in &rows {
            let _ = writeln!(
                text,
                "| {what} | {found} | {} |",
                if *good { "good" } else { "missed" }
            );
        }
        (text, rows.iter().all(|(_, _, good)| *good))
    }
}

/// Bodies of notifications, in the order in which they are sent: the replicas' deliveries of one follow each other closely.
fn notifications(arguments: &Arguments) -> Vec<(usize, Bytes)> {
    let alerts: Vec<serde_json::Value> = (0..arguments.alerts)
        .map(|number| {
            json!({
                "status": "firing",
                "labels": {
                    "alertname": "ErrorRateHigh", "severity": "warning",
                    "service": format!("scorer-{}", number % arguments.incidents), "pod": format!("scorer-{number}"),
                },
                "annotations": {"summary": format!("5 % of the requests to pod scorer-{number} fail"), "runbook_url": "http://runbooks/x"},
                "startsAt": "2026-11-22T22:00:00Z", "endsAt": "0001-01-01T00:00:00Z",
                "generatorURL": "http://prometheus/graph", "fingerprint": format!("{number:016x}"),
            })
        })
        .collect();
    let mut bodies = Vec::new();
    for group in alerts.chunks(arguments.group) {
        let body = json!({
            "version": "4", "status": "firing", "receiver": "worker", "groupKey": "{}:{}", "truncatedAlerts": 0,
            "groupLabels": {}, "commonLabels": {}, "commonAnnotations": {}, "externalURL": "http://alertmanager",
            "alerts": group,
        });
        let body = Bytes::from(body.to_string());
        bodies.extend((0..arguments.replicas).map(|_| (group.len(), body.clone())));
    }
    // Taken from the end.
    bodies.reverse();
    bodies
}

type Http = Client<HttpConnector, Full<Bytes>>;

/// What was sent.
#[derive(Debug, Default)]
struct Sent {
    alerts: usize,
    /// Milliseconds to each acknowledgement, sorted.
    acknowledged: Vec<f64>,
    /// Refused with 503, and sent again.
    again: usize,
}

impl Sent {
    fn quantile(&self, quantile: f64) -> f64 {
        let last = self.acknowledged.len().saturating_sub(1);
        let place = (quantile * last as f64).round() as usize;
        self.acknowledged.get(place).copied().unwrap_or(0.0)
    }
}

async fn send_all(
    address: SocketAddr,
    bodies: Vec<(usize, Bytes)>,
    connections: usize,
) -> anyhow::Result<Sent> {
    let bodies = std::sync::Arc::new(std::sync::Mutex::new(bodies));
    let http: Http = Client::builder(TokioExecutor::new()).build_http();
    let senders: Vec<_> = (0..connections)
        .map(|_| {
            let (bodies, http) = (std::sync::Arc::clone(&bodies), http.clone());
            tokio::spawn(async move {
                let mut sent = Sent::default();
                loop {
                    let next = bodies
                        .lock()
                        .map_err(|_| anyhow::anyhow!("a sender panicked"))?
                        .pop();
                    let Some((count, body)) = next else {
                        return Ok(sent);
                    };
                    let began = Instant::now();
                    while post(&http, address, body.clone()).await? == StatusCode::SERVICE_UNAVAILABLE {
                        sent.again += 1;
                        ensure!(began.elapsed() < PATIENCE, "503 for {PATIENCE:?}");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                    sent.alerts += count;
                    sent.acknowledged.push(began.elapsed().as_secs_f64() * 1e3);
                }
            })
        })
        .collect();
    let mut all = Sent::default();
    for sender in senders {
        let sent = sender.await??;
        all.alerts += sent.alerts;
        all.again += sent.again;
        all.acknowledged.extend(sent.acknowledged);
    }
    all.acknowledged.sort_by(f64::total_cmp);
    Ok(all)
}

async fn post(http: &Http, address: SocketAddr, body: Bytes) -> anyhow::Result<StatusCode> {
    let request = Request::post(format!("http://{address}/api/v1/alerts")).body(Full::new(body))?;
    let (head, body) = http.request(request).await?.into_parts();
    let body = body.collect().await?.to_bytes();
    let known = matches!(head.status, StatusCode::OK | StatusCode::SERVICE_UNAVAILABLE);
    ensure!(known, "{}: {}", head.status, String::from_utf8_lossy(&body));
    Ok(head.status)
}

/// The time from an alert, sent alone, to its report.
fn alone(runtime: &tokio::runtime::Runtime, worker: &Server) -> anyhow::Result<Duration> {
    let http: Http = Client::builder(TokioExecutor::new()).build_http();
    let body = json!({
        "version": "4", "status": "firing", "receiver": "worker", "groupKey": "{}:{}", "truncatedAlerts": 0,
        "alerts": [{"status": "firing", "labels": {"alertname": "Alone"}, "annotations": {},
            "startsAt": "2026-11-22T22:00:00Z", "endsAt": "0001-01-01T00:00:00Z", "generatorURL": ""}],
    });
    let began = Instant::now();
    let status = runtime.block_on(post(&http, worker.address(), Bytes::from(body.to_string())))?;
    ensure!(status == StatusCode::OK, "the first alert was answered {status}");
    while total(&metrics(worker.admin()?)?, "plumbline_worker_reports_total", &[]) == 0.0 {
        ensure!(began.elapsed() < PATIENCE, "no report of a single alert");
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(began.elapsed())
}

async fn incidents(address: SocketAddr) -> anyhow::Result<usize> {
    let http: Http = Client::builder(TokioExecutor::new()).build_http();
    let request = Request::get(format!("http://{address}/api/v1/incidents")).body(Full::default())?;
    let body = http
        .request(request)
        .await?
        .into_body()
        .collect()
        .await?
        .to_bytes();
    let answer: serde_json::Value = serde_json::from_slice(&body)?;
    Ok(answer["incidents"].as_array().map_or(0, Vec::len))
}
