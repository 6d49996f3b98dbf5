//! Issues. Every one of ours carries a marker, by which it is found again.

use http::Method;
use serde_json::json;

use super::body::{MAX_BODY, MAX_TITLE, fit};
use super::model::Posted;
use super::{Error, GitHub, PER_PAGE, Repository};
use crate::text::one_line;

/// Label of every issue that the worker opens.
pub(crate) const LABEL: &str = "plumbline";

/// An issue to be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NewIssue {
    pub(crate) title: String,
    /// Markdown, its marker first; what is beyond GitHub's limit is cut off and told.
    pub(crate) body: String,
    /// Besides [`LABEL`]; made by GitHub where they are missing.
    pub(crate) labels: Vec<String>,
}

impl GitHub {
    /// The issue with this marker, open or closed.
    ///
    /// The list is asked, not the search: that knows of an issue only after a while, and a second one would be opened
    /// in between. Who can set a label may write to the repository, so a copied marker does not count; nor does one that
    /// stands in a fact further down.
    ///
    /// # Errors
    /// [`Error`].
    pub(crate) async fn find_issue(
        &self,
        repository: &Repository,
        marker: &str,
    ) -> Result<Option<Posted>, Error> {
        let query =
            format!("/issues?labels={LABEL}&state=all&sort=created&direction=desc&per_page={PER_PAGE}");
        let issues: Vec<Posted> = self.pages(&repository.path(&query), None).await?;
        let has = |issue: &Posted| issue.body.as_ref().is_some_and(|body| body.starts_with(marker));
        // The oldest, if a person copied it.
        Ok(issues.into_iter().rfind(has))
    }

    /// Opens an issue. Look for it first: GitHub has no key that would keep a second one away.
    ///
    /// # Errors
    /// [`Error`]; without an answer it may be open all the same.
    pub(crate) async fn create_issue(
        &self,
        repository: &Repository,
        issue: &NewIssue,
    ) -> Result<Posted, Error> {
        let mut labels = vec![LABEL];
        labels.extend(issue.labels.iter().map(String::as_str));
        let body = json!({
            "title": one_line(&issue.title, MAX_TITLE),
            "body": fit(&issue.body, MAX_BODY),
            "labels": labels,
        });
        self.write_for(Method::POST, &repository.path("/issues"), &body)
            .await
    }
}
