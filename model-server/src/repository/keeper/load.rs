//! Loads versions, all of them or none, and notes what cannot be loaded.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::super::content::Content;
use super::super::discover::Misplaced;
use super::super::given::Given;
use super::super::model_toml::{ModelToml, ModelTomlError};
use super::super::record::{Failure, Loaded, Version};
use super::super::scan::ScannedModel;
use super::super::stamp::Stamp;
use super::super::{LoadError, LoadProblem};
use super::{Draining, Keeper};
use crate::model::Model;

/// What a model is to be loaded from.
pub(super) struct Offer<'a> {
    toml: Result<ModelToml, ModelTomlError>,
    versions: BTreeMap<u64, Files<'a>>,
    given: &'a Given,
    /// What is wrong with the offer itself.
    errors: Vec<LoadError>,
}

/// The files of one version.
enum Files<'a> {
    Found(&'a Result<PathBuf, Misplaced>),
    Sent(&'a BTreeMap<String, Bytes>),
}

impl<'a> Offer<'a> {
    /// What lies in the repository, with the settings of a request in front.
    pub(super) fn found(name: &str, scanned: &'a ScannedModel, given: &'a Given) -> Offer<'a> {
        let versions = scanned.versions.iter();
        let errors = scanned.duplicates.iter();
        Offer {
            toml: scanned.toml.clone(),
            versions: versions
                .map(|(version, file)| (*version, Files::Found(file)))
                .collect(),
            given,
            errors: errors.map(|duplicate| duplicate.error(name)).collect(),
        }
    }

    /// What came with a request; the repository is not looked at.
    pub(super) fn sent(given: &'a Given) -> Offer<'a> {
        let versions = given.files.iter();
        Offer {
            toml: Ok(ModelToml::default()),
            versions: versions
                .map(|(version, files)| (*version, Files::Sent(files)))
                .collect(),
            given,
            errors: Vec::new(),
        }
    }
}

impl Files<'_> {
    /// Where they are, as far as there is a place.
    fn place(&self) -> PathBuf {
        match self {
            Files::Found(Ok(file)) => file.clone(),
            Files::Found(Err((place, _))) => place.clone(),
            Files::Sent(_) => PathBuf::from("files of the request"),
        }
    }

    fn read(&self, version: u64, settings: &str) -> Result<Content, LoadProblem> {
        match self {
            Files::Found(Ok(file)) => Content::read(file, settings),
            Files::Found(Err((_, error))) => Err(error.clone().into()),
            Files::Sent(files) => {
                let is_onnx = |name: &str| Path::new(name).extension() == Some(OsStr::new("onnx"));
                let mut models = files.iter().filter(|(name, _)| is_onnx(name));
                match (models.next(), models.next()) {
                    (Some((_, onnx)), None) => Content::of_request(onnx, files, settings),
                    _ => Err(LoadProblem::RequestFiles { version }),
                }
            }
        }
    }
}

impl Keeper {
    /// Loads the versions that the policy chooses, all of them or none.
    pub(super) fn load_exactly(&mut self, name: &str, offer: Offer<'_>) -> Result<(), Vec<LoadError>> {
        let failed = |place: &Path, problem: LoadProblem| LoadError {
            name: Some(name.to_owned()),
            place: place.to_owned(),
            problem,
        };
        let Offer {
            toml,
            versions,
            given,
            mut errors,
        } = offer;
        let any_place = versions.values().next().map(Files::place).unwrap_or_default();
        let toml = match toml {
            Ok(toml) => given.over(toml),
            Err(error) => {
                self.complain(name, Some(error.to_string()));
                return Err(vec![failed(&any_place, error.into())]);
            }
        };
        let policy = self.policy(Some(&toml));
        let available: Vec<u64> = versions.keys().copied().collect();
        for version in policy.missing(&available) {
            errors.push(failed(&any_place, LoadProblem::NoSuchVersion { version }));
        }
        let chosen = policy.choose(&available);
        let settings = toml.for_loading();
        let mut loaded = Vec::with_capacity(chosen.len());
        for &version in &chosen {
            let files = &versions[&version];
            let content = files.read(version, &settings);
            let model = content.and_then(|content| {
                let model = self.load(name, version, &content, &toml)?;
                match given.contradiction(&model.signature) {
                    Some(contradiction) => Err(LoadProblem::Declared(contradiction)),
                    None => Ok((model, content)),
                }
            });
            match model {
                Ok((model, content)) => loaded.push((version, model, content)),
                Err(problem) => {
                    self.failed(name, version, None, &problem.to_string());
                    errors.push(failed(&files.place(), problem));
                }
            }
        }
        if !errors.is_empty() {
            if let Some(record) = self.records.get_mut(name) {
                let versions = record.versions.values_mut();
                versions.for_each(|version| version.is_loading = false);
            }
            return Err(errors);
        }
        self.records.entry(name.to_owned()).or_default().policy = Arc::new(policy);
        for (version, model, content) in loaded {
            self.install(name, version, model, &content);
            if let Some(file) = &content.file
                && let Some(version) = self.version(name, version)
            {
                version.others = content.others();
                let stamp = Stamp::of(file, &version.others, settings.clone());
                version.watch.read(stamp);
            }
        }
        self.complain(name, None);
        self.unload_others(name, &chosen, &available);
        self.publish(name);
        Ok(())
    }

