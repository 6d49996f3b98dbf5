//! `plumbline demo`: the main job from end to end, on real rows.

mod alerting;
mod reports;
mod screen;
mod watch;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use plumbline_drift::report::{DriftReport, State};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::alerting::{Alerting, Programs};
use self::reports::{Incident, Signal};
use self::screen::{Progress, TICK, readable};
use crate::client::{Connection, Wire};
use crate::logs;
use crate::replay::{Counts, Dialect, Order, Rate, Rows, Tally, Traffic, inputs};
use crate::shift::Shift;
use crate::signals::Signals;
use crate::stack::{Alerts, Stack, StackArgs};
use crate::table::Table;
use crate::terminal::{Style, Terminal};
use crate::up::{addresses, leave};

/// Show the main job: serve a model, send held-out rows, then drifted ones, read the report, and recover.
///
/// Starts the stack as `up` does, with its state in DIR/demo, which is emptied first. Rows go through the gateway in
/// V2 JSON, V2 binary, V1 and gRPC by turns. Stays up until Ctrl-C; with --once it ends by itself. Exit status: 0 when
/// the held-out rows raised nothing, the drifted rows were detected and told once, the report was written, and held-out
/// rows ended the incident; 1 otherwise.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    stack: StackArgs,
    /// Rows that the model was not trained on.
    #[arg(long, value_name = "ROWS.csv")]
    rows: PathBuf,
    /// End after the recovery.
    #[arg(long)]
    once: bool,
    /// Put a real Prometheus and Alertmanager between sidecar and worker; both must be on PATH.
    #[arg(long)]
    prometheus: bool,
    /// Rows per second.
    #[arg(long, default_value = "400/s")]
    rate: Rate,
    /// Held-out rows to send before the drift.
    #[arg(long, value_name = "N", default_value_t = 4_000, value_parser = clap::value_parser!(u64).range(1..))]
    stable_rows: u64,
    /// The drift, as for replay; without it a tariff and contract mix that the churn model never saw.
    #[arg(long, value_name = "CHANGE")]
    shift: Vec<Shift>,
    /// Seed of the order of the rows.
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// Seconds to wait for the detection, and again for the report, the recovery, and the end of the incident.
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    patience: u64,
}

const EXAMPLES: &str = "\
Examples:
  plumbline demo model-source/artifacts/churn --rows model-source/artifacts/churn/heldout.csv
  plumbline demo model-source/artifacts/churn --rows model-source/artifacts/churn/heldout.csv --once --prometheus
  plumbline demo models/bikes --rows october.csv --shift 'temperature+=8' --shift 'weather=storm@0.3'";

/// Everybody on short contracts, a contract and a way to pay that did not exist, and a price rise.
const CHURN_DRIFT: [&str; 4] = [
    "Contract=Month-to-month",
    "Contract=Two month flex@0.35",
    "MonthlyCharges*=1.35",
    "PaymentMethod=Digital wallet@0.4",
];

/// Runs the command.
pub(crate) async fn run(mut args: Args, terminal: Arc<Terminal>) -> anyhow::Result<ExitCode> {
    let table = Table::read(&args.rows)?;
    let shifts = shifts(&args, &table)?;
    let programs = if args.prometheus {
        Some(Programs::find(&std::env::var_os("PATH").unwrap_or_default())?)
    } else {
        None
    };
    args.stack.enter("demo");
    args.stack.prepare()?;
    args.stack.clear()?;
    logs::start(&args.stack.log_file(), args.stack.log_filter(), &terminal)?;
    let mut signals = Signals::watch()?;
    let ports = if programs.is_some() {
        Some(alerting::Addresses::free()?)
    } else {
        None
    };
    let alerts = ports.map_or(Alerts::Direct, |ports| Alerts::Prometheus(ports.prometheus));
    let stack = tokio::select! {
        stack = Stack::start(&args.stack, alerts) => stack?,
        () = signals.received() => return Ok(ExitCode::from(130)),
    };
    let demo = Demo {
        args,
        terminal: Arc::clone(&terminal),
        stack,
        table,
        shifts,
        alerting: None,
    };
    demo.run(programs.zip(ports), &mut signals).await
}

