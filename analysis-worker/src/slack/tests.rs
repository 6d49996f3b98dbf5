use plumbline_testkit::slack::{CHANNEL, FakeSlack, Fault, TOKEN};

use super::*;
use crate::store::for_test::told;

fn client(slack: &FakeSlack, token: &str) -> Slack {
    let config = SlackConfig {
        token: token.to_owned(),
        base_url: slack.url().parse().expect("a URL"),
        channel: CHANNEL.to_owned(),
        signing_secret: None,
        approvers: Vec::new(),
    };
    Slack::new(&config, HttpClient::new())
}

fn message() -> Message {
    let links = message::Links {
        console: None,
        buttons: false,
    };
    message::incident(&told(), &links)
}

#[tokio::test]
async fn a_message_is_found_by_its_key_in_channel_and_thread() {
    let slack = FakeSlack::start().await;
    slack.page(3);
    let client = client(&slack, TOKEN);
    let mut posted = Vec::new();
    for key in 0..8 {
        let ts = client.post(CHANNEL, None, &message(), &format!("k{key}")).await;
        posted.push(ts.expect("posted"));
    }
    let reply = client
        .post(CHANNEL, Some(&posted[0]), &message(), "reply")
        .await
        .expect("posted");
    let find =
        async |thread: Option<&str>, key: &str| client.find(CHANNEL, thread, key, 0).await.expect("asked");
    assert_eq!(
        find(None, "k0").await.as_ref(),
        Some(&posted[0]),
        "on the last page"
    );
    assert_eq!(find(None, "k9").await, None);
    assert_eq!(find(None, "reply").await, None, "a reply is not in the channel");
    assert_eq!(find(Some(&posted[0]), "reply").await, Some(reply));
    let later = crate::signal::now() + 3_600_000;
    let found = client.find(CHANNEL, None, "k0", later).await.expect("asked");
    assert_eq!(found, None, "posted before");
    client
        .update(CHANNEL, &posted[0], &message())
        .await
        .expect("updated");
    assert_eq!(
        find(None, "k0").await.as_ref(),
        Some(&posted[0]),
        "an update keeps the key"
    );
}

#[tokio::test]
async fn a_history_that_is_too_long_to_read_is_no_proof_that_a_message_is_missing() {
    let slack = FakeSlack::start().await;
    let client = client(&slack, TOKEN);
    for key in 0..MAX_PAGES + 2 {
        let ts = client.post(CHANNEL, None, &message(), &format!("k{key}")).await;
        ts.expect("posted");
    }
    slack.page(1);
    let error = client
        .find(CHANNEL, None, "k0", 0)
        .await
        .expect_err("not all was seen");
    assert!(error.is_uncertain() && !error.is_permanent(), "{error}");
    assert!(error.to_string().contains("more than 10 pages"), "{error}");
}

#[tokio::test]
async fn each_refusal_says_whether_to_come_again_and_whether_to_look() {
    let slack = FakeSlack::start().await;
    let minute = Some(Duration::from_mins(1));
    for (fault, (uncertain, permanent, wait)) in [
        (Fault::Limited(60), (false, false, minute)),
        (Fault::Error("ratelimited"), (false, false, minute)),
        (Fault::Error("invalid_blocks"), (false, true, None)),
        (Fault::Error("msg_blocks_too_long"), (false, true, None)),
        (Fault::Error("not_in_channel"), (false, false, None)),
        (Fault::Error("fatal_error"), (true, false, None)),
        (Fault::Status(503), (true, false, None)),
        (Fault::AnswerLost, (true, false, None)),
    ] {
        slack.fail("chat.postMessage", 1, fault.clone());
        let error = client(&slack, TOKEN)
            .post(CHANNEL, None, &message(), "k")
            .await
            .expect_err("it fails");
        let found = (error.is_uncertain(), error.is_permanent(), error.retry_after());
        assert_eq!(found, (uncertain, permanent, wait), "{fault:?}: {error}");
    }
    let error = client(&slack, "xoxb-wrong")
        .post(CHANNEL, None, &message(), "k")
        .await;
    assert_eq!(
        error.expect_err("refused").to_string(),
        "Slack: chat.postMessage: invalid_auth"
    );
}

#[tokio::test]
async fn only_slack_is_answered() {
    let slack = FakeSlack::start().await;
    let client = client(&slack, TOKEN);
    let elsewhere = FakeSlack::start().await;
    client.respond(&elsewhere.response_url(), "to nobody").await;
    client.respond("not a URL", "to nobody").await;
    client.respond(&slack.response_url(), "done").await;
    assert_eq!(elsewhere.received_so_far(), 0);
    assert_eq!(slack.responses()[0]["text"], "done");
}
