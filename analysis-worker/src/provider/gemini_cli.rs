//! Google's `gemini` command, as a child process that can do nothing but answer.
//!
//! It has a home and a folder of its own that are removed afterwards (it keeps every conversation there, on success too),
//! no tools, none of our environment but the key, and it is killed with all that it started at the deadline. Its exit
//! status does not tell a blocked prompt from an answer: an empty one is a failure.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};

use super::ProviderError;
use super::failure::{Failure, Throttle};
use super::model::{Answer, Ask};
use super::openai::with_schema;
use crate::config::GeminiCliEngine;
use crate::text::{one_line, sanitise};

/// Most bytes of one of its outputs.
const MAX_BYTES: u64 = 4 << 20;
/// What it takes of a prompt; more is cut with a warning only.
const MAX_PROMPT: usize = 8 << 20;

/// The command.
#[derive(Clone, Debug)]
pub(super) struct GeminiCli {
    engine: GeminiCliEngine,
    model: String,
}

/// A folder that is gone when nobody needs it any more.
struct Folder(PathBuf);

impl Folder {
    fn new() -> std::io::Result<Self> {
        let name = format!(
            "plumbline-gemini-{:016x}{:016x}",
            fastrand::u64(..),
            fastrand::u64(..)
        );
        let folder = Self(std::env::temp_dir().join(name));
        for part in ["", "home", "home/.gemini", "tmp", "work"] {
            // Nobody else may read what it leaves there.
            std::fs::DirBuilder::new()
                .mode(0o700)
                .create(folder.0.join(part))?;
        }
        Ok(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::error!(folder = %self.0.display(), %error, "what the command left cannot be removed");
        }
    }
}

/// The command and whatever it started; killed when nobody waits any more.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Once it has been waited for, its number may be another's.
        let group = self
            .0
            .id()
            .and_then(|id| rustix::process::Pid::from_raw(id.cast_signed()));
        if let Some(group) = group {
            let _gone = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
    }
}

/// What it left when it ended.
struct Ended {
    /// Nothing when a signal ended it.
    status: Option<i32>,
    output: Vec<u8>,
    errors: Vec<u8>,
}

impl GeminiCli {
    pub(super) fn new(engine: GeminiCliEngine, model: String) -> Self {
        Self { engine, model }
    }

    /// Whether there is such a command.
    pub(super) async fn check(&self, left: Duration) -> Result<(), Failure> {
        let folder = Folder::new().map_err(|error| cannot_start(&self.engine.program, &error))?;
        let ended = self.run(&folder, &["--version"], "", left).await?;
        match ended.status {
            Some(0) => Ok(()),
            status => Err(Failure::fatal(format!(
                "{} --version: exit status {status:?}",
                self.engine.program.display()
            ))),
        }
    }

    pub(super) async fn attempt(&self, ask: &Ask<'_>, left: Duration) -> Result<Answer, Failure> {
        if ask.prompt.len() > MAX_PROMPT {
            return Err(
                ProviderError::Rejected(format!("the prompt is longer than {MAX_PROMPT} bytes")).into(),
            );
        }
        let folder = Folder::new().map_err(|error| cannot_start(&self.engine.program, &error))?;
        let settings = json!({
            "security": {"auth": {"selectedType": "gemini-api-key"}},
            "privacy": {"usageStatisticsEnabled": false},
            "telemetry": {"enabled": false},
            "general": {"disableAutoUpdate": true, "disableUpdateNag": true},
            "tools": {"core": []},
            "mcpServers": {},
        });
        for (name, text) in [
            // Settings of the system are not read below a folder that others may write to, such as /tmp.
            ("home/.gemini/settings.json", settings.to_string()),
            ("system.md", with_schema(ask)),
        ] {
            std::fs::write(folder.0.join(name), text)
                .map_err(|error| cannot_start(&self.engine.program, &error))?;
        }
        let arguments = [
            "--model",
            &self.model,
            "--output-format",
            "json",
            "--approval-mode",
            "default",
        ];
        let ended = self.run(&folder, &arguments, ask.prompt, left).await?;
        read(&ended)
    }

