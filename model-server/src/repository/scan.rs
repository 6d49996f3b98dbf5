//! One look at every place that models come from.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use super::discover::{DiscoverError, Found, Misplaced, discover};
use super::model_toml::{ModelToml, ModelTomlError};
use super::{LoadError, LoadProblem};
use crate::config::ModelPath;

/// A path that models come from.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub(crate) path: ModelPath,
    pub(crate) kind: SourceKind,
}

/// What a path was given as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SourceKind {
    /// `--model`: it has to be there and to be served.
    Model,
    /// `--model-repository`: what lies there may change.
    Repository,
}

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Scan {
    pub(super) models: BTreeMap<String, ScannedModel>,
    /// Sources that cannot be read, by position: nothing is known about their models.
    pub(super) lost: Vec<(usize, LoadError)>,
    /// Sources that hold no model.
    pub(super) empty: Vec<LoadError>,
}

/// A model that was found.
#[derive(Debug)]
pub(super) struct ScannedModel {
    /// Position of its source.
    pub(super) source: usize,
    pub(super) kind: SourceKind,
    pub(super) toml: Result<ModelToml, ModelTomlError>,
    pub(super) versions: BTreeMap<u64, Result<PathBuf, Misplaced>>,
    pub(super) duplicates: Vec<Duplicate>,
}

/// A file that would be a version which another file is already.
#[derive(Debug)]
pub(super) struct Duplicate {
    version: u64,
    place: PathBuf,
    other: PathBuf,
}

impl Duplicate {
    /// Of the model `name`.
    pub(super) fn error(&self, name: &str) -> LoadError {
        let (version, other) = (self.version, self.other.clone());
        LoadError {
            name: Some(name.to_owned()),
            place: self.place.clone(),
            problem: LoadProblem::Duplicate { version, other },
        }
    }
}

/// Looks; remembers which name a directory had, for the time that its `model.toml` cannot be read.
#[derive(Debug)]
pub(super) struct Scanner {
    sources: Vec<Source>,
    names: HashMap<PathBuf, String>,
}

impl Scanner {
    pub(super) fn new(sources: Vec<Source>) -> Scanner {
        Scanner {
            sources,
            names: HashMap::new(),
        }
    }

    pub(super) fn scan(&mut self) -> Scan {
        let mut scan = Scan::default();
        for (index, source) in self.sources.iter().enumerate() {
            let ModelPath { name, path } = &source.path;
            let problem = |place: PathBuf, error: DiscoverError| LoadError {
                name: name.clone(),
                place,
                problem: error.into(),
            };
            match discover(path, name.as_deref()) {
                Ok(found) if found.is_empty() => {
                    scan.empty.push(problem(path.clone(), DiscoverError::NoModel));
                }
                Ok(found) => {
                    for found in found {
                        scan.add(index, source, found, &mut self.names);
                    }
                }
                Err((place, error)) => scan.lost.push((index, problem(place, error))),
            }
        }
        scan
    }
}

impl Scan {
    fn add(&mut self, index: usize, source: &Source, found: Found, names: &mut HashMap<PathBuf, String>) {
        let toml = ModelToml::read(&found.directory);
        let name = match &toml {
            _ if source.path.name.is_some() => found.name,
            Ok(toml) => {
                let name = toml.name.clone().unwrap_or(found.name);
                names.insert(found.directory.clone(), name.clone());
                name
            }
            Err(_) => names.get(&found.directory).cloned().unwrap_or(found.name),
        };
        let model = self.models.entry(name).or_insert_with(|| ScannedModel {
            source: index,
            kind: source.kind,
            toml,
            versions: BTreeMap::new(),
            duplicates: Vec::new(),
        });
        let Some(taken) = model.versions.get(&found.version) else {
            model.versions.insert(found.version, found.file);
            return;
        };
        let place = |file: &Result<PathBuf, Misplaced>| match file {
            Ok(file) => file.clone(),
            Err((place, _)) => place.clone(),
        };
        let duplicate = Duplicate {
            version: found.version,
            place: place(&found.file),
            other: place(taken),
        };
        model.duplicates.push(duplicate);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_model_toml_does_not_rename_its_model() {
        let root = tempfile::tempdir().unwrap();
        let model = root.path().join("m");
        std::fs::create_dir(&model).unwrap();
        std::fs::write(model.join("model.onnx"), b"").unwrap();
        std::fs::write(model.join("model.toml"), "name = \"churn\"\n").unwrap();
        let source = Source {
            path: ModelPath::new(root.path()),
            kind: SourceKind::Repository,
        };
        let mut scanner = Scanner::new(vec![source]);
        let names = |scan: &Scan| scan.models.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&scanner.scan()), ["churn"]);
        std::fs::write(model.join("model.toml"), "name = \n").unwrap();
        let scan = scanner.scan();
        assert_eq!(names(&scan), ["churn"]);
        assert!(scan.models["churn"].toml.is_err());
        std::fs::remove_dir_all(root.path()).unwrap();
        let scan = scanner.scan();
        assert!(scan.models.is_empty() && scan.lost.len() == 1);
    }
}
