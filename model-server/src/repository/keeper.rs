//! The one thread that loads and unloads models, and swaps what requests see.
//!
//! Orders and looks at the files are worked off one after the other, away from the network threads. A model goes
//! through: load → run with zeros → swap → the old one finishes its requests → its memory is given back. Whatever
//! fails before the swap leaves the old one serving.

mod follow;
mod load;
mod publish;
mod unload;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use plumbline_inference_protocol::ProtocolError;
use plumbline_service::{Readiness, ReadinessToken};
use tokio::sync::oneshot;

use self::load::Offer;
use super::given::Given;
use super::load::Loader;
use super::model_toml::ModelToml;
use super::policy::VersionPolicy;
use super::record::Record;
use super::scan::{Scan, ScannedModel, Scanner, SourceKind};
use super::{LoadError, LoadErrors, LoadParameters, Shared};
use crate::config::{ModelControl, RepositoryConfig};
use crate::model::Model;

/// Looks in a row that do not find a model before it is taken for deleted: a file that is replaced by hand is away
/// for a moment.
const LOOKS_WITHOUT: u32 = 2;
/// How often a model that is no longer served is asked whether its last request has ended.
const DRAIN_TICK: Duration = Duration::from_millis(20);
/// Without anything to look at: as long as the clock allows.
const NEVER: Duration = Duration::from_hours(24);

/// An order from outside.
pub(super) enum Command {
    Load {
        name: String,
        parameters: LoadParameters,
        reply: Reply,
    },
    Unload {
        name: String,
        reply: Reply,
    },
}

type Reply = oneshot::Sender<Result<(), ProtocolError>>;

/// How long files have to be unchanged before they are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Patience {
    /// They are read as they are.
    None,
    /// Two looks have to agree.
    TwoLooks,
}

/// See the module.
pub(super) struct Keeper {
    loader: Loader,
    config: RepositoryConfig,
    scanner: Scanner,
    shared: Arc<Shared>,
    readiness: Readiness,
    /// Held while the server is not ready on account of its models.
    unready: Option<ReadinessToken>,
    has_started: bool,
    records: BTreeMap<String, Record>,
    draining: Vec<Draining>,
    /// Sources that could not be read at the last look, and what was said about them.
    lost: HashMap<usize, String>,
}

/// A model that is no longer served and may still have requests.
struct Draining {
    name: String,
    version: u64,
    model: Arc<Model>,
}

impl Keeper {
    pub(super) fn new(
        loader: Loader,
        config: RepositoryConfig,
        shared: Arc<Shared>,
        readiness: Readiness,
        unready: ReadinessToken,
    ) -> Keeper {
        Keeper {
            scanner: Scanner::new(config.sources()),
            loader,
            config,
            shared,
            readiness,
            unready: Some(unready),
            has_started: false,
            records: BTreeMap::new(),
            draining: Vec::new(),
            lost: HashMap::new(),
        }
    }

