//! The models that are served. Only this module loads them; everyone else holds a snapshot.
//!
//! One thread, the [`keeper`], loads, swaps and unloads; requests read the snapshot that it leaves.

mod content;
mod discover;
mod given;
mod keeper;
mod load;
mod memory;
mod model_toml;
mod policy;
mod record;
mod rows;
mod scan;
mod signature;
mod snapshot;
mod stamp;
mod warm_up;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::StatusCode;
use plumbline_inference_protocol::{ModelRef, ProtocolError};
use plumbline_service::admin::{self, Page};
use plumbline_service::{Readiness, ReadinessToken};
use tokio::sync::{oneshot, watch};

use self::keeper::{Command, Keeper};
use self::snapshot::Snapshot;
use crate::config::{ModelControl, RepositoryConfig};
use crate::model::Model;

pub use self::discover::DiscoverError;
pub use self::load::LoadProblem;
pub(crate) use self::load::{Checked, Loader, check_file};
pub use self::model_toml::ModelTomlError;

/// Reads the text of a `model.toml`, or tells in which line it is wrong.
pub(crate) fn parse_model_toml(text: &str) -> Result<(), String> {
    model_toml::ModelToml::parse(text).map(drop)
}
pub use self::policy::VersionPolicy;
pub(crate) use self::scan::{Source, SourceKind};
pub use self::signature::Unservable;
pub(crate) use self::signature::{labels_of, problems_of};
pub(crate) use self::snapshot::{IndexEntry, ModelState, Served};

/// Orders that may wait for the keeper; a load takes long, and each may carry files.
const MAX_WAITING: usize = 64;

/// The models that are served now, and the way to have others served.
pub(crate) struct Repository {
    shared: Arc<Shared>,
    /// The keeper ends when this is dropped.
    commands: SyncSender<Command>,
    /// Dropped after `commands`.
    _keeper: JoinOnDrop,
    control: ModelControl,
}

/// A thread that is waited for. The process must not end while it builds a session: the destructors of ONNX Runtime's
/// library would run under it.
struct JoinOnDrop(Option<JoinHandle<()>>);

impl Drop for JoinOnDrop {
    fn drop(&mut self) {
        if let Some(Err(_panic)) = self.0.take().map(JoinHandle::join) {
            tracing::error!("the thread that loads models panicked");
        }
    }
}

/// What the keeper writes and requests read.
struct Shared {
    snapshot: ArcSwap<Snapshot>,
    /// Told of each new snapshot.
    changed: watch::Sender<()>,
}

impl Shared {
    fn index(&self) -> Vec<IndexEntry> {
        let snapshot = self.snapshot.load();
        let mut models: Vec<_> = snapshot.models.iter().collect();
        models.sort_unstable_by_key(|(name, _)| *name);
        let lines = models.into_iter().flat_map(|(_, entry)| entry.index.iter());
        lines.cloned().collect()
    }
}

/// What a load by request may bring along.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LoadParameters {
    /// A model configuration, JSON in Triton's terms, that takes the place of the model's own.
    pub(crate) config: Option<String>,
    /// Files to serve instead of the repository's: `<version>/<name>` and bytes.
    pub(crate) files: Vec<(String, Bytes)>,
}

impl Repository {
    /// Starts the keeper. `unready` keeps the server unready until the initial load has ended; how it ended is told
    /// through the receiver.
    ///
    /// # Errors
    /// The operating system's, when it has no thread to give.
    pub(crate) fn start(
        loader: Loader,
        config: RepositoryConfig,
        readiness: Readiness,
        unready: ReadinessToken,
    ) -> std::io::Result<(Repository, oneshot::Receiver<Result<(), LoadErrors>>)> {
        let first = Snapshot {
            is_first: true,
            ..Snapshot::default()
        };
        let shared = Arc::new(Shared {
            snapshot: ArcSwap::from_pointee(first),
            changed: watch::Sender::new(()),
        });
        let control = config.control;
        let keeper = Keeper::new(loader, config, Arc::clone(&shared), readiness, unready);
        let (commands, orders) = sync_channel(MAX_WAITING);
        let (ended, started) = oneshot::channel();
        let thread = std::thread::Builder::new().name("repository".to_owned());
        let thread = thread.spawn(move || keeper.run(&orders, ended))?;
        let repository = Repository {
            shared,
            commands,
            _keeper: JoinOnDrop(Some(thread)),
            control,
        };
        Ok((repository, started))
    }

    /// The model that a request names; without a version, its newest.
    ///
    /// # Errors
    /// [`ProtocolError::UnknownModel`], [`ProtocolError::UnknownVersion`]; [`ProtocolError::ModelNotReady`] while it
    /// is loading, or when it failed to load.
    pub(crate) fn find(&self, reference: &ModelRef) -> Result<Served, ProtocolError> {
        self.shared.snapshot.load().find(reference).cloned()
    }

