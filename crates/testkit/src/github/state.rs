//! What the fake knows and what was done to it.

use std::collections::BTreeMap;
use std::time::Duration;

use http::Method;
use serde_json::Value;

use super::Fault;

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) repositories: BTreeMap<String, Repository>,
    pub(super) faults: Vec<(Method, String, usize, Fault)>,
    pub(super) delay: Duration,
    pub(super) denied: Vec<String>,
    /// Downloads that came with a token.
    pub(super) leaks: usize,
    ids: u64,
}

#[derive(Debug, Default)]
pub(super) struct Repository {
    pub(super) workflows: Vec<Workflow>,
    pub(super) runs: Vec<Value>,
    /// Run, attempt, job.
    pub(super) jobs: Vec<(u64, u64, Value)>,
    pub(super) logs: BTreeMap<u64, String>,
    pub(super) annotations: BTreeMap<u64, Vec<Value>>,
    pub(super) comparisons: BTreeMap<(String, String), Value>,
    pub(super) files: BTreeMap<String, String>,
    pub(super) pull_requests: Vec<(u64, String)>,
    pub(super) issues: Vec<Value>,
    /// Number of the issue, comment.
    pub(super) comments: Vec<(u64, Value)>,
    /// Commit, comment.
    pub(super) commit_comments: Vec<(String, Value)>,
    pub(super) labels: BTreeMap<u64, Vec<String>>,
    pub(super) dispatches: Vec<Value>,
}

#[derive(Debug)]
pub(super) struct Workflow {
    pub(super) id: u64,
    pub(super) file: String,
    pub(super) inputs: Vec<String>,
}

impl State {
    pub(super) fn next_id(&mut self) -> u64 {
        self.ids += 1;
        1_000 + self.ids
    }

    /// A repository that a test has added; another name is a mistake in the test.
    pub(super) fn repository(&mut self, name: &str) -> &mut Repository {
        self.repositories
            .get_mut(name)
            .unwrap_or_else(|| panic!("no repository {name}: add it first"))
    }

    /// The fault that this request meets, once less from then on.
    pub(super) fn fault(&mut self, method: &Method, path: &str) -> Option<Fault> {
        let at = self
            .faults
            .iter()
            .position(|(of, part, times, _)| of == method && *times > 0 && path.contains(part.as_str()))?;
        self.faults[at].2 -= 1;
        Some(self.faults[at].3.clone())
    }
}

impl Repository {
    /// Issues and pull requests have one row of numbers.
    pub(super) fn next_number(&self) -> u64 {
        let issues = self.issues.iter().filter_map(|issue| issue["number"].as_u64());
        let pulls = self.pull_requests.iter().map(|(number, _)| *number);
        issues.chain(pulls).max().unwrap_or(0) + 1
    }

    pub(super) fn has_number(&self, number: u64) -> bool {
        self.issues.iter().any(|issue| issue["number"] == number)
            || self.pull_requests.iter().any(|(pull, _)| *pull == number)
    }
}
