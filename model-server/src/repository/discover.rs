//! Which models lie at a path: a file, a directory with one, numbered versions, or a directory of those.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// One version of a model that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) name: String,
    pub(crate) version: u64,
    /// The model's file, or why there is no telling which it is.
    pub(crate) file: Result<PathBuf, Misplaced>,
    /// Where its `model.toml` would be.
    pub(crate) directory: PathBuf,
}

/// What is wrong, and where.
pub(crate) type Misplaced = (PathBuf, DiscoverError);

/// A path at which there is no model, or no way to tell which.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DiscoverError {
    /// Nothing there.
    #[error("there is no such file or directory")]
    Missing,
    /// It cannot be read.
    #[error("it cannot be read: {error}")]
    Unreadable {
        /// The operating system's words.
        error: String,
    },
    /// A directory without a model.
    #[error("the directory holds no .onnx file, no numbered versions and no directory with a model")]
    NoModel,
    /// A version without a model.
    #[error("version directory `{version}` holds no .onnx file")]
    EmptyVersion {
        /// Name of the directory.
        version: String,
    },
    /// More than one file where one is the model.
    #[error(
        "the directory holds {files}; expected one .onnx file: name one of them, or give each a directory"
    )]
    SeveralFiles {
        /// Their names.
        files: String,
    },
    /// One name for several models.
    #[error("the name stands for one model, but the directory holds {models}")]
    SeveralModels {
        /// Their names.
        models: String,
    },
}

/// What one reads in a directory.
struct Listing {
    onnx: Vec<PathBuf>,
    versions: Vec<(u64, PathBuf)>,
    directories: Vec<PathBuf>,
}

/// The models at `path`, served as `name` if there is one; none is no error here.
///
/// What is wrong with one model stands in its [`Found`], so that the others can be served.
///
/// # Errors
/// [`DiscoverError`], with the path it is about: there is nothing at `path`, or more than one model for one name.
pub(crate) fn discover(path: &Path, name: Option<&str>) -> Result<Vec<Found>, Misplaced> {
    let failed = |error| (path.to_owned(), error);
    let metadata = std::fs::metadata(path).map_err(|error| failed(unreadable(&error)))?;
    if !metadata.is_dir() {
        return Ok(vec![of_file(path, name)]);
    }
    let found = of_directory(path).map_err(failed)?;
    let Some(name) = name else { return Ok(found) };
    if found.iter().any(|other| other.directory != found[0].directory) {
        let mut models: Vec<&str> = found.iter().map(|found| found.name.as_str()).collect();
        models.dedup();
        return Err(failed(DiscoverError::SeveralModels {
            models: quoted(models),
        }));
    }
    Ok(found
        .into_iter()
        .map(|found| Found {
            name: name.to_owned(),
            ..found
        })
        .collect())
}

/// The models of a directory: its own, or those of its directories.
fn of_directory(path: &Path) -> Result<Vec<Found>, DiscoverError> {
    let listing = Listing::read(path)?;
    if let Some(own) = of_listing(path, &listing) {
        return Ok(own);
    }
    let mut found = Vec::new();
    for directory in &listing.directories {
        // What else lies in a volume (`lost+found`, another tool's cache) may be unreadable and is not ours.
        if let Ok(listing) = Listing::read(directory) {
            found.extend(of_listing(directory, &listing).unwrap_or_default());
        }
    }
    Ok(found)
}

/// The model of a directory, `None` if it is not one's.
fn of_listing(path: &Path, listing: &Listing) -> Option<Vec<Found>> {
    match only_file(listing) {
        Ok(Some(file)) => return Some(vec![of_file(file, None)]),
        Ok(None) => {}
        Err(error) => {
            return Some(vec![Found {
                name: name_of(path),
                version: 1,
                file: Err((path.to_owned(), error)),
                directory: path.to_owned(),
            }]);
        }
    }
    if listing.versions.is_empty() {
        return None;
    }
    let version = |(version, directory): &(u64, PathBuf)| Found {
        name: name_of(path),
        version: *version,
        file: of_version(directory).map_err(|error| (directory.clone(), error)),
        directory: path.to_owned(),
    };
    Some(listing.versions.iter().map(version).collect())
}

fn of_version(directory: &Path) -> Result<PathBuf, DiscoverError> {
    let listing = Listing::read(directory)?;
    let file = only_file(&listing)?.cloned();
    file.ok_or_else(|| DiscoverError::EmptyVersion {
        version: text(directory.file_name()),
    })
}

fn only_file(listing: &Listing) -> Result<Option<&PathBuf>, DiscoverError> {
    match listing.onnx.as_slice() {
        [] => Ok(None),
        [file] => Ok(Some(file)),
        several => {
            let names: Vec<String> = several.iter().map(|file| text(file.file_name())).collect();
            Err(DiscoverError::SeveralFiles {
                files: quoted(names.iter().map(String::as_str)),
            })
        }
    }
}

/// A bare file: its stem is its name, unless that is just `model`.
fn of_file(file: &Path, name: Option<&str>) -> Found {
    let directory = file.parent().unwrap_or(Path::new("")).to_owned();
    let stem = text(file.file_stem());
    let name = match name {
        Some(name) => name.to_owned(),
        None if stem == "model" => name_of(if directory.as_os_str().is_empty() {
            Path::new(".")
        } else {
            &directory
        }),
        None => stem,
    };
    Found {
        name,
        version: 1,
        file: Ok(file.to_owned()),
        directory,
    }
}

