//! A repository whose versions change: by files that the server looks at, or by files and requests to load them.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use plumbline_load_tests::background::Background;
use plumbline_load_tests::client::{Http, Targets, Transport, once_blocking};
use plumbline_load_tests::inputs::{self, InputSpec};
use plumbline_load_tests::process::Server;
use plumbline_load_tests::request::{Encoding, Request};
use plumbline_load_tests::table::{Table, figure, median};
use serde_json::{Value, json};

use crate::{Arguments, Mode, Outcome};

/// The model that clients ask for.
const MODEL: &str = "gb";

/// Between two looks of the server at the files.
const POLL: Duration = Duration::from_millis(100);

/// A file that should not be loaded is left alone this long: more than the two looks that find it the same.
const LEFT_ALONE: Duration = Duration::from_millis(500);

/// The time that a change has to have its effect.
const EFFECT: Duration = Duration::from_secs(20);

/// Version directories that are kept.
const KEPT: usize = 4;

/// A change of the repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    /// A new version appears whole.
    New,
    /// Half of a new version's file appears, and the rest later.
    HalfCopied,
    /// A new version that is no model appears, and goes again.
    Broken,
    /// The newest version goes.
    RollBack,
    /// The newest version's file is replaced by another model's.
    Replaced,
}

impl Change {
    /// In this order, again and again: a roll-back always has a version to go back to.
    const ALL: [Change; 5] = [
        Change::New,
        Change::HalfCopied,
        Change::Broken,
        Change::RollBack,
        Change::Replaced,
    ];

    fn label(self) -> &'static str {
        match self {
            Change::New => "new version",
            Change::HalfCopied => "half-copied file, then whole",
            Change::Broken => "broken file, then removed",
            Change::RollBack => "newest version removed",
            Change::Replaced => "newest version's file replaced",
        }
    }
}

pub(crate) fn run(arguments: &Arguments, mode: Mode) -> anyhow::Result<Outcome> {
    let files: Vec<Vec<u8>> = arguments
        .names
        .iter()
        .map(|name| {
            let file = arguments.models.join(name).join("model.onnx");
            fs::read(&file).with_context(|| format!("cannot read {}", file.display()))
        })
        .collect::<anyhow::Result<_>>()?;
    ensure!(
        files.len() >= 2,
        "two models, so that a replaced file can be told"
    );
    let directory = tempfile::tempdir()?;
    let mut repository = Repository {
        root: directory.path().join("models"),
        aside: directory.path().join("aside"),
        files,
        versions: Vec::new(),
        next_version: 1,
        next_file: 0,
        address: None,
        mode,
    };
    fs::create_dir_all(&repository.root)?;
    fs::create_dir_all(&repository.aside)?;
    repository.add_whole()?;

    let mut flags: Vec<String> = ["--model-repository".to_owned(), repository.root_text()?].into();
    flags.extend(arguments.server_flags.iter().cloned());
    match mode {
        Mode::Poll => {
            flags.extend(["--model-control", "poll", "--poll-interval", "100ms"].map(str::to_owned));
        }
        _ => flags.extend(["--model-control", "explicit", "--load-model", MODEL].map(str::to_owned)),
    }
    let mut server = Server::start(&arguments.programs.join("plumbline-model-server"), &flags, None)?;
    server.wait_until_ready(&format!("/v2/models/{MODEL}/ready"))?;
    repository.address = Some(server.address());

    let background = Background::start(
        &Targets::new(vec![server.address()]),
        MODEL,
        arguments.rate,
        arguments.connections,
    )?;
    let mut effects: Vec<(Change, f64)> = Vec::new();
    for index in 0..arguments.reloads {
        let change = Change::ALL[index % Change::ALL.len()];
        let took = repository
            .make(change)
            .with_context(|| format!("change {index}: {}\n{}", change.label(), server.log()))?;
        effects.push((change, took.as_secs_f64() * 1e3));
    }
    let background = background.end()?;

    let mut table = Table::new(&["change", "times", "until served, ms: median", "most"]);
    for change in Change::ALL {
        let took: Vec<f64> = effects
            .iter()
            .filter(|(other, _)| *other == change)
            .map(|(_, took)| *took)
            .collect();
        let shown = |value: f64| {
            if change == Change::Broken {
                "not served".to_owned()
            } else {
                figure(value)
            }
        };
        let most = took.iter().copied().fold(0.0, f64::max);
        table.row(&[
            change.label().to_owned(),
            took.len().to_string(),
            shown(median(&took)),
            shown(most),
        ]);
    }
    let mut text = String::new();
    let _never = write!(
        text,
        "## {} changes of the repository, model control {}\n\n{}\n{}\n",
        effects.len(),
        if mode == Mode::Poll {
            format!("poll every {POLL:?}")
        } else {
            "explicit".to_owned()
        },
        table.text(),
        background.text
    );
    Ok(Outcome {
        text,
        good: background.good,
    })
}

