//! The program, run as a user runs it.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use tempfile::TempDir;

use crate::onnx;

/// The program, with the ONNX Runtime of `make setup` unless the environment names another.
pub(crate) fn plumbline(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_plumbline"));
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    if std::env::var_os("ORT_DYLIB_PATH").is_none() {
        let name = format!(
            "{}onnxruntime{}",
            std::env::consts::DLL_PREFIX,
            std::env::consts::DLL_SUFFIX
        );
        let library = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../.setup/onnxruntime/lib")
            .join(name);
        command.env("ORT_DYLIB_PATH", library);
    }
    // Reports are the offline ones, and nothing else of the developer's own environment reaches the parts.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PLUMBLINE_") {
            command.env_remove(name);
        }
    }
    command.env_remove("GEMINI_API_KEY");
    command
}

/// What a command did: exit status, standard output, standard error.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) status: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl From<Output> for Done {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        Self {
            status: output.status.code(),
            out: text(output.stdout),
            err: text(output.stderr),
        }
    }
}

/// Runs a command to its end.
pub(crate) fn run(arguments: &[&str]) -> Done {
    plumbline(arguments).output().expect("the program starts").into()
}

/// A directory with a model, its profile, and rows like those of the profile.
pub(crate) struct Model {
    root: TempDir,
}

impl Model {
    /// `tiny/model.onnx`, `tiny/profile.json`, `rows.csv`.
    pub(crate) fn new() -> Self {
        let model = Self {
            root: tempfile::tempdir().expect("a directory"),
        };
        std::fs::create_dir(model.path("tiny")).expect("created");
        std::fs::write(model.path("tiny/model.onnx"), onnx::two_columns()).expect("written");
        std::fs::write(model.path("reference.csv"), rows(11, 1_500, true)).expect("written");
        std::fs::write(model.path("rows.csv"), rows(12, 1_500, false)).expect("written");
        let (reference, profile) = (model.text("reference.csv"), model.text("tiny/profile.json"));
        let arguments = [
            "profile",
            &reference,
            "--model-name=tiny",
            "--output-columns=score,label",
            "-o",
            &profile,
        ];
        let made = run(&arguments);
        assert_eq!(made.status, Some(0), "{}", made.err);
        model
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }
}

/// Seeded rows: `amount` uniform in [0, 100), `plan` one of three; with what the model answers if asked for.
pub(crate) fn rows(seed: u64, count: usize, answers: bool) -> String {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut text = if answers {
        "amount,plan,score,label\n"
    } else {
        "amount,plan\n"
    }
    .to_owned();
    for _ in 0..count {
        let (amount, plan) = (random.f32() * 100.0, ["free", "home", "work"][random.usize(..3)]);
        if answers {
            writeln!(text, "{amount},{plan},{amount},{plan}").expect("written");
        } else {
            writeln!(text, "{amount},{plan}").expect("written");
        }
    }
    text
}

/// A running command, killed when the test ends before it.
pub(crate) struct Running {
    child: Child,
    out: BufReader<std::process::ChildStdout>,
    /// What it has written so far.
    pub(crate) seen: String,
}

impl Running {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let mut child = plumbline(arguments).spawn().expect("the program starts");
        let out = BufReader::new(child.stdout.take().expect("piped"));
        Self {
            child,
            out,
            seen: String::new(),
        }
    }

    /// Reads up to the line that contains `text`; fails with everything it said when it ends before.
    pub(crate) fn wait_for(&mut self, text: &str) {
        loop {
            let start = self.seen.len();
            let read = self.out.read_line(&mut self.seen).expect("UTF-8");
            if read == 0 {
                let mut errors = String::new();
                let stderr = self.child.stderr.as_mut().expect("piped");
                stderr.read_to_string(&mut errors).expect("UTF-8");
                panic!("it ended without {text:?}:\n{}\n{errors}", self.seen);
            }
            if self.seen[start..].contains(text) {
                return;
            }
        }
    }

    /// The URL on the line that starts with `what`, without its path.
    pub(crate) fn server(&self, what: &str) -> String {
        let line = self
            .seen
            .lines()
            .find(|line| line.trim_start().starts_with(what))
            .expect("such a line");
        let url = line.split_whitespace().nth(1).expect("a URL");
        let end = url[7..].find('/').map_or(url.len(), |slash| slash + 7);
        url[..end].to_owned()
    }

    /// Presses Ctrl-C and waits for the end.
    pub(crate) fn interrupt(mut self) -> Done {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill")
            .args(["-INT", &pid])
            .status()
            .expect("kill runs");
        assert!(sent.success());
        self.out.read_to_string(&mut self.seen).expect("UTF-8");
        let mut err = String::new();
        self.child
            .stderr
            .take()
            .expect("piped")
            .read_to_string(&mut err)
            .expect("UTF-8");
        let status = self.child.wait().expect("it ends").code();
        Done {
            status,
            out: std::mem::take(&mut self.seen),
            err,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _ended = self.child.wait();
    }
}
