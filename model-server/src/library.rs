//! Finds and checks ONNX Runtime's shared library before anything of `ort` is touched.
//!
//! `ort` panics, or worse, when the library is missing or too old; here the library is opened and asked for its
//! version first, so that the start stops with a text that says what was looked for, where, and how to get it.

use std::ffi::CStr;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use ort::environment::Environment;
use ort::logging::LogLevel;
use ort::sys::OrtApiBase;

/// ONNX Runtime, found, checked and initialised.
#[derive(Clone, Debug)]
pub struct Library {
    version: String,
    path: PathBuf,
    environment: Environment,
}

impl Library {
    /// Opens the library: `chosen` if there is one, then `ORT_DYLIB_PATH`, then beside the executable, then
    /// `.setup/onnxruntime/lib` (where `make setup` puts it), then wherever the system's loader looks.
    ///
    /// A process has one ONNX Runtime: later calls return the first one, if theirs is the same file.
    ///
    /// # Errors
    /// [`LibraryError`]: nothing found, or nothing usable.
    pub fn open(chosen: Option<&Path>) -> Result<Library, LibraryError> {
        Library::open_first(&Search::of_process(chosen).candidates())
    }

    /// Version of ONNX Runtime, e.g. `1.32.0`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The file it was loaded from; a bare file name when the system's loader found it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn environment(&self) -> &Environment {
        &self.environment
    }

    fn open_first(candidates: &[Candidate]) -> Result<Library, LibraryError> {
        let mut tried = Vec::new();
        for candidate in candidates {
            if candidate.must_exist && !candidate.path.exists() {
                tried.push(Attempt::new(candidate, Refusal::Missing));
                continue;
            }
            match probe(&candidate.path) {
                Ok(version) => return Library::initialise(candidate.path.clone(), version),
                Err(refusal) => tried.push(Attempt::new(candidate, refusal)),
            }
        }
        Err(LibraryError::Unusable(Attempts(tried)))
    }

    fn initialise(path: PathBuf, version: String) -> Result<Library, LibraryError> {
        // ONNX Runtime itself allows one environment per process, whatever number of servers live in it.
        static OPENED: Mutex<Option<Library>> = Mutex::new(None);
        let mut opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(library) = &*opened {
            let same = library.path == path
                || matches!((library.path.canonicalize(), path.canonicalize()), (Ok(a), Ok(b)) if a == b);
            return if same {
                Ok(library.clone())
            } else {
                Err(LibraryError::Another {
                    open: library.path.clone(),
                    asked: path,
                })
            };
        }
        // `init_from` reads a relative path from the executable's directory first; ours are relative to the
        // current directory.
        let absolute = if path.components().count() > 1 {
            std::path::absolute(&path).unwrap_or_else(|_| path.clone())
        } else {
            path.clone()
        };
        let failed = |error: String| LibraryError::Initialise {
            path: path.clone(),
            error,
        };
        let environment = ort::init_from(&absolute)
            .map_err(|error| failed(error.to_string()))?
            .with_name("plumbline")
            .with_telemetry(false)
            .with_logger(Arc::new(log))
            .build()
            .map_err(|error| failed(error.to_string()))?;
        environment.set_log_level(LogLevel::Warning);
        let library = Library {
            version,
            path,
            environment,
        };
        *opened = Some(library.clone());
        Ok(library)
    }
}

/// What ONNX Runtime logs is either returned as an error as well, or about its host: for those who debug it.
fn log(level: LogLevel, category: &str, _id: &str, location: &str, message: &str) {
    match level {
        LogLevel::Fatal => tracing::error!(target: "onnxruntime", category, location, "{message}"),
        LogLevel::Verbose | LogLevel::Info | LogLevel::Warning | LogLevel::Error => {
            tracing::debug!(target: "onnxruntime", category, location, "{message}");
        }
    }
}

/// The oldest minor version of ONNX Runtime 1 that will do: the one whose API `ort` was built for.
const NEEDED_MINOR: u32 = ort::MINOR_VERSION;

