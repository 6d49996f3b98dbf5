//! Works through the jobs: a bounded number at a time, each until its report is committed.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, broadcast};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::analysis::{Analysed, Analyst, Task};
use crate::evidence::Source;
use crate::follow::past;
use crate::metrics::{JobState, Metrics};
use crate::outbox;
use crate::report::{Report, Subject, Urgency};
use crate::signal::now;
use crate::store::{Job, MAX_ATTEMPTS, Store, StoreError};

/// How often the queue is looked at without being told: for retries that have become due.
const LOOK: Duration = Duration::from_secs(5);
/// Tries after which nobody outside is asked any more: one of them may be what breaks the analysis.
const CAREFUL_AFTER: u32 = 2;
/// Signals of one incident that are read for its analysis.
const MAX_SIGNALS: u32 = 200;

/// A report that has just been committed.
#[derive(Clone, Debug)]
pub struct FinishedReport {
    /// The report.
    pub report: Report,
    /// The same as Markdown.
    pub markdown: String,
}

/// Works through the jobs.
pub(crate) struct Runner {
    pub(crate) store: Store,
    pub(crate) analyst: Analyst,
    pub(crate) metrics: Metrics,
    pub(crate) reports: broadcast::Sender<Arc<FinishedReport>>,
    pub(crate) wake: Arc<Notify>,
    /// Told of every report: it may lead to effects.
    pub(crate) outbox: outbox::Wake,
    pub(crate) at_once: usize,
    pub(crate) lease: Duration,
    pub(crate) print: bool,
}

impl Runner {
    /// Runs until `stop`, then gives running analyses `grace` to end. What has not ended by then is taken up again by
    /// the next process.
    pub(crate) async fn run(self, stop: CancellationToken, grace: Duration) {
        let this = Arc::new(self);
        let mut running = JoinSet::new();
        while !stop.is_cancelled() {
            while running.len() < this.at_once {
                let Some(job) = this.claim().await else { break };
                running.spawn(Arc::clone(&this).work(job));
            }
            this.count().await;
            tokio::select! {
                () = this.wake.notified() => {}
                _ = running.join_next(), if !running.is_empty() => {}
                () = tokio::time::sleep(LOOK) => {}
                () = stop.cancelled() => {}
            }
        }
        let ended = tokio::time::timeout(grace, async { while running.join_next().await.is_some() {} }).await;
        if ended.is_err() {
            tracing::warn!(
                analyses = running.len(),
                "analyses did not end in time; the next start takes them up again"
            );
        }
    }

    async fn claim(&self) -> Option<Job> {
        match self.store.claim(self.lease).await {
            Ok(job) => job,
            Err(error) => {
                tracing::error!(error = %plumbline_service::error_chain(&error), "the job queue cannot be read");
                None
            }
        }
    }

    async fn work(self: Arc<Self>, job: Job) {
        let this = Arc::clone(&self);
        let of = job.clone();
        // A panic ends this task only, and counts as a failed try.
        let result = match tokio::spawn(async move { Box::pin(this.analyse(&of)).await }).await {
            Ok(result) => result.map_err(|error| plumbline_service::error_chain(&error)),
            Err(error) => Err(format!("the analysis ended early: {error}")),
        };
        if let Err(error) = result {
            tracing::error!(
                incident.id = job.incident,
                attempt = job.attempt,
                attempts = MAX_ATTEMPTS,
                error,
                "the analysis failed"
            );
            let later = Duration::from_secs(u64::from(job.attempt) * 5);
            if let Err(error) = self.store.fail(&job, error, later).await {
                tracing::error!(incident.id = job.incident, error = %plumbline_service::error_chain(&error), "the failure cannot be noted");
            }
        }
    }

    async fn analyse(&self, job: &Job) -> Result<(), StoreError> {
        let Some(incident) = self.store.incident(&job.incident).await? else {
            return Ok(());
        };
        let task = Task {
            subject: Subject {
                id: incident.id,
                kind: incident.kind,
                model: incident.model,
                title: incident.title,
                started_at: incident.started_at,
            },
            started_at: incident.started_at_ms,
            urgency: match incident.urgency.as_str() {
                "P0" => Urgency::P0,
                "P2" => Urgency::P2,
                _ => Urgency::P1,
            },
            revision: job.revision,
            signals: self.store.signals(&job.incident, MAX_SIGNALS).await?,
        };
        let careful = job.attempt > CAREFUL_AFTER;
        self.store.stage(&job.incident, "collecting").await?;
        let mut context = self.analyst.collect(&task, careful).await;
        for past in past::best(self.store.past(&job.incident).await?, task.started_at) {
            let (title, content) = past::fact(&past, task.started_at);
            context.add(Source::PastIncident, title, content);
        }
        self.store.stage(&job.incident, "analysing").await?;
        let analysed = self.analyst.conclude(&task, context, careful).await;
        if self.store.finish(job, analysed.to_store()).await? {
            self.told(job, analysed).await;
        }
        Ok(())
    }

    /// Tells everybody about a report that is committed.
    async fn told(&self, job: &Job, analysed: Analysed) {
        self.outbox.all();
        let age = u64::try_from(now() - job.created_at).unwrap_or(0);
        self.metrics.report(analysed.author(), Duration::from_millis(age));
        let report = &analysed.report;
        tracing::info!(
            incident.id = report.incident.id,
            incident.kind = report.incident.kind,
            model.name = report.incident.model.as_deref().unwrap_or(""),
            urgency = report.urgency.as_str(),
            provider = report.analysis.provider,
            outcome = report.analysis.outcome.as_str(),
            "report finished"
        );
        if self.print {
            let text = format!("{}\n", analysed.markdown);
            let printed = tokio::task::spawn_blocking(move || crate::command::print(&text)).await;
            drop(printed);
        }
        // Nobody listening is fine.
        let _nobody = self.reports.send(Arc::new(FinishedReport {
            report: analysed.report,
            markdown: analysed.markdown,
        }));
    }

    async fn count(&self) {
        match self.store.job_counts().await {
            Ok(counts) => {
                self.metrics.jobs(JobState::Queued, counts.queued);
                self.metrics.jobs(JobState::Running, counts.running);
                self.metrics.jobs(JobState::Failed, counts.failed);
            }
            Err(error) => {
                tracing::debug!(error = %plumbline_service::error_chain(&error), "jobs cannot be counted");
            }
        }
    }
}
