//! What GitHub answers, as far as it is read. Unknown fields are ignored.

use serde::Deserialize;

use super::Repository;

/// A page of runs.
#[derive(Debug, Deserialize)]
pub(super) struct Runs {
    pub(super) workflow_runs: Vec<Run>,
}

/// A workflow run.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[expect(clippy::struct_field_names, reason = "the names of the API")]
pub(crate) struct Run {
    pub(crate) id: u64,
    /// Name of the workflow.
    #[serde(default)]
    pub(crate) name: Option<String>,
    /// Title of the run: the commit's or the pull request's, or `run-name`.
    #[serde(default)]
    pub(crate) display_title: String,
    /// File of the workflow: `.github/workflows/ci.yaml`.
    #[serde(default)]
    pub(crate) path: String,
    pub(crate) workflow_id: u64,
    #[serde(default = "one")]
    pub(crate) run_attempt: u64,
    #[serde(default)]
    pub(crate) run_number: u64,
    #[serde(default)]
    pub(crate) event: String,
    #[serde(default)]
    pub(crate) status: Option<String>,
    #[serde(default)]
    pub(crate) conclusion: Option<String>,
    #[serde(default)]
    pub(crate) head_branch: Option<String>,
    pub(crate) head_sha: String,
    #[serde(default)]
    pub(crate) html_url: String,
    #[serde(default)]
    pub(crate) created_at: String,
    #[serde(default)]
    pub(crate) run_started_at: Option<String>,
    #[serde(default)]
    pub(crate) pull_requests: Vec<Numbered>,
    /// Where its commit is: a fork, perhaps.
    #[serde(default)]
    pub(crate) head_repository: Option<Named>,
}

fn one() -> u64 {
    1
}

impl Run {
    /// Whether its commit is in the repository itself.
    pub(crate) fn is_of(&self, repository: &Repository) -> bool {
        let name = repository.to_string();
        self.head_repository
            .as_ref()
            .is_none_or(|of| of.full_name == name)
    }

    /// When this attempt began, RFC 3339.
    pub(crate) fn started_at(&self) -> &str {
        self.run_started_at.as_deref().unwrap_or(&self.created_at)
    }
}

/// An issue or pull request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Numbered {
    pub(crate) number: u64,
}

/// A repository.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Named {
    #[serde(default)]
    pub(crate) full_name: String,
}

/// One job of an attempt.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Job {
    pub(crate) id: u64,
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) conclusion: Option<String>,
    #[serde(default)]
    pub(crate) started_at: Option<String>,
    #[serde(default)]
    pub(crate) completed_at: Option<String>,
    #[serde(default)]
    pub(crate) check_run_url: String,
    #[serde(default)]
    pub(crate) runner_name: Option<String>,
    #[serde(default)]
    pub(crate) labels: Vec<String>,
    #[serde(default)]
    pub(crate) steps: Vec<Step>,
}

impl Job {
    /// Whether somebody has to look at it.
    pub(crate) fn has_failed(&self) -> bool {
        has_failed(self.conclusion.as_deref())
    }

    /// Number of its check run.
    pub(crate) fn check_run(&self) -> Option<u64> {
        self.check_run_url.rsplit_once('/')?.1.parse().ok()
    }
}

/// One step of a job.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Step {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) number: u64,
    #[serde(default)]
    pub(crate) conclusion: Option<String>,
    #[serde(default)]
    pub(crate) started_at: Option<String>,
    #[serde(default)]
    pub(crate) completed_at: Option<String>,
}

impl Step {
    /// Whether it is what failed.
    pub(crate) fn has_failed(&self) -> bool {
        has_failed(self.conclusion.as_deref())
    }
}

/// Conclusions of what did not go well. `cancelled` is one: a job that ran out of its time is told so.
fn has_failed(conclusion: Option<&str>) -> bool {
    matches!(
        conclusion,
        Some("failure" | "timed_out" | "startup_failure" | "cancelled")
    )
}

/// What a tool said about a line.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Annotation {
    #[serde(default)]
    pub(crate) path: String,
    #[serde(default)]
    pub(crate) start_line: u64,
    #[serde(default, rename = "annotation_level")]
    pub(crate) level: Option<String>,
    #[serde(default)]
    pub(crate) title: Option<String>,
    #[serde(default)]
    pub(crate) message: Option<String>,
}

/// What lies between two commits.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Comparison {
    #[serde(default)]
    pub(crate) total_commits: u64,
    /// At most 300.
    #[serde(default)]
    pub(crate) files: Vec<ChangedFile>,
}

/// A file that differs.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct ChangedFile {
    pub(crate) filename: String,
    #[serde(default)]
    pub(crate) status: String,
    #[serde(default)]
    pub(crate) additions: u64,
    #[serde(default)]
    pub(crate) deletions: u64,
    /// Missing for binary and very large files.
    #[serde(default)]
    pub(crate) patch: Option<String>,
}

/// An issue or a comment that is there.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Posted {
    pub(crate) id: u64,
    /// Of issues only.
    #[serde(default)]
    pub(crate) number: u64,
    #[serde(default)]
    pub(crate) html_url: String,
    #[serde(default)]
    pub(crate) body: Option<String>,
    #[serde(default)]
    author_association: String,
    #[serde(default)]
    user: Option<Author>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Author {
    #[serde(default, rename = "type")]
    kind: String,
}

impl Posted {
    /// Whether it is ours: it has the marker, and was written by somebody who may write to the repository. A marker
    /// can be copied by anyone who may comment.
    pub(super) fn is_ours(&self, marker: &str) -> bool {
        let by_us = self.user.as_ref().is_some_and(|user| user.kind == "Bot")
            || matches!(
                self.author_association.as_str(),
                "OWNER" | "MEMBER" | "COLLABORATOR"
            );
        by_us && self.body.as_ref().is_some_and(|body| body.starts_with(marker))
    }
}
