//! `triage`: why a workflow run or a job failed, as a report, in the summary of a workflow step, and as a comment.

use std::fmt::Write as _;
use std::process::ExitCode;

use plumbline_service::config::{ParseSetting, Reader, Setting};

use super::step::{OUTPUT, SUMMARY, Step};
use super::{FORMAT, Format, once};
use crate::analysis::{Analysed, Analyst, Task};
use crate::collect::pipeline::{LogToTriage, RunToTriage};
use crate::config::Config;
use crate::evidence::Context;
use crate::github::{GitHub, Repository, Run, marker};
use crate::http::HttpClient;
use crate::metrics::Metrics;
use crate::redact::Redactor;
use crate::report::{Findings, Report, Subject, Urgency, markdown};
use crate::signal::{PIPELINE, now, rfc3339};

/// Bytes of a local log that are read, from its end.
const MAX_LOG: usize = 4 << 20;

const OWN: &[Setting] = &[
    Setting::new("run", "OWNER/REPO/ID", "The run to triage."),
    Setting::new("attempt", "N", "Which attempt of it; the latest one without."),
    Setting::new(
        "job_log",
        "FILE",
        "The log of one job instead of a run; - for standard input. Nobody is asked.",
    ),
    Setting::new("job", "NAME", "Name of the job that the log is of."),
    Setting::new("step", "NAME", "Name of the step that failed in it."),
    Setting::new(
        "good_log",
        "FILE",
        "A log of the same job in which all went well: lines that it has, too, tell little.",
    ),
    Setting::repeated(
        "report",
        "FILE",
        "A report in SARIF or JUnit's XML, read beside the log.",
    ),
    Setting::switch(
        "comment",
        "Comments on the run's pull request, or on its commit; a later triage of the same workflow changes that comment.",
    ),
    SUMMARY,
    OUTPUT,
    FORMAT,
];

struct Triage {
    what: What,
    comment: bool,
    step: Step,
    format: Format,
}

enum What {
    Run(RunToTriage),
    Log(LogFiles),
}

struct LogFiles {
    file: String,
    good: Option<String>,
    job: Option<String>,
    step: Option<String>,
    reports: Vec<String>,
}

/// `OWNER/REPO/ID`.
struct RunName(Repository, u64);

impl ParseSetting for RunName {
    fn parse_setting(text: &str) -> Result<Self, String> {
        let parsed = text
            .rsplit_once('/')
            .and_then(|(repository, id)| Some(Self(Repository::parse(repository)?, id.parse().ok()?)));
        parsed.ok_or_else(|| "expected OWNER/REPO/ID such as acme/churn/15368542".to_owned())
    }
}

/// `triage --run OWNER/REPO/ID` and `triage --job-log FILE`
pub(super) fn main(arguments: Vec<String>) -> ExitCode {
    once(
        arguments,
        OWN,
        |reader, _| read(reader),
        async |config, triage| triage.run(&config).await,
    )
}

fn read(reader: &mut Reader) -> Triage {
    let run: Option<RunName> = reader.optional("run");
    let attempt: Option<u64> = reader.optional("attempt");
    let comment = reader.switch("comment");
    let log = LogFiles {
        file: reader.optional("job_log").unwrap_or_default(),
        good: reader.optional("good_log"),
        job: reader.optional("job"),
        step: reader.optional("step"),
        reports: reader.list("report"),
    };
    let has_log = !log.file.is_empty();
    match (&run, has_log) {
        (Some(_), true) => reader.reject("job_log", "stands in place of run, not beside it"),
        (None, false) => reader.reject("run", "is required, or job_log"),
        _ => {}
    }
    let of_log = log.good.is_some() || log.job.is_some() || log.step.is_some() || !log.reports.is_empty();
    reader.check(
        "job_log",
        run.is_none() || !of_log,
        "is needed for good_log, job, step and report",
    );
    reader.check("run", !comment || run.is_some(), "is needed for comment");
    let what = match run {
        Some(RunName(repository, id)) => What::Run(RunToTriage {
            repository,
            id,
            attempt,
            told: None,
        }),
        None => What::Log(log),
    };
    Triage {
        what,
        comment,
        step: Step::read(reader),
        format: reader.value("format"),
    }
}

impl Triage {
    async fn run(&self, config: &Config) -> Result<String, String> {
        let redactor = Redactor::new(&config.secrets(), config.redact_addresses);
        let metrics = Metrics::declare(&plumbline_service::metrics::Metrics::default());
        let analyst = Analyst::new(config, redactor, &metrics, None);
        let (name, context) = match &self.what {
            What::Run(run) => {
                let name = format!("{}/{}", run.repository, run.id);
                (name, analyst.pipelines().run(run).await)
            }
            What::Log(files) => {
                let log = files.read()?;
                (log.name.clone(), analyst.pipelines().log(log).await)
            }
        };
        let task = task(&name, &context)?;
        let Analysed { report, markdown, .. } = analyst.conclude(&task, context, false).await;
        self.step.summarise(&markdown)?;
        if let (true, What::Run(run)) = (self.comment, &self.what) {
            self.comment(config, run, &report)
                .await
                .map_err(|error| error.to_string())?;
        }
        let mut text = match self.format {
            Format::Markdown => markdown,
            Format::Json => serde_json::to_string(&report).map_err(|error| error.to_string())?,
        };
        text.push('\n');
        self.step.output(&text)?;
        Ok(text)
    }

