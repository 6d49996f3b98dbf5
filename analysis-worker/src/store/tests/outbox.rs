//! Effects, approvals, and the books.

use super::*;
use crate::action::{Action, Lane, Receipt};
use crate::audit;
use crate::policy;

/// Everything is done, retraining after approval; the end of an incident is told at once.
fn acting() -> Policy {
    Policy {
        recovery_delay: Duration::ZERO,
        reopen_window: Duration::from_hours(1),
        ..policy::tests::policy()
    }
}

/// A report whose drift has evidence.
fn proven(job: &Job) -> Finished {
    let mut finished = report(job);
    let drift = finished.report.drift.as_mut().expect("a comparison");
    policy::tests::prove(drift);
    finished
}

/// A store with a drift incident that has its first report.
async fn reported(folder: &tempfile::TempDir, policy: Policy) -> (Store, String) {
    let store = with(folder, policy).expect("opened");
    store
        .accept(vec![event("e1", Status::Firing, 12)])
        .await
        .expect("committed");
    let job = claimed(&store).await;
    assert!(store.finish(&job, proven(&job)).await.expect("kept"));
    (store, job.incident)
}

fn made(effect: &Effect) -> Receipt {
    Receipt {
        place: effect.target.clone(),
        reference: format!("{}.1", effect.id),
        url: None,
        found: false,
    }
}

/// Makes whatever is due in a lane.
async fn make_all(store: &Store, lane: Lane) -> Vec<Action> {
    let mut actions = Vec::new();
    while let Some(effect) = store.claim_effect(lane).await.expect("claimed") {
        store.effect_done(&effect, made(&effect)).await.expect("kept");
        actions.push(effect.action);
    }
    actions
}

fn failure(retry: Retry) -> Failure {
    Failure {
        error: "away".to_owned(),
        uncertain: false,
        retry,
    }
}

fn verified(folder: &tempfile::TempDir) -> i64 {
    let connection = Connection::open(folder.path().join("worker.db")).expect("opened");
    audit::verify(&connection, None).expect("the log holds").entries
}

#[tokio::test]
async fn a_report_and_its_effects_are_committed_together_and_each_is_made_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let (store, incident) = reported(&folder, acting()).await;
    let first = store
        .claim_effect(Lane::Slack)
        .await
        .expect("claimed")
        .expect("due");
    assert_eq!(
        (first.action, first.uncertain, first.attempt),
        (Action::SlackMessage, false, 1)
    );
    assert_eq!(
        store.claim_effect(Lane::Slack).await.expect("asked"),
        None,
        "it is being made"
    );
    store.effect_done(&first, made(&first)).await.expect("kept");
    assert_eq!(make_all(&store, Lane::Slack).await, []);
    assert_eq!(make_all(&store, Lane::GithubIssues).await, [Action::GithubIssue]);
    assert_eq!(
        make_all(&store, Lane::GithubActions).await,
        [],
        "a person has to agree"
    );
    assert_eq!(
        make_all(&store, Lane::Slack).await,
        [Action::SlackUpdate],
        "the issue's address"
    );
    let told = store.told(&incident).await.expect("read").expect("reported");
    assert_eq!(told.message, Some(made(&first)));
    let decisions = store.decisions(&incident, 10).await.expect("read");
    let verdicts: Vec<&str> = decisions
        .iter()
        .map(|decision| decision.verdict.as_str())
        .collect();
    assert_eq!(verdicts, ["allowed", "allowed", "needs_approval"]);
    // One report, three decisions, three effects.
    assert_eq!(verified(&folder), 7);
}

#[tokio::test]
async fn what_was_being_made_when_the_process_died_is_looked_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let (store, _) = reported(&folder, acting()).await;
    let before = store
        .claim_effect(Lane::Slack)
        .await
        .expect("claimed")
        .expect("due");
    drop(store);
    let store = reopened(&folder, &acting());
    assert_eq!(
        store.claim_effect(Lane::Slack).await.expect("asked"),
        None,
        "the service gets time to end what it began"
    );
    let issue = store
        .claim_effect(Lane::GithubIssues)
        .await
        .expect("claimed")
        .expect("due");
    assert!(!issue.uncertain, "this one had not begun");
    due_now(&folder);
    let again = store
        .claim_effect(Lane::Slack)
        .await
        .expect("claimed")
        .expect("due");
    assert_eq!((again.key, again.uncertain, again.attempt), (before.key, true, 2));
}

