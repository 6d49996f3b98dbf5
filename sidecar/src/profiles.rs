//! Finds the profiles that are given or lie beside the models, and notices when they change.

use std::path::{Path, PathBuf};

use plumbline_drift::Profile;
use plumbline_service::{Settling, Stamp};

use crate::config::{Config, NamedProfile};

const FILE_NAME: &str = "profile.json";

/// A profile that was found and cannot be used. The sidecar forwards without it, or with the one it had.
#[derive(Debug)]
pub(crate) struct BadProfile {
    /// The model that it is for, as far as that is known.
    pub(crate) model: String,
    pub(crate) path: PathBuf,
    pub(crate) reason: String,
}

/// Profiles as they were read.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) good: Vec<NamedProfile>,
    pub(crate) bad: Vec<BadProfile>,
}

/// A file that holds a profile.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Candidate {
    path: PathBuf,
    /// Wins over the profile's own name.
    name: Option<String>,
    /// Stands for the name in a bad one.
    unnamed: String,
}

/// The given profiles, or else the ones found in the model directory, and what is wrong with others.
pub(crate) fn find(config: &Config) -> Found {
    if config.profiles.is_empty() {
        load(candidates(config))
    } else {
        Found {
            good: config.profiles.clone(),
            bad: Vec::new(),
        }
    }
}

/// Looks at the files again and again.
#[derive(Debug)]
pub(crate) struct Watch {
    config: Config,
    files: Settling<Vec<(Candidate, Stamp)>>,
}

impl Watch {
    /// Begins with the files as they are now.
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            config: config.clone(),
            files: Settling::new(stamps(config)),
        }
    }

    /// The profiles that have changed since they were read last.
    pub(crate) fn changed(&mut self) -> Option<Found> {
        let before = self.files.changed(stamps(&self.config))?;
        let changed = self.files.seen().iter().filter(|file| !before.contains(file));
        Some(load(changed.map(|(candidate, _)| candidate.clone()).collect()))
    }
}

fn stamps(config: &Config) -> Vec<(Candidate, Stamp)> {
    let stamp = |candidate: Candidate| {
        let stamp = Stamp::of(&candidate.path)?;
        Some((candidate, stamp))
    };
    candidates(config).into_iter().filter_map(stamp).collect()
}

fn load(candidates: Vec<Candidate>) -> Found {
    let mut found = Found::default();
    for Candidate { path, name, unnamed } in candidates {
        match Profile::load(&path) {
            Ok(profile) => {
                let model = name.unwrap_or_else(|| profile.model.name.clone());
                found.good.push(NamedProfile { model, profile });
            }
            Err(error) => found.bad.push(BadProfile {
                model: name.unwrap_or(unnamed),
                path,
                reason: plumbline_service::error_chain(&error),
            }),
        }
    }
    found
}

/// The files that are named, or else the ones that are in the model directory.
fn candidates(config: &Config) -> Vec<Candidate> {
    if !config.profile_files.is_empty() {
        let named = config.profile_files.iter().map(|(name, path)| Candidate {
            path: path.clone(),
            name: name.clone(),
            unnamed: "unknown".to_owned(),
        });
        return named.collect();
    }
    let mut found = Vec::new();
    let directory = config.model_dir.as_path();
    let mut try_file = |path: PathBuf, name: Option<&str>, unnamed: &str| {
        let exists = path.exists();
        if exists {
            found.push(Candidate {
                path,
                name: name.map(str::to_owned),
                unnamed: unnamed.to_owned(),
            });
        }
        exists
    };
    try_file(directory.join(FILE_NAME), config.model_name.as_deref(), "unknown");
    for model in subdirectories(directory) {
        let name = file_name(&model);
        if try_file(model.join(FILE_NAME), Some(&name), &name) {
            continue;
        }
        // Version directories; the highest version is the one that is served by default.
        let mut versions = subdirectories(&model);
        versions.sort_by_key(|version| std::cmp::Reverse(file_name(version).parse::<u64>().unwrap_or(0)));
        for version in versions {
            if try_file(version.join(FILE_NAME), Some(&name), &name) {
                break;
            }
        }
    }
    found
}

/// Not hidden ones: a mounted volume has `..data` and the like.
fn subdirectories(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return Vec::new();
    };
    let mut paths: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.is_dir() && !file_name(path).starts_with('.'))
        .collect();
    paths.sort();
    paths
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

#[cfg(test)]
mod tests {
    use plumbline_service::config::ParseSetting as _;
    use plumbline_service::upstream::Target;

    use super::*;

    fn config(directory: &Path) -> Config {
        let mut config = Config::on_loopback(Target::parse_setting("http://127.0.0.1:1").expect("a URL"));
        config.model_dir = directory.to_owned();
        config
    }

    fn models(found: Option<Found>) -> Option<(Vec<String>, Vec<String>)> {
        let found = found?;
        let bad = found.bad.into_iter().map(|bad| bad.model).collect();
        Some((found.good.into_iter().map(|good| good.model).collect(), bad))
    }

    /// A bad profile is found as a good one is, and is easier to write.
    fn write(path: &Path, text: &str) {
        std::fs::create_dir_all(path.parent().expect("a directory")).expect("created");
        std::fs::write(path, text).expect("written");
    }

    #[test]
    fn a_change_is_read_once_and_when_it_is_complete() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("churn/1/profile.json");
        write(&file, "{}");
        let mut watch = Watch::new(&config(directory.path()));
        assert_eq!(models(watch.changed()), None, "as it was");
        write(&file, "{} ");
        assert_eq!(models(watch.changed()), None, "it may still be copied");
        write(&file, "{}  ");
        assert_eq!(models(watch.changed()), None, "it was");
        assert_eq!(models(watch.changed()), Some((vec![], vec!["churn".to_owned()])));
        assert_eq!(models(watch.changed()), None, "each content is told once");
        // A newer version takes the place of the older one, and another model is new.
        write(&directory.path().join("churn/2/profile.json"), "[]");
        write(&directory.path().join("fraud/profile.json"), "[]");
        watch.changed();
        let both = vec!["churn".to_owned(), "fraud".to_owned()];
        assert_eq!(models(watch.changed()), Some((vec![], both)));
        std::fs::remove_dir_all(directory.path().join("fraud")).expect("removed");
        watch.changed();
        assert_eq!(models(watch.changed()), Some((vec![], vec![])), "nothing to read");
    }
}
