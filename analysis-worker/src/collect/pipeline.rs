//! What is known about a failed workflow run: its jobs and steps, their logs beside those of the last green run, what
//! the tools say in them, annotations, what changed, and the lines of the code that are named.

mod builder;
mod facts;
mod log;

use std::time::Duration;

use crate::evidence::{Context, Source};
use crate::github::{Comparison, GitHub, Job, Repository, Run};
use crate::metrics::Metrics;
use crate::redact::Redactor;
use crate::report::FailureType;
use crate::signal::Origin;
use crate::store::SignalRow;
use crate::text::{one_line, prefix, sanitise};
use crate::triage::{FailedJob, Pipeline};
use builder::Builder;
use facts::Excerpt;
use log::JobText;

/// Time for everything that GitHub is asked.
const DEADLINE: Duration = Duration::from_secs(45);
/// Failed jobs whose logs are read, those that failed first.
const MAX_JOBS: usize = 4;
/// Places in the code that are shown.
const MAX_PLACES: usize = 4;

/// A run to be looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RunToTriage {
    pub(crate) repository: Repository,
    pub(crate) id: u64,
    /// The latest one, unless it is named.
    pub(crate) attempt: Option<u64>,
    /// What a webhook told about it.
    pub(crate) told: Option<String>,
}

impl RunToTriage {
    /// The newest run that the signals of an incident tell of.
    pub(crate) fn of(signals: &[SignalRow]) -> Option<Self> {
        let newest = signals
            .iter()
            .filter(|signal| signal.origin == Origin::WorkflowRun)
            .max_by_key(|signal| (signal.body["run"].as_u64(), signal.body["attempt"].as_u64()))?;
        let lines: Vec<String> = newest
            .body
            .as_object()?
            .iter()
            .map(|(name, value)| {
                format!(
                    "{name}: {}",
                    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
                )
            })
            .collect();
        Some(Self {
            repository: Repository::parse(newest.body["repository"].as_str()?)?,
            id: newest.body["run"].as_u64()?,
            attempt: newest.body["attempt"].as_u64(),
            told: Some(lines.join("\n")),
        })
    }
}

/// A log at hand, without anybody to ask.
#[derive(Clone, Debug, Default)]
pub(crate) struct LogToTriage {
    pub(crate) name: String,
    pub(crate) text: String,
    /// Bytes of it that were not read.
    pub(crate) skipped: u64,
    /// A log of the same job in which all went well.
    pub(crate) good: Option<String>,
    pub(crate) job: Option<String>,
    pub(crate) step: Option<String>,
    /// Reports of scanners and test tools: name and text.
    pub(crate) reports: Vec<(String, String)>,
}

/// Asks GitHub, reads logs.
#[derive(Clone, Debug)]
pub(crate) struct PipelineCollector {
    pub(crate) github: GitHub,
    pub(crate) redactor: Redactor,
    pub(crate) metrics: Metrics,
    /// Tokens of all logs together.
    pub(crate) log_budget: usize,
}