fn shifts(args: &Args, table: &Table) -> anyhow::Result<Vec<Shift>> {
    if !args.shift.is_empty() {
        return Ok(args.shift.clone());
    }
    let shifts: Vec<Shift> = CHURN_DRIFT
        .iter()
        .map(|shift| shift.parse().expect("tested"))
        .collect();
    let known = shifts
        .iter()
        .all(|shift| table.position(shift.column()).is_some());
    anyhow::ensure!(
        known,
        "{} has not the columns of the churn model: say with --shift what is to drift",
        args.rows.display()
    );
    Ok(shifts)
}

struct Demo {
    args: Args,
    terminal: Arc<Terminal>,
    stack: Stack,
    table: Table,
    shifts: Vec<Shift>,
    alerting: Option<Alerting>,
}

/// How the demo ended.
enum End {
    /// As it should.
    Shown,
    /// Somebody pressed Ctrl-C.
    Interrupted,
}

impl Demo {
    async fn run(
        mut self,
        alerting: Option<(Programs, alerting::Addresses)>,
        signals: &mut Signals,
    ) -> anyhow::Result<ExitCode> {
        let outcome = tokio::select! {
            outcome = self.show(alerting) => outcome.map(|()| End::Shown),
            () = signals.received() => Ok(End::Interrupted),
        };
        let outcome = match outcome {
            Ok(End::Shown) if !self.args.once => {
                self.terminal.line("Ctrl-C ends it.");
                tokio::select! {
                    error = self.stack.failed() => Err(error),
                    () = signals.received() => Ok(ExitCode::SUCCESS),
                }
            }
            Ok(End::Shown) => Ok(ExitCode::SUCCESS),
            Ok(End::Interrupted) => Ok(ExitCode::from(130)),
            Err(error) => Err(error.context("the demo failed")),
        };
        let log = self.args.stack.log_file();
        let Self {
            stack,
            terminal,
            alerting,
            ..
        } = self;
        // Before the sidecar goes: a target that cannot be scraped is an alert of its own.
        drop(alerting);
        let outcome = leave(stack, signals, &terminal, outcome).await;
        outcome.map_err(|error| {
            anyhow::anyhow!(
                "{}; the log is {}",
                plumbline_service::error_chain(&*error),
                log.display()
            )
        })
    }

    /// The demo itself, from the addresses to the recovery.
    async fn show(&mut self, alerting: Option<(Programs, alerting::Addresses)>) -> anyhow::Result<()> {
        self.heading("1. The stack is up");
        self.print_addresses(&addresses(&self.stack));
        if let Some((programs, ports)) = alerting {
            let dir = self.args.stack.state_dir().join("alerting");
            let worker = self.stack.addresses.worker;
            let pair = Alerting::start(&programs, ports, &dir, &self.stack.addresses.admin, worker).await?;
            self.alerting = Some(pair);
            let url = |address: SocketAddr| format!("http://{address}/");
            self.print_addresses(&[
                ("alerts", url(ports.prometheus) + "alerts (Prometheus)"),
                ("alerts", url(ports.alertmanager) + " (Alertmanager)"),
            ]);
        }
        let model = self.stack.models[0].clone();
        let sidecar = self.stack.addresses.sidecar_admin();
        let before = reports::incidents(self.stack.addresses.worker).await?;
        watch::drift(sidecar, &model).await?;

        let rows = self.args.stable_rows;
        self.heading(&format!("2. {rows} held-out rows: the model should be stable"));
        let stable = self.traffic(&model, Vec::new(), Some(rows)).await?;
        let report = self.stable_phase(stable, &model, rows).await?;
        let raised = reports::incidents(self.stack.addresses.worker).await?;
        anyhow::ensure!(
            raised.len() == before.len(),
            "the held-out rows raised an incident: {}",
            raised
                .first()
                .map(|incident| incident.title.clone())
                .unwrap_or_default()
        );
        let closed = report
            .window
            .index
            .saturating_sub(u64::from(!report.window.closed));
        self.terminal.line(&self.terminal.paint(
            Style::Green,
            &format!(
                "stable: {} rows observed in {} windows, nothing raised",
                report.rows_total, closed
            ),
        ));

        self.heading("3. Rows that the model never saw");
        for shift in &self.shifts {
            self.terminal.line(&format!("  {shift}"));
        }
        let shifts = self.shifts.clone();
        let drifted = self.traffic(&model, shifts, None).await?;
        let incident = self
            .drifted_phase(drifted, &model, report.rows_total, before.len())
            .await?;

        self.heading("4. The report");
        self.check_signals(&incident.signals, Episode::Open)?;
        self.check_prometheus(&model, "2").await?;
        self.terminal.line(&readable(&incident.markdown, &self.terminal));
        self.tell_path();

        self.heading("5. Held-out rows again: the model should recover");
        let usual = self.traffic(&model, Vec::new(), None).await?;
        let report = self
            .recovery_phase(usual, &model, &incident, before.len())
            .await?;

        self.heading("6. Where to look");
        let at = &self.stack.addresses;
        self.print_addresses(&[
            ("metrics", format!("http://{sidecar}/metrics")),
            (
                "drift",
                format!("http://{sidecar}/drift ({} subjects)", report.subjects.len()),
            ),
            (
                "report",
                format!("http://{}{} (with the evidence)", at.worker, incident.page()),
            ),
        ]);
        Ok(())
    }

