//! Finds the profiles that lie beside the models.

use std::path::{Path, PathBuf};

use plumbline_drift::Profile;

use crate::config::{Config, NamedProfile};

const FILE_NAME: &str = "profile.json";

/// A profile that was found and cannot be used. The sidecar forwards without it.
#[derive(Debug)]
pub(crate) struct BadProfile {
    /// The model that stays without drift detection, as far as it is known.
    pub(crate) model: String,
    pub(crate) path: PathBuf,
    pub(crate) reason: String,
}

/// The given profiles, or else the ones found in the model directory, and what is wrong with others.
pub(crate) fn find(config: &Config) -> (Vec<NamedProfile>, Vec<BadProfile>) {
    if !config.profiles.is_empty() {
        return (config.profiles.clone(), Vec::new());
    }
    let mut found = Found::default();
    let directory = config.model_dir.as_path();
    found.try_file(
        &directory.join(FILE_NAME),
        config.model_name.as_deref(),
        "unknown",
    );
    for model in subdirectories(directory) {
        let name = file_name(&model);
        if found.try_file(&model.join(FILE_NAME), Some(&name), &name) {
            continue;
        }
        // Version directories; the highest version is the one that is served by default.
        let mut versions = subdirectories(&model);
        versions.sort_by_key(|version| std::cmp::Reverse(file_name(version).parse::<u64>().unwrap_or(0)));
        for version in versions {
            if found.try_file(&version.join(FILE_NAME), Some(&name), &name) {
                break;
            }
        }
    }
    (found.good, found.bad)
}

#[derive(Default)]
struct Found {
    good: Vec<NamedProfile>,
    bad: Vec<BadProfile>,
}

impl Found {
    /// Whether there is a file; `name` wins over the profile's own, `unnamed` stands for it in a bad one.
    fn try_file(&mut self, path: &Path, name: Option<&str>, unnamed: &str) -> bool {
        if !path.exists() {
            return false;
        }
        match Profile::load(path) {
            Ok(profile) => {
                let model = name.unwrap_or(&profile.model.name).to_owned();
                self.good.push(NamedProfile { model, profile });
            }
            Err(error) => self.bad.push(BadProfile {
                model: name.unwrap_or(unnamed).to_owned(),
                path: path.to_owned(),
                reason: plumbline_service::error_chain(&error),
            }),
        }
        true
    }
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
