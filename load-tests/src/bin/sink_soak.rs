//! A sidecar under load whose events nobody takes: its memory, its answers, and its accounts.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use clap::{Parser, ValueEnum};
use plumbline_load_tests::client::{Targets, Transport};
use plumbline_load_tests::exit;
use plumbline_load_tests::load::{self, Plan, Wait};
use plumbline_load_tests::process::{Server, resident_memory};
use plumbline_load_tests::request::Request;
use plumbline_load_tests::schedule::Arrivals;
use plumbline_load_tests::scrape::{metrics, total};
use plumbline_load_tests::table::{figure, median};
use plumbline_load_tests::traffic::{Cell, Traffic};

/// Sends rows that drift and recover, over and over, through a sidecar whose events go to a dead sink.
///
/// The exit status is 0 when every request was answered, memory grew by no more than `--growth` after the warm-up, every
/// exchange was observed or skipped, and every event is delivered, dropped or pending.
#[derive(Debug, Parser)]
struct Arguments {
    /// How the sink is dead.
    #[arg(long, value_enum, default_value_t = Sink::Blackhole)]
    sink: Sink,
    /// Minutes in all.
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// Requests a second, one row each.
    #[arg(long, default_value_t = 2_000.0)]
    rate: f64,
    /// Seconds of drifted rows, and then as many of usual ones.
    #[arg(long, default_value_t = 2.0)]
    phase: f64,
    /// Rows of a detection window: a multiple of the 256 different ones that are sent in turn, so that usual rows look usual in
    /// each window and an episode ends.
    #[arg(long, default_value_t = 512)]
    window_rows: u32,
    /// Share of the time before memory is compared: the events that may wait fill their room first, in about 75 s.
    #[arg(long, default_value_t = 0.2)]
    warm_up: f64,
    /// Largest growth, MiB: the budget of the queue is 8.
    #[arg(long, default_value_t = 2.0)]
    growth: f64,
    /// Episodes that must have been told, at least.
    #[arg(long, default_value_t = 20)]
    episodes: u32,
    /// Further flags of the sidecar.
    #[arg(long = "sidecar-flag", allow_hyphen_values = true)]
    sidecar_flags: Vec<String>,
    /// Where the release programs are.
    #[arg(long, default_value = "target/release")]
    programs: PathBuf,
    /// Where the series and the verdict are written, besides standard output.
    #[arg(long)]
    output: Option<PathBuf>,
}

/// How the sink is dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Sink {
    /// Takes connections and says nothing, so that each attempt runs into its timeout.
    Blackhole,
    /// Refuses connections.
    Refusing,
}

/// Connections that a blackhole keeps open; the sidecar makes one a try.
const KEPT: usize = 64;

/// Memory is looked at so often.
const LOOKS: usize = 60;

/// Memory of so many looks is compared, so that a moment's buffers do not decide.
const COMPARED: usize = 5;

/// By how much drifted rows differ: three standard deviations and more.
const SHIFT: f64 = 2.0;

/// The observer is done with what is queued long before.
const SETTLE: Duration = Duration::from_secs(20);

const MIB: f64 = 1_048_576.0;

fn main() -> ExitCode {
    exit::code("sink-soak", run(&Arguments::parse()))
}

fn run(arguments: &Arguments) -> anyhow::Result<bool> {
    ensure!(
        (0.0..1.0).contains(&arguments.warm_up),
        "--warm-up is a share below 1"
    );
    let sink = arguments.sink.open()?;
    let traffic = Traffic::new(Cell::SmallJson)?;
    let directory = tempfile::tempdir()?;
    let upstream = Server::start(&arguments.programs.join("constant-server"), &[], None)?;
    let mut flags = vec![
        "--upstream".to_owned(),
        format!("http://{}", upstream.address()),
        "--profile".to_owned(),
        traffic.write_profile(directory.path())?,
        "--events-to".to_owned(),
        format!("http://{sink}"),
        "--window-rows".to_owned(),
        arguments.window_rows.to_string(),
    ];
    flags.extend(arguments.sidecar_flags.iter().cloned());
    let mut sidecar = Server::start(&arguments.programs.join("plumbline-sidecar"), &flags, None)?;
    sidecar.wait_until_ready("/v2/health/ready")?;

    let sets = [traffic.shifted(SHIFT)?, traffic.requests.clone()];
    let phases = (arguments.minutes * 60.0 / arguments.phase).ceil() as usize;
    let mut soak = Soak {
        text: format!(
            "Sink soak: {} requests/s of one row with 30 features through the sidecar for {} minutes, {} s drifted and {} s \
             usual in turn, windows of {} rows; the sink of its events is {}.\n\n| s | answers | p50 µs | p99 µs | RSS MiB | \
             events raised | pending |\n| --- | --- | --- | --- | --- | --- | --- |\n",
            arguments.rate,
            arguments.minutes,
            arguments.phase,
            arguments.phase,
            arguments.window_rows,
            arguments.sink.label(),
        ),
        ..Soak::default()
    };
    let began = Instant::now();
    let often = phases.div_ceil(LOOKS).max(1);
    for phase in 0..phases {
        soak.phase(arguments, &sidecar, &sets[phase % 2])?;
        if phase % often == often - 1 || phase + 1 == phases {
            soak.look(&sidecar, began)?;
        }
    }
    let verdict = soak.verdict(arguments, &sidecar)?;
    std::io::stdout().write_all(soak.text.as_bytes())?;
    if let Some(output) = &arguments.output {
        std::fs::write(output, &soak.text).with_context(|| format!("cannot write {}", output.display()))?;
    }
    Ok(verdict)
}

