//! Follows one collection of the API server: lists it, then watches it from where the list ended.

use std::pin::pin;
use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
use kube::Client;
use kube::api::{ListParams, ObjectList, WatchEvent, WatchParams};
use kube::core::Request;
use plumbline_service::error_chain;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::object::{Key, Kind, Object};

/// Objects in one page of a list: what is held besides the result.
const PAGE: u32 = 500;
/// How long a watch is asked for. A server that vanished without a word is noticed after this and [`GRACE`].
const WATCH: Duration = Duration::from_mins(1);
/// For an answer to begin, or a watch to end by itself.
const GRACE: Duration = Duration::from_secs(10);
/// A watch that was open for this long has worked.
const WORKED: Duration = Duration::from_secs(1);
/// Before the first attempt after a failure; doubled with each, up to the maximum. Between a half and all of it is waited,
/// so that gateways do not come back all at once.
const BACKOFF: Duration = Duration::from_millis(200);
const BACKOFF_AT_MOST: Duration = Duration::from_secs(15);
/// HTTP's 410: what came after a version is no longer known.
const GONE: u16 = 410;

/// What happens to a collection.
#[derive(Debug)]
pub(super) enum Change<T> {
    /// All there is.
    Replaced(Vec<Object<T>>),
    Applied(Object<T>),
    Deleted(Key),
    /// The watch is open: what was told is what there is.
    Following,
    /// The API server cannot be followed, since now.
    Lost,
}

/// One collection: a kind of object, in a namespace or in all.
pub(super) struct Reflector<T, E> {
    pub(super) client: Client,
    pub(super) path: String,
    pub(super) label_selector: Option<String>,
    pub(super) events: mpsc::Sender<E>,
    pub(super) event: Box<dyn Fn(Change<T>) -> E + Send + Sync>,
}

/// Why following ended.
enum Ended {
    /// In good order, as watches do after their time: goes on from the last version.
    Watch,
    /// What came after the last version is not known any more, or cannot be read: starts with a list.
    Gone(String),
    Failed(String),
    /// Nobody listens.
    Closed,
}

/// Where a collection is.
pub(super) fn path<T: Kind>(namespace: Option<&str>) -> String {
    match namespace {
        Some(namespace) => format!("{}/namespaces/{namespace}/{}", T::API, T::PLURAL),
        None => format!("{}/{}", T::API, T::PLURAL),
    }
}

