//! The real program as a process of its own, to be killed.

use std::path::Path;
use std::process::Stdio;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::support::PATIENCE;

pub(crate) struct Spawned {
    pub(crate) child: Child,
    pub(crate) url: String,
    lines: tokio::io::Lines<BufReader<tokio::process::ChildStderr>>,
}

impl Spawned {
    /// Starts one with a store, further arguments and variables, and waits until it listens.
    pub(crate) async fn start(store: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let program = Command::new(env!("CARGO_BIN_EXE_plumbline-analysis-worker"));
        Self::run(program, store, arguments, variables).await
    }

    /// Starts one that cannot make a file longer than so many blocks (of 512 bytes or 1 KiB, as the shell has it): a write
    /// beyond that fails as one to a full disk does.
    pub(crate) async fn start_with_little_room(store: &Path, blocks: u32) -> Self {
        let mut program = Command::new("sh");
        program.args([
            "-c",
            &format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\""),
        ]);
        program.arg(env!("CARGO_BIN_EXE_plumbline-analysis-worker"));
        Self::run(program, store, &["--provider=offline"], &[]).await
    }

    async fn run(mut program: Command, store: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut child = program
            .args([
                "serve",
                "--listen=127.0.0.1:0",
                "--admin-listen=127.0.0.1:0",
                "--log-format=json",
                "--drain-delay=0s",
            ])
            .args(arguments)
            .arg("--store")
            .arg(store)
            .envs(variables.iter().copied())
            .stderr(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the binary starts");
        let stderr = child.stderr.take().expect("piped");
        let mut this = Self {
            child,
            url: String::new(),
            lines: BufReader::new(stderr).lines(),
        };
        let listening = this
            .line(|line| line["fields"]["port"] == "data" || line["port"] == "data")
            .await;
        let address = listening["fields"]["address"]
            .as_str()
            .or(listening["address"].as_str())
            .expect("an address");
        this.url = format!("http://{address}");
        this
    }

    /// The next line of the log that `wanted` accepts.
    pub(crate) async fn line(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        let search = async {
            while let Some(line) = self.lines.next_line().await.expect("readable") {
                let line: Value = serde_json::from_str(&line).unwrap_or_default();
                if wanted(&line) {
                    return line;
                }
            }
            panic!("the log ended");
        };
        tokio::time::timeout(PATIENCE, search).await.expect("in time")
    }

    pub(crate) async fn finished(&mut self) {
        self.line(|line| line.to_string().contains("report finished"))
            .await;
    }
}