    pub(super) fn load(
        &mut self,
        name: &str,
        number: u64,
        content: &Content,
        toml: &ModelToml,
    ) -> Result<Model, LoadProblem> {
        let record = self.records.entry(name.to_owned()).or_default();
        record.versions.entry(number).or_default().is_loading = true;
        self.publish(name);
        let started = Instant::now();
        let loader = &self.loader;
        let outcome = catch_unwind(AssertUnwindSafe(|| loader.load(name, number, content, toml)))
            .unwrap_or(Err(LoadProblem::Panicked));
        self.loader.metrics.loaded(name, started.elapsed());
        if let Some(version) = self.version(name, number) {
            version.is_loading = false;
        }
        outcome
    }

    pub(super) fn version(&mut self, name: &str, number: u64) -> Option<&mut Version> {
        self.records.get_mut(name)?.versions.get_mut(&number)
    }

    /// Serves a model from here on; the one that it takes the place of drains.
    pub(super) fn install(&mut self, name: &str, number: u64, model: Model, content: &Content) {
        let record = self.records.entry(name.to_owned()).or_default();
        if let Some(old) = record.newest()
            && old.signature != model.signature
        {
            tracing::warn!(
                model.name = name,
                model.version = number,
                before = old.signature_text(),
                now = model.signature_text(),
                "the model's inputs or outputs have changed"
            );
        }
        model.metrics.set_ready(true);
        let version = record.versions.entry(number).or_default();
        version.failure = None;
        let loaded = Loaded {
            model: Arc::new(model),
            digest: content.digest,
        };
        if let Some(old) = version.served.replace(loaded) {
            version.draining += 1;
            self.draining.push(Draining {
                name: name.to_owned(),
                version: number,
                model: old.model,
            });
        }
        self.publish(name);
    }

    /// Notes that a version's newest content cannot be loaded; whether an older one serves.
    pub(super) fn failed(
        &mut self,
        name: &str,
        number: u64,
        content: Option<&Content>,
        reason: &str,
    ) -> bool {
        let failure = Failure {
            digest: content.map(|content| content.digest),
            reason: reason.to_owned(),
        };
        let record = self.records.entry(name.to_owned()).or_default();
        let version = record.versions.entry(number).or_default();
        version.is_loading = false;
        let serves = version.served.is_some();
        let is_news = version.failure.as_ref() != Some(&failure);
        version.failure = Some(failure);
        if is_news {
            self.loader.metrics.load_failed(name);
            tracing::warn!(
                model.name = name,
                model.version = number,
                error = reason,
                old_one_serves = serves,
                "model cannot be loaded"
            );
        }
        serves
    }

    /// Notes what is wrong with a model as a whole, or that nothing is.
    pub(super) fn complain(&mut self, name: &str, problem: Option<String>) {
        let record = self.records.entry(name.to_owned()).or_default();
        if record.problem == problem {
            return;
        }
        record.problem = problem;
        if let Some(problem) = &record.problem {
            self.loader.metrics.load_failed(name);
            tracing::warn!(model.name = name, error = %problem, "model cannot be updated");
        }
        self.publish(name);
    }
}