/// Time passes for whatever waits.
fn due_now(folder: &tempfile::TempDir) {
    let connection = Connection::open(folder.path().join("worker.db")).expect("opened");
    connection
        .execute_batch("UPDATE effect SET not_before = 0")
        .expect("written");
}

#[tokio::test]
async fn effects_of_an_incident_keep_their_order_and_follow_nothing_that_is_missing() {
    let folder = tempfile::tempdir().expect("a folder");
    let (store, _) = reported(&folder, acting()).await;
    store
        .accept(vec![event("e2", Status::Firing, 13)])
        .await
        .expect("committed");
    let job = claimed(&store).await;
    store.finish(&job, proven(&job)).await.expect("kept");
    let message = store
        .claim_effect(Lane::Slack)
        .await
        .expect("claimed")
        .expect("due");
    let fate = store
        .effect_failed(&message, failure(Retry::After(Some(Duration::from_mins(20)))))
        .await
        .expect("noted");
    assert!(
        matches!(fate, Fate::Again(wait) if wait >= Duration::from_mins(20)),
        "{fate:?}"
    );
    assert_eq!(store.claim_effect(Lane::Slack).await.expect("asked"), None);
    due_now(&folder);
    let message = store
        .claim_effect(Lane::Slack)
        .await
        .expect("claimed")
        .expect("due");
    assert_eq!(message.action, Action::SlackMessage);
    let fate = store
        .effect_failed(&message, failure(Retry::Never))
        .await
        .expect("noted");
    assert_eq!(fate, Fate::Dead);
    assert_eq!(
        store.claim_effect(Lane::Slack).await.expect("asked"),
        None,
        "no reply without a message"
    );
    let counts = store.effect_counts().await.expect("counted");
    assert!(
        counts
            .iter()
            .any(|count| count.action == Action::SlackMessage && count.state == "dead"),
        "{counts:?}"
    );
    let retried = store
        .retry_effect(message.id, "console:ann".to_owned())
        .await
        .expect("retried");
    assert_eq!(retried.as_deref(), Some(job.incident.as_str()));
    assert_eq!(
        store
            .retry_effect(message.id, "console:ann".to_owned())
            .await
            .expect("asked"),
        None
    );
    let actions = make_all(&store, Lane::Slack).await;
    assert_eq!(actions[0], Action::SlackMessage);
    assert_eq!(
        actions
            .iter()
            .filter(|action| **action == Action::SlackReply)
            .count(),
        1,
        "{actions:?}"
    );
}

#[tokio::test]
async fn tries_are_bounded() {
    let folder = tempfile::tempdir().expect("a folder");
    let (store, _) = reported(&folder, acting()).await;
    for attempt in 1..=MAX_TRIES {
        due_now(&folder);
        let effect = store
            .claim_effect(Lane::GithubIssues)
            .await
            .expect("claimed")
            .expect("due");
        assert_eq!(effect.attempt, attempt);
        let fate = store
            .effect_failed(&effect, failure(Retry::After(None)))
            .await
            .expect("noted");
        assert_eq!(fate == Fate::Dead, attempt == MAX_TRIES);
    }
}

#[tokio::test]
async fn thirty_returns_within_the_window_are_one_issue_and_two_messages() {
    let folder = tempfile::tempdir().expect("a folder");
    let policy = Policy {
        recovery_delay: Duration::from_mins(5),
        ..acting()
    };
    let (store, incident) = reported(&folder, policy).await;
    let mut made = make_all(&store, Lane::Slack).await;
    made.extend(make_all(&store, Lane::GithubIssues).await);
    for cycle in 0..30_i64 {
        let at = 1_000 + cycle * 120_000;
        let mut again = event(&format!("again-{cycle}"), Status::Firing, 12);
        (again.episode, again.starts_at) = (Some(format!("episode-{cycle}")), at);
        let mut over = again.clone();
        (over.status, over.ends_at) = (Status::Resolved, Some(at + 60_000));
        over.dedup_key.push_str("/over");
        if cycle == 0 {
            // That of the report.
            store
                .accept(vec![event("e9", Status::Resolved, 0)])
                .await
                .expect("committed");
        }
        let accepted = store.accept(vec![again]).await.expect("committed");
        assert_eq!(
            (&accepted.incidents[..], accepted.jobs),
            (&[incident.clone()][..], 0),
            "cycle {cycle}"
        );
        let accepted = store.accept(vec![over]).await.expect("committed");
        assert_eq!(
            accepted.resolved,
            std::slice::from_ref(&incident),
            "cycle {cycle}"
        );
        made.extend(make_all(&store, Lane::Slack).await);
        made.extend(make_all(&store, Lane::GithubIssues).await);
    }
    due_now(&folder);
    made.extend(make_all(&store, Lane::Slack).await);
    made.extend(make_all(&store, Lane::GithubIssues).await);
    let count = |action: Action| made.iter().filter(|made| **made == action).count();
    assert_eq!(
        (count(Action::GithubIssue), count(Action::GithubComment)),
        (1, 1),
        "{made:?}"
    );
    assert_eq!(
        (count(Action::SlackMessage), count(Action::SlackReply)),
        (1, 1),
        "{made:?}"
    );
    let told = store.told(&incident).await.expect("read").expect("reported");
    assert_eq!(told.reopened, 30);
    let ledger = store.ledger().await.expect("counted");
    assert_eq!((ledger.received, ledger.analysed, ledger.suppressed), (62, 1, 61));
    assert_eq!(ledger.unaccounted(), 0);
}

