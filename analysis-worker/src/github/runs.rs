//! Runs: their jobs, logs and annotations, and what changed since the last one that was green.

use std::time::Duration;

use super::model::{Annotation, Comparison, Job, Run, Runs};
use super::{Call, Error, GitHub, PER_PAGE, Repository, segment};
use crate::http::encode;

/// Bytes that are kept of the end of a job's log.
const MAX_LOG: usize = 4 << 20;
/// Bytes of a log that are read at all.
const MAX_DOWNLOAD: usize = 1 << 30;
/// Time for downloading one.
const LOG_TIMEOUT: Duration = Duration::from_mins(1);
/// Media type of a file's bytes.
const RAW: &str = "application/vnd.github.raw+json";

/// The end of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct JobLog {
    pub(crate) text: String,
    /// Bytes before it that were not kept.
    pub(crate) skipped: u64,
}

#[derive(serde::Deserialize)]
struct About {
    default_branch: String,
}

impl GitHub {
    /// A run, its latest attempt or the one that is named.
    ///
    /// # Errors
    /// [`Error`].
    pub(crate) async fn run(
        &self,
        repository: &Repository,
        id: u64,
        attempt: Option<u64>,
    ) -> Result<Run, Error> {
        let path = match attempt {
            Some(attempt) => format!("/actions/runs/{id}/attempts/{attempt}"),
            None => format!("/actions/runs/{id}"),
        };
        self.read(&repository.path(&path)).await
    }

    /// The runs that have ended and were made at `since` (RFC 3339) or later, as GitHub tells them: their texts come from
    /// outside and have not been cleaned.
    ///
    /// # Errors
    /// [`Error`].
    pub(crate) async fn completed_runs(
        &self,
        repository: &Repository,
        since: &str,
    ) -> Result<Vec<serde_json::Value>, Error> {
        let created = encode(&format!(">={since}"));
        let path = format!("/actions/runs?status=completed&created={created}&per_page={PER_PAGE}");
        self.pages(&repository.path(&path), Some("workflow_runs")).await
    }

    /// The jobs of one attempt with their steps.
    ///
    /// # Errors
    /// [`Error`].
    pub(crate) async fn jobs(
        &self,
        repository: &Repository,
        run: u64,
        attempt: u64,
    ) -> Result<Vec<Job>, Error> {
        let path = format!("/actions/runs/{run}/attempts/{attempt}/jobs?per_page={PER_PAGE}");
        self.pages(&repository.path(&path), Some("jobs")).await
    }

    /// The log of a job. Expired ones are 404 or 410.
    ///
    /// # Errors
    /// [`Error`].
    pub(crate) async fn job_log(&self, repository: &Repository, job: u64) -> Result<JobLog, Error> {
        let path = repository.path(&format!("/actions/jobs/{job}/logs"));
        let (bytes, skipped) = self.download(&path, MAX_LOG, MAX_DOWNLOAD, LOG_TIMEOUT).await?;
        Ok(JobLog {
            text: String::from_utf8_lossy(&bytes).into_owned(),
            skipped,
        })
    }

    /// The annotations of a job's check run; GitHub keeps ten errors and ten warnings of a step.
    ///
    /// # Errors
    /// [`Error`].
    pub(crate) async fn annotations(
        &self,
        repository: &Repository,
        check_run: u64,
    ) -> Result<Vec<Annotation>, Error> {
        let path = format!("/check-runs/{check_run}/annotations?per_page={PER_PAGE}");
        self.pages(&repository.path(&path), None).await
    }

    /// Name of the default branch.
    ///
    /// # Errors
    /// [`Error`].
    pub(crate) async fn default_branch(&self, repository: &Repository) -> Result<String, Error> {
        let about: About = self.read(&repository.path("")).await?;
        Ok(about.default_branch)
    }

    /// The newest green run of the same workflow before `run`: on its branch, else on `default_branch`.
    ///
    /// # Errors
    /// [`Error`].
    pub(crate) async fn last_green(
        &self,
        repository: &Repository,
        run: &Run,
        default_branch: &str,
    ) -> Result<Option<Run>, Error> {
        if let Some(branch) = run
            .head_branch
            .as_deref()
            .filter(|branch| *branch != default_branch)
            && let Some(green) = self.green_on(repository, run, branch).await?
        {
            return Ok(Some(green));
        }
        self.green_on(repository, run, default_branch).await
    }

    async fn green_on(&self, repository: &Repository, run: &Run, branch: &str) -> Result<Option<Run>, Error> {
        let path = repository.path(&format!(
            "/actions/workflows/{}/runs?branch={}&status=success&per_page=50",
            run.workflow_id,
            encode(branch)
        ));
        let page: Runs = self.read(&path).await?;
        // Newest first. RFC 3339 in UTC, as GitHub writes it, sorts by its text.
        Ok(page
            .workflow_runs
            .into_iter()
            .find(|green| green.id != run.id && green.created_at < run.created_at))
    }

    /// What changed from `base` to `head`.
    ///
    /// # Errors
    /// [`Error`].
    pub(crate) async fn compare(
        &self,
        repository: &Repository,
        base: &str,
        head: &str,
    ) -> Result<Comparison, Error> {
        let path = format!("/compare/{}...{}?per_page=1", segment(base), segment(head));
        self.read(&repository.path(&path)).await
    }

    /// The text of a file at a commit.
    ///
    /// # Errors
    /// [`Error`].
    pub(crate) async fn file(
        &self,
        repository: &Repository,
        path: &str,
        commit: &str,
    ) -> Result<String, Error> {
        let segments: Vec<String> = path.split('/').map(segment).collect();
        let path = repository.path(&format!(
            "/contents/{}?ref={}",
            segments.join("/"),
            encode(commit)
        ));
        let call = Call {
            accept: RAW,
            ..Call::get(&path)
        };
        let answer = self.read_whole(&call).await?;
        Ok(String::from_utf8_lossy(&answer.body).into_owned())
    }
}
