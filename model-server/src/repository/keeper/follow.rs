//! Poll mode: what is served follows the files, as far as they can be loaded.

use std::path::Path;
use std::sync::Arc;

use super::super::content::Content;
use super::super::model_toml::ModelToml;
use super::super::scan::ScannedModel;
use super::super::stamp::{Look, Stamp};
use super::{Keeper, LOOKS_WITHOUT, Patience};

impl Keeper {
    /// Brings what is served up to what the files ask for, as far as they can be loaded.
    pub(super) fn reconcile(&mut self, name: &str, scanned: &ScannedModel, patience: Patience) {
        let toml = match &scanned.toml {
            Ok(toml) => toml,
            Err(error) => {
                self.complain(name, Some(error.to_string()));
                return;
            }
        };
        let policy = self.policy(Some(toml));
        let available: Vec<u64> = scanned.versions.keys().copied().collect();
        let missing = policy.missing(&available);
        let problem = match (scanned.duplicates.first(), missing.first()) {
            (Some(duplicate), _) => Some(duplicate.error(name).in_one_line()),
            (None, Some(version)) => Some(format!(
                "version_policy asks for version {version}, which is not there"
            )),
            (None, None) => None,
        };
        let record = self.records.entry(name.to_owned()).or_default();
        record.policy = Arc::new(policy.clone());
        for (number, version) in &mut record.versions {
            version.missed = if available.contains(number) {
                0
            } else {
                version.missed + 1
            };
        }
        // A version that is away for one look counts as if it were there.
        let away = record.versions.iter().filter(|(number, version)| {
            version.served.is_some() && version.missed < LOOKS_WITHOUT && !available.contains(number)
        });
        let available: Vec<u64> = available
            .iter()
            .copied()
            .chain(away.map(|(number, _)| *number))
            .collect();
        let mut kept = Vec::new();
        for version in policy.candidates(&available) {
            if kept.len() >= policy.limit() {
                break;
            }
            let serves = match scanned.versions.get(&version) {
                Some(Ok(file)) => self.bring_up(name, version, file, toml, patience),
                Some(Err((place, error))) => {
                    self.failed(name, version, None, &format!("{}: {error}", place.display()))
                }
                None => true,
            };
            if serves {
                kept.push(version);
            }
        }
        self.complain(name, problem);
        self.unload_others(name, &kept, &available);
        self.publish(name);
    }

    /// Loads a version if its files have changed and come to rest; whether it is served then.
    pub(super) fn bring_up(
        &mut self,
        name: &str,
        number: u64,
        file: &Path,
        toml: &ModelToml,
        patience: Patience,
    ) -> bool {
        let record = self.records.entry(name.to_owned()).or_default();
        let version = record.versions.entry(number).or_default();
        let settings = toml.for_loading();
        let stamp = Stamp::of(file, &version.others, settings.clone());
        let serves = version.served.is_some();
        match (version.watch.look(&stamp), patience) {
            (Look::Unchanged, _) => return serves,
            (Look::Moving, Patience::TwoLooks) => {
                if !serves && version.failure.is_none() {
                    version.is_loading = true;
                }
                return serves;
            }
            (Look::Settled, _) | (Look::Moving, Patience::None) => {}
        }
        let content = match Content::read(file, &settings) {
            Ok(content) => content,
            Err(problem) => return self.failed(name, number, None, &problem.to_string()),
        };
        version.others = content.others();
        let after = Stamp::of(file, &version.others, settings);
        let is_torn = patience == Patience::TwoLooks && version.others.is_empty() && after != stamp;
        if is_torn {
            return serves; // changed while it was read
        }
        version.watch.read(after);
        if version
            .served
            .as_ref()
            .is_some_and(|loaded| loaded.digest == content.digest)
        {
            // Touched, or put back to what is served.
            version.failure = None;
            return true;
        }
        if version
            .failure
            .as_ref()
            .is_some_and(|failure| failure.digest == Some(content.digest))
        {
            return serves;
        }
        match self.load(name, number, &content, toml) {
            Ok(model) => {
                self.install(name, number, model, &content);
                true
            }
            Err(problem) => self.failed(name, number, Some(&content), &problem.to_string()),
        }
    }
}