async fn waiting(store: &Store, incident: &str) -> (i64, String) {
    let retraining = store
        .retraining(incident)
        .await
        .expect("read")
        .expect("asked for");
    assert_eq!(retraining.state, "waiting");
    (retraining.effect, retraining.approval.expect("a request").digest)
}

fn ballot((effect, digest): &(i64, String), choice: Choice) -> Ballot {
    Ballot {
        effect: *effect,
        digest: digest.clone(),
        choice,
        actor: "slack:U0ALICE".to_owned(),
    }
}

#[tokio::test]
async fn an_approval_counts_once_and_starts_one_retraining() {
    let folder = tempfile::tempdir().expect("a folder");
    let (store, incident) = reported(&folder, acting()).await;
    let request = waiting(&store, &incident).await;
    let taken = store
        .vote(ballot(&request, Choice::Approve))
        .await
        .expect("counted");
    assert_eq!(
        taken,
        Counted::Taken {
            incident: incident.clone()
        }
    );
    for choice in [Choice::Approve, Choice::Reject] {
        let again = store.vote(ballot(&request, choice)).await.expect("counted");
        assert!(
            matches!(&again, Counted::Refused(reason) if reason.starts_with("the request is approved by slack:U0ALICE")),
            "{again:?}"
        );
    }
    assert_eq!(
        make_all(&store, Lane::GithubActions).await,
        [Action::RetrainDispatch]
    );
    assert_eq!(make_all(&store, Lane::GithubActions).await, []);
}

#[tokio::test]
async fn forged_stale_and_late_approvals_do_not_count() {
    let folder = tempfile::tempdir().expect("a folder");
    let (store, incident) = reported(&folder, acting()).await;
    let (effect, digest) = waiting(&store, &incident).await;
    let refused = async |request: (i64, String), choice, expected: &str| {
        let counted = store.vote(ballot(&request, choice)).await.expect("counted");
        assert!(
            matches!(&counted, Counted::Refused(reason) if reason.contains(expected)),
            "{counted:?}"
        );
    };
    refused((effect + 1, digest.clone()), Choice::Approve, "no such request").await;
    refused(
        (effect, "0".repeat(64)),
        Choice::Approve,
        "not the one that was shown",
    )
    .await;
    // Somebody who can write to the file sends the training elsewhere: the digest no longer fits.
    let connection = Connection::open(folder.path().join("worker.db")).expect("opened");
    let retarget = |target: &str| {
        let changed = connection.execute("UPDATE effect SET target = ?2 WHERE id = ?1", (effect, target));
        assert_eq!(changed.expect("written"), 1);
    };
    retarget("evil/models/retrain.yml@main");
    refused(
        (effect, digest.clone()),
        Choice::Approve,
        "not the one that was shown",
    )
    .await;
    retarget("acme/models/retrain.yml@main");
    // A later report asks anew.
    store
        .accept(vec![event("e2", Status::Firing, 13)])
        .await
        .expect("committed");
    let job = claimed(&store).await;
    store.finish(&job, proven(&job)).await.expect("kept");
    refused((effect, digest), Choice::Approve, "the request is superseded").await;
    let second = waiting(&store, &incident).await;
    assert_ne!(second.0, effect);
    // The drift ends.
    store
        .accept(vec![event("e3", Status::Resolved, 0)])
        .await
        .expect("committed");
    refused(second.clone(), Choice::Approve, "the incident is over").await;
    // Nobody decides in time.
    connection
        .execute_batch("UPDATE approval SET expires_at = 1")
        .expect("written");
    refused(second.clone(), Choice::Reject, "expired at 1970").await;
    assert_eq!(store.expire_approvals().await.expect("expired"), 1);
    refused(second, Choice::Approve, "the request is expired").await;
    assert_eq!(make_all(&store, Lane::GithubActions).await, []);
    verified(&folder);
}

