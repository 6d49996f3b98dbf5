mod outbox;

use super::jobs::JobCounts;
use super::*;
use crate::report::Urgency;
use crate::signal::{DRIFT, IncidentKey, Origin, Signal, Status};

fn open(folder: &tempfile::TempDir) -> Store {
    with(folder, policy()).expect("opened")
}

/// Nothing is done outside, and trouble that comes back is new.
fn policy() -> Policy {
    Policy {
        reopen_window: Duration::ZERO,
        ..Policy::nothing()
    }
}

fn with(folder: &tempfile::TempDir, policy: Policy) -> Result<Store, OpenError> {
    Store::open(
        &folder.path().join("worker.db"),
        Duration::from_millis(50),
        policy,
    )
}

fn alert(name: &str, status: Status) -> Signal {
    Signal {
        origin: Origin::Alertmanager,
        dedup_key: format!("alert:{name}:1000"),
        episode: None,
        status,
        incident: IncidentKey::new("ErrorRate", Some("churn"), &[]),
        title: format!("ErrorRate: {name}"),
        urgency: Urgency::P1,
        weight: 1,
        starts_at: 1_000,
        ends_at: (status == Status::Resolved).then_some(9_000),
        body: serde_json::json!({"labels": {"pod": name}}),
    }
}

fn event(id: &str, status: Status, weight: i64) -> Signal {
    Signal {
        origin: Origin::DriftEvent,
        dedup_key: format!("event:{id}"),
        episode: Some("ep-1".to_owned()),
        incident: IncidentKey::new(DRIFT, Some("churn"), &[]),
        weight,
        urgency: Urgency::P0,
        ..alert(id, status)
    }
}

fn report(job: &Job) -> Finished {
    let mut report = for_test::report();
    report.incident.id.clone_from(&job.incident);
    report.revision = job.revision;
    Finished {
        report,
        prompt: None,
        answer: None,
        tokens: 0,
        markdown: "# x".to_owned(),
    }
}

const LEASE: Duration = Duration::from_mins(1);

/// The job that is due, of which there has to be one.
async fn claimed(store: &Store) -> Job {
    store.claim(LEASE).await.expect("claimed").expect("a job")
}

#[tokio::test]
async fn a_signal_is_counted_once_and_its_pods_share_an_incident() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(&folder);
    let both = vec![alert("a", Status::Firing), alert("b", Status::Firing)];
    let first = store.accept(both.clone()).await.expect("committed");
    assert_eq!(
        (first.new, first.duplicates, first.jobs, first.incidents.len()),
        (2, 0, 1, 1)
    );
    let again = store.accept(both).await.expect("committed");
    assert_eq!((again.new, again.duplicates, again.jobs), (0, 2, 0));
    assert_eq!(again.incidents, first.incidents);
}

#[tokio::test]
async fn an_incident_is_over_when_its_last_signal_is_and_the_next_one_is_new() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(&folder);
    let first = store
        .accept(vec![alert("a", Status::Firing), alert("b", Status::Firing)])
        .await
        .expect("committed");
    let id = first.incidents[0].clone();
    let half = store
        .accept(vec![alert("a", Status::Resolved)])
        .await
        .expect("committed");
    assert_eq!(half.resolved, Vec::<String>::new());
    let whole = store
        .accept(vec![alert("b", Status::Resolved)])
        .await
        .expect("committed");
    assert_eq!(whole.resolved, std::slice::from_ref(&id));
    let row = store.incident(&id).await.expect("read").expect("there");
    assert_eq!(row.resolved_at.as_deref(), Some("1970-01-01T00:00:09Z"));
    let mut later = alert("a", Status::Firing);
    (later.dedup_key, later.starts_at) = ("alert:a:20000".to_owned(), 20_000);
    let next = store.accept(vec![later]).await.expect("committed");
    assert_ne!(next.incidents[0], id);
    let mut late = alert("c", Status::Firing);
    late.starts_at = 5_000;
    let told_late = store.accept(vec![late]).await.expect("committed");
    assert_eq!(
        told_late.incidents, next.incidents,
        "the open incident of the key takes it"
    );
}

