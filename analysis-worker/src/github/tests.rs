use std::collections::BTreeMap;

use plumbline_testkit::github::{FakeGitHub, Fault, TOKEN};
use serde_json::json;

use super::issues::NewIssue;
use super::*;

const ACME: &str = "acme/churn";

async fn github() -> (FakeGitHub, GitHub, Repository) {
    let fake = FakeGitHub::start().await;
    fake.add_repository(ACME);
    let client = client(&fake, Some(TOKEN));
    (fake, client, Repository::parse(ACME).expect("a name"))
}

fn client(fake: &FakeGitHub, token: Option<&str>) -> GitHub {
    let config = GitHubConfig {
        token: token.map(str::to_owned),
        base_url: fake.url().parse().expect("a URL"),
        webhook_secret: None,
        repositories: Vec::new(),
    };
    GitHub::new(&config, HttpClient::new())
}

fn issue(body: &str) -> NewIssue {
    NewIssue {
        title: "churn drifts".to_owned(),
        body: body.to_owned(),
        labels: vec!["drift".to_owned()],
    }
}

#[tokio::test]
async fn a_run_is_read_with_its_jobs_over_several_pages() {
    let (fake, client, acme) = github().await;
    let id = fake.add_run(ACME, &json!({"run_attempt": 2}));
    for index in 0..150 {
        let conclusion = if index == 140 { "failure" } else { "success" };
        let fields = json!({"name": format!("job {index}"), "conclusion": conclusion});
        fake.add_job(ACME, id, 2, &fields, None);
    }
    let run = client.run(&acme, id, None).await.expect("a run");
    assert_eq!((run.run_attempt, run.conclusion.as_deref()), (2, Some("failure")));
    let jobs = client.jobs(&acme, id, run.run_attempt).await.expect("jobs");
    let failed: Vec<&str> = jobs
        .iter()
        .filter(|job| job.has_failed())
        .map(|job| job.name.as_str())
        .collect();
    assert_eq!((jobs.len(), failed), (150, vec!["job 140"]));
    let error = client.run(&acme, id, Some(3)).await.expect_err("no such attempt");
    assert_eq!(
        error.to_string(),
        format!("GitHub: GET /repos/acme/churn/actions/runs/{id}/attempts/3: status 404: Not Found")
    );
    assert!(error.is_permanent());
}

#[tokio::test]
async fn a_log_is_downloaded_without_the_token_and_its_beginning_is_not_kept() {
    let (fake, client, acme) = github().await;
    let run = fake.add_run(ACME, &json!({}));
    let job = fake.add_job(ACME, run, 1, &json!({}), Some("first\nlast\n"));
    let log = client.job_log(&acme, job).await.expect("a log");
    assert_eq!((log.text.as_str(), log.skipped), ("first\nlast\n", 0));
    assert_eq!(fake.downloads(), (1, 0), "one download, no token with it");
    let long = format!("{}\nthe end\n", "x".repeat(20 << 20));
    let job = fake.add_job(ACME, run, 1, &json!({}), Some(&long));
    let log = client.job_log(&acme, job).await.expect("a log");
    assert!(log.text.ends_with("\nthe end\n") && log.skipped > 0);
    assert_eq!(log.skipped as usize + log.text.len(), long.len());
    let expired = fake.add_job(ACME, run, 1, &json!({}), None);
    let error = client.job_log(&acme, expired).await.expect_err("no log");
    assert_eq!(error.status(), Some(StatusCode::NOT_FOUND));
}

#[tokio::test]
async fn the_last_green_run_is_on_the_branch_or_on_the_default_branch() {
    let (fake, client, acme) = github().await;
    let green = |branch: &str, at: &str, workflow: u64| {
        fake.add_run(
            ACME,
            &json!({"conclusion": "success", "head_branch": branch, "created_at": at, "workflow_id": workflow}),
        )
    };
    let main = green("main", "2026-11-20T00:00:00Z", 1);
    green("main", "2026-11-21T00:00:00Z", 2);
    let later = green("main", "2026-11-23T00:00:00Z", 1);
    let failed = fake.add_run(ACME, &json!({"head_branch": "fix/x"}));
    let run = client.run(&acme, failed, None).await.expect("a run");
    assert_eq!(client.default_branch(&acme).await.expect("asked"), "main");
    let of = async |run: &Run| {
        client
            .last_green(&acme, run, "main")
            .await
            .expect("asked")
            .map(|run| run.id)
    };
    assert_eq!(of(&run).await, Some(main), "not {later}, which came after it");
    let own = green("fix/x", "2026-11-19T00:00:00Z", 1);
    assert_eq!(of(&run).await, Some(own));
}