    /// Sends the rows and looks at the drift all the while: nothing may be raised.
    async fn stable_phase(&self, traffic: Sending, model: &str, rows: u64) -> anyhow::Result<DriftReport> {
        let sidecar = self.stack.addresses.sidecar_admin();
        let deadline = Instant::now() + self.patience() + self.duration(rows);
        let mut progress = Progress::new(&self.terminal, "stable");
        loop {
            let report = watch::drift(sidecar, model).await?;
            let counts = traffic.tally.counts();
            progress.show(&counts, &report);
            all_predicted(&counts)?;
            anyhow::ensure!(
                report.state == State::Stable && report.episode == 0,
                "the held-out rows should be stable, but the state is {}: {}",
                watch::name(report.state),
                watch::top(&report)
            );
            // The observer works behind the answers; the phase is over when it has seen every row.
            if traffic.is_finished() && report.rows_total >= rows {
                traffic.end().await?;
                progress.last(&counts, &report);
                return Ok(report);
            }
            anyhow::ensure!(
                Instant::now() < deadline,
                "the sidecar has observed {} of {} rows: see plumbline_rows_skipped_total at http://{sidecar}/metrics",
                report.rows_total,
                counts.rows
            );
            self.tick().await?;
        }
    }

    /// Sends drifted rows until they are detected, then until the worker has its report.
    async fn drifted_phase(
        &mut self,
        traffic: Sending,
        model: &str,
        rows_before: u64,
        incidents_before: usize,
    ) -> anyhow::Result<Incident> {
        let (sidecar, worker) = (self.stack.addresses.sidecar_admin(), self.stack.addresses.worker);
        let terminal = Arc::clone(&self.terminal);
        let mut progress = Progress::new(&terminal, "drifted");
        let started = Instant::now();
        let detected = loop {
            let report = watch::drift(sidecar, model).await?;
            let counts = traffic.tally.counts();
            progress.show(&counts, &report);
            all_predicted(&counts)?;
            if report.state == State::Drift {
                progress.last(&counts, &report);
                break report;
            }
            anyhow::ensure!(
                started.elapsed() < self.patience(),
                "no drift detected in {:?} and {} rows; the state is {}",
                self.patience(),
                counts.rows,
                watch::name(report.state)
            );
            self.check_alerting()?;
            self.tick().await?;
        };
        let text = format!(
            "drift detected after {} drifted rows and {:.1} s: {}",
            detected.rows_total.saturating_sub(rows_before),
            started.elapsed().as_secs_f64(),
            watch::top(&detected)
        );
        self.terminal.line(&self.terminal.paint(Style::Red, &text));

        let detected_at = Instant::now();
        let incident = loop {
            let raised = self.raised(incidents_before).await?;
            let stage = raised
                .as_ref()
                .map_or("not there yet", |incident| incident.state.as_str());
            self.terminal.status(&format!("the worker's incident is {stage}"));
            anyhow::ensure!(stage != "failed", "the worker's analysis failed");
            if let Some(incident) = raised.as_ref().filter(|incident| incident.reports > 0) {
                break reports::incident(worker, &incident.id).await?;
            }
            anyhow::ensure!(
                detected_at.elapsed() < self.patience(),
                "no report {:?} after the drift; the worker's incident is {stage}",
                self.patience()
            );
            self.check_alerting()?;
            self.tick().await?;
        };
        traffic.end().await?;
        let text = format!(
            "report written {:.1} s after the detection",
            detected_at.elapsed().as_secs_f64()
        );
        self.terminal.line(&text);
        Ok(incident)
    }

