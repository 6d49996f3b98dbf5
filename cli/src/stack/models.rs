//! Which models to serve, under which names, compared with which profiles.

use std::path::{Path, PathBuf};
use std::str::FromStr;

const PROFILE: &str = "profile.json";

/// `[NAME=]PATH`, as given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ModelDir {
    name: Option<String>,
    path: PathBuf,
}

/// A model that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Model {
    pub(super) name: String,
    pub(super) path: PathBuf,
    /// The reference profile beside it.
    pub(super) profile: Option<PathBuf>,
}

/// Why there is no model at a path.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ModelDirError {
    #[error("no model at {}: no such file or directory", path.display())]
    Missing { path: PathBuf },
    #[error("cannot read {}", path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("no model in {}: it has neither an .onnx file nor numbered versions with one", path.display())]
    NoModel { path: PathBuf },
    #[error("{} and {} would both be served as `{name}`: give one a name with NAME=PATH", first.display(), second.display())]
    SameName {
        name: String,
        first: PathBuf,
        second: PathBuf,
    },
}

impl FromStr for ModelDir {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // A path may have a `=` behind a slash, a name has no slash.
        let (name, path) = match text.split_once('=') {
            Some((name, path)) if !name.contains('/') => (Some(name.to_owned()), path),
            _ => (None, text),
        };
        if path.is_empty() || name.as_ref().is_some_and(String::is_empty) {
            return Err("expected PATH or NAME=PATH");
        }
        Ok(Self {
            name,
            path: path.into(),
        })
    }
}

impl ModelDir {
    /// Looks at the path. The model server looks closer; here the common mistakes are told before anything starts.
    pub(super) fn resolve(&self) -> Result<Model, ModelDirError> {
        let path = self.path.clone();
        if !path.exists() {
            return Err(ModelDirError::Missing { path });
        }
        // Versions, the newest first.
        let versions = if path.is_dir() {
            versions(&path)?
        } else {
            Vec::new()
        };
        if path.is_dir() && !has_onnx(&path)? && versions.is_empty() {
            return Err(ModelDirError::NoModel { path });
        }
        let beside = if path.is_dir() {
            path.clone()
        } else {
            parent(&path)
        };
        let profile = std::iter::once(beside)
            .chain(versions)
            .map(|dir| dir.join(PROFILE))
            .find(|file| file.exists());
        let name = self.name.clone().unwrap_or_else(|| name_of(&path));
        Ok(Model { name, path, profile })
    }
}

/// Refuses two models of one name.
pub(super) fn check_names(models: &[Model]) -> Result<(), ModelDirError> {
    for (i, second) in models.iter().enumerate() {
        if let Some(first) = models[..i].iter().find(|first| first.name == second.name) {
            let (first, name) = (first.path.clone(), second.name.clone());
            return Err(ModelDirError::SameName {
                name,
                first,
                second: second.path.clone(),
            });
        }
    }
    Ok(())
}

fn name_of(path: &Path) -> String {
    let whole = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let stem = |path: &Path| path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    let name = if whole.is_dir() {
        whole.file_name().map(|name| name.to_string_lossy().into_owned())
    } else {
        // `model.onnx` says nothing; its directory does.
        stem(&whole).filter(|stem| stem != "model").or_else(|| {
            whole
                .parent()
                .and_then(Path::file_name)
                .map(|name| name.to_string_lossy().into_owned())
        })
    };
    name.unwrap_or_else(|| "model".to_owned())
}

fn parent(file: &Path) -> PathBuf {
    file.parent().map(Path::to_owned).unwrap_or_default()
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>, ModelDirError> {
    let unreadable = |source| ModelDirError::Unreadable {
        path: dir.to_owned(),
        source,
    };
    let entries = std::fs::read_dir(dir).map_err(unreadable)?;
    entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()
        .map_err(unreadable)
}

fn has_onnx(dir: &Path) -> Result<bool, ModelDirError> {
    Ok(entries(dir)?
        .iter()
        .any(|entry| entry.extension().is_some_and(|extension| extension == "onnx")))
}

/// Numbered directories with a model, the highest number first.
fn versions(dir: &Path) -> Result<Vec<PathBuf>, ModelDirError> {
    let number = |path: &PathBuf| path.file_name()?.to_str()?.parse::<u64>().ok();
    let mut versions: Vec<PathBuf> = entries(dir)?;
    versions.retain(|entry| entry.is_dir() && number(entry).is_some() && has_onnx(entry).unwrap_or(false));
    versions.sort_by_key(|entry| std::cmp::Reverse(number(entry)));
    Ok(versions)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(text: &str) -> Result<Model, String> {
        text.parse::<ModelDir>()
            .expect("a path")
            .resolve()
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_model_has_its_directorys_name_and_profile() {
        let dir = tempfile::tempdir().expect("a directory");
        let churn = dir.path().join("churn");
        std::fs::create_dir_all(churn.join("2")).expect("created");
        let file = |name: &str| std::fs::write(churn.join(name), "").expect("written");
        file("model.onnx");
        let path = churn.display().to_string();
        let model = |name: &str, path: PathBuf, profile: Option<PathBuf>| {
            Ok(Model {
                name: name.to_owned(),
                path,
                profile,
            })
        };
        assert_eq!(resolve(&path), model("churn", churn.clone(), None));
        file("profile.json");
        let profile = Some(churn.join("profile.json"));
        assert_eq!(resolve(&path), model("churn", churn.clone(), profile.clone()));
        assert_eq!(
            resolve(&format!("{path}/model.onnx")),
            model("churn", churn.join("model.onnx"), profile.clone())
        );
        assert_eq!(
            resolve(&format!("telco={path}")),
            model("telco", churn.clone(), profile)
        );
        file("iris.onnx");
        assert_eq!(
            resolve(&format!("{path}/iris.onnx")).expect("a model").name,
            "iris"
        );
    }

    #[test]
    fn the_newest_version_has_the_profile() {
        let dir = tempfile::tempdir().expect("a directory");
        for version in ["2", "10"] {
            let version = dir.path().join(version);
            std::fs::create_dir_all(&version).expect("created");
            std::fs::write(version.join("model.onnx"), "").expect("written");
            std::fs::write(version.join("profile.json"), "").expect("written");
        }
        let model = resolve(&dir.path().display().to_string()).expect("a model");
        assert_eq!(model.profile, Some(dir.path().join("10/profile.json")));
    }

    #[test]
    fn what_is_not_there_is_told() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().display();
        assert_eq!(
            resolve(&format!("{path}/churn")),
            Err(format!("no model at {path}/churn: no such file or directory"))
        );
        assert_eq!(
            resolve(&path.to_string()),
            Err(format!(
                "no model in {path}: it has neither an .onnx file nor numbered versions with one"
            ))
        );
        assert_eq!("=x".parse::<ModelDir>(), Err("expected PATH or NAME=PATH"));
        let model = Model {
            name: "churn".to_owned(),
            path: "a".into(),
            profile: None,
        };
        let other = Model {
            path: "b".into(),
            ..model.clone()
        };
        assert_eq!(
            check_names(&[model, other]).expect_err("one name").to_string(),
            "a and b would both be served as `churn`: give one a name with NAME=PATH"
        );
    }
}