#[tokio::test]
async fn a_rejected_retraining_is_not_started_and_a_started_one_holds_the_next_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let (store, incident) = reported(&folder, acting()).await;
    let request = waiting(&store, &incident).await;
    store
        .vote(ballot(&request, Choice::Reject))
        .await
        .expect("counted");
    assert_eq!(make_all(&store, Lane::GithubActions).await, []);
    // The next report may ask again, and this one is approved.
    store
        .accept(vec![event("e2", Status::Firing, 13)])
        .await
        .expect("committed");
    let job = claimed(&store).await;
    store.finish(&job, proven(&job)).await.expect("kept");
    let request = waiting(&store, &incident).await;
    store
        .vote(ballot(&request, Choice::Approve))
        .await
        .expect("counted");
    assert_eq!(
        make_all(&store, Lane::GithubActions).await,
        [Action::RetrainDispatch]
    );
    store
        .accept(vec![event("e3", Status::Firing, 14)])
        .await
        .expect("committed");
    let job = claimed(&store).await;
    store.finish(&job, proven(&job)).await.expect("kept");
    let decisions = store.decisions(&incident, 3).await.expect("read");
    let retrain = decisions
        .iter()
        .find(|decision| decision.action == "retrain_dispatch")
        .expect("decided");
    assert_eq!((retrain.revision, retrain.verdict.as_str()), (3, "held"));
    assert!(
        retrain
            .reasons
            .iter()
            .any(|reason| reason.contains("has had its retraining")),
        "{retrain:?}"
    );
}

#[tokio::test]
async fn the_books_balance_through_duplicates_revisions_and_failures() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(&folder);
    let three = vec![
        alert("a", Status::Firing),
        alert("b", Status::Firing),
        alert("a", Status::Firing),
    ];
    store.accept(three).await.expect("committed");
    let pending = store.ledger().await.expect("counted");
    assert_eq!((pending.received, pending.pending, pending.suppressed), (3, 2, 1));
    let job = claimed(&store).await;
    store
        .accept(vec![alert("c", Status::Firing)])
        .await
        .expect("committed");
    store.finish(&job, report(&job)).await.expect("kept");
    let done = store.ledger().await.expect("counted");
    assert_eq!(
        (done.received, done.analysed, done.suppressed, done.unaccounted()),
        (4, 2, 2, 0)
    );
    let mut other = alert("d", Status::Firing);
    other.incident = IncidentKey::new("Other", None, &[]);
    store.accept(vec![other]).await.expect("committed");
    for _ in 0..MAX_ATTEMPTS {
        let job = store
            .claim(Duration::ZERO)
            .await
            .expect("claimed")
            .expect("a job");
        store
            .fail(&job, "broken".to_owned(), Duration::ZERO)
            .await
            .expect("noted");
    }
    let failed = store.ledger().await.expect("counted");
    assert_eq!((failed.received, failed.failed, failed.unaccounted()), (5, 1, 0));
    // Whatever is taken out shows.
    let connection = Connection::open(folder.path().join("worker.db")).expect("opened");
    connection
        .execute_batch("DELETE FROM signal WHERE title LIKE '%: b'")
        .expect("deleted");
    assert_eq!(store.ledger().await.expect("counted").unaccounted(), 1);
}

#[tokio::test]
async fn a_verdict_is_one_for_each_person() {
    let folder = tempfile::tempdir().expect("a folder");
    let (store, incident) = reported(&folder, acting()).await;
    let judge = async |revision, verdict, actor: &str| {
        let judged = store
            .judge(incident.clone(), revision, verdict, actor.to_owned())
            .await;
        judged.expect("kept")
    };
    assert!(judge(1, "useful", "slack:U1").await);
    assert!(judge(1, "wrong_cause", "slack:U1").await);
    assert!(judge(1, "useful", "console:ann").await);
    assert!(!judge(9, "useful", "slack:U1").await);
    let told = store.told(&incident).await.expect("read").expect("reported");
    assert_eq!(told.verdicts, (1, 1));
}