impl Sink {
    fn label(self) -> &'static str {
        match self {
            Sink::Blackhole => "a blackhole: it takes connections and never answers",
            Sink::Refusing => "refusing connections",
        }
    }

    /// Where it is; it stays dead as long as this process lives.
    fn open(self) -> anyhow::Result<SocketAddr> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let address = listener.local_addr()?;
        match self {
            // The port is free again, and nobody is told to take it.
            Sink::Refusing => drop(listener),
            Sink::Blackhole => {
                std::thread::spawn(move || {
                    let mut kept = std::collections::VecDeque::new();
                    for stream in listener.incoming().flatten() {
                        kept.push_back(stream);
                        if kept.len() > KEPT {
                            kept.pop_front();
                        }
                    }
                });
            }
        }
        Ok(address)
    }
}

/// What has been seen so far.
#[derive(Default)]
struct Soak {
    text: String,
    answers: u64,
    failed: u64,
    examples: Vec<String>,
    p50: Vec<f64>,
    p99: Vec<f64>,
    memory: Vec<f64>,
}

impl Soak {
    fn phase(&mut self, arguments: &Arguments, sidecar: &Server, requests: &[Request]) -> anyhow::Result<()> {
        let report = load::run(&Plan {
            arrivals: Arrivals::Constant(arguments.rate),
            warm_up: Duration::ZERO,
            duration: Duration::try_from_secs_f64(arguments.phase)?,
            connections: 32,
            wait: Wait::Sleep,
            ..Plan::new(
                Targets::new(vec![sidecar.address()]),
                Transport::plain(Cell::SmallJson.http()),
                requests.to_vec(),
            )
        })
        .with_context(|| format!("the sidecar's log:\n{}", sidecar.log()))?;
        self.answers += report.tally.ok.len();
        self.failed += report.tally.failed();
        self.examples.extend(report.tally.examples.iter().cloned());
        self.p50.push(report.micros(0.5));
        self.p99.push(report.micros(0.99));
        Ok(())
    }

    fn look(&mut self, sidecar: &Server, began: Instant) -> anyhow::Result<()> {
        let memory = resident_memory(sidecar.pid())
            .with_context(|| format!("the sidecar is gone:\n{}", sidecar.log()))? as f64
            / MIB;
        let accounts = Accounts::read(sidecar)?;
        let line = format!(
            "| {:.0} | {} | {} | {} | {memory:.2} | {} | {} |\n",
            began.elapsed().as_secs_f64(),
            self.answers,
            figure(median(&self.p50)),
            figure(median(&self.p99)),
            accounts.raised,
            accounts.pending,
        );
        (self.p50, self.p99) = (Vec::new(), Vec::new());
        self.memory.push(memory);
        std::io::stderr().write_all(line.as_bytes())?;
        self.text += &line;
        Ok(())
    }

    fn verdict(&mut self, arguments: &Arguments, sidecar: &Server) -> anyhow::Result<bool> {
        let deadline = Instant::now() + SETTLE;
        let accounts = loop {
            let accounts = Accounts::read(sidecar)?;
            if accounts.faults(self.answers, arguments.episodes).is_empty() || Instant::now() > deadline {
                break accounts;
            }
            std::thread::sleep(Duration::from_millis(100));
        };
        let mut faults = accounts.faults(self.answers, arguments.episodes);
        let growth = growth(&self.memory, arguments.warm_up);
        if growth > arguments.growth {
            faults.push(format!("memory grew by more than {} MiB", arguments.growth));
        }
        if self.failed > 0 {
            faults.push(format!("{} requests failed: {:?}", self.failed, self.examples));
        }
        let _never = write!(
            self.text,
            "\n{}: {} answers, {} failed, RSS {growth:+.2} MiB after the first {:.0} % (at most {})\n\n{accounts:?}\n",
            if faults.is_empty() { "good" } else { "NOT GOOD" },
            self.answers,
            self.failed,
            arguments.warm_up * 100.0,
            arguments.growth,
        );
        for fault in &faults {
            let _never = writeln!(self.text, "- {fault}");
        }
        Ok(faults.is_empty())
    }
}

