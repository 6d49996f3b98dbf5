//! Programs that read a configuration of their own.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::Settings;
use crate::process::{Server, on_cpus};

/// nginx in the foreground.
pub const NGINX_ARGUMENTS: &[&str] = &["-e", "stderr", "-c", "FILE", "-p", "DIRECTORY"];

/// One of the constant-answer servers.
///
/// # Errors
/// When it does not start.
pub fn constant_server(settings: &Settings) -> anyhow::Result<Server> {
    Server::start(&settings.program("constant-server"), &[], settings.server_cpus())
}

/// A configuration with its addresses left open, filled in and kept in a directory of its own while this lives.
#[derive(Debug)]
pub struct Template {
    directory: tempfile::TempDir,
    file: PathBuf,
}

impl Template {
    /// Fills `--configurations`/`name` in: each key is replaced by its value, `DIRECTORY` by a place for files.
    ///
    /// # Errors
    /// When the one cannot be read, or the other not be written.
    pub fn fill(settings: &Settings, name: &str, values: &[(String, String)]) -> anyhow::Result<Self> {
        let from = settings.configurations.join(name);
        let mut text =
            std::fs::read_to_string(&from).with_context(|| format!("cannot read {}", from.display()))?;
        for (key, value) in values {
            anyhow::ensure!(text.contains(key), "{} has no {key} to fill in", from.display());
            text = text.replace(key, value);
        }
        Self::of_text(name, &text)
    }

    /// Keeps `text` as a file of this name.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn of_text(name: &str, text: &str) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        let file = directory.path().join(name);
        std::fs::write(&file, text.replace("DIRECTORY", path(directory.path())?))?;
        Ok(Self { directory, file })
    }

    /// The file.
    ///
    /// # Errors
    /// When its path is not text.
    pub fn file(&self) -> anyhow::Result<&str> {
        path(&self.file)
    }

    /// Starts `program` and waits until it passes requests on at `address`. In the arguments, `FILE` is the
    /// configuration and `DIRECTORY` where it is.
    ///
    /// # Errors
    /// When it does not start, or is not ready in time.
    pub fn start(
        &self,
        settings: &Settings,
        program: &Path,
        arguments: &[&str],
        address: SocketAddr,
    ) -> anyhow::Result<Server> {
        let mut command = on_cpus(program, settings.server_cpus());
        for argument in arguments {
            command.arg(match *argument {
                "FILE" => self.file()?,
                "DIRECTORY" => path(self.directory.path())?,
                other => other,
            });
        }
        let mut server = Server::start_at(command, address)?;
        server
            .wait_until_ready("/v2/health/ready")
            .with_context(|| format!("{} with {}", program.display(), self.file.display()))?;
        Ok(server)
    }
}

fn path(path: &Path) -> anyhow::Result<&str> {
    path.to_str().context("a path that is text")
}
