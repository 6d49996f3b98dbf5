//! What each model is compared with: profiles that are given or found, and replaced while the process runs.
//!
//! A profile that changes is taken up within two looks at the files. One that is bad is told and changes nothing: the model goes on
//! with the one that it had.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use plumbline_drift::monitor::MonitorError;
use plumbline_drift::{Profile, Settings};

use crate::config::{Config, NamedProfile};
use crate::events::Raise;
use crate::files;
use crate::metrics::Metrics;
use crate::models::{Model, Models};
use crate::observation::Observing;
use crate::observer::{Analysis, profile_identity};
use crate::profiles::{BadProfile, Found, Watch, find};
use crate::state::StateDir;

/// How often what has changed is stored: with the time to write it, well below a second.
const SAVE: Duration = Duration::from_millis(500);

/// Ending of a file with a learned profile.
const LEARNED: &str = "learned.json";

/// Makes analyses out of profiles.
#[derive(Clone, Debug)]
pub(crate) struct References {
    settings: Settings,
    learn_rows: u64,
    /// Where learned profiles are kept across restarts.
    directory: Option<PathBuf>,
    /// Where states are.
    state: Option<StateDir>,
    /// Tells the ends of episodes whose reference is replaced.
    raise: Arc<Raise>,
    metrics: Metrics,
}

impl References {
    /// # Errors
    /// The system's, when the state directory cannot be used.
    pub(crate) fn new(config: &Config, metrics: &Metrics, raise: &Arc<Raise>) -> std::io::Result<Self> {
        let open = |directory| StateDir::open(directory, metrics.state.clone());
        Ok(Self {
            state: config.state_dir.as_deref().map(open).transpose()?,
            settings: config.drift,
            learn_rows: config.learn_rows,
            directory: config.state_dir.clone(),
            raise: Arc::clone(raise),
            metrics: metrics.clone(),
        })
    }

    /// Takes up the profiles that there are at the start.
    pub(crate) fn start(&self, config: &Config, models: &Models) {
        let Found { good, bad } = find(config);
        for profile in &bad {
            tell(
                profile,
                "bad reference profile; forwarding without drift detection",
            );
            self.metrics.profile_loaded(&profile.model, false);
        }
        for profile in &bad {
            models.do_not_learn(&profile.model);
        }
        let learned = self.learned_before();
        let given = |name: &String| {
            good.iter().any(|named| named.model == *name) || bad.iter().any(|bad| bad.model == *name)
        };
        let learned: Vec<NamedProfile> = learned.into_iter().filter(|named| !given(&named.model)).collect();
        for named in good.into_iter().chain(learned) {
            let model = named.model.clone();
            if let Err(error) = self.take(models, named) {
                tracing::warn!(model.name = model, %error, "unusable reference profile; forwarding without drift detection");
                self.metrics.profile_loaded(&model, false);
            }
        }
    }

    fn save(&self, observing: &Observing) {
        if let Some(state) = &self.state {
            state.save(&observing.models);
        }
        observing.feedback.save();
    }

    /// Rows that a reference is learned from.
    pub(crate) fn learn_rows(&self) -> u64 {
        self.learn_rows
    }

    /// Shows how far a model's learning is.
    pub(crate) fn learning(&self, model: &Model, rows: u64) {
        model.set_learning(Some(rows));
        self.metrics.references.learning(&model.name, rows, false);
    }

    /// Takes up what has been learned from a model's first rows.
    pub(crate) fn learned(&self, models: &Models, model: &Model, profile: Profile) {
        let rows = profile.data.rows;
        let json = profile.to_json();
        // As the next start will read it: a state belongs to a profile to the last digit.
        let profile = Profile::from_json(json.as_bytes()).unwrap_or(profile);
        if let Some(directory) = &self.directory {
            let path = files::path(directory, &model.name, &model.version, LEARNED);
            let kept = std::fs::create_dir_all(directory)
                .and_then(|()| plumbline_service::write_whole(&path, json.as_bytes()));
            if let Err(error) = kept {
                tracing::warn!(%error, file = %path.display(), "the learned reference is not kept for the next start");
            }
        }
        let named = NamedProfile {
            model: model.name.clone(),
            profile,
        };
        match self.take(models, named) {
            Ok(()) => {
                self.metrics.references.learning(&model.name, rows, true);
                tracing::warn!(
                    model.name = model.name,
                    rows,
                    "the reference was learned from the model's first rows: drift that was in them is not seen"
                );
            }
            Err(error) => Self::give_up(model, &error.to_string()),
        }
    }

    /// Ends the learning of a model's reference for good.
    pub(crate) fn give_up(model: &Model, reason: &str) {
        model.set_learning(None);
        tracing::warn!(
            model.name = model.name,
            reason,
            "no reference can be learned; rows are not compared"
        );
    }

