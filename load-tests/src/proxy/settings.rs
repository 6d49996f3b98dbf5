//! What every comparison of proxies can be told.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::measure::{Figures, Load, Pick};
use crate::process;
use crate::table::{figure, median};

/// How long, at which loads, and on which CPUs.
#[derive(Clone, Debug, clap::Args)]
pub struct Settings {
    /// Rounds; each measures everything once.
    #[arg(long, default_value_t = 8)]
    pub rounds: usize,
    /// Seconds of one measurement.
    #[arg(long, default_value_t = 1.0)]
    pub seconds: f64,
    /// Connections of the closed loop.
    #[arg(long, short, default_value_t = 16)]
    pub connections: usize,
    /// Arrivals of the open loops, in percent of what the slowest manages in the closed one.
    #[arg(long, value_delimiter = ',', default_value = "25,50,75")]
    pub percents: Vec<u32>,
    /// No open loops: throughput and CPU time only.
    #[arg(long)]
    pub saturated_only: bool,
    /// A measurement of which the hypervisor kept a larger share is repeated, and left out after the third time.
    #[arg(long, default_value_t = 0.02)]
    pub most_steal: f64,
    /// CPUs of the constant-answer servers and the proxies, of which one is measured at a time.
    #[arg(long, default_value = "0")]
    server_cpus: String,
    /// CPUs of the load generator.
    #[arg(long, default_value = "1")]
    load_cpus: String,
    /// Let the scheduler place them.
    #[arg(long)]
    no_pin: bool,
    /// Where the release programs are.
    #[arg(long, default_value = "target/release")]
    pub programs: PathBuf,
    /// Where the proxies' own configurations are.
    #[arg(long, default_value = "load-tests/proxies")]
    pub configurations: PathBuf,
    /// Where the tables are written, besides standard output.
    #[arg(long)]
    output: Option<PathBuf>,
}

impl Settings {
    /// Keeps the generator on its CPUs.
    ///
    /// # Errors
    /// When `taskset` is missing or refuses.
    pub fn pin(&self) -> anyhow::Result<()> {
        if self.no_pin {
            return Ok(());
        }
        process::pin(&self.load_cpus)
    }

    /// The CPUs of everything but the generator, if they are kept to some.
    pub fn server_cpus(&self) -> Option<&str> {
        (!self.no_pin).then_some(self.server_cpus.as_str())
    }

    /// One of the release programs.
    pub fn program(&self, name: &str) -> PathBuf {
        self.programs.join(name)
    }

    /// The loads, the closed one first.
    pub fn loads(&self) -> Vec<Load> {
        let open: &[u32] = if self.saturated_only { &[] } else { &self.percents };
        [Load::Closed(self.connections)]
            .into_iter()
            .chain(open.iter().copied().map(Load::Open))
            .collect()
    }

    /// How it was measured, and what disturbed it.
    pub fn told<C: Copy + Ord>(&self, figures: &Figures<C>) -> String {
        let (samples, stolen) = figures.all();
        let spread = |pick: Pick| {
            let values: Vec<f64> = samples.iter().map(|sample| pick(sample)).collect();
            let most = values.iter().copied().fold(0.0, f64::max);
            format!("median {}, most {}", figure(median(&values)), figure(most))
        };
        let place = match self.server_cpus() {
            None => "everything where the scheduler puts it".to_owned(),
            Some(cpus) => format!(
                "the constant-answer servers and the proxies on CPU {cpus}, the generator on CPU {}",
                self.load_cpus
            ),
        };
        format!(
            "{} interleaved rounds of {} s, the order of the contenders taking turns; {place}. CPU is user and system time of \
             the proxy's processes; `(a to b)` is a 95 % bootstrap interval over the rounds. A latency counts from the time a \
             request was due; what a proxy adds is its quantile less the direct one of the same round.\n\nSteal by the \
             hypervisor: {}; {stolen} measurements left out for it. CPUs used by others meanwhile: {}. Measurements in which \
             the generator may have been the limit: {} of {}.\n",
            self.rounds,
            self.seconds,
            spread(|sample| sample.steal),
            spread(|sample| sample.others),
            samples.iter().filter(|sample| sample.doubtful).count(),
            samples.len(),
        )
    }

    /// Writes `text` to standard output, and to `--output` if there is one.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, text: &str) -> anyhow::Result<()> {
        std::io::Write::write_all(&mut std::io::stdout(), text.as_bytes())?;
        let write = |file: &Path| {
            std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
        };
        self.output.as_deref().map_or(Ok(()), write)
    }
}