/// The files, and what the server makes of them.
struct Repository {
    root: PathBuf,
    /// On the same file system, so that a directory can be moved in whole.
    aside: PathBuf,
    files: Vec<Vec<u8>>,
    /// Versions that are there, oldest first.
    versions: Vec<u64>,
    next_version: u64,
    next_file: usize,
    address: Option<SocketAddr>,
    mode: Mode,
}

impl Repository {
    /// Carries out a change and waits, bounded, for its effect.
    fn make(&mut self, change: Change) -> anyhow::Result<Duration> {
        let before = self.newest()?;
        let answer = self.answer()?;
        let mut began = Instant::now();
        match change {
            Change::New => {
                self.add_whole()?;
                self.load(true)?;
            }
            Change::HalfCopied => {
                let bytes = self.next_bytes();
                let directory = self.add_directory()?;
                let (first, rest) = bytes.split_at(bytes.len() / 2);
                let mut file = fs::File::create(directory.join("model.onnx"))?;
                file.write_all(first)?;
                self.load(false)?;
                self.stays(before)?;
                began = Instant::now();
                file.write_all(rest)?;
                drop(file);
                self.load(true)?;
            }
            Change::Broken => {
                let directory = self.add_directory()?;
                fs::write(directory.join("model.onnx"), b"this is no model")?;
                self.load(false)?;
                self.stays(before)?;
                self.remove_newest()?;
            }
            Change::RollBack => {
                self.remove_newest()?;
                self.load(true)?;
            }
            Change::Replaced => {
                let (old, new) = (
                    self.directory(before).join("model.onnx"),
                    self.aside.join("model.onnx"),
                );
                let bytes = fs::read(&old)?;
                let other = self.files.iter().find(|file| **file != bytes);
                fs::write(&new, other.context("another model")?)?;
                fs::rename(new, old)?;
                self.load(true)?;
                self.until("another answer", |repository| Ok(repository.answer()? != answer))?;
            }
        }
        let wanted = self.newest()?;
        self.until(&format!("version {wanted}"), |repository| {
            Ok(repository.served()? == [wanted.to_string()])
        })?;
        let took = began.elapsed();
        while self.versions.len() > KEPT {
            let oldest = self.versions.remove(0);
            fs::remove_dir_all(self.directory(oldest))?;
        }
        Ok(took)
    }

    /// Asks for the model to be loaded, where the server does not look for itself.
    fn load(&self, succeeds: bool) -> anyhow::Result<()> {
        if self.mode == Mode::Poll {
            return Ok(());
        }
        let request = Request::post(&format!("/v2/repository/models/{MODEL}/load"), &json!({}))?;
        let (status, body) = self.ask(&request)?;
        let text = String::from_utf8_lossy(&body);
        ensure!(
            (status == 200) == succeeds,
            "load: status {status}, although the file is {}: {text}",
            if succeeds { "good" } else { "not whole" }
        );
        ensure!(status < 500, "load: status {status} for a file's fault: {text}");
        Ok(())
    }