#[tokio::test]
async fn files_comparisons_annotations_and_pull_requests_are_read() {
    let (fake, client, acme) = github().await;
    let run = fake.add_run(ACME, &json!({"head_sha": "b2"}));
    let job = fake.add_job(ACME, run, 1, &json!({}), None);
    fake.add_annotation(
        ACME,
        job,
        json!({"path": "a.py", "start_line": 3, "annotation_level": "failure", "message": "F401 unused"}),
    );
    fake.add_file(ACME, "src/a b.py", "import os\n");
    fake.set_comparison(
        ACME,
        "a1",
        "b2",
        json!({"total_commits": 2, "files": [{"filename": "src/a b.py", "status": "modified", "additions": 1, "deletions": 0, "patch": "@@ +import os"}]}),
    );
    fake.add_pull_request(ACME, 12, "b2");
    let jobs = client.jobs(&acme, run, 1).await.expect("jobs");
    let check_run = jobs[0].check_run().expect("a number");
    let annotations = client.annotations(&acme, check_run).await.expect("annotations");
    assert_eq!(
        (annotations[0].path.as_str(), annotations[0].start_line),
        ("a.py", 3)
    );
    assert_eq!(
        client.file(&acme, "src/a b.py", "b2").await.expect("a file"),
        "import os\n"
    );
    let comparison = client.compare(&acme, "a1", "b2").await.expect("compared");
    assert_eq!(comparison.files[0].filename, "src/a b.py");
    assert_eq!(
        client.pull_request_of(&acme, "b2").await.expect("asked"),
        Some(12)
    );
    assert_eq!(client.pull_request_of(&acme, "a1").await.expect("asked"), None);
}

#[tokio::test]
async fn an_issue_is_found_again_by_its_marker_when_its_answer_was_lost() {
    let (fake, client, acme) = github().await;
    for index in 0..120 {
        let body = format!("{}\nother", marker("incident", &index.to_string()));
        client.create_issue(&acme, &issue(&body)).await.expect("opened");
    }
    let key = marker("incident", "abc");
    assert_eq!(client.find_issue(&acme, &key).await.expect("asked"), None);
    fake.fail(&Method::POST, "/issues", 1, Fault::AnswerLost);
    let body = format!("{key}\n{}", "line\n".repeat(20_000));
    let error = client
        .create_issue(&acme, &issue(&body))
        .await
        .expect_err("no answer");
    assert!(!error.is_permanent() && error.status().is_none(), "{error}");
    let found = client
        .find_issue(&acme, &key)
        .await
        .expect("asked")
        .expect("it is there");
    let issues = fake.issues(ACME);
    assert_eq!(
        (issues.len(), found.number),
        (121, issues[120]["number"].as_u64().expect("a number"))
    );
    assert!(
        issues[120]["body"]
            .as_str()
            .is_some_and(|body| body.ends_with("GitHub takes 65536.\n"))
    );
    let first = client
        .find_issue(&acme, &marker("incident", "0"))
        .await
        .expect("asked");
    assert_eq!(first.map(|issue| issue.number), Some(1), "on the second page");
    assert_eq!(fake.labels(ACME, 1), ["plumbline", "drift"]);
}

#[tokio::test]
async fn a_comment_is_ours_only_if_somebody_who_may_write_wrote_it() {
    let (fake, client, acme) = github().await;
    fake.add_pull_request(ACME, 5, "b2");
    let key = marker("triage", "1");
    fake.add_foreign_comment(ACME, 5, &format!("{key} forged"), "NONE");
    assert_eq!(client.find_comment(&acme, 5, &key).await.expect("asked"), None);
    let posted = client
        .comment(&acme, 5, &format!("{key}\nred"))
        .await
        .expect("posted");
    let found = client
        .find_comment(&acme, 5, &key)
        .await
        .expect("asked")
        .expect("found");
    assert_eq!(found.id, posted.id);
    client
        .update_comment(&acme, found.id, &format!("{key}\ngreen"))
        .await
        .expect("changed");
    let comments = fake.comments(ACME, 5);
    assert_eq!(
        (comments.len(), &comments[1]["body"]),
        (2, &json!(format!("{key}\ngreen")))
    );
    client
        .add_labels(&acme, 5, &["ci".to_owned()])
        .await
        .expect("labelled");
    assert_eq!(fake.labels(ACME, 5), ["ci"]);
    fake.add_run(ACME, &json!({"head_sha": "b2"}));
    let posted = client.comment_commit(&acme, "b2", &key).await.expect("posted");
    let found = client
        .find_commit_comment(&acme, "b2", &key)
        .await
        .expect("asked");
    assert_eq!(found.map(|comment| comment.id), Some(posted.id));
    client
        .update_commit_comment(&acme, posted.id, &format!("{key}\nagain"))
        .await
        .expect("changed");
    assert_eq!(fake.commit_comments(ACME)[0]["body"], format!("{key}\nagain"));
}