    /// As [`Repository::find`], for whoever only runs the model.
    ///
    /// # Errors
    /// As [`Repository::find`].
    pub(crate) fn find_model(&self, reference: &ModelRef) -> Result<Arc<Model>, ProtocolError> {
        let snapshot = self.shared.snapshot.load();
        Ok(Arc::clone(&snapshot.find(reference)?.model))
    }

    /// Changes whenever a model comes, goes, or is in another state.
    pub(crate) fn watch(&self) -> watch::Receiver<()> {
        self.shared.changed.subscribe()
    }

    /// Whether models are loaded and unloaded by request.
    pub(crate) fn is_explicit(&self) -> bool {
        self.control == ModelControl::Explicit
    }

    /// Names of all models that are served, in order.
    pub(crate) fn names(&self) -> Vec<String> {
        let snapshot = self.shared.snapshot.load();
        let served = snapshot
            .models
            .iter()
            .filter(|(_, entry)| !entry.served.is_empty());
        let mut names: Vec<String> = served.map(|(name, _)| name.clone()).collect();
        names.sort_unstable();
        names
    }

    /// Every model that is known, in the order of names and versions.
    pub(crate) fn index(&self) -> Vec<IndexEntry> {
        self.shared.index()
    }

    /// The index as an admin page, in every mode.
    pub(crate) fn index_page(&self) -> impl Fn(&str) -> Page + Send + Sync + 'static {
        let shared = Arc::clone(&self.shared);
        move |_query| {
            let line = |line: IndexEntry| {
                serde_json::json!({
                    "name": line.name, "version": line.version, "state": line.state.name(), "reason": line.reason,
                })
            };
            let lines: Vec<_> = shared.index().into_iter().map(line).collect();
            admin::json(StatusCode::OK, &lines)
        }
    }

    /// Loads a model, or loads it again; all that its version policy chooses, or nothing. Returns when it is served.
    /// Dropping the future does not stop the load.
    ///
    /// # Errors
    /// [`ProtocolError::Unsupported`] unless models are controlled by request; [`ProtocolError::UnknownModel`];
    /// [`ProtocolError::LoadFailed`], and what was served before still is.
    pub(crate) async fn load(&self, name: &str, parameters: LoadParameters) -> Result<(), ProtocolError> {
        let name = name.to_owned();
        self.order(|reply| Command::Load {
            name,
            parameters,
            reply,
        })
        .await
    }

    /// Serves a model no longer; its requests in flight are finished. Unloading what is not loaded is no error.
    /// `unload_dependents` is for ensembles, which this server does not have.
    ///
    /// # Errors
    /// [`ProtocolError::Unsupported`] unless models are controlled by request; [`ProtocolError::UnknownModel`].
    pub(crate) async fn unload(&self, name: &str, _unload_dependents: bool) -> Result<(), ProtocolError> {
        let name = name.to_owned();
        self.order(|reply| Command::Unload { name, reply }).await
    }

    async fn order(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<(), ProtocolError>>) -> Command,
    ) -> Result<(), ProtocolError> {
        if self.control != ModelControl::Explicit {
            return Err(ProtocolError::Unsupported {
                what: format!(
                    "explicit model load / unload with --model-control {}",
                    self.control
                )
                .into(),
            });
        }
        let (reply, answer) = oneshot::channel();
        self.commands
            .try_send(command(reply))
            .map_err(|error| match error {
                TrySendError::Full(_) => ProtocolError::NotReady {
                    reason: format!("{MAX_WAITING} loads and unloads already wait").into(),
                },
                TrySendError::Disconnected(_) => ProtocolError::Draining,
            })?;
        answer.await.unwrap_or(Err(ProtocolError::Draining))
    }
}

/// A model that cannot be served, and why.
#[derive(Debug, thiserror::Error)]
#[error("{}", Place(.name.as_deref(), .place))]
pub struct LoadError {
    /// Its name, where there is one.
    pub(crate) name: Option<String>,
    /// The file or directory.
    pub(crate) place: PathBuf,
    /// What is wrong.
    #[source]
    pub(crate) problem: LoadProblem,
}

impl LoadError {
    fn unknown(name: &str, config: &RepositoryConfig) -> LoadError {
        LoadError {
            name: Some(name.to_owned()),
            place: config.model_repository.clone().unwrap_or_default(),
            problem: LoadProblem::NotInRepository,
        }
    }

    /// The error with what is wrong.
    fn in_one_line(&self) -> String {
        format!("{self}: {}", self.problem)
    }
}

struct Place<'a>(Option<&'a str>, &'a Path);

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place(Some(name), place) => write!(f, "model `{name}` ({})", place.display()),
            Place(None, place) => write!(f, "no model at {}", place.display()),
        }
    }
}

/// Every model that cannot be served; nothing is served then.
#[derive(Debug, thiserror::Error)]
pub struct LoadErrors(pub(crate) Vec<LoadError>);

impl fmt::Display for LoadErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let noun = if self.0.len() == 1 { "model" } else { "models" };
        write!(f, "{} {noun} cannot be served", self.0.len())?;
        self.0
            .iter()
            .try_for_each(|error| write!(f, "\n  {error}: {}", error.problem))
    }
}