    /// What is served is still `version`, some time after a file that cannot be.
    fn stays(&self, version: u64) -> anyhow::Result<()> {
        if self.mode == Mode::Poll {
            std::thread::sleep(LEFT_ALONE);
        }
        let served = self.served()?;
        ensure!(
            served == [version.to_string()],
            "served {served:?} instead of {version}"
        );
        Ok(())
    }

    fn until(&self, what: &str, reached: impl Fn(&Self) -> anyhow::Result<bool>) -> anyhow::Result<()> {
        let deadline = Instant::now() + EFFECT;
        while Instant::now() < deadline {
            if reached(self)? {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        bail!("{what} is not served after {EFFECT:?}: {:?} is", self.served()?)
    }

    /// Versions that the server says it serves.
    fn served(&self) -> anyhow::Result<Vec<String>> {
        let (status, body) = self.ask(&Request::get(&format!("/v2/models/{MODEL}"))?)?;
        ensure!(
            status == 200,
            "metadata: {status} {}",
            String::from_utf8_lossy(&body)
        );
        let metadata: Value = serde_json::from_slice(&body)?;
        serde_json::from_value(metadata["versions"].clone()).context("metadata lists versions")
    }

    /// Outputs for one fixed row.
    fn answer(&self) -> anyhow::Result<Value> {
        let spec: InputSpec = "X:FP32:20".parse().map_err(anyhow::Error::msg)?;
        let specs = std::slice::from_ref(&spec);
        let request = inputs::requests(Encoding::V2, MODEL, specs, None, &[1], 1, 7)?.remove(0);
        let (status, body) = self.ask(&request)?;
        ensure!(
            status == 200,
            "infer: {status} {}",
            String::from_utf8_lossy(&body)
        );
        let answer: Value = serde_json::from_slice(&body)?;
        Ok(answer["outputs"].clone())
    }

    fn ask(&self, request: &Request) -> anyhow::Result<(u16, Vec<u8>)> {
        let address = self.address.context("the server is up")?;
        once_blocking(address, &Transport::plain(Http::One), request)
    }

    /// A new version moves in with one rename.
    fn add_whole(&mut self) -> anyhow::Result<()> {
        let bytes = self.next_bytes();
        let new = self.aside.join("new");
        fs::create_dir(&new)?;
        fs::write(new.join("model.onnx"), bytes)?;
        fs::create_dir_all(self.root.join(MODEL))?;
        fs::rename(new, self.directory(self.next_version))?;
        self.versions.push(self.next_version);
        self.next_version += 1;
        Ok(())
    }

    fn add_directory(&mut self) -> anyhow::Result<PathBuf> {
        let directory = self.directory(self.next_version);
        fs::create_dir(&directory)?;
        self.versions.push(self.next_version);
        self.next_version += 1;
        Ok(directory)
    }

    /// Moves out with one rename, as it came.
    fn remove_newest(&mut self) -> anyhow::Result<()> {
        let newest = self.versions.pop().context("a version")?;
        let old = self.aside.join("old");
        fs::rename(self.directory(newest), &old)?;
        fs::remove_dir_all(old)?;
        Ok(())
    }

    fn next_bytes(&mut self) -> Vec<u8> {
        self.next_file += 1;
        self.files[self.next_file % self.files.len()].clone()
    }

    fn newest(&self) -> anyhow::Result<u64> {
        self.versions.last().copied().context("a version")
    }

    fn directory(&self, version: u64) -> PathBuf {
        self.root.join(MODEL).join(version.to_string())
    }

    fn root_text(&self) -> anyhow::Result<String> {
        Path::to_str(&self.root)
            .map(str::to_owned)
            .context("a path that is text")
    }
}