    /// What earlier processes have learned.
    fn learned_before(&self) -> Vec<NamedProfile> {
        let entries = self
            .directory
            .as_ref()
            .and_then(|directory| std::fs::read_dir(directory).ok());
        let mut learned = Vec::new();
        for path in entries
            .into_iter()
            .flatten()
            .filter_map(|entry| Some(entry.ok()?.path()))
        {
            if !path.to_string_lossy().ends_with(LEARNED) {
                continue;
            }
            match Profile::load(&path) {
                Ok(profile) => {
                    self.metrics
                        .references
                        .learning(&profile.model.name, profile.data.rows, true);
                    learned.push(NamedProfile {
                        model: profile.model.name.clone(),
                        profile,
                    });
                }
                Err(error) => {
                    tracing::warn!(file = %path.display(), error = %plumbline_service::error_chain(&error), "bad learned reference; it is learned anew");
                }
            }
        }
        learned
    }

    /// Takes up what has changed in the files.
    fn refresh(&self, models: &Models, found: Found) {
        for profile in &found.bad {
            tell(profile, "the new reference profile is bad; the old one stays");
            self.metrics.references.reload_failed.inc();
        }
        for mut named in found.good {
            let model = named.model.clone();
            named.profile.model.name.clone_from(&model);
            let identity = profile_identity(&named.profile);
            let known = models.known(&model, Some(&named.profile.model.version));
            let same = |known: &Arc<Model>| {
                known.with_analysis(|analysis| analysis.profile() == identity) == Some(true)
            };
            if known.as_ref().is_some_and(same) {
                continue;
            }
            match self.take(models, named) {
                Ok(()) => self.metrics.references.reloaded.inc(),
                Err(error) => {
                    tracing::warn!(model.name = model, %error, "the new reference profile is unusable; the old one stays");
                    self.metrics.references.reload_failed.inc();
                }
            }
        }
    }

    /// Compares the rows of a model with this profile from now on.
    fn take(&self, models: &Models, mut named: NamedProfile) -> Result<(), MonitorError> {
        // Reports tell the name under which the model is served.
        named.profile.model.name.clone_from(&named.model);
        let NamedProfile { model, profile } = named;
        let version = &profile.model.version;
        let mut analysis = Analysis::new(&profile, self.settings, &self.metrics, [&model, version])?;
        tracing::info!(
            model.name = model,
            model.version = version,
            rows = profile.data.rows,
            subjects = profile.subjects().count(),
            "reference profile loaded"
        );
        let left = self.state.as_ref().and_then(|state| {
            state.restore(&model, version, |state| {
                analysis.go_on(&profile, self.settings, state)
            })
        });
        if left.is_some() {
            // Takes the place of the other profile's state, which must not go on when that profile comes back.
            analysis.touch();
        }
        let now = analysis.standing();
        let mut before = models.set_analysis(&model, version, analysis);
        before.extend(left);
        self.raise.replaced(&models.profiles(&model), &now, &before);
        Ok(())
    }
}

fn tell(bad: &BadProfile, what: &str) {
    let BadProfile { model, path, reason } = bad;
    tracing::warn!(model.name = model, profile = %path.display(), error = %reason, "{what}");
}

/// The thread that looks at the files and stores the state.
#[derive(Debug)]
pub(crate) struct Keeper {
    thread: Option<JoinHandle<()>>,
    /// Dropped to end it.
    stop: Option<mpsc::Sender<()>>,
}

impl Keeper {
    /// Starts it.
    ///
    /// # Errors
    /// The system's, when there is no thread to have.
    pub(crate) fn spawn(
        references: References,
        config: &Config,
        observing: &Arc<Observing>,
    ) -> std::io::Result<Self> {
        let (stop, stopped) = mpsc::channel();
        let observing = Arc::clone(observing);
        let (mut watch, poll) = (Watch::new(config), config.profile_poll);
        let thread = std::thread::Builder::new()
            .name("sidecar-keeper".to_owned())
            .spawn(move || {
                let mut looked = Instant::now();
                while stopped.recv_timeout(poll.min(SAVE)) == Err(RecvTimeoutError::Timeout) {
                    references.save(&observing);
                    if looked.elapsed() < poll {
                        continue;
                    }
                    looked = Instant::now();
                    if let Some(found) = watch.changed() {
                        references.refresh(&observing.models, found);
                    }
                }
                references.save(&observing);
            })?;
        Ok(Self {
            thread: Some(thread),
            stop: Some(stop),
        })
    }

    /// Ends it and waits for that.
    pub(crate) async fn finish(mut self) {
        drop(self.stop.take());
        let Some(thread) = self.thread.take() else { return };
        let joined = tokio::task::spawn_blocking(move || thread.join()).await;
        if !matches!(joined, Ok(Ok(()))) {
            tracing::error!("the thread that keeps references and state ended with a panic");
        }
    }
}