impl PipelineCollector {
    fn builder(&self) -> Builder<'_> {
        Builder::new(&self.redactor, &self.metrics)
    }

    /// What is known about a run. Without a pipeline in it, the run could not be read.
    pub(crate) async fn run(&self, run: &RunToTriage) -> Context {
        let mut builder = self.builder();
        if let Some(told) = &run.told {
            builder.add(Source::WorkflowRun, "what the webhook told", told);
        }
        let deadline = tokio::time::Instant::now() + DEADLINE;
        let read = async {
            let found = self.github.run(&run.repository, run.id, run.attempt).await?;
            let attempt = run.attempt.unwrap_or(found.run_attempt);
            let jobs = self.github.jobs(&run.repository, run.id, attempt).await?;
            Ok::<_, crate::github::Error>((found, jobs))
        };
        match tokio::time::timeout_at(deadline, read).await {
            Ok(Ok((found, jobs))) => {
                self.failed(&mut builder, &run.repository, &found, jobs, deadline)
                    .await;
            }
            Ok(Err(error)) => builder.missing(Source::WorkflowRun, &error.to_string()),
            Err(_) => builder.missing(Source::WorkflowRun, "GitHub did not answer in time"),
        }
        self.metrics.redacted(builder.redaction.count());
        builder.context
    }

    /// Nothing but what the webhook told, for an analysis that did not finish before.
    pub(crate) fn told_only(&self, run: &RunToTriage) -> Context {
        let mut builder = self.builder();
        if let Some(told) = &run.told {
            builder.add(Source::WorkflowRun, "what the webhook told", told);
        }
        let reason = "not asked: earlier tries of this analysis did not finish";
        builder.missing(Source::JobLog, reason);
        builder.context
    }

    async fn failed(
        &self,
        builder: &mut Builder<'_>,
        repository: &Repository,
        run: &Run,
        jobs: Vec<Job>,
        deadline: tokio::time::Instant,
    ) {
        builder.add(
            Source::WorkflowRun,
            &format!("run {} of {}", run.id, run.name.as_deref().unwrap_or(&run.path)),
            &facts::run(repository, run, &jobs),
        );
        let jobs = to_look_at(jobs);
        let looked = by(deadline, self.green(repository, run)).await;
        let (green, default_branch) = looked.clone().unwrap_or_default();
        let mut pipeline = Pipeline {
            on_default_branch: run.head_branch.is_some()
                && run.head_branch == default_branch
                && run.is_of(repository),
            jobs: Vec::new(),
        };
        if jobs.len() > MAX_JOBS {
            let more = jobs.len() - MAX_JOBS;
            builder.missing(
                Source::JobLog,
                &format!("{more} more failed jobs were not looked at"),
            );
        }
        let budget = self.log_budget / jobs.len().clamp(1, MAX_JOBS);
        let green_jobs = match &green {
            Some(green) => {
                let jobs = self.github.jobs(repository, green.id, green.run_attempt);
                let jobs = async { jobs.await.map_err(|error| error.to_string()) };
                // Without them the logs have no other one beside them; that is all.
                by(deadline, jobs).await.unwrap_or_default()
            }
            None => Vec::new(),
        };
        for job in jobs.iter().take(MAX_JOBS) {
            let good = green_jobs.iter().find(|good| good.name == job.name);
            let failed = self.job(builder, repository, job, good, budget, deadline).await;
            pipeline.jobs.push(failed);
        }
        match looked {
            Ok(_) => {
                self.changes(builder, repository, run, green.as_ref(), &pipeline, deadline)
                    .await;
            }
            Err(reason) => builder.missing(Source::Changes, &reason),
        }
        self.code(builder, repository, run, &pipeline, deadline).await;
        builder.context.pipeline = Some(pipeline);
    }

    /// One failed job: what its log and its annotations say.
    async fn job(
        &self,
        builder: &mut Builder<'_>,
        repository: &Repository,
        job: &Job,
        good: Option<&Job>,
        budget: usize,
        deadline: tokio::time::Instant,
    ) -> FailedJob {
        let (log, annotations, good) = tokio::join!(
            by(deadline, async {
                self.github
                    .job_log(repository, job.id)
                    .await
                    .map_err(|error| error.to_string())
            }),
            by(deadline, async {
                let Some(check_run) = job.check_run() else {
                    return Ok(Vec::new());
                };
                let asked = self.github.annotations(repository, check_run).await;
                asked.map_err(|error| error.to_string())
            }),
            async {
                let good = good?;
                let asked = async {
                    self.github
                        .job_log(repository, good.id)
                        .await
                        .map_err(|error| error.to_string())
                };
                by(deadline, asked).await.ok().map(|log| log.text)
            },
        );
        let annotations = annotations.unwrap_or_else(|reason| {
            builder.missing(Source::Annotations, &format!("job {}: {reason}", job.name));
            Vec::new()
        });
        let text = match log {
            Ok(log) => JobText {
                text: log.text,
                skipped: log.skipped,
                good,
            },
            Err(reason) => {
                builder.missing(Source::JobLog, &format!("job {}: {reason}", job.name));
                JobText::default()
            }
        };
        let said = annotations
            .iter()
            .filter(|annotation| annotation.level.as_deref() == Some("failure"))
            .filter_map(|annotation| annotation.message.clone())
            .collect();
        let step = job.steps.iter().find(|step| step.has_failed());
        let step = step.map(|step| one_line(&sanitise(&step.name), 200));
        let name = one_line(&sanitise(&job.name), 200);
        let failed = builder.read_log(text, said, Some(name), step, budget).await;
        if !annotations.is_empty() {
            builder.add(
                Source::Annotations,
                &format!("annotations of job {}", job.name),
                &facts::annotations(&annotations),
            );
        }
        failed
    }

    /// The last green run, and the name of the default branch.
    async fn green(
        &self,
        repository: &Repository,
        run: &Run,
    ) -> Result<(Option<Run>, Option<String>), String> {
        let default = self.github.default_branch(repository);
        let green = async {
            let default = default.await?;
            let green = self.github.last_green(repository, run, &default).await?;
            Ok::<_, crate::github::Error>((green, Some(default)))
        };
        green.await.map_err(|error| error.to_string())
    }

    async fn changes(
        &self,
        builder: &mut Builder<'_>,
        repository: &Repository,
        run: &Run,
        green: Option<&Run>,
        pipeline: &Pipeline,
        deadline: tokio::time::Instant,
    ) {
        let Some(green) = green else {
            builder.missing(
                Source::Changes,
                "no green run of this workflow before this one was found",
            );
            return;
        };
        if green.head_sha == run.head_sha {
            builder.add(
                Source::Changes,
                "no change since the last green run",
                &format!("run {} of the same commit {} was green", green.id, run.head_sha),
            );
            return;
        }
        let compared: Result<Comparison, String> = by(deadline, async {
            let asked = self
                .github
                .compare(repository, &green.head_sha, &run.head_sha)
                .await;
            asked.map_err(|error| error.to_string())
        })
        .await;
        match compared {
            Ok(comparison) => {
                let (title, content) = facts::changes(green, run, &comparison, pipeline);
                builder.add(Source::Changes, &title, &content);
            }
            Err(reason) => builder.missing(Source::Changes, &reason),
        }
    }

    /// The lines of the code that the tools name.
    async fn code(
        &self,
        builder: &mut Builder<'_>,
        repository: &Repository,
        run: &Run,
        pipeline: &Pipeline,
        deadline: tokio::time::Instant,
    ) {
        for Excerpt { file, line } in facts::places(pipeline, MAX_PLACES) {
            let asked = by(deadline, async {
                let asked = self.github.file(repository, &file, &run.head_sha).await;
                asked.map_err(|error| error.to_string())
            });
            match asked.await {
                Ok(text) => match facts::excerpt(&text, line) {
                    Some(content) => {
                        let title = format!("{file}:{line} at {}", prefix(&run.head_sha, 12));
                        builder.add(Source::SourceCode, &title, &content);
                    }
                    None => builder.missing(Source::SourceCode, &format!("{file} has no line {line}")),
                },
                Err(reason) => builder.missing(Source::SourceCode, &format!("{file}: {reason}")),
            }
        }
    }

    /// What a log at hand shows. Nobody is asked.
    pub(crate) async fn log(&self, log: LogToTriage) -> Context {
        let mut builder = self.builder();
        let text = JobText {
            text: log.text,
            skipped: log.skipped,
            good: log.good,
        };
        let mut failed = builder
            .read_log(text, Vec::new(), log.job, log.step, self.log_budget)
            .await;
        if failed.name.is_empty() {
            failed.name = one_line(&log.name, 120);
        }
        for (name, text) in log.reports {
            builder.read_report(&mut failed, &name, &text);
        }
        builder.context.pipeline = Some(Pipeline {
            on_default_branch: false,
            jobs: vec![failed],
        });
        self.metrics.redacted(builder.redaction.count());
        builder.context
    }
}