impl<T: Kind, E: Send + 'static> Reflector<T, E> {
    /// Follows until nobody listens.
    pub(super) async fn run(self) {
        let mut version = None;
        let mut failures = 0;
        loop {
            let mut opened: Option<Instant> = None;
            let ended = self.follow(&mut version, &mut opened).await;
            if opened.is_some_and(|opened| opened.elapsed() >= WORKED) {
                failures = 0;
            }
            // The first time the way is clear; what goes on failing is not asked over and over.
            let mut wait = failures > 0;
            match ended {
                Ended::Closed => return,
                Ended::Watch => {}
                Ended::Gone(reason) => {
                    version = None;
                    tracing::info!(path = self.path, reason, "the watch cannot go on; listing again");
                    let _closed = self.tell(Change::Lost).await;
                }
                Ended::Failed(error) => {
                    if failures == 0 {
                        tracing::warn!(
                            path = self.path,
                            error,
                            "the API server cannot be followed; trying again"
                        );
                    } else {
                        tracing::debug!(
                            path = self.path,
                            error,
                            "the API server cannot be followed; trying again"
                        );
                    }
                    wait = true;
                    let _closed = self.tell(Change::Lost).await;
                }
            }
            if wait {
                tokio::select! {
                    () = tokio::time::sleep(backoff(failures)) => {}
                    () = self.events.closed() => return,
                }
            }
            failures += 1;
        }
    }

    async fn follow(&self, version: &mut Option<String>, opened: &mut Option<Instant>) -> Ended {
        let result = async {
            if version.is_none() {
                *version = Some(self.list().await?);
            }
            self.watch(version, opened).await
        };
        let ended = tokio::select! {
            result = result => result,
            () = self.events.closed() => Ok(Ended::Closed),
        };
        ended.unwrap_or_else(|ended| ended)
    }

    /// Lists page by page, and returns the version that the list is of.
    async fn list(&self) -> Result<String, Ended> {
        let mut objects = Vec::new();
        let mut parameters = ListParams::default().limit(PAGE);
        parameters.label_selector.clone_from(&self.label_selector);
        loop {
            let request = Request::new(&self.path).list(&parameters);
            let page = self
                .client
                .request::<ObjectList<Object<T>>>(request.map_err(failed)?);
            let page = tokio::time::timeout(WATCH, page).await.map_err(failed)?;
            let page = page.map_err(|error| ended(&error))?;
            objects.extend(page.items);
            let Some(token) = page.metadata.continue_.filter(|token| !token.is_empty()) else {
                self.tell(Change::Replaced(objects)).await?;
                return Ok(page.metadata.resource_version.unwrap_or_default());
            };
            parameters = parameters.continue_token(&token);
        }
    }

    async fn watch(
        &self,
        version: &mut Option<String>,
        opened: &mut Option<Instant>,
    ) -> Result<Ended, Ended> {
        let mut parameters = WatchParams::default().timeout(WATCH.as_secs() as u32);
        parameters.label_selector.clone_from(&self.label_selector);
        let from = version.as_deref().unwrap_or_default();
        let request = Request::new(&self.path)
            .watch(&parameters, from)
            .map_err(failed)?;
        let events = self.client.request_events::<Object<T>>(request);
        let events = tokio::time::timeout(GRACE, events).await.map_err(failed)?;
        let events = pin!(events.map_err(|error| ended(&error))?);
        let mut events = as_stream(events);
        self.tell(Change::Following).await?;
        let now = Instant::now();
        *opened = Some(now);
        loop {
            let event = tokio::time::timeout_at(now + WATCH + GRACE, events.next()).await;
            let Some(event) = event.map_err(failed)? else {
                return Ok(Ended::Watch);
            };
            let (at, change) = match event.map_err(|error| ended(&error))? {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                    (object.version.to_string(), Some(Change::Applied(object)))
                }
                WatchEvent::Deleted(object) => {
                    (object.version.to_string(), Some(Change::Deleted(object.key)))
                }
                WatchEvent::Bookmark(bookmark) => (bookmark.metadata.resource_version, None),
                WatchEvent::Error(status) if status.code == GONE => return Ok(Ended::Gone(status.message)),
                WatchEvent::Error(status) => return Ok(Ended::Failed(status.message)),
            };
            if let Some(change) = change {
                self.tell(change).await?;
            }
            *version = Some(at);
        }
    }

    async fn tell(&self, change: Change<T>) -> Result<(), Ended> {
        let sent = self.events.send((self.event)(change)).await;
        sent.map_err(|_| Ended::Closed)
    }
}

/// Says what the items of kube's stream are, which its own type hides.
fn as_stream<T>(
    events: impl Stream<Item = kube::Result<WatchEvent<T>>>,
) -> impl Stream<Item = kube::Result<WatchEvent<T>>> {
    events
}

fn ended(error: &kube::Error) -> Ended {
    match error {
        kube::Error::Api(status) if status.code == GONE => Ended::Gone(status.message.clone()),
        // Asked again from the same version, the same event would come.
        kube::Error::SerdeError(error) => Ended::Gone(error.to_string()),
        kube::Error::Api(status) => Ended::Failed(format!("{} ({})", status.message, status.code)),
        other => Ended::Failed(error_chain(other)),
    }
}

fn failed(error: impl std::error::Error + 'static) -> Ended {
    Ended::Failed(error_chain(&error))
}

fn backoff(failures: u32) -> Duration {
    let most = BACKOFF.saturating_mul(1 << failures.min(10)).min(BACKOFF_AT_MOST);
    most.mul_f64(0.5 + fastrand::f64() / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_maximum_and_differ() {
        for (failures, most) in [(0, 200), (1, 400), (6, 12_800), (7, 15_000), (u32::MAX, 15_000)] {
            let most = Duration::from_millis(most);
            let waits: Vec<Duration> = (0..100).map(|_| backoff(failures)).collect();
            assert!(
                waits.iter().all(|wait| (most / 2..=most).contains(wait)),
                "{waits:?}"
            );
            assert!(waits.iter().any(|wait| *wait != waits[0]));
        }
    }
}
