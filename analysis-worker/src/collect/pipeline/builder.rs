//! Builds a context: every text goes through the redaction, a log before it is cut down.

use super::log::{JobText, Reading};
use crate::evidence::{Context, Source};
use crate::metrics::{Collected, Metrics};
use crate::redact::{Redaction, Redactor};
use crate::text::{one_line, prefix, sanitise};
use crate::triage::FailedJob;

/// Bytes of one fact.
const MAX_FACT: usize = 48 << 10;

/// Builds a context: every text in it goes through here.
pub(super) struct Builder<'a> {
    pub(super) context: Context,
    pub(super) redaction: Redaction,
    redactor: &'a Redactor,
    metrics: &'a Metrics,
}

impl<'a> Builder<'a> {
    pub(super) fn new(redactor: &'a Redactor, metrics: &'a Metrics) -> Self {
        Self {
            context: Context::default(),
            redaction: redactor.begin([]),
            redactor,
            metrics,
        }
    }

    pub(super) fn add(&mut self, source: Source, title: &str, content: &str) -> String {
        let content = self.redaction.text(&sanitise(content));
        self.add_clean(source, title, content)
    }

    /// Adds a text that was redacted before it was cut down.
    fn add_clean(&mut self, source: Source, title: &str, mut content: String) -> String {
        self.metrics.collected(source, Collected::Found);
        let title = one_line(&self.redaction.text(&sanitise(title)), 160);
        if content.len() > MAX_FACT {
            let cut = content.len() - MAX_FACT;
            content = format!("{}\n… {cut} bytes left out", prefix(&content, MAX_FACT));
        }
        self.context.add(source, title, content)
    }

    pub(super) fn missing(&mut self, source: Source, reason: &str) {
        self.metrics.collected(source, Collected::Missing);
        let reason = self.redaction.text(&sanitise(reason));
        self.context.missing(source, reason);
    }

    /// Reads a log on a blocking thread, and adds what it shows.
    pub(super) async fn read_log(
        &mut self,
        text: JobText,
        annotations: Vec<String>,
        job: Option<String>,
        step: Option<String>,
        budget: usize,
    ) -> FailedJob {
        let is_empty = text.text.trim().is_empty();
        let job = job.map(|name| self.redaction.text(&name));
        let step = step.map(|name| self.redaction.text(&name));
        let redaction = std::mem::replace(&mut self.redaction, self.redactor.begin([]));
        let read = tokio::task::spawn_blocking(move || {
            let mut redaction = redaction;
            let reading = Reading::of(&text, &annotations, budget, &mut redaction);
            (reading, redaction)
        })
        .await;
        let (reading, redaction) = match read {
            Ok(read) => read,
            Err(error) => {
                self.missing(Source::JobLog, &format!("reading the log failed: {error}"));
                return FailedJob::new(job.unwrap_or_default(), step, None, Vec::new());
            }
        };
        self.redaction = redaction;
        let name = job.or(reading.scanned.job).unwrap_or_default();
        let command = reading.scanned.step;
        let mut failed = FailedJob::new(name, step, command.as_deref(), reading.scanned.detections);
        if !failed.detections.is_empty() {
            let lines: Vec<String> = failed
                .detections
                .iter()
                .map(crate::triage::Detection::shown)
                .collect();
            let title = format!("job {}: what the tools say", failed.name);
            let fact = self.add_clean(Source::Detections, &title, lines.join("\n"));
            for detection in &mut failed.detections {
                detection.fact = Some(fact.clone());
            }
        }
        if !is_empty {
            let title = format!("log of job {}: {}", failed.name, reading.title);
            failed.log = Some(self.add_clean(Source::JobLog, &title, reading.content));
        }
        failed
    }

    /// Adds what a report has.
    pub(super) fn read_report(&mut self, failed: &mut FailedJob, name: &str, text: &str) {
        let mut found = match crate::triage::read_report(text) {
            Ok(found) => found,
            Err(problem) => return self.missing(Source::ToolReport, &format!("{name}: {problem}")),
        };
        for detection in &mut found {
            detection.quote = self.redaction.text(&detection.quote);
            detection.subject = detection.subject.as_ref().map(|text| self.redaction.text(text));
            detection.message = detection.message.as_ref().map(|text| self.redaction.text(text));
        }
        let quotes: Vec<&str> = found.iter().map(|detection| detection.quote.as_str()).collect();
        let content = quotes.join("\n");
        let title = format!("{}: {} findings", name, quotes.len());
        let fact = self.add_clean(Source::ToolReport, &title, content);
        for detection in &mut found {
            detection.fact = Some(fact.clone());
        }
        let mut all = std::mem::take(&mut failed.detections);
        all.extend(found);
        let step = failed.step.take();
        *failed = FailedJob {
            log: failed.log.take(),
            ..FailedJob::new(std::mem::take(&mut failed.name), step, None, all)
        };
    }
}