    /// Loads what is to be served at start, says how that went, and then works off `commands` until their senders
    /// are gone.
    pub(super) fn run(
        mut self,
        commands: &Receiver<Command>,
        started: oneshot::Sender<Result<(), LoadErrors>>,
    ) {
        let outcome = self.start();
        let goes_on = outcome.is_ok();
        let _nobody_asks = started.send(outcome);
        if !goes_on {
            return;
        }
        let interval = match self.config.control {
            ModelControl::None => NEVER,
            ModelControl::Poll | ModelControl::Explicit => self.config.poll_interval,
        };
        let mut waiting = VecDeque::new();
        let mut last_look = Instant::now();
        loop {
            let until_look = interval.saturating_sub(last_look.elapsed());
            let patience = if self.draining.is_empty() {
                until_look
            } else {
                until_look.min(DRAIN_TICK)
            };
            match commands.recv_timeout(patience) {
                Ok(command) => waiting.push_back(command),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            while let Some(command) = waiting.pop_front() {
                waiting.extend(commands.try_iter());
                self.obey(command, &mut waiting);
            }
            if last_look.elapsed() >= interval {
                self.look();
                last_look = Instant::now();
            }
            self.sweep();
        }
    }

    /// The initial load. What has to be served and cannot be stops the start, all of it at once.
    fn start(&mut self) -> Result<(), LoadErrors> {
        let scan = self.scanner.scan();
        let control = self.config.control;
        let is_fixed = |kind| control == ModelControl::None || kind == SourceKind::Model;
        let mut errors: Vec<LoadError> = scan.lost.into_iter().map(|(_, error)| error).collect();
        if self.config.control == ModelControl::None {
            errors.extend(scan.empty);
        }
        for name in &self.config.load_models {
            if name != "*" && !scan.models.contains_key(name) {
                errors.push(LoadError::unknown(name, &self.config));
            }
        }
        for (name, scanned) in &scan.models {
            let wanted = self.is_wanted_at_start(name, scanned.kind);
            self.expect(name, scanned, wanted);
        }
        self.publish_all();
        for (name, scanned) in &scan.models {
            if !self.records[name].wanted {
                continue;
            }
            if is_fixed(scanned.kind) {
                let outcome = self.load_exactly(name, Offer::found(name, scanned, &Given::default()));
                errors.extend(outcome.err().unwrap_or_default());
            } else {
                self.reconcile(name, scanned, Patience::None);
            }
        }
        if !errors.is_empty() {
            return Err(LoadErrors(errors));
        }
        self.has_started = true;
        self.publish_all();
        Ok(())
    }

    fn is_wanted_at_start(&self, name: &str, kind: SourceKind) -> bool {
        self.config.control != ModelControl::Explicit
            || kind == SourceKind::Model
            || self
                .config
                .load_models
                .iter()
                .any(|wanted| wanted == "*" || wanted == name)
    }

    /// A record of a model whose versions are still to be loaded.
    fn expect(&mut self, name: &str, scanned: &ScannedModel, wanted: bool) {
        let policy = self.policy(scanned.toml.as_ref().ok());
        let mut record = Record {
            source: Some(scanned.source),
            wanted,
            ..Record::default()
        };
        if wanted {
            let available: Vec<u64> = scanned.versions.keys().copied().collect();
            for version in policy.choose(&available) {
                record.versions.entry(version).or_default().is_loading = true;
            }
        }
        record.policy = Arc::new(policy);
        self.records.insert(name.to_owned(), record);
    }

    fn policy(&self, toml: Option<&ModelToml>) -> VersionPolicy {
        let own = toml.and_then(|toml| toml.version_policy.clone());
        own.unwrap_or_else(|| self.config.version_policy.clone())
    }

    // Orders.

    fn obey(&mut self, command: Command, waiting: &mut VecDeque<Command>) {
        match command {
            Command::Load {
                name,
                parameters,
                reply,
            } => {
                // Whoever asks for the same meanwhile gets the same answer, up to the next order about the model.
                let mut replies = vec![reply];
                let mut others = VecDeque::with_capacity(waiting.len());
                let mut is_same = true;
                for other in waiting.drain(..) {
                    match other {
                        Command::Load {
                            name: other,
                            parameters: others,
                            reply,
                        } if is_same && other == name && others == parameters => replies.push(reply),
                        other => {
                            is_same &= other.name() != name;
                            others.push_back(other);
                        }
                    }
                }
                *waiting = others;
                let outcome = self.load_by_request(&name, &parameters);
                for reply in replies {
                    let _client_gone = reply.send(outcome.clone());
                }
            }
            Command::Unload { name, reply } => {
                let outcome = self.unload_by_request(&name);
                let _client_gone = reply.send(outcome);
            }
        }
    }

    fn load_by_request(&mut self, name: &str, parameters: &LoadParameters) -> Result<(), ProtocolError> {
        let given = Given::read(name, parameters).map_err(|error| load_failed(name, &error))?;
        let outcome = if given.files.is_empty() {
            let scan = self.scanner.scan();
            let Some(scanned) = scan.models.get(name) else {
                return Err(match scan.lost.first() {
                    Some((_, error)) => load_failed(name, &error.in_one_line()),
                    None => ProtocolError::UnknownModel { model: name.into() },
                });
            };
            self.records.entry(name.to_owned()).or_default().source = Some(scanned.source);
            self.load_exactly(name, Offer::found(name, scanned, &given))
        } else {
            self.records.entry(name.to_owned()).or_default().source = None;
            self.load_exactly(name, Offer::sent(&given))
        };
        let outcome = outcome.map_err(|errors| {
            let reasons: Vec<String> = errors.iter().map(LoadError::in_one_line).collect();
            load_failed(name, &reasons.join("; "))
        });
        if outcome.is_ok()
            && let Some(record) = self.records.get_mut(name)
        {
            record.wanted = true;
        }
        self.publish(name);
        self.retire(name);
        outcome
    }

    fn unload_by_request(&mut self, name: &str) -> Result<(), ProtocolError> {
        let Some(record) = self.records.get_mut(name) else {
            return Err(ProtocolError::UnknownModel { model: name.into() });
        };
        record.wanted = false;
        record.problem = None;
        self.unload_all(name);
        self.publish(name);
        self.sweep();
        self.retire(name);
        Ok(())
    }

    // Looks.

    /// One look at the files: in poll mode what has changed is loaded, in explicit mode new names are listed.
    fn look(&mut self) {
        let scan = self.scanner.scan();
        self.tell_lost(&scan);
        let is_lost = |source: usize| scan.lost.iter().any(|(lost, _)| *lost == source);
        for (name, scanned) in &scan.models {
            if self.config.control == ModelControl::Poll {
                let record = self.records.entry(name.clone()).or_default();
                record.wanted = true;
                record.source = Some(scanned.source);
                record.missed = 0;
                self.reconcile(name, scanned, Patience::TwoLooks);
            } else if !self.records.contains_key(name) {
                self.expect(name, scanned, false);
                self.publish(name);
            }
        }
        let gone = |(name, record): (&String, &mut Record)| {
            let source = record.source?;
            if scan.models.contains_key(name) || is_lost(source) {
                return None;
            }
            record.missed += 1;
            (record.missed >= LOOKS_WITHOUT).then(|| name.clone())
        };
        let gone: Vec<String> = self.records.iter_mut().filter_map(gone).collect();
        for name in gone {
            self.vanished(&name);
        }
    }

    /// A model without files: what is served in explicit mode stays until it is unloaded.
    fn vanished(&mut self, name: &str) {
        let Some(record) = self.records.get_mut(name) else {
            return;
        };
        if self.config.control == ModelControl::Explicit && record.is_served() {
            return;
        }
        if record.is_served() {
            tracing::info!(model.name = name, "model is gone; unloading it");
        }
        record.wanted = false;
        record.problem = None;
        self.unload_all(name);
        self.publish(name);
        self.sweep();
        if let Some(record) = self.records.get_mut(name) {
            record.source = None;
        }
        self.retire(name);
    }

    fn tell_lost(&mut self, scan: &Scan) {
        let mut lost = HashMap::new();
        for (source, error) in &scan.lost {
            let text = error.in_one_line();
            if self.lost.get(source) != Some(&text) {
                tracing::warn!(error = %text, "models cannot be looked for; what is served stays");
            }
            lost.insert(*source, text);
        }
        self.lost = lost;
    }
}

impl Command {
    fn name(&self) -> &str {
        match self {
            Command::Load { name, .. } | Command::Unload { name, .. } => name,
        }
    }
}

fn load_failed(name: &str, reason: &str) -> ProtocolError {
    ProtocolError::LoadFailed {
        model: name.into(),
        reason: reason.into(),
    }
}
