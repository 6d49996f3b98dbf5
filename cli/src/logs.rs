//! Logs of the parts that run in this process: JSON lines in a file, warnings on the terminal too.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};

use anyhow::Context as _;
use tracing_subscriber::filter::{EnvFilter, LevelFilter};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::time::SystemTime;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, fmt};

use crate::terminal::Terminal;

/// Starts logging to `file`, from its beginning.
pub(crate) fn start(file: &Path, filter: &str, terminal: &Arc<Terminal>) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(filter).with_context(|| format!("--log {filter}: not a filter"))?;
    let log = File::create(file).with_context(|| format!("cannot write {}", file.display()))?;
    let lines = fmt::layer()
        .json()
        .flatten_event(true)
        .with_current_span(true)
        .with_span_list(false)
        .with_timer(SystemTime)
        .with_writer(Mutex::new(log))
        .with_filter(filter);
    let warnings = fmt::layer()
        .without_time()
        .with_target(false)
        .with_ansi(false)
        .with_writer(Complaints(Arc::clone(terminal)))
        .with_filter(LevelFilter::WARN);
    tracing_subscriber::registry()
        .with(lines)
        .with(warnings)
        .try_init()
        .context("logging is on already")
}

/// Hands each event to the terminal, which takes its status line away first.
struct Complaints(Arc<Terminal>);

/// One event.
struct Complaint<'a> {
    terminal: &'a Terminal,
    text: Vec<u8>,
}

impl<'a> MakeWriter<'a> for Complaints {
    type Writer = Complaint<'a>;

    fn make_writer(&'a self) -> Self::Writer {
        Complaint {
            terminal: &self.0,
            text: Vec::new(),
        }
    }
}

impl Write for Complaint<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Complaint<'_> {
    fn drop(&mut self) {
        self.terminal
            .complain(String::from_utf8_lossy(&self.text).trim_end());
    }
}