    /// Sends rows like the reference until the model is stable again, then waits until the worker knows.
    async fn recovery_phase(
        &mut self,
        traffic: Sending,
        model: &str,
        incident: &Incident,
        incidents_before: usize,
    ) -> anyhow::Result<DriftReport> {
        let (sidecar, worker) = (self.stack.addresses.sidecar_admin(), self.stack.addresses.worker);
        let terminal = Arc::clone(&self.terminal);
        let mut progress = Progress::new(&terminal, "usual");
        let started = Instant::now();
        let recovered = loop {
            let report = watch::drift(sidecar, model).await?;
            let counts = traffic.tally.counts();
            progress.show(&counts, &report);
            all_predicted(&counts)?;
            if report.state.level() == 0 {
                progress.last(&counts, &report);
                break report;
            }
            anyhow::ensure!(
                started.elapsed() < self.patience(),
                "no recovery in {:?} and {} rows; the state is {}: {}",
                self.patience(),
                counts.rows,
                watch::name(report.state),
                watch::top(&report)
            );
            self.check_alerting()?;
            self.tick().await?;
        };
        let text = format!(
            "recovered after {} rows and {:.1} s",
            traffic.tally.counts().rows,
            started.elapsed().as_secs_f64()
        );
        self.terminal.line(&self.terminal.paint(Style::Green, &text));

        let recovered_at = Instant::now();
        loop {
            let raised = self.raised(incidents_before).await?;
            anyhow::ensure!(
                raised.as_ref().is_some_and(|raised| raised.id == incident.id),
                "the incident is gone from the worker's list"
            );
            if raised.is_some_and(|raised| raised.resolved_at.is_some()) {
                break;
            }
            self.terminal.status("the worker's incident is not over yet");
            anyhow::ensure!(
                recovered_at.elapsed() < self.patience(),
                "the worker's incident is not over {:?} after the recovery",
                self.patience()
            );
            self.check_alerting()?;
            self.tick().await?;
        }
        traffic.end().await?;
        self.check_signals(&reports::signals(worker, &incident.id).await?, Episode::Over)?;
        self.check_prometheus(model, "0").await?;
        let text = format!(
            "the incident is over {:.1} s after the recovery: told once when it began and once when it ended",
            recovered_at.elapsed().as_secs_f64()
        );
        self.terminal.line(&text);
        Ok(recovered)
    }

    /// The incident that the drift has raised; an error when there are several.
    async fn raised(&self, incidents_before: usize) -> anyhow::Result<Option<reports::Summary>> {
        let mut incidents = reports::incidents(self.stack.addresses.worker).await?;
        let new = incidents.len().saturating_sub(incidents_before);
        anyhow::ensure!(
            new < 2,
            "one drift should be one incident, but the worker has {new}: {}",
            incidents
                .iter()
                .take(new)
                .map(|incident| incident.title.as_str())
                .collect::<Vec<_>>()
                .join("; ")
        );
        Ok(incidents.drain(..new).next())
    }

    /// Traffic on its way through the gateway, in every dialect.
    async fn traffic(&self, model: &str, shifts: Vec<Shift>, limit: Option<u64>) -> anyhow::Result<Sending> {
        const TIMEOUT: Duration = Duration::from_secs(30);
        let server: crate::client::Server = self.stack.addresses.gateway.into();
        let mut connection = Connection::new(server.clone(), Wire::Http1, TIMEOUT);
        let specs = inputs(&mut connection, Wire::Http1, model).await;
        let specs = specs.map_err(|refusal| anyhow::anyhow!("metadata of model `{model}`: {refusal}"))?;
        let traffic = Traffic {
            server,
            model: model.to_owned(),
            rows: Rows::fit(self.table.clone(), model, &specs, shifts, true)?,
            dialects: Dialect::ALL.to_vec(),
            batch: 1,
            rate: self.args.rate,
            limit,
            order: Order::Shuffled,
            seed: self.args.seed,
            concurrency: 8,
            timeout: TIMEOUT,
        };
        let (tally, stop) = (Arc::new(Tally::default()), CancellationToken::new());
        let task = tokio::spawn(Arc::new(traffic).send(Arc::clone(&tally), stop.clone()));
        Ok(Sending { tally, stop, task })
    }

