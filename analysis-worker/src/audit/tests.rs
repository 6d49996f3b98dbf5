use super::*;

fn log(entries: u32) -> Connection {
    let mut connection = Connection::open_in_memory().expect("opened");
    crate::store::migrate_for_test(&mut connection);
    let transaction = connection.transaction().expect("begun");
    for revision in 1..=entries {
        append(&transaction, decision(revision)).expect("appended");
    }
    transaction.commit().expect("committed");
    connection
}

fn decision(revision: u32) -> Fact {
    Fact::Decision {
        incident: "i".to_owned(),
        revision,
        action: "slack_message".to_owned(),
        verdict: "allowed".to_owned(),
        reasons: vec!["P1: every report is told".to_owned()],
    }
}

/// Without the triggers, as somebody with the file in hands would go about it.
fn tampered(entries: u32, sql: &str) -> Result<Verified, Broken> {
    let connection = log(entries);
    connection
        .execute_batch("DROP TRIGGER audit_is_not_changed; DROP TRIGGER audit_is_not_shortened")
        .expect("dropped");
    connection.execute_batch(sql).expect("tampered");
    verify(&connection, None)
}

#[test]
fn a_log_holds_and_tells_its_head() {
    let connection = log(3);
    let verified = verify(&connection, None).expect("it holds");
    assert_eq!((verified.entries, verified.head.len()), (3, 64));
    assert_eq!(
        verify(&connection, Some(&verified.head)).expect("it is there"),
        verified
    );
    assert_eq!(verify(&log(0), None).expect("empty").entries, 0);
}

#[test]
fn the_database_itself_refuses_changes() {
    let connection = log(1);
    for (sql, expected) in [
        ("UPDATE audit SET entry = '{}'", "not changed"),
        ("DELETE FROM audit", "not deleted"),
    ] {
        let error = connection.execute_batch(sql).expect_err("refused").to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn the_first_broken_entry_is_named() {
    for (sql, expected) in [
        (
            "UPDATE audit SET entry = replace(entry, 'allowed', 'held') WHERE seq = 2",
            "entry 2: its content is not what its hash covers",
        ),
        (
            "DELETE FROM audit WHERE seq = 2",
            "entry 3: it should have the number 2",
        ),
        (
            "DELETE FROM audit WHERE seq = 1",
            "entry 2: it should have the number 1",
        ),
        (
            "UPDATE audit SET previous = hash WHERE seq = 3",
            "entry 3: it does not follow the entry before it",
        ),
        (
            "UPDATE audit SET entry = '{}', hash = 'x' WHERE seq = 1",
            "entry 1: its content",
        ),
    ] {
        let error = tampered(4, sql).expect_err(sql).to_string();
        assert!(error.starts_with(expected), "{error}");
    }
}

#[test]
fn a_cut_end_shows_against_a_head_that_was_kept() {
    let head = verify(&log(4), None).expect("it holds").head;
    let connection = log(3);
    let error = verify(&connection, Some(&head)).expect_err("cut").to_string();
    assert!(error.contains("the end of the log was cut"), "{error}");
}

#[test]
fn a_report_that_was_changed_or_removed_is_told_by_its_entry() {
    let mut connection = log(1);
    connection
        .execute_batch(
            "INSERT INTO incident VALUES ('i', 'k', 'X', NULL, 't', 'P1', 'reported', 0, 0, 0, NULL, 1, 1, 0);
             INSERT INTO report VALUES ('i', 1, 0, 'P1', 'gemini', 'm', 'valid', 'd', 'p', 'a', '{}', '# x')",
        )
        .expect("inserted");
    let transaction = connection.transaction().expect("begun");
    let fact = Fact::Report {
        incident: "i".to_owned(),
        revision: 1,
        input_digest: "in".to_owned(),
        prompt_digest: "d".to_owned(),
        answer_digest: Some(digest(&["a"])),
        report_digest: digest(&["{}"]),
        provider: "gemini".to_owned(),
        model: Some("m".to_owned()),
        outcome: "valid".to_owned(),
        tokens: 20,
    };
    append(&transaction, fact).expect("appended");
    transaction.commit().expect("committed");
    verify(&connection, None).expect("it holds");
    for (sql, expected) in [
        (
            "UPDATE report SET answer = 'b'",
            "entry 2: revision 1 of the report of incident i was changed",
        ),
        (
            "UPDATE report SET answer = 'a', json = '[]'",
            "entry 2: revision 1 of the report of incident i was changed",
        ),
        (
            "DELETE FROM report",
            "entry 2: revision 1 of the report of incident i is gone",
        ),
    ] {
        connection.execute_batch(sql).expect("tampered");
        let error = verify(&connection, None).expect_err(sql).to_string();
        assert_eq!(error, expected);
    }
}