    async fn run(
        &self,
        folder: &Folder,
        arguments: &[&str],
        input: &str,
        left: Duration,
    ) -> Result<Ended, Failure> {
        let at = |part: &str| folder.0.join(part);
        let mut command = Command::new(&self.engine.program);
        command
            .args(arguments)
            .current_dir(at("work"))
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", at("home"))
            .env("GEMINI_CLI_HOME", at("home"))
            .env("TMPDIR", at("tmp"))
            .env("GEMINI_API_KEY", self.engine.api_key.reveal())
            .env("GEMINI_SYSTEM_MD", at("system.md"))
            // The folder is ours and empty.
            .env("GEMINI_CLI_TRUST_WORKSPACE", "true")
            .env("GEMINI_CLI_NO_RELAUNCH", "true")
            .env("NO_COLOR", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        if let Some(url) = &self.engine.base_url {
            command.env("GOOGLE_GEMINI_BASE_URL", url.to_string().trim_end_matches('/'));
        }
        let child = command.spawn();
        let mut running = Running(child.map_err(|error| cannot_start(&self.engine.program, &error))?);
        let exchange = talk(&mut running.0, input);
        match tokio::time::timeout(left, exchange).await {
            Ok(ended) => ended.map_err(|error| ProviderError::Transport(error.to_string()).into()),
            Err(_) => Err(ProviderError::Timeout(left).into()),
        }
    }
}

/// Writes the input, reads both outputs, and waits for the end.
async fn talk(child: &mut Child, input: &str) -> std::io::Result<Ended> {
    let mut pipe = child.stdin.take().expect("stdin is piped");
    let output = child.stdout.take().expect("stdout is piped");
    let errors = child.stderr.take().expect("stderr is piped");
    let write = async {
        // A command that ends without reading is judged by how it ends.
        let _closed = pipe.write_all(input.as_bytes()).await;
        drop(pipe);
    };
    let (mut said, mut complained) = (Vec::new(), Vec::new());
    let (mut output, mut errors) = (output.take(MAX_BYTES), errors.take(MAX_BYTES));
    let (read, read_errors, ()) = tokio::join!(
        output.read_to_end(&mut said),
        errors.read_to_end(&mut complained),
        write
    );
    read?;
    read_errors?;
    let status = child.wait().await?;
    Ok(Ended {
        status: status.code(),
        output: said,
        errors: complained,
    })
}

fn cannot_start(program: &Path, error: &std::io::Error) -> Failure {
    let text = format!("{} (gemini_cli): {error}", program.display());
    if error.kind() == std::io::ErrorKind::NotFound {
        Failure::fatal(text)
    } else {
        ProviderError::Transport(text).into()
    }
}

fn read(ended: &Ended) -> Result<Answer, Failure> {
    if ended.status != Some(0) {
        return Err(failure(ended));
    }
    let answer: Value = serde_json::from_slice(&ended.output).map_err(|_| {
        ProviderError::Unavailable("exit status 0 without the JSON that was asked for".to_owned())
    })?;
    if let Some(message) = answer["error"]["message"].as_str() {
        return Err(ProviderError::Unavailable(one_line(&sanitise(message), 200)).into());
    }
    let text = answer["response"].as_str().unwrap_or("");
    if text.trim().is_empty() {
        let reason = "exit status 0 with an empty response: the prompt or the answer was blocked";
        return Err(ProviderError::Blocked(reason.to_owned()).into());
    }
    let models = answer["stats"]["models"].as_object().into_iter().flatten();
    let tokens: u64 = models
        .filter_map(|(_, model)| model["tokens"]["total"].as_u64())
        .sum();
    Ok(Answer {
        text: text.to_owned(),
        tokens: (tokens > 0).then_some(tokens),
    })
}

/// The exit status is the HTTP status modulo 256, or one of the command's own; the reason is JSON after a stack trace.
fn failure(ended: &Ended) -> Failure {
    let Some(status) = ended.status else {
        return ProviderError::Unavailable("ended by a signal".to_owned()).into();
    };
    let errors = String::from_utf8_lossy(&ended.errors);
    let told = errors
        .match_indices("{\n")
        .chain(errors.match_indices("{\""))
        .filter_map(|(at, _)| {
            let mut values = serde_json::Deserializer::from_str(&errors[at..]).into_iter::<Value>();
            let message = values.next()?.ok()?["error"]["message"].as_str()?.to_owned();
            Some(message)
        })
        .last();
    let said = told.unwrap_or_else(|| errors.lines().last().unwrap_or("").to_owned());
    let text = format!("exit status {status}: {}", one_line(&sanitise(&said), 200));
    match status {
        // 429 modulo 256: it has waited and tried by itself, so what is left is a quota that is gone.
        173 => Failure {
            throttle: Some(Throttle::Day),
            ..ProviderError::RateLimited(text).into()
        },
        // 400, 401, 403, 404 modulo 256; no way to log in, an untrusted folder, bad arguments.
        144 | 145 | 147 | 148 | 41 | 42 | 52 | 55 => Failure::fatal(text),
        _ => ProviderError::Unavailable(text).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(status: i32, output: &str, errors: &str) -> Ended {
        Ended {
            status: Some(status),
            output: output.into(),
            errors: errors.into(),
        }
    }

    #[test]
    fn exit_status_0_is_not_an_answer_yet() {
        let answer =
            r#"{"session_id": "x", "response": "{}", "stats": {"models": {"m": {"tokens": {"total": 9}}}}}"#;
        let answer = read(&ended(0, answer, "")).expect("an answer");
        assert_eq!((answer.text.as_str(), answer.tokens), ("{}", Some(9)));
        for (output, expected) in [
            (r#"{"response": ""}"#, "blocked"),
            ("Loaded cached credentials.", "without the JSON"),
            (r#"{"error": {"message": "quota"}}"#, "quota"),
        ] {
            let failure = read(&ended(0, output, "")).expect_err(expected);
            assert!(failure.error.to_string().contains(expected), "{failure:?}");
        }
    }

    #[test]
    fn the_reason_comes_after_a_stack_trace() {
        let trace = "Error: x {\n  at y\n}\n{\n  \"error\": {\"type\": \"Error\", \"message\": \"limit per day\", \"code\": 429}\n}\n";
        let failure = read(&ended(173, "", trace)).expect_err("a failure");
        assert_eq!(failure.throttle, Some(Throttle::Day));
        assert!(failure.error.to_string().contains("limit per day"), "{failure:?}");
        assert!(read(&ended(55, "", "untrusted")).expect_err("a fault").fatal);
        assert!(!read(&ended(1, "", "socket closed")).expect_err("a failure").fatal);
    }

    #[tokio::test]
    async fn the_command_sees_nothing_of_ours_and_leaves_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let program = folder.path().join("gemini");
        let script = format!(
            "#!/bin/sh\nenv > {0}/env\ncat > {0}/prompt\ncp \"$GEMINI_SYSTEM_MD\" {0}/system\n\
             cp \"$HOME/.gemini/settings.json\" {0}/settings\nprintf '{{\"response\": \"{{}}\"}}'\n",
            folder.path().display()
        );
        std::fs::write(&program, script).expect("written");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        std::fs::set_permissions(&program, mode).expect("executable");
        let cli = GeminiCli::new(
            GeminiCliEngine {
                program,
                api_key: crate::config::Secret::new("k-123456"),
                base_url: None,
            },
            "m".to_owned(),
        );
        let schema = json!({"type": "object"});
        let ask = Ask {
            system: "be good",
            prompt: "facts",
            schema: &schema,
            least_thinking: false,
        };
        let answer = cli
            .attempt(&ask, Duration::from_secs(30))
            .await
            .expect("an answer");
        assert_eq!(answer.text, "{}");
        let kept =
            |name: &str| std::fs::read_to_string(folder.path().join(name)).expect("written by the command");
        assert_eq!(kept("prompt"), "facts");
        assert!(kept("system").contains("be good") && kept("system").contains("object"));
        let settings: Value = serde_json::from_str(&kept("settings")).expect("JSON");
        assert_eq!(settings["tools"]["core"], json!([]));
        let environment = kept("env");
        assert!(environment.contains("GEMINI_API_KEY=k-123456"), "{environment}");
        assert!(!environment.contains("CARGO"), "{environment}");
        let home = environment
            .lines()
            .find_map(|line| line.strip_prefix("HOME="))
            .expect("a home");
        assert!(!Path::new(home).exists(), "{home} is still there");
    }

    #[tokio::test]
    async fn it_is_killed_at_the_deadline_with_what_it_started() {
        let folder = tempfile::tempdir().expect("a folder");
        let program = folder.path().join("gemini");
        let script = format!(
            "#!/bin/sh\nsleep 1000 &\necho $! > {}/child\nwait\n",
            folder.path().display()
        );
        std::fs::write(&program, script).expect("written");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        std::fs::set_permissions(&program, mode).expect("executable");
        let engine = GeminiCliEngine {
            program,
            api_key: crate::config::Secret::new("k-123456"),
            base_url: None,
        };
        let failure = GeminiCli::new(engine, "m".to_owned())
            .check(Duration::from_secs(3))
            .await
            .expect_err("late");
        assert!(matches!(failure.error, ProviderError::Timeout(_)), "{failure:?}");
        let child = std::fs::read_to_string(folder.path().join("child")).expect("started");
        let status = format!("/proc/{}/stat", child.trim());
        // A zombie is dead, too.
        let is_dead = || std::fs::read_to_string(&status).map_or(true, |stat| stat.contains(") Z"));
        for _ in 0..100_000 {
            if is_dead() {
                return;
            }
            tokio::task::yield_now().await;
        }
        panic!("the command's child still runs");
    }
}