/// The sidecar's own counts.
#[derive(Clone, Debug, Default, PartialEq)]
struct Accounts {
    forwarded: f64,
    observed: f64,
    skipped: f64,
    raised: f64,
    delivered: f64,
    dropped: f64,
    pending: f64,
}

impl Accounts {
    fn read(sidecar: &Server) -> anyhow::Result<Self> {
        Ok(Self::of(&metrics(sidecar.admin()?)?))
    }

    fn of(text: &str) -> Self {
        let exchanges = |outcome: &str| {
            let label = format!("outcome=\"{outcome}\"");
            total(text, "plumbline_sidecar_exchanges_total", &[&label])
        };
        let events = |outcome: &str| {
            let label = format!("outcome=\"{outcome}\"");
            total(text, "plumbline_sidecar_events_total", &[&label])
        };
        Self {
            forwarded: exchanges("forwarded"),
            observed: exchanges("observed"),
            skipped: exchanges("skipped"),
            raised: events("raised"),
            delivered: events("delivered"),
            dropped: events("refused") + events("coalesced") + events("overflowed"),
            pending: total(text, "plumbline_sidecar_events_pending", &[]),
        }
    }

    /// What does not add up.
    fn faults(&self, answers: u64, episodes: u32) -> Vec<String> {
        let mut faults = Vec::new();
        if self.forwarded != answers as f64 {
            faults.push(format!(
                "{answers} answers, and {} were forwarded",
                self.forwarded
            ));
        }
        if self.observed + self.skipped != self.forwarded {
            faults.push(format!(
                "{} observed and {} skipped are not the {} forwarded",
                self.observed, self.skipped, self.forwarded
            ));
        }
        if self.delivered + self.dropped + self.pending != self.raised {
            faults.push(format!(
                "{} delivered, {} dropped and {} pending are not the {} raised",
                self.delivered, self.dropped, self.pending, self.raised
            ));
        }
        if self.delivered > 0.0 {
            faults.push("a dead sink took an event".to_owned());
        }
        // An episode begins and ends with an event.
        if self.raised < 2.0 * f64::from(episodes) {
            faults.push(format!(
                "{} events are fewer than {episodes} episodes have",
                self.raised
            ));
        }
        faults
    }
}

/// MiB from right after the warm-up to the end, each the median of a few looks.
fn growth(memory: &[f64], warm_up: f64) -> f64 {
    let first = (memory.len() as f64 * warm_up).ceil() as usize;
    let memory = &memory[first.min(memory.len())..];
    let after = &memory[..COMPARED.min(memory.len())];
    let end = &memory[memory.len().saturating_sub(COMPARED)..];
    median(end) - median(after)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
plumbline_sidecar_exchanges_total{outcome=\"forwarded\"} 10
plumbline_sidecar_exchanges_total{outcome=\"observed\"} 7
plumbline_sidecar_exchanges_total{outcome=\"skipped\"} 3
plumbline_sidecar_events_total{outcome=\"raised\"} 9
plumbline_sidecar_events_total{outcome=\"coalesced\"} 4
plumbline_sidecar_events_total{outcome=\"overflowed\"} 1
plumbline_sidecar_events_total{outcome=\"retried\"} 100
plumbline_sidecar_events_pending 4
";

    #[test]
    fn accounts_that_balance_have_no_faults() {
        assert_eq!(Accounts::of(TEXT).faults(10, 4), Vec::<String>::new());
    }

    #[test]
    fn whatever_does_not_add_up_is_told() {
        for (from, to, word) in [
            ("forwarded\"} 10", "forwarded\"} 11", "answers"),
            ("observed\"} 7", "observed\"} 6", "observed"),
            ("pending 4", "pending 5", "pending"),
            ("raised\"} 9", "raised\"} 10", "raised"),
            (
                "outcome=\"retried\"} 100",
                "outcome=\"delivered\"} 1",
                "took an event",
            ),
        ] {
            let faults = Accounts::of(&TEXT.replace(from, to)).faults(10, 4);
            assert!(
                faults.iter().any(|fault| fault.contains(word)),
                "{to}: {faults:?}"
            );
        }
        assert!(!Accounts::of(TEXT).faults(10, 5).is_empty(), "too few episodes");
    }

    #[test]
    fn growth_counts_from_the_end_of_the_warm_up() {
        let mut memory = vec![5.0; 2];
        memory.extend([10.0; 18]);
        assert_eq!(growth(&memory, 0.1), 0.0);
        memory.extend([13.0; 5]);
        assert_eq!(growth(&memory, 0.1), 3.0);
    }

    #[test]
    fn a_blackhole_takes_connections_and_a_refusing_sink_does_not() {
        let open = |sink: Sink| std::net::TcpStream::connect(sink.open().expect("a port")).is_ok();
        assert!(open(Sink::Blackhole));
        assert!(!open(Sink::Refusing));
    }
}
