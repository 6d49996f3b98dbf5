//! The thread that writes the lines.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError};

use super::Message;
use crate::metrics::AccessLogMetrics;

/// Written at once when so much is there, or when nothing else waits.
const BATCH_BYTES: usize = 64 << 10;

/// Where lines go.
pub(super) enum Sink {
    Stdout,
    File { path: PathBuf, file: File },
}

impl Sink {
    pub(super) fn open(path: &Path) -> std::io::Result<Self> {
        let file = OpenOptions::new().append(true).create(true).open(path)?;
        let path = path.to_owned();
        Ok(Self::File { path, file })
    }

    fn write(&mut self, batch: &[u8]) -> std::io::Result<()> {
        match self {
            Self::Stdout => {
                let mut stdout = std::io::stdout().lock();
                stdout.write_all(batch)?;
                stdout.flush()
            }
            Self::File { file, .. } => file.write_all(batch),
        }
    }

    /// The file that has the name now: the one before was moved away.
    fn reopen(&mut self) {
        if let Self::File { path, .. } = self {
            match Self::open(path) {
                Ok(opened) => *self = opened,
                Err(error) => {
                    tracing::error!(file = %path.display(), %error, "the access log stays in the file that is open");
                }
            }
        }
    }
}

/// Writes what comes until it is told to end, or nobody can send any more.
pub(super) struct Writer {
    lines: Receiver<Message>,
    sink: Sink,
    /// Set on SIGHUP; nothing for what cannot be opened anew.
    reopen: Option<Arc<AtomicBool>>,
    metrics: AccessLogMetrics,
    batch: Vec<u8>,
    /// Lines in the batch.
    batched: u64,
    /// The last batch was not written: told once, until one is.
    failing: bool,
}

impl Writer {
    pub(super) fn new(
        lines: Receiver<Message>,
        sink: Sink,
        reopen: Option<Arc<AtomicBool>>,
        metrics: AccessLogMetrics,
    ) -> Self {
        Self {
            lines,
            sink,
            reopen,
            metrics,
            batch: Vec::with_capacity(BATCH_BYTES + (BATCH_BYTES >> 3)),
            batched: 0,
            failing: false,
        }
    }

    pub(super) fn run(&mut self) {
        loop {
            let message = match self.lines.try_recv() {
                Ok(message) => message,
                Err(TryRecvError::Empty) => {
                    self.write();
                    match self.lines.recv() {
                        Ok(message) => message,
                        Err(_nobody_sends) => return,
                    }
                }
                Err(TryRecvError::Disconnected) => break,
            };
            match message {
                Message::Line(line) => {
                    line.write(&mut self.batch);
                    self.batched += 1;
                    if self.batch.len() >= BATCH_BYTES {
                        self.write();
                    }
                }
                Message::Close => break,
            }
        }
        self.write();
    }

    fn write(&mut self) {
        if self.batched == 0 {
            return;
        }
        if let Some(reopen) = &self.reopen
            && reopen.swap(false, Ordering::Relaxed)
        {
            self.sink.reopen();
        }
        let written = self.sink.write(&self.batch);
        self.batch.clear();
        match written {
            Ok(()) => {
                if std::mem::take(&mut self.failing) {
                    tracing::info!("the access log is written again");
                }
            }
            Err(error) => {
                self.metrics.write_failed.inc_by(self.batched);
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::error!(%error, "the access log cannot be written; its lines are dropped");
                }
                // A line may be there in part: the next one begins on its own.
                self.batch.push(b'\n');
            }
        }
        self.batched = 0;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use plumbline_service::metrics::Metrics as Registry;

    use super::*;
    use crate::metrics::Metrics;

    fn metrics() -> AccessLogMetrics {
        Metrics::declare(&Registry::default()).access_log.clone()
    }

    fn lines(path: &Path) -> usize {
        std::fs::read_to_string(path).expect("a file").lines().count()
    }

    #[test]
    fn a_file_that_was_moved_away_is_begun_anew_when_that_is_asked_for() {
        let directory = tempfile::tempdir().expect("a directory");
        let (path, moved) = (directory.path().join("log"), directory.path().join("log.1"));
        let (sender, receiver) = sync_channel(8);
        let reopen = Arc::new(AtomicBool::new(false));
        let sink = Sink::open(&path).expect("a file");
        let mut writer = Writer::new(receiver, sink, Some(Arc::clone(&reopen)), metrics());
        let mut write = |count: usize| {
            for _ in 0..count {
                sender.send(Message::Line(Box::default())).expect("room");
            }
            sender.send(Message::Close).expect("room");
            writer.run();
        };
        write(2);
        std::fs::rename(&path, &moved).expect("moved");
        write(1);
        reopen.store(true, Ordering::Relaxed);
        write(4);
        assert_eq!((lines(&moved), lines(&path)), (3, 4));
    }

    #[test]
    fn lines_that_cannot_be_written_are_counted() {
        let (sender, receiver) = sync_channel(8);
        let metrics = metrics();
        // A device that is always full.
        let sink = Sink::open(Path::new("/dev/full")).expect("a device");
        let mut writer = Writer::new(receiver, sink, None, metrics.clone());
        for _ in 0..3 {
            sender.send(Message::Line(Box::default())).expect("room");
        }
        drop(sender);
        writer.run();
        assert_eq!(metrics.write_failed.get(), 3);
    }
}
