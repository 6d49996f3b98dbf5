//! The real Prometheus and Alertmanager between sidecar and worker, as children of this process.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use serde::Deserialize;
use tokio::time::Instant;

use crate::client::Server;

/// How often Prometheus scrapes and evaluates, so that a person need not wait.
const INTERVAL: &str = "1s";
/// Both start within a second; a busy machine takes longer.
const START_TIMEOUT: Duration = Duration::from_mins(1);

const QUERY_TIMEOUT: Duration = Duration::from_secs(5);

/// The two programs, found but not started.
pub(super) struct Programs {
    prometheus: PathBuf,
    alertmanager: PathBuf,
}

impl Programs {
    /// Looks for both in the directories of `path`.
    pub(super) fn find(path: &std::ffi::OsStr) -> anyhow::Result<Self> {
        let find = |names: &[&str]| {
            let files =
                std::env::split_paths(path).flat_map(|dir| names.iter().map(move |name| dir.join(name)));
            files.into_iter().find(|file| file.is_file())
        };
        let prometheus = find(&["prometheus"]);
        // Debian's name, then its makers'.
        let alertmanager = find(&["prometheus-alertmanager", "alertmanager"]);
        match (prometheus, alertmanager) {
            (Some(prometheus), Some(alertmanager)) => Ok(Self {
                prometheus,
                alertmanager,
            }),
            (prometheus, alertmanager) => {
                let missing: Vec<&str> = [
                    (prometheus, "prometheus"),
                    (alertmanager, "prometheus-alertmanager"),
                ]
                .into_iter()
                .filter_map(|(found, name)| found.is_none().then_some(name))
                .collect();
                anyhow::bail!(
                    "--prometheus: not found on PATH: {}; Debian and Ubuntu have the packages prometheus and \
                     prometheus-alertmanager",
                    missing.join(", ")
                )
            }
        }
    }
}

/// Where the two will listen; known before the worker starts, which has to be told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Addresses {
    pub(super) prometheus: SocketAddr,
    pub(super) alertmanager: SocketAddr,
}

impl Addresses {
    /// Two free ports on loopback.
    pub(super) fn free() -> anyhow::Result<Self> {
        let any = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port on 127.0.0.1");
        // Both are held until both are known, so that they differ.
        let (prometheus, alertmanager) = (any()?, any()?);
        Ok(Self {
            prometheus: prometheus.local_addr()?,
            alertmanager: alertmanager.local_addr()?,
        })
    }
}

/// The running pair; ended when dropped.
pub(super) struct Alerting {
    children: Vec<Running>,
    prometheus: Server,
}

