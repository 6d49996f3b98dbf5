use super::*;

/// Values are made at run time, so that no credential, however fake, lies in the repository.
fn value(alphabet: &str, length: usize) -> String {
    let letters: Vec<char> = alphabet.chars().collect();
    (0..length)
        .map(|i| letters[(i * 7 + 3) % letters.len()])
        .collect()
}

const UPPER: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
const MIXED: &str = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";

fn redacted(text: &str) -> String {
    Redactor::new(&[], false).begin([]).text(text)
}

#[test]
fn each_kind_is_taken_out_and_its_surroundings_stay() {
    let key = format!("AKIA{}", value(UPPER, 16));
    let token = format!("ghp_{}", value(MIXED, 36));
    let jwt = format!(
        "eyJ{}.{}.{}",
        value(MIXED, 20),
        value(MIXED, 30),
        value(MIXED, 43)
    );
    let opaque = value(MIXED, 40);
    for (text, secret, expected) in [
        (
            format!("AccessKeyId={key} retry"),
            &key,
            "AccessKeyId=[REDACTED:aws_access_key_id:1] retry",
        ),
        (
            format!("clone with {token}."),
            &token,
            "clone with [REDACTED:github_token:1].",
        ),
        (format!("got {jwt} back"), &jwt, "got [REDACTED:jwt:1] back"),
        (
            format!("postgresql://mlflow:{opaque}@db.internal.example:5432/mlflow?sslmode=require"),
            &opaque,
            "postgresql://mlflow:[REDACTED:url_password:1]@db.internal.example:5432/mlflow?sslmode=require",
        ),
        (
            format!("redis://:{opaque}@cache:6379/0"),
            &opaque,
            "redis://:[REDACTED:url_password:1]@cache:6379/0",
        ),
        (
            format!("Authorization: Bearer {opaque}"),
            &opaque,
            "Authorization: Bearer [REDACTED:authorization:1]",
        ),
        (
            format!("\"client_secret\": \"{opaque}\""),
            &opaque,
            "\"client_secret\": \"[REDACTED:secret:1]\"",
        ),
        (
            format!("SessionToken={opaque} x"),
            &opaque,
            "SessionToken=[REDACTED:secret:1] x",
        ),
        (
            "password = hunter2".to_owned(),
            &"hunter2".to_owned(),
            "password = [REDACTED:password:1]",
        ),
        (
            "mail jo@example.org now".to_owned(),
            &"jo@example.org".to_owned(),
            "mail [REDACTED:email:1] now",
        ),
        (
            "card 4111 1111 1111 1111 refused".to_owned(),
            &"4111 1111 1111 1111".to_owned(),
            "card [REDACTED:card_number:1] refused",
        ),
        (
            "to GB82 WEST 1234 5698 7654 32 sent".to_owned(),
            &"GB82 WEST 1234 5698 7654 32".to_owned(),
            "to [REDACTED:iban:1] sent",
        ),
    ] {
        let clean = redacted(&text);
        assert!(!clean.contains(secret.as_str()), "{clean}");
        assert_eq!(clean, expected);
    }
}

#[test]
fn ordinary_lines_stay_as_they_are() {
    for text in [
        "2026-08-21T10:14:03.123456789Z ERROR scorer: model reload failed after 1755771243123456789 ns",
        "max_tokens=8192 prompt tokens: 16384, token_count=12 password_reset=true",
        "card number 4111 1111 1111 1112 has a wrong check digit",
        "user root@pod-1 reads /var/run/secrets/kubernetes.io/serviceaccount/token",
        "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "GET http://127.0.0.1:9902/drift 200 in 1.5ms",
        "psi=0.31 ks=0.12 feature=MonthlyCharges p_value=1.2e-9",
    ] {
        assert_eq!(redacted(text), text);
    }
}

#[test]
fn the_same_value_has_the_same_number_and_numbers_go_on_after_earlier_texts() {
    let redactor = Redactor::new(&[], false);
    let mut redaction = redactor.begin(["seen [REDACTED:email:4] before"]);
    let text = redaction.text("a@example.org b@example.org a@example.org");
    assert_eq!(text, "[REDACTED:email:5] [REDACTED:email:6] [REDACTED:email:5]");
    assert_eq!(redaction.text("a@example.org"), "[REDACTED:email:5]");
    assert_eq!(redaction.text("[REDACTED:email:5]"), "[REDACTED:email:5]");
}

#[test]
fn a_private_key_goes_with_the_prefixes_of_its_lines() {
    let dashes = "-".repeat(5);
    let body = value(MIXED, 64);
    let begin = format!("{dashes}BEGIN RSA PRIVATE KEY{dashes}");
    let end = format!("{dashes}END RSA PRIVATE KEY{dashes}");
    let text = format!("t1 loaded\nt2 {begin}\nt3 {body}\nt4 {end}\nt5 error: x509 failed");
    assert_eq!(
        redacted(&text),
        "t1 loaded\nt2 [REDACTED:private_key:1]\nt5 error: x509 failed"
    );
    let cut = format!("{begin}\n{}", format!("{body}\n").repeat(250));
    let clean = redacted(&cut);
    assert_eq!(
        clean.matches(&body).count(),
        51,
        "the placeholder takes 199 lines and the rest of the first"
    );
}

#[test]
fn the_workers_own_secrets_go_in_every_form() {
    let secret = value(MIXED, 24);
    let mut redaction = Redactor::new(&[&secret], false).begin([]);
    for form in forms(&secret) {
        let clean = redaction.text(&format!("x {form} y"));
        assert!(
            !clean.contains(&form) && clean.contains("[REDACTED:configured:"),
            "{clean}"
        );
    }
}

#[test]
fn documents_are_redacted_by_field_name_and_by_content() {
    let mut document = serde_json::json!({
        "labels": {"db_password": "x1", "note": "mail j\u{200b}o@example.org", "count": 3},
        "list": ["jo@example.org"],
    });
    Redactor::new(&[], false).begin([]).json(&mut document);
    let expected = serde_json::json!({
        "labels": {"db_password": "[REDACTED:secret:1]", "note": "mail [REDACTED:email:1]", "count": 3},
        "list": ["[REDACTED:email:1]"],
    });
    assert_eq!(document, expected);
}

#[test]
fn addresses_go_when_asked() {
    let mut redaction = Redactor::new(&[], true).begin([]);
    assert_eq!(
        redaction.text("from 10.0.0.7:8080 and fe80::1, version 1.2.3"),
        "from [REDACTED:ip_address:1]:8080 and [REDACTED:ip_address:2], version 1.2.3"
    );
}