/// The directory's own name, also when it is given as `.` or `..`.
fn name_of(directory: &Path) -> String {
    let whole = directory.canonicalize();
    let name = whole.as_deref().unwrap_or(directory).file_name();
    name.map_or_else(|| "model".to_owned(), |name| text(Some(name)))
}

impl Listing {
    fn read(path: &Path) -> Result<Listing, DiscoverError> {
        let mut listing = Listing {
            onnx: Vec::new(),
            versions: Vec::new(),
            directories: Vec::new(),
        };
        let entries = std::fs::read_dir(path).map_err(|error| unreadable(&error))?;
        for entry in entries {
            let entry = entry.map_err(|error| unreadable(&error))?.path();
            let name = text(entry.file_name());
            // `..data` of a Kubernetes volume, editors' files.
            if name.starts_with('.') {
                continue;
            }
            if !entry.is_dir() {
                if entry.extension() == Some(OsStr::new("onnx")) {
                    listing.onnx.push(entry);
                }
            } else if let Some(version) = version_of(&name) {
                listing.versions.push((version, entry));
            } else {
                listing.directories.push(entry);
            }
        }
        listing.onnx.sort_unstable();
        listing.versions.sort_unstable();
        listing.directories.sort_unstable();
        Ok(listing)
    }
}

fn version_of(name: &str) -> Option<u64> {
    name.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| name.parse().ok())
        .flatten()
}

fn unreadable(error: &std::io::Error) -> DiscoverError {
    match error.kind() {
        std::io::ErrorKind::NotFound => DiscoverError::Missing,
        _ => DiscoverError::Unreadable {
            error: error.to_string(),
        },
    }
}

fn text(name: Option<&OsStr>) -> String {
    name.unwrap_or_default().to_string_lossy().into_owned()
}

fn quoted<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<String> = names.into_iter().map(|name| format!("`{name}`")).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for file in files {
            let path = root.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, b"").unwrap();
        }
        root
    }

    fn names(root: &Path, name: Option<&str>) -> Vec<(String, u64)> {
        discover(root, name)
            .unwrap()
            .into_iter()
            .map(|found| (found.name, found.version))
            .collect()
    }

    #[test]
    fn each_layout_has_its_names() {
        let root = tree(&["churn/model.onnx", "churn/profile.json", ".hidden/model.onnx"]);
        let churn = root.path().join("churn");
        assert_eq!(names(&churn.join("model.onnx"), None), [("churn".to_owned(), 1)]);
        assert_eq!(names(&churn, None), [("churn".to_owned(), 1)]);
        assert_eq!(names(&churn, Some("other")), [("other".to_owned(), 1)]);
        assert_eq!(names(root.path(), None), [("churn".to_owned(), 1)]);
        let root = tree(&[
            "iris/1/model.onnx",
            "iris/12/model.onnx",
            "iris/config.pbtxt",
            "a/b.onnx",
            "notes/x.txt",
        ]);
        let expected = [
            ("b".to_owned(), 1),
            ("iris".to_owned(), 1),
            ("iris".to_owned(), 12),
        ];
        assert_eq!(names(root.path(), None), expected);
        assert_eq!(names(&root.path().join("iris"), Some("flower")).len(), 2);
        let found = &discover(&root.path().join("iris"), None).unwrap()[1];
        let file = found.file.as_ref().unwrap();
        assert!(file.ends_with("iris/12/model.onnx") && found.directory.ends_with("iris"));
    }

    #[test]
    fn what_is_no_model_is_told() {
        let problem = |path: &Path, name: Option<&str>| discover(path, name).unwrap_err().1;
        assert_eq!(
            problem(Path::new("/nonexistent/model.onnx"), None),
            DiscoverError::Missing
        );
        let root = tree(&["notes/readme.txt"]);
        assert_eq!(discover(root.path(), None), Ok(Vec::new()));
        let root = tree(&["a.onnx", "b.onnx"]);
        let found = discover(root.path(), None).unwrap();
        let (place, error) = found[0].file.clone().unwrap_err();
        assert_eq!(place, root.path());
        assert!(error.to_string().contains("`a.onnx`, `b.onnx`; expected one"));
        // One broken version, or one broken model, says nothing about the others.
        let root = tree(&[
            "iris/1/model.onnx",
            "iris/2/readme.txt",
            "two/a.onnx",
            "two/b.onnx",
            "ok/m.onnx",
        ]);
        let found = discover(root.path(), None).unwrap();
        let names: Vec<_> = found
            .iter()
            .map(|found| (found.name.as_str(), found.version, found.file.is_ok()))
            .collect();
        let expected = [
            ("iris", 1, true),
            ("iris", 2, false),
            ("m", 1, true),
            ("two", 1, false),
        ];
        assert_eq!(names, expected);
        let (_, error) = found[1].file.clone().unwrap_err();
        assert!(
            error
                .to_string()
                .contains("version directory `2` holds no .onnx file")
        );
        let root = tree(&["a/model.onnx", "b/model.onnx"]);
        assert!(
            problem(root.path(), Some("c"))
                .to_string()
                .contains("holds `a`, `b`")
        );
    }
}
