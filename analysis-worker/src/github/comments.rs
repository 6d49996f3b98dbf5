//! Comments and labels. Every comment of ours carries a marker, by which it is found again.

use http::Method;
use serde_json::json;

use super::body::{MAX_BODY, fit};
use super::model::{Numbered, Posted};
use super::{Error, GitHub, PER_PAGE, Repository, segment};

/// A line that no reader sees and by which a text of ours is found again.
///
/// `kind` and `key` are ours, so that no text from outside can end the comment.
pub(crate) fn marker(kind: &str, key: &str) -> String {
    format!("<!-- plumbline:{kind}:{key} -->")
}

impl GitHub {
    /// Our comment with this marker on an issue or pull request.
    ///
    /// # Errors
    /// [`Error`].
    pub(crate) async fn find_comment(
        &self,
        repository: &Repository,
        number: u64,
        marker: &str,
    ) -> Result<Option<Posted>, Error> {
        let path = repository.path(&format!("/issues/{number}/comments?per_page={PER_PAGE}"));
        let comments: Vec<Posted> = self.pages(&path, None).await?;
        Ok(comments.into_iter().find(|comment| comment.is_ours(marker)))
    }

    /// Comments on an issue or pull request.
    ///
    /// # Errors
    /// [`Error`]; without an answer the comment may be there all the same.
    pub(crate) async fn comment(
        &self,
        repository: &Repository,
        number: u64,
        body: &str,
    ) -> Result<Posted, Error> {
        let path = repository.path(&format!("/issues/{number}/comments"));
        self.write_for(Method::POST, &path, &json!({"body": fit(body, MAX_BODY)}))
            .await
    }

    /// Writes a comment of an issue or pull request anew.
    ///
    /// # Errors
    /// [`Error`].
    pub(crate) async fn update_comment(
        &self,
        repository: &Repository,
        id: u64,
        body: &str,
    ) -> Result<Posted, Error> {
        let path = repository.path(&format!("/issues/comments/{id}"));
        self.write_for(Method::PATCH, &path, &json!({"body": fit(body, MAX_BODY)}))
            .await
    }

    /// Our comment with this marker on a commit.
    ///
    /// # Errors
    /// [`Error`].
    pub(crate) async fn find_commit_comment(
        &self,
        repository: &Repository,
        sha: &str,
        marker: &str,
    ) -> Result<Option<Posted>, Error> {
        let path = repository.path(&format!("/commits/{}/comments?per_page={PER_PAGE}", segment(sha)));
        let comments: Vec<Posted> = self.pages(&path, None).await?;
        Ok(comments.into_iter().find(|comment| comment.is_ours(marker)))
    }

    /// Comments on a commit.
    ///
    /// # Errors
    /// [`Error`]; without an answer the comment may be there all the same.
    pub(crate) async fn comment_commit(
        &self,
        repository: &Repository,
        sha: &str,
        body: &str,
    ) -> Result<Posted, Error> {
        let path = repository.path(&format!("/commits/{}/comments", segment(sha)));
        self.write_for(Method::POST, &path, &json!({"body": fit(body, MAX_BODY)}))
            .await
    }

    /// Writes a comment of a commit anew.
    ///
    /// # Errors
    /// [`Error`].
    pub(crate) async fn update_commit_comment(
        &self,
        repository: &Repository,
        id: u64,
        body: &str,
    ) -> Result<Posted, Error> {
        let path = repository.path(&format!("/comments/{id}"));
        self.write_for(Method::PATCH, &path, &json!({"body": fit(body, MAX_BODY)}))
            .await
    }

    /// Adds labels to an issue or pull request; those that are there already stay.
    ///
    /// # Errors
    /// [`Error`].
    pub(crate) async fn add_labels(
        &self,
        repository: &Repository,
        number: u64,
        labels: &[String],
    ) -> Result<(), Error> {
        let path = repository.path(&format!("/issues/{number}/labels"));
        self.write(Method::POST, &path, &json!({"labels": labels}))
            .await?;
        Ok(())
    }

    /// The pull request that a commit belongs to: the newest, if there are several.
    ///
    /// # Errors
    /// [`Error`].
    pub(crate) async fn pull_request_of(
        &self,
        repository: &Repository,
        sha: &str,
    ) -> Result<Option<u64>, Error> {
        let path = repository.path(&format!("/commits/{}/pulls?per_page={PER_PAGE}", segment(sha)));
        let pulls: Vec<Numbered> = self.read(&path).await?;
        Ok(pulls.iter().map(|pull| pull.number).max())
    }
}