    /// Waits a tick, or less when a part of the stack has ended.
    async fn tick(&self) -> anyhow::Result<()> {
        tokio::time::sleep(TICK).await;
        self.stack.check()
    }

    fn check_alerting(&mut self) -> anyhow::Result<()> {
        self.alerting.as_mut().map_or(Ok(()), Alerting::check)
    }

    /// An episode must have come the way that was asked for, with one delivery when it begins and one when it ends.
    fn check_signals(&self, signals: &[Signal], episode: Episode) -> anyhow::Result<()> {
        let expected = expected(self.args.prometheus, episode);
        anyhow::ensure!(
            signals == expected,
            "the worker should have got {expected:?}, but it got {signals:?}"
        );
        Ok(())
    }

    /// An alert that is over because its series is gone would look like one that is over.
    async fn check_prometheus(&self, model: &str, state: &str) -> anyhow::Result<()> {
        let Some(alerting) = &self.alerting else {
            return Ok(());
        };
        let found = alerting.drift_state(model).await?;
        anyhow::ensure!(
            found.as_deref() == Some(state),
            "plumbline_drift_state of model `{model}` in Prometheus should be {state}, but it is {}",
            found.as_deref().unwrap_or("not there")
        );
        Ok(())
    }

    fn tell_path(&self) {
        let path = if self.args.prometheus {
            "metrics → Prometheus → Alertmanager → worker"
        } else {
            "sidecar → drift event → worker"
        };
        self.terminal
            .line(&self.terminal.paint(Style::Dim, &format!("by way of: {path}")));
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(self.args.patience)
    }

    /// How long `rows` take at the chosen rate.
    fn duration(&self, rows: u64) -> Duration {
        self.args.rate.due(rows, 1).unwrap_or_default()
    }

    fn heading(&self, text: &str) {
        self.terminal.line("");
        self.terminal.line(&self.terminal.paint(Style::Bold, text));
    }

    fn print_addresses(&self, lines: &[(&str, String)]) {
        for (what, address) in lines {
            self.terminal.line(&format!("  {what:<9}{address}"));
        }
    }
}

/// Where an episode is.
#[derive(Clone, Copy)]
enum Episode {
    Open,
    Over,
}

/// What the worker has of an episode that was told once. An alert is resolved by a second delivery, a drift event by
/// another event.
fn expected(by_prometheus: bool, episode: Episode) -> Vec<Signal> {
    let signal = |origin: &str, status: &str, times_seen| Signal {
        origin: origin.to_owned(),
        status: status.to_owned(),
        times_seen,
    };
    match (by_prometheus, episode) {
        (true, Episode::Open) => vec![signal("alertmanager", "firing", 1)],
        (true, Episode::Over) => vec![signal("alertmanager", "resolved", 2)],
        (false, Episode::Open) => vec![signal("drift_event", "firing", 1)],
        (false, Episode::Over) => vec![signal("drift_event", "resolved", 1); 2],
    }
}

/// Traffic on its way.
struct Sending {
    tally: Arc<Tally>,
    stop: CancellationToken,
    task: JoinHandle<Result<(), crate::replay::RowsError>>,
}

impl Sending {
    fn is_finished(&self) -> bool {
        self.task.is_finished()
    }

    /// Stops it and waits for the requests on their way.
    async fn end(mut self) -> anyhow::Result<()> {
        self.stop.cancel();
        (&mut self.task).await.context("sending rows")??;
        Ok(())
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn all_predicted(counts: &Counts) -> anyhow::Result<()> {
    match counts.failed.iter().next() {
        None => Ok(()),
        Some((status, failure)) => anyhow::bail!(
            "{} of {} requests got no prediction; the first: {status} {}",
            counts.failures(),
            counts.sent,
            failure.first
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_drift_of_the_churn_model_can_be_read() {
        for shift in CHURN_DRIFT {
            assert_eq!(
                shift.parse::<Shift>().map(|shift| shift.to_string()).as_deref(),
                Ok(shift)
            );
        }
    }
}