    /// One comment for a workflow on a pull request or commit: written once, then changed.
    async fn comment(
        &self,
        config: &Config,
        run: &RunToTriage,
        report: &Report,
    ) -> Result<(), crate::github::Error> {
        let github = GitHub::new(&config.github, HttpClient::new());
        let of = &run.repository;
        let found = github.run(of, run.id, run.attempt).await?;
        let key = marker("triage", &found.workflow_id.to_string());
        let body = body(config, &key, &found, report);
        let of_run = found.pull_requests.first().map(|pull| pull.number);
        let pull_request = match of_run {
            Some(number) => Some(number),
            None => github.pull_request_of(of, &found.head_sha).await?,
        };
        match pull_request {
            Some(number) => {
                match github.find_comment(of, number, &key).await? {
                    Some(comment) => github.update_comment(of, comment.id, &body).await?,
                    None => github.comment(of, number, &body).await?,
                };
                let labels = config.triage.labels(kind(report));
                if !labels.is_empty() {
                    github.add_labels(of, number, &labels).await?;
                }
            }
            None => {
                match github.find_commit_comment(of, &found.head_sha, &key).await? {
                    Some(comment) => github.update_commit_comment(of, comment.id, &body).await?,
                    None => github.comment_commit(of, &found.head_sha, &body).await?,
                };
            }
        }
        Ok(())
    }
}

fn body(config: &Config, key: &str, run: &Run, report: &Report) -> String {
    let mut body = format!("{key}\n{}", markdown::brief(report));
    let mentions = config.triage.mentions(kind(report));
    if !mentions.is_empty() {
        let _ = write!(body, "For {}.\n\n", mentions.join(" "));
    }
    let attempt = run.run_attempt;
    let _ = writeln!(
        body,
        "Of [run {}, attempt {attempt}]({}); the evidence is in the summary of the triage step.",
        run.run_number, run.html_url
    );
    body
}

fn kind(report: &Report) -> crate::report::FailureType {
    match &report.findings {
        Findings::Triage(findings) => findings.failure_type,
        Findings::Incident(_) | Findings::Drift(_) => crate::report::FailureType::Unknown,
    }
}

/// What is to be analysed; an error when nothing has failed, or when that cannot be told.
fn task(name: &str, context: &Context) -> Result<Task, String> {
    let Some(pipeline) = &context.pipeline else {
        let reason = context.missing.first().map(|missing| missing.reason.as_str());
        return Err(format!(
            "{name}: {}",
            reason.unwrap_or("nothing is known about it")
        ));
    };
    if pipeline.jobs.is_empty() {
        return Err(format!("{name}: no job has failed"));
    }
    let started_at = now();
    Ok(Task {
        subject: Subject {
            id: crate::signal::digest(&[PIPELINE, name])[..12].to_owned(),
            kind: PIPELINE.to_owned(),
            model: None,
            title: format!("{name}: {}", pipeline.title()),
            started_at: rfc3339(started_at),
        },
        started_at,
        urgency: Urgency::P2,
        revision: 1,
        signals: Vec::new(),
    })
}

impl LogFiles {
    fn read(&self) -> Result<LogToTriage, String> {
        let text = |file: &str| {
            let (bytes, skipped) = end_of(file).map_err(|error| format!("{file}: {error}"))?;
            Ok::<_, String>((String::from_utf8_lossy(&bytes).into_owned(), skipped))
        };
        let (log, skipped) = text(&self.file)?;
        let good = self.good.as_deref().map(text).transpose()?;
        let mut reports = Vec::new();
        for file in &self.reports {
            reports.push((file.clone(), text(file)?.0));
        }
        Ok(LogToTriage {
            name: if self.file == "-" {
                "standard input"
            } else {
                &self.file
            }
            .to_owned(),
            text: log,
            skipped,
            good: good.map(|(good, _)| good),
            job: self.job.clone(),
            step: self.step.clone(),
            reports,
        })
    }
}

/// The last [`MAX_LOG`] bytes of a file, and how many come before them.
fn end_of(file: &str) -> std::io::Result<(Vec<u8>, u64)> {
    use std::io::Read as _;
    let mut input: Box<dyn std::io::Read> = if file == "-" {
        Box::new(std::io::stdin().lock())
    } else {
        Box::new(std::fs::File::open(file)?)
    };
    let (mut kept, mut skipped) = (Vec::new(), 0);
    loop {
        let read = input.by_ref().take(MAX_LOG as u64).read_to_end(&mut kept)?;
        if read == 0 {
            return Ok((kept, skipped));
        }
        let before = kept.len().saturating_sub(MAX_LOG);
        kept.drain(..before);
        skipped += before as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_long_log_the_end_is_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("job.log");
        let text = format!("{}the end\n", "line of a log\n".repeat(2 * MAX_LOG / 14));
        std::fs::write(&file, &text).expect("written");
        let (kept, skipped) = end_of(file.to_str().expect("a path")).expect("read");
        assert_eq!(
            (kept.len(), kept.len() as u64 + skipped),
            (MAX_LOG, text.len() as u64)
        );
        assert!(kept.ends_with(b"the end\n"));
    }

    #[test]
    fn a_run_has_a_repository_and_a_number() {
        let RunName(repository, id) = RunName::parse_setting("acme/churn/15368542").expect("a run");
        assert_eq!((repository.to_string().as_str(), id), ("acme/churn", 15_368_542));
        for wrong in ["acme/15368542", "acme/churn", "acme/churn/x", ""] {
            assert!(RunName::parse_setting(wrong).is_err(), "{wrong}");
        }
    }
}
