//! `FakeGitHub` as a process, for clients in other languages: prints where it is and what is in it, and when its
//! standard input ends, what was downloaded.

use std::io::{Read as _, Write as _};

use plumbline_testkit::github::{FakeGitHub, TOKEN};
use serde_json::json;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    const ACME: &str = "acme/churn";
    let fake = FakeGitHub::start().await;
    fake.add_repository(ACME);
    fake.add_workflow(ACME, "retrain.yaml", &["model", "key"]);
    let green = json!({"conclusion": "success", "head_sha": "a1", "created_at": "2026-11-21T22:00:00Z"});
    fake.add_run(ACME, &green);
    let run = fake.add_run(ACME, &json!({"head_sha": "b2", "run_attempt": 2}));
    let log = "collected 12 items\n##[error]Process completed with exit code 1.\n";
    let job = fake.add_job(ACME, run, 2, &json!({"name": "unit"}), Some(log));
    for index in 1..120 {
        let fields = json!({"name": format!("job {index}"), "conclusion": "success"});
        fake.add_job(ACME, run, 2, &fields, None);
    }
    let annotation =
        json!({"path": "a.py", "start_line": 3, "annotation_level": "failure", "message": "F401"});
    fake.add_annotation(ACME, job, annotation);
    let changes = json!({"total_commits": 1, "files": [{"filename": "src/a b.py", "status": "modified"}]});
    fake.set_comparison(ACME, "a1", "b2", changes);
    fake.add_file(ACME, "src/a b.py", "import os\n");
    fake.add_pull_request(ACME, 12, "b2");
    let found = json!({
        "url": fake.url(), "token": TOKEN, "owner": "acme", "repo": "churn", "run": run, "job": job,
    });
    writeln!(std::io::stdout(), "{found}")?;
    let ended = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
    ended.await.expect("it does not panic")?;
    let (downloads, leaked) = fake.downloads();
    writeln!(
        std::io::stdout(),
        "{}",
        json!({"downloads": downloads, "leaked": leaked})
    )
}