/// The jobs that failed, the first to fail first. Those that were cancelled because of that say nothing.
fn to_look_at(jobs: Vec<Job>) -> Vec<Job> {
    let mut failed: Vec<Job> = jobs.into_iter().filter(Job::has_failed).collect();
    let is_cancelled = |job: &Job| job.conclusion.as_deref() == Some("cancelled");
    if !failed.iter().all(is_cancelled) {
        failed.retain(|job| !is_cancelled(job));
    }
    failed.sort_by(|a, b| a.completed_at.cmp(&b.completed_at));
    failed
}

/// The answer, or that it was late.
async fn by<T>(
    deadline: tokio::time::Instant,
    asked: impl Future<Output = Result<T, String>>,
) -> Result<T, String> {
    tokio::time::timeout_at(deadline, asked)
        .await
        .unwrap_or_else(|_| Err("GitHub did not answer in time".to_owned()))
}

impl Pipeline {
    /// In one line, for titles.
    pub(crate) fn title(&self) -> String {
        match self.deciding() {
            None => "nothing has failed".to_owned(),
            Some(job) => {
                let more = match self.jobs.len() {
                    1 => String::new(),
                    jobs => format!(" and {} more", jobs - 1),
                };
                let kind = match job.classified.kind {
                    FailureType::Unknown => "failed".to_owned(),
                    kind => format!("failed: {}", kind.title()),
                };
                format!("job {}{more} {kind}", one_line(&job.name, 80))
            }
        }
    }
}