/// Opens the library at `path` and asks for its version.
fn probe(path: &Path) -> Result<String, Refusal> {
    let not_loadable = |error: libloading::Error| Refusal::NotLoadable {
        error: plain(&error, path),
    };
    // SAFETY: loading a library runs its initialisers; the file is one that whoever runs the server chose or
    // installed for this purpose, as for any program that links ONNX Runtime.
    let library = unsafe { libloading::Library::new(path) }.map_err(not_loadable)?;
    // SAFETY: the symbol has had this type in every release of ONNX Runtime.
    let base = unsafe { library.get::<unsafe extern "C" fn() -> *const OrtApiBase>(b"OrtGetApiBase") };
    let Ok(base) = base else {
        return Err(Refusal::NotOnnxRuntime);
    };
    // SAFETY: no arguments; returns a pointer to a static, or null.
    let Some(base) = (unsafe { base().as_ref() }) else {
        return Err(Refusal::NotOnnxRuntime);
    };
    // SAFETY: both functions are there in every release; the text is a static of the library, copied here.
    let version = unsafe { CStr::from_ptr((base.GetVersionString)()) }
        .to_string_lossy()
        .into_owned();
    if !is_new_enough(&version) {
        // Unloading an initialised C++ runtime is more dangerous than keeping it for the moment that is left.
        std::mem::forget(library);
        return Err(Refusal::TooOld { version });
    }
    // SAFETY: as above. Null for a version that the library does not have.
    let api = unsafe { (base.GetApi)(NEEDED_MINOR) };
    // `ort` opens the same file again; keeping this handle makes that a lookup.
    std::mem::forget(library);
    if api.is_null() {
        Err(Refusal::TooOld { version })
    } else {
        Ok(version)
    }
}

fn is_new_enough(version: &str) -> bool {
    let mut parts = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    let (major, minor) = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    major > 1 || (major == 1 && minor >= NEEDED_MINOR)
}

/// The loader's text without the path, which is told beside it.
fn plain(error: &libloading::Error, path: &Path) -> String {
    let mut text = error.to_string();
    if let Some(cause) = std::error::Error::source(error) {
        text = cause.to_string();
    }
    let prefix = format!("{}: ", path.display());
    text.strip_prefix(&prefix).unwrap_or(&text).to_owned()
}

/// Where the library may be.
struct Search<'a> {
    chosen: Option<&'a Path>,
    variable: Option<PathBuf>,
    executable: Option<PathBuf>,
}

/// One place, and how a person knows it.
struct Candidate {
    why: &'static str,
    path: PathBuf,
    /// Whether the path names a file, not something for the loader to look up.
    must_exist: bool,
}

impl<'a> Search<'a> {
    fn of_process(chosen: Option<&'a Path>) -> Search<'a> {
        // The one variable read outside the configuration: it is `ort`'s and known to its users, not ours.
        let variable = std::env::var_os("ORT_DYLIB_PATH")
            .filter(|path| !path.is_empty())
            .map(PathBuf::from);
        let executable = std::env::current_exe().and_then(|path| path.canonicalize()).ok();
        Search {
            chosen,
            variable,
            executable,
        }
    }

    /// In order. A place that somebody named is the only one.
    fn candidates(&self) -> Vec<Candidate> {
        let file = |why, path: PathBuf| {
            let must_exist = path.components().count() > 1;
            Candidate {
                why,
                path,
                must_exist,
            }
        };
        if let Some(chosen) = self.chosen {
            return vec![Candidate {
                must_exist: true,
                ..file("--onnxruntime", chosen.to_owned())
            }];
        }
        if let Some(variable) = &self.variable {
            return vec![file("ORT_DYLIB_PATH", variable.clone())];
        }
        let name = file_name();
        let setup = Path::new(".setup/onnxruntime/lib").join(&name);
        let mut candidates = Vec::new();
        let directory = self.executable.as_deref().and_then(Path::parent);
        if let Some(directory) = directory {
            candidates.push(file("beside the executable", directory.join(&name)));
            if let Some(parent) = directory.parent() {
                candidates.push(file("beside the executable", parent.join("lib").join(&name)));
            }
        }
        candidates.push(file("`make setup`, current directory", setup.clone()));
        let above = directory.into_iter().flat_map(Path::ancestors).skip(1);
        let above = above
            .map(|ancestor| ancestor.join(&setup))
            .find(|path| path.exists());
        candidates.extend(above.map(|path| file("`make setup`, above the executable", path)));
        candidates.push(Candidate {
            why: "system loader",
            path: name.into(),
            must_exist: false,
        });
        candidates
    }
}

/// `libonnxruntime.so`, `libonnxruntime.dylib`.
fn file_name() -> String {
    format!(
        "{}onnxruntime{}",
        std::env::consts::DLL_PREFIX,
        std::env::consts::DLL_SUFFIX
    )
}

/// Why a candidate is not used.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Refusal {
    Missing,
    NotLoadable { error: String },
    NotOnnxRuntime,
    TooOld { version: String },
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Attempt {
    why: &'static str,
    path: PathBuf,
    refusal: Refusal,
}

impl Attempt {
    fn new(candidate: &Candidate, refusal: Refusal) -> Attempt {
        Attempt {
            why: candidate.why,
            path: candidate.path.clone(),
            refusal,
        }
    }
}

/// Everything that was tried, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempts(Vec<Attempt>);

impl fmt::Display for Attempts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Attempt { why, path, refusal } in &self.0 {
            write!(f, "\n    {} ({why}): ", path.display())?;
            match refusal {
                Refusal::Missing => f.write_str("no such file")?,
                Refusal::NotLoadable { error } => write!(f, "cannot be loaded: {error}")?,
                Refusal::NotOnnxRuntime => {
                    f.write_str("not ONNX Runtime: it does not export OrtGetApiBase")?;
                }
                Refusal::TooOld { version } => write!(f, "too old: version {version}")?,
            }
        }
        Ok(())
    }
}

