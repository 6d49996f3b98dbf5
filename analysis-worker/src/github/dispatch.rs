//! Dispatches of workflows.

use std::collections::BTreeMap;

use http::Method;
use serde_json::json;

use super::model::{Run, Runs};
use super::{Error, GitHub, PER_PAGE, Repository, segment};

impl GitHub {
    /// Starts a workflow by its file name or number.
    ///
    /// # Errors
    /// [`Error`]; without an answer it may have been started all the same: see [`GitHub::find_dispatched`].
    pub(crate) async fn dispatch(
        &self,
        repository: &Repository,
        workflow: &str,
        git_ref: &str,
        inputs: &BTreeMap<String, String>,
    ) -> Result<(), Error> {
        let path = repository.path(&format!("/actions/workflows/{}/dispatches", segment(workflow)));
        self.write(Method::POST, &path, &json!({"ref": git_ref, "inputs": inputs}))
            .await?;
        Ok(())
    }

    /// The newest dispatched run of a workflow whose title has `key` in it. A workflow that is to be dispatched once
    /// puts the key, one of its inputs, into its `run-name`.
    ///
    /// # Errors
    /// [`Error`].
    pub(crate) async fn find_dispatched(
        &self,
        repository: &Repository,
        workflow: &str,
        key: &str,
    ) -> Result<Option<Run>, Error> {
        let path = repository.path(&format!(
            "/actions/workflows/{}/runs?event=workflow_dispatch&per_page={PER_PAGE}",
            segment(workflow)
        ));
        let mut page: Runs = self.read(&path).await?;
        let at = page
            .workflow_runs
            .iter()
            .position(|run| run.display_title.contains(key));
        Ok(at.map(|at| page.workflow_runs.swap_remove(at)))
    }
}