#[tokio::test]
async fn a_dispatch_is_found_again_by_its_key() {
    let (fake, client, acme) = github().await;
    fake.add_workflow(ACME, "retrain.yaml", &["model", "key"]);
    let inputs = |extra: &[(&str, &str)]| -> BTreeMap<String, String> {
        let all = [("model", "churn"), ("key", "incident-7")];
        let all = all.iter().chain(extra);
        all.map(|(name, value)| (name.to_string(), value.to_string()))
            .collect()
    };
    let find = async || {
        client
            .find_dispatched(&acme, "retrain.yaml", "incident-7")
            .await
            .expect("asked")
    };
    assert!(find().await.is_none());
    fake.fail(&Method::POST, "/dispatches", 1, Fault::AnswerLost);
    let lost = client.dispatch(&acme, "retrain.yaml", "main", &inputs(&[])).await;
    assert!(!lost.expect_err("no answer").is_permanent());
    assert!(find().await.is_some());
    for (workflow, git_ref, extra, expected) in [
        ("none.yaml", "main", &[][..], "404"),
        ("retrain.yaml", "gone", &[], "No ref found"),
        ("retrain.yaml", "main", &[("depth", "3")], "Unexpected inputs"),
    ] {
        let error = client
            .dispatch(&acme, workflow, git_ref, &inputs(extra))
            .await
            .expect_err(expected);
        assert!(
            error.is_permanent() && error.to_string().contains(expected),
            "{error}"
        );
    }
    client
        .dispatch(&acme, "retrain.yaml", "main", &inputs(&[]))
        .await
        .expect("dispatched");
    assert_eq!(fake.dispatches(ACME).len(), 2);
}

#[tokio::test]
async fn reads_are_tried_again_and_writes_are_not() {
    let (fake, client, acme) = github().await;
    let id = fake.add_run(ACME, &json!({}));
    fake.fail(&Method::GET, "/actions/runs", 1, Fault::HtmlPage);
    fake.fail(
        &Method::GET,
        "/actions/runs",
        1,
        Fault::SecondaryLimit { retry_after: Some(0) },
    );
    client.run(&acme, id, None).await.expect("the third try");
    assert_eq!(fake.received_so_far(), 3);
    fake.fail(
        &Method::GET,
        "/actions/runs",
        1,
        Fault::PrimaryLimit { reset_in: 900 },
    );
    let error = client.run(&acme, id, None).await.expect_err("not waited for");
    assert!(!error.is_permanent());
    assert!(
        error
            .retry_after()
            .is_some_and(|wait| wait > Duration::from_mins(14)),
        "{error:?}"
    );
    assert_eq!(fake.received_so_far(), 4);
    fake.fail(&Method::POST, "/issues", 1, Fault::Status(503));
    let error = client.create_issue(&acme, &issue("x")).await.expect_err("once");
    assert!(!error.is_permanent());
    assert_eq!((fake.received_so_far(), fake.issues(ACME).len()), (5, 0));
}

#[tokio::test]
async fn tokens_and_permissions_are_asked_for() {
    let (fake, _, acme) = github().await;
    fake.add_run(ACME, &json!({"id": 9}));
    client(&fake, None).run(&acme, 9, None).await.expect("public");
    for (client, expected) in [
        (client(&fake, None), "status 401: Requires authentication"),
        (client(&fake, Some("wrong")), "status 401: Bad credentials"),
    ] {
        let error = client.create_issue(&acme, &issue("x")).await.expect_err(expected);
        assert!(
            error.is_permanent() && error.to_string().ends_with(expected),
            "{error}"
        );
    }
    fake.deny("issues");
    let error = client(&fake, Some(TOKEN)).create_issue(&acme, &issue("x")).await;
    let error = error.expect_err("denied");
    assert!(
        error.is_permanent() && error.to_string().contains("not accessible by integration"),
        "{error}"
    );
    assert!(!format!("{:?}", client(&fake, Some("secret-token"))).contains("secret-token"));
}