#[tokio::test]
async fn an_event_that_tells_more_asks_for_a_new_report_and_an_alert_after_it_does_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(&folder);
    let mut drift_alert = alert("drift", Status::Firing);
    drift_alert.incident = IncidentKey::new(DRIFT, Some("churn"), &[]);
    store.accept(vec![drift_alert.clone()]).await.expect("committed");
    let job = claimed(&store).await;
    assert!(store.finish(&job, report(&job)).await.expect("kept"));
    let told = store
        .accept(vec![event("e1", Status::Firing, 12)])
        .await
        .expect("committed");
    assert_eq!(told.jobs, 1);
    let second = claimed(&store).await;
    assert_eq!(
        (second.incident.as_str(), second.revision),
        (job.incident.as_str(), 2)
    );
    drift_alert.dedup_key.push('x');
    assert_eq!(store.accept(vec![drift_alert]).await.expect("committed").jobs, 0);
    let recovered = store
        .accept(vec![event("e2", Status::Resolved, 0)])
        .await
        .expect("committed");
    assert_eq!(recovered.incidents, told.incidents);
    assert!(recovered.resolved.is_empty(), "the alerts still fire");
}

#[tokio::test]
async fn a_recovery_ends_every_signal_of_its_episode() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(&folder);
    let opened = store
        .accept(vec![event("e1", Status::Firing, 12)])
        .await
        .expect("committed");
    let closed = store
        .accept(vec![event("e2", Status::Resolved, 0)])
        .await
        .expect("committed");
    assert_eq!(closed.resolved, opened.incidents);
}

#[tokio::test]
async fn a_job_survives_a_restart_and_its_report_is_kept_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(&folder);
    store
        .accept(vec![alert("a", Status::Firing)])
        .await
        .expect("committed");
    let job = claimed(&store).await;
    assert_eq!(store.claim(LEASE).await.expect("asked"), None, "it is taken");
    drop(store);
    let store = reopened(&folder, &policy());
    let again = claimed(&store).await;
    assert_eq!((again.attempt, &again.incident), (2, &job.incident));
    assert!(store.finish(&again, report(&again)).await.expect("kept"));
    assert!(!store.finish(&job, report(&job)).await.expect("ignored"));
    assert_eq!(store.job_counts().await.expect("counted"), JobCounts::default());
}

/// The thread of a dropped store closes the file and frees the lock in its own time.
fn reopened(folder: &tempfile::TempDir, policy: &Policy) -> Store {
    for _ in 0..1_000_000 {
        match with(folder, policy.clone()) {
            Ok(store) => return store,
            Err(OpenError::Locked { .. }) => std::thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    }
    panic!("the lock was not freed")
}

#[tokio::test]
async fn an_expired_lease_is_taken_over_and_a_failing_job_is_given_up() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(&folder);
    store
        .accept(vec![alert("a", Status::Firing)])
        .await
        .expect("committed");
    for attempt in 1..=MAX_ATTEMPTS {
        let job = store
            .claim(Duration::ZERO)
            .await
            .expect("claimed")
            .expect("a job");
        assert_eq!(job.attempt, attempt);
        store
            .fail(&job, "broken".to_owned(), Duration::ZERO)
            .await
            .expect("noted");
    }
    assert_eq!(store.claim(LEASE).await.expect("asked"), None);
    assert_eq!(store.job_counts().await.expect("counted").failed, 1);
    assert_eq!(store.incidents(10).await.expect("read")[0].state, "failed");
}

#[tokio::test]
async fn a_store_belongs_to_one_process_and_a_later_version_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("worker.db");
    let store = open(&folder);
    let error = Store::open(&path, Duration::ZERO, policy())
        .expect_err("locked")
        .to_string();
    assert!(error.contains("another worker has the store"), "{error}");
    drop(store);
    drop(reopened(&folder, &policy()));
    let other = folder.path().join("later.db");
    Connection::open(&other)
        .and_then(|connection| connection.pragma_update(None, "user_version", 99))
        .expect("written");
    let error = Store::open(&other, Duration::ZERO, policy())
        .expect_err("too new")
        .to_string();
    assert!(error.contains("has version 99"), "{error}");
    let not_a_database = folder.path().join("text.db");
    std::fs::write(&not_a_database, "hello".repeat(1_000)).expect("written");
    assert!(matches!(
        Store::open(&not_a_database, Duration::ZERO, policy()),
        Err(OpenError::Sqlite { .. })
    ));
}