/// No usable ONNX Runtime.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LibraryError {
    /// Nothing that was tried will do.
    #[error(
        "no usable shared library of ONNX Runtime\n  \
         needed: {name}, version 1.{NEEDED_MINOR} or newer\n  \
         tried:{0}\n  \
         to get it: run `make setup` in Plumbline's repository, which places it in .setup/onnxruntime/lib,\n    \
         or take the file out of the `onnxruntime` wheel (capi/) and name it with --onnxruntime FILE",
        name = file_name()
    )]
    Unusable(Attempts),
    /// It has the right version but does not start.
    #[error("ONNX Runtime at {path} does not initialise: {error}", path = .path.display())]
    Initialise {
        /// The library.
        path: PathBuf,
        /// What it says.
        error: String,
    },
    /// The process has another one open.
    #[error(
        "this process already uses ONNX Runtime at {open} and cannot open {asked} as well",
        open = .open.display(), asked = .asked.display()
    )]
    Another {
        /// The one that is open.
        open: PathBuf,
        /// The one that was asked for.
        asked: PathBuf,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn search(chosen: Option<&Path>, variable: Option<&str>) -> Vec<PathBuf> {
        let search = Search {
            chosen,
            variable: variable.map(PathBuf::from),
            executable: Some(PathBuf::from("/opt/plumbline/bin/model-server")),
        };
        search
            .candidates()
            .into_iter()
            .map(|candidate| candidate.path)
            .collect()
    }

    #[test]
    fn a_place_that_somebody_named_is_the_only_one() {
        assert_eq!(
            search(Some(Path::new("/x/ort.so")), Some("/y/ort.so")),
            [Path::new("/x/ort.so")]
        );
        assert_eq!(search(None, Some("/y/ort.so")), [Path::new("/y/ort.so")]);
        let places = search(None, None);
        assert_eq!(places[0], Path::new("/opt/plumbline/bin").join(file_name()));
        assert_eq!(places[1], Path::new("/opt/plumbline/lib").join(file_name()));
        assert_eq!(places[2], Path::new(".setup/onnxruntime/lib").join(file_name()));
        assert_eq!(places.last(), Some(&PathBuf::from(file_name())));
    }

    #[test]
    fn versions_compare_by_number() {
        assert!(is_new_enough("1.31.0") && is_new_enough("1.100.1") && is_new_enough("2.0.0"));
        assert!(!is_new_enough("1.9.0") && !is_new_enough("1.30.2") && !is_new_enough("nightly"));
    }

    #[test]
    fn the_error_names_what_where_and_how() {
        let error = Library::open(Some(Path::new("/nonexistent/libonnxruntime.so")))
            .unwrap_err()
            .to_string();
        for part in [
            "/nonexistent/libonnxruntime.so (--onnxruntime): no such file",
            "version 1.31 or newer",
            "make setup",
        ] {
            assert!(error.contains(part), "missing {part:?} in:\n{error}");
        }
        let text_file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(text_file.path(), "not a library, just some text").unwrap();
        let error = Library::open(Some(text_file.path())).unwrap_err().to_string();
        assert!(error.contains("cannot be loaded"), "{error}");
        assert!(error.lines().count() < 12, "{error}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn another_library_is_recognised() {
        // The test's own C library is a valid shared library and not ONNX Runtime.
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let libc = maps
            .split_whitespace()
            .find(|word| word.contains("/libc.so"))
            .expect("a C library");
        let error = Library::open(Some(Path::new(libc))).unwrap_err().to_string();
        assert!(error.contains("does not export OrtGetApiBase"), "{error}");
    }
}
