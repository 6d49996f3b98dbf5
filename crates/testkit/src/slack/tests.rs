use super::*;

fn message(change: impl FnOnce(&mut Value)) -> Value {
    let mut message = json!({
        "channel": CHANNEL, "text": "x",
        "blocks": [
            {"type": "header", "text": {"type": "plain_text", "text": "P1"}},
            {"type": "section", "text": {"type": "mrkdwn", "text": "*x*", "verbatim": true}},
            {"type": "actions", "elements": [
                {"type": "button", "action_id": "a", "value": "1", "text": {"type": "plain_text", "text": "Go"}},
            ]},
        ],
    });
    change(&mut message);
    message
}

#[test]
fn it_refuses_what_slack_refuses() {
    type Change = fn(&mut Value);
    assert_eq!(check_message(&message(|_| ())), Ok(()));
    let cases: [(Change, &str); 14] = [
        (|m| *m = json!({"channel": CHANNEL}), "no_text"),
        (
            |m| m["mrkdwn"] = json!(true),
            "invalid_arguments: message has no field `mrkdwn`",
        ),
        (|m| m["text"] = json!("x".repeat(40_001)), "msg_too_long"),
        (
            |m| m["metadata"] = json!({"event_type": "x"}),
            "invalid_metadata_format",
        ),
        (
            |m| m["blocks"] = json!(vec![json!({"type": "divider"}); 51]),
            "invalid_blocks: 51 blocks",
        ),
        (|m| m["blocks"][0]["type"] = json!("table"), "unsupported type"),
        (
            |m| m["blocks"][0]["text"]["type"] = json!("mrkdwn"),
            "text of type `mrkdwn`",
        ),
        (
            |m| m["blocks"][0]["text"]["text"] = json!("x".repeat(151)),
            "151 characters, expected 1 to 150",
        ),
        (|m| m["blocks"][1]["text"]["text"] = json!(""), "0 characters"),
        (
            |m| m["blocks"][1]["text"]["text"] = json!("x".repeat(3_001)),
            "3001 characters",
        ),
        (
            |m| m["blocks"][1]["color"] = json!("red"),
            "section has no field `color`",
        ),
        (
            |m| m["blocks"][2]["elements"][0]["style"] = json!("bold"),
            "style",
        ),
        (
            |m| m["blocks"][2]["elements"][0]["value"] = json!("x".repeat(2_001)),
            "value has 2001",
        ),
        (
            |m| {
                let section =
                    json!({"type": "section", "text": {"type": "mrkdwn", "text": "x".repeat(2_900)}});
                m["blocks"] = json!(vec![section; 5]);
            },
            "msg_blocks_too_long",
        ),
    ];
    for (change, expected) in cases {
        let error = check_message(&message(change)).expect_err(expected);
        assert!(error.contains(expected), "{expected}: {error}");
    }
    let twice = message(|m| {
        let button = m["blocks"][2]["elements"][0].clone();
        m["blocks"][2]["elements"] = json!([button.clone(), button]);
    });
    assert!(check_message(&twice).expect_err("twice").contains("used twice"));
}

#[test]
fn it_signs_as_the_documentation_does() {
    let body = b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow\
        &channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner\
        &command=%2Fwebhook-collect&text=\
        &response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN\
        &trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c";
    assert_eq!(
        sign("8f742231b10e8888abcd99yyyzzz85a5", "1531420618", body),
        "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503"
    );
}

#[test]
fn parameters_are_decoded() {
    assert_eq!(check::decoded("1787307243%2E000001"), "1787307243.000001");
    assert_eq!(check::decoded("%zz%4"), "%zz%4");
}