struct Running {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Drop for Running {
    fn drop(&mut self) {
        // Gone already, after a Ctrl-C that reached it too, is as well.
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

impl Alerting {
    /// Writes their configuration to `dir` and starts both; returns when both are ready.
    ///
    /// `scraped` are the admin ports of the parts, `worker` gets the webhooks.
    pub(super) async fn start(
        programs: &Programs,
        addresses: Addresses,
        dir: &Path,
        scraped: &[(&str, SocketAddr)],
        worker: SocketAddr,
    ) -> anyhow::Result<Self> {
        std::fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
        let file = |name: &str, text: &str| {
            let path = dir.join(name);
            std::fs::write(&path, text)
                .with_context(|| format!("cannot write {}", path.display()))
                .map(|()| path)
        };
        std::fs::create_dir_all(dir.join("rules"))
            .with_context(|| format!("cannot create {}", dir.join("rules").display()))?;
        for (name, rules) in RULES {
            file(&format!("rules/{name}"), rules)?;
        }
        let prometheus_config = file(
            "prometheus.yml",
            &prometheus_config(scraped, addresses.alertmanager),
        )?;
        let alertmanager_config = file("alertmanager.yml", &alertmanager_config(worker))?;
        let flag = |name: &str, path: &Path| format!("--{name}={}", path.display());
        let alertmanager = spawn(
            "alertmanager",
            &programs.alertmanager,
            dir,
            &[
                flag("config.file", &alertmanager_config),
                flag("storage.path", &dir.join("alertmanager")),
                format!("--web.listen-address={}", addresses.alertmanager),
                // Alone: no port for peers.
                "--cluster.listen-address=".to_owned(),
            ],
        )?;
        let prometheus = spawn(
            "prometheus",
            &programs.prometheus,
            dir,
            &[
                flag("config.file", &prometheus_config),
                flag("storage.tsdb.path", &dir.join("prometheus")),
                format!("--web.listen-address={}", addresses.prometheus),
            ],
        )?;
        let mut alerting = Self {
            children: vec![alertmanager, prometheus],
            prometheus: addresses.prometheus.into(),
        };
        let listening = [addresses.alertmanager, addresses.prometheus];
        for (running, address) in alerting.children.iter_mut().zip(listening) {
            running.ready(address).await?;
        }
        Ok(alerting)
    }

    /// The drift state of `model` as Prometheus has it; none when it does not know the model.
    pub(super) async fn drift_state(&self, model: &str) -> anyhow::Result<Option<String>> {
        #[derive(Deserialize)]
        struct Answer {
            data: Data,
        }
        #[derive(Deserialize)]
        struct Data {
            result: Vec<Series>,
        }
        #[derive(Deserialize)]
        struct Series {
            metric: BTreeMap<String, String>,
            /// Seconds, and the value as text.
            value: (f64, String),
        }

        // plumbline_drift_state{subject="model"}
        const QUERY: &str = "/api/v1/query?query=plumbline_drift_state%7Bsubject%3D%22model%22%7D";
        let answer = self.prometheus.get(QUERY, QUERY_TIMEOUT).await;
        let answer = answer.context("Prometheus's query API")?;
        let answer: Answer = serde_json::from_slice(&answer.body).context("Prometheus's query API")?;
        let series = answer.data.result.into_iter();
        let mut of_model =
            series.filter(|series| series.metric.get("model").is_some_and(|name| name == model));
        Ok(of_model.next().map(|series| series.value.1))
    }

    /// An error as soon as one of them has ended by itself.
    pub(super) fn check(&mut self) -> anyhow::Result<()> {
        self.children.iter_mut().try_for_each(Running::check)
    }
}

impl Running {
    async fn ready(&mut self, address: SocketAddr) -> anyhow::Result<()> {
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            self.check()?;
            let answer = Server::from(address)
                .get("/-/ready", Duration::from_secs(1))
                .await;
            if answer.is_ok_and(|answer| answer.status.is_success()) {
                return Ok(());
            }
            anyhow::ensure!(
                Instant::now() < deadline,
                "{} is not ready after {START_TIMEOUT:?}; its log is {}",
                self.name,
                self.log.display()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn check(&mut self) -> anyhow::Result<()> {
        let ended = self
            .child
            .try_wait()
            .with_context(|| format!("cannot watch {}", self.name))?;
        match ended {
            None => Ok(()),
            Some(status) => anyhow::bail!(
                "{} ended with {status}; its log is {}",
                self.name,
                self.log.display()
            ),
        }
    }
}

fn spawn(name: &'static str, program: &Path, dir: &Path, arguments: &[String]) -> anyhow::Result<Running> {
    let log = dir.join(format!("{name}.log"));
    let file = std::fs::File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
    let errors = file
        .try_clone()
        .with_context(|| format!("cannot write {}", log.display()))?;
    let child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(file)
        .stderr(errors)
        .spawn()
        .with_context(|| format!("cannot start {}", program.display()))?;
    Ok(Running { name, child, log })
}

/// The rules as they are shipped.
const RULES: [(&str, &str); 4] = [
    (
        "psi.yaml",
        include_str!("../../../charts/plumbline/rules/psi.yaml"),
    ),
    (
        "drift.yaml",
        include_str!("../../../charts/plumbline/rules/drift.yaml"),
    ),
    (
        "latency.yaml",
        include_str!("../../../charts/plumbline/rules/latency.yaml"),
    ),
    (
        "sidecar.yaml",
        include_str!("../../../charts/plumbline/rules/sidecar.yaml"),
    ),
];

fn prometheus_config(scraped: &[(&str, SocketAddr)], alertmanager: SocketAddr) -> String {
    let jobs: Vec<String> = scraped
        .iter()
        .map(|(job, address)| {
            format!("  - job_name: plumbline-{job}\n    static_configs:\n      - targets: ['{address}']\n")
        })
        .collect();
    let jobs = jobs.concat();
    format!(
        "global:\n  scrape_interval: {INTERVAL}\n  evaluation_interval: {INTERVAL}\nrule_files: ['rules/*.yaml']\n\
         alerting:\n  alertmanagers:\n    - static_configs:\n        - targets: ['{alertmanager}']\n\
         scrape_configs:\n{jobs}"
    )
}

fn alertmanager_config(worker: SocketAddr) -> String {
    // A group waits for alerts that belong to it; here there is one, and somebody watches.
    format!(
        "route:\n  receiver: plumbline\n  group_by: [alertname, model]\n  group_wait: 0s\n  group_interval: {INTERVAL}\n\
         \x20 repeat_interval: 1h\nreceivers:\n  - name: plumbline\n    webhook_configs:\n\
         \x20     - url: http://{worker}/api/v1/alerts\n        send_resolved: true\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_programs_are_named_with_their_packages() {
        let dir = tempfile::tempdir().expect("a directory");
        let problem = |dir: &Path| {
            Programs::find(dir.as_os_str())
                .err()
                .map(|error| error.to_string())
        };
        let packages = "Debian and Ubuntu have the packages prometheus and prometheus-alertmanager";
        assert_eq!(
            problem(dir.path()),
            Some(format!(
                "--prometheus: not found on PATH: prometheus, prometheus-alertmanager; {packages}"
            ))
        );
        std::fs::write(dir.path().join("prometheus"), "").expect("written");
        assert_eq!(
            problem(dir.path()),
            Some(format!(
                "--prometheus: not found on PATH: prometheus-alertmanager; {packages}"
            ))
        );
        std::fs::write(dir.path().join("alertmanager"), "").expect("written");
        assert_eq!(problem(dir.path()), None);
    }

    #[test]
    fn every_part_is_scraped_and_alerts_go_to_the_worker() {
        let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let text = prometheus_config(
            &[("sidecar", address(9902)), ("gateway", address(9901))],
            address(9093),
        );
        assert_eq!(
            text,
            "global:\n  scrape_interval: 1s\n  evaluation_interval: 1s\nrule_files: ['rules/*.yaml']\nalerting:\n  \
             alertmanagers:\n    - static_configs:\n        - targets: ['127.0.0.1:9093']\nscrape_configs:\n  \
             - job_name: plumbline-sidecar\n    static_configs:\n      - targets: ['127.0.0.1:9902']\n  \
             - job_name: plumbline-gateway\n    static_configs:\n      - targets: ['127.0.0.1:9901']\n"
        );
        assert!(
            alertmanager_config(address(8090))
                .contains("\n      - url: http://127.0.0.1:8090/api/v1/alerts\n")
        );
    }
}
