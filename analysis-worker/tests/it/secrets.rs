//! Thousands of seeded secrets of every kind and writing: none comes out of the worker anywhere.
//!
//! Values are made at run time, so that no credential, however fake, lies in the repository.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use plumbline_testkit::gemini::{FakeGemini, answer};
use serde_json::json;

use crate::support::{TestWorker, good_answer};

const SECRETS: usize = 5_000;
/// In the annotation of one alert.
const PER_ALERT: usize = 50;

const UPPER: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
const LOWER: &str = "abcdefghijklmnopqrstuvwxyz0123456789";
const MIXED: &str = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
const HEX: &str = "0123456789abcdef";
const URL64: &str = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_";
const BASE64: &str = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/";
const DIGITS: &str = "0123456789";

/// What values of a kind are made of: literal text, and `{alphabet:length}`. What stands before `|` is not secret.
const KINDS: &[(&str, &str)] = &[
    ("aws access key id", "|AKIA{upper:16}"),
    ("aws temporary key id", "|ASIA{upper:16}"),
    ("aws secret key", "aws_secret_access_key = |{base64:40}"),
    ("google api key", "|AIza{url64:35}"),
    ("google oauth token", "|ya29.{url64:60}"),
    ("google oauth secret", "|GOCSPX-{url64:28}"),
    ("azure client secret", "|{mixed:3}8Q~{mixed:33}"),
    ("azure storage key", "AccountKey=|{base64:86}=="),
    (
        "azure sas",
        "https://x.blob.core.windows.net/a?sv=2024&sig=|{mixed:43}",
    ),
    ("alibaba", "|LTAI{mixed:20}"),
    ("tencent", "|AKID{mixed:32}"),
    ("digitalocean", "|dop_v1_{hex:64}"),
    ("cloudflare origin", "|v1.0-{hex:24}-{hex:146}"),
    ("heroku", "|HRKU-{url64:58}"),
    ("fly", "|fo1_{mixed:43}"),
    ("scalingo", "|tk-us-{url64:48}"),
    ("planetscale", "|pscale_tkn_{mixed:40}"),
    ("supabase", "|sbp_{hex:40}"),
    ("tailscale", "|tskey-auth-{mixed:24}"),
    ("github classic", "|ghp_{mixed:36}"),
    ("github oauth", "|gho_{mixed:36}"),
    ("github server", "|ghs_{mixed:36}"),
    ("github fine-grained", "|github_pat_{mixed:22}_{mixed:59}"),
    ("gitlab pat", "|glpat-{url64:20}"),
    ("gitlab deploy", "|gldt-{url64:20}"),
    ("gitlab runner", "|GR1348941{url64:20}"),
    ("bitbucket", "|ATBB{mixed:32}"),
    ("atlassian", "|ATATT3{mixed:186}"),
    ("npm", "|npm_{mixed:36}"),
    ("pypi", "|pypi-{url64:85}"),
    ("rubygems", "|rubygems_{hex:48}"),
    ("nuget", "|oy2{lower:43}"),
    ("clojars", "|CLOJARS_{lower:60}"),
    ("crates.io", "|cio{mixed:32}"),
    ("docker", "|dckr_pat_{url64:27}"),
    ("jfrog", "|AKCp{mixed:69}"),
    ("circleci", "|CCIPAT_{mixed:40}"),
    ("buildkite", "|bkua_{hex:40}"),
    ("octopus", "|API-{upper:26}"),
    ("harness", "|pat.{mixed:22}.{hex:24}.{mixed:20}"),
    ("postman", "|PMAK-{hex:24}-{hex:34}"),
    ("readme", "|rdme_{lower:70}"),
    ("slack bot", "|xoxb-{digits:11}-{digits:12}-{mixed:24}"),
    ("slack app", "|xapp-1-{upper:11}-{digits:13}-{hex:64}"),
    (
        "slack webhook",
        "https://hooks.slack.com/services/|T{upper:10}/B{upper:10}/{mixed:24}",
    ),
    (
        "discord webhook",
        "https://discord.com/api/webhooks/123456789012345678/|{url64:68}",
    ),
    ("discord bot", "|M{mixed:23}.{mixed:6}.{mixed:27}"),
    ("telegram", "|{digits:10}:AA{mixed:33}"),
    ("openai", "|sk-proj-{mixed:48}"),
    ("anthropic", "|sk-ant-api03-{url64:90}"),
    ("huggingface", "|hf_{mixed:34}"),
    ("perplexity", "|pplx-{mixed:48}"),
    ("groq", "|gsk_{mixed:52}"),
    ("replicate", "|r8_{mixed:37}"),
    ("xai", "|xai-{mixed:80}"),
    ("databricks", "|dapi{hex:32}"),
    ("grafana service account", "|glsa_{mixed:32}_{hex:8}"),
    ("grafana cloud", "|glc_{mixed:60}"),
    ("new relic user", "|NRAK-{upper:27}"),
    ("new relic browser", "|NRJS-{hex:19}"),
    ("sentry", "|sntrys_{mixed:60}"),
    ("dynatrace", "|dt0c01.{upper:24}.{upper:64}"),
    ("sonar", "|sqp_{hex:40}"),
    ("vault", "|hvs.{url64:90}"),
    ("terraform", "|{mixed:14}.atlasv1.{mixed:64}"),
    ("pulumi", "|pul-{hex:40}"),
    ("doppler", "|dp.pt.{mixed:43}"),
    ("1password service account", "|ops_eyJ{mixed:200}"),
    ("prefect", "|pnu_{mixed:36}"),
    ("openshift", "|sha256~{mixed:43}"),
    ("infracost", "|ico-{mixed:32}"),
    ("age", "|AGE-SECRET-KEY-1{upper:58}"),
    ("stripe", "|sk_live_{mixed:24}"),
    ("webhook signing", "|whsec_{mixed:32}"),
    ("square", "|sq0csp-{mixed:43}"),
    ("shopify", "|shpat_{hex:32}"),
    ("sendgrid", "|SG.{mixed:22}.{mixed:43}"),
    ("mailgun", "|key-{hex:32}"),
    ("mailchimp", "|{hex:32}-us12"),
    ("brevo", "|xkeysib-{hex:64}-{mixed:16}"),
    ("twilio", "|SK{hex:32}"),
    ("shippo", "|shippo_live_{hex:40}"),
    ("easypost", "|EZAK{mixed:54}"),
    ("linear", "|lin_api_{mixed:40}"),
    ("notion", "|ntn_{mixed:46}"),
    ("airtable", "|pat{mixed:14}.{hex:64}"),
    ("figma", "|figd_{url64:40}"),
    ("contentful", "|CFPAT-{mixed:43}"),
    ("jwt", "|eyJ{mixed:20}.{url64:60}.{url64:43}"),
    ("bearer", "Authorization: Bearer |{mixed:40}"),
    ("basic", "Authorization: Basic |{mixed:40}"),
    (
        "database url",
        "postgresql://mlflow:|{mixed:24}@db.internal:5432/mlflow",
    ),
    ("redis url", "redis://:|{mixed:24}@cache:6379/0"),
    ("password", "db_password=|{mixed:16}"),
    ("client secret", "\"client_secret\": \"|{mixed:32}"),
    ("datadog by name", "DD_API_KEY=|{hex:32}"),
    ("cohere by name", "cohere_api_key: |{mixed:40}"),
    ("snyk by name", "SNYK_TOKEN=|{hex:36}"),
    ("netrc", "machine github.com login ci password |{mixed:30}"),
    ("curl user", "curl -u |deploy:{mixed:24}"),
    ("docker config", ".dockerconfigjson: |{mixed:60}"),
    ("kubeconfig", "client-key-data: |{mixed:80}"),
];

/// How a secret is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Writing {
    Clear,
    Base64,
    UrlBase64,
    Hex,
    Percent,
    JsonEscapes,
    HtmlEntities,
    /// Characters without a width between its own.
    Hidden,
    /// A line break in it, where a long line was broken.
    Wrapped,
}

const WRITINGS: [Writing; 9] = [
    Writing::Clear,
    Writing::Base64,
    Writing::UrlBase64,
    Writing::Hex,
    Writing::Percent,
    Writing::JsonEscapes,
    Writing::HtmlEntities,
    Writing::Hidden,
    Writing::Wrapped,
];

struct Secret {
    kind: &'static str,
    writing: Writing,
    /// What must not come out: the value in clear, and as it was written.
    forbidden: Vec<String>,
    line: String,
}

fn letters(random: &mut fastrand::Rng, alphabet: &str, length: usize) -> String {
    let alphabet: &[u8] = match alphabet {
        "upper" => UPPER,
        "lower" => LOWER,
        "mixed" => MIXED,
        "hex" => HEX,
        "url64" => URL64,
        "base64" => BASE64,
        "digits" => DIGITS,
        unknown => panic!("no alphabet {unknown}"),
    }
    .as_bytes();
    (0..length)
        .map(|_| alphabet[random.usize(..alphabet.len())] as char)
        .collect()
}

/// Fills the places of a pattern; the part before `|`, and the rest.
fn make(random: &mut fastrand::Rng, pattern: &str) -> (String, String, String) {
    let (before, value) = pattern.split_once('|').expect("a bar before the value");
    // What comes after the value of a URL or an assignment belongs to neither.
    let (value, after) = value
        .split_once("}@")
        .map_or((value, String::new()), |(value, after)| {
            (
                &pattern[before.len() + 1..before.len() + 2 + value.len()],
                format!("@{after}"),
            )
        });
    let mut made = String::new();
    let mut rest = value;
    while let Some((literal, place)) = rest.split_once('{') {
        made.push_str(literal);
        let (place, after) = place.split_once('}').expect("a closed place");
        let (alphabet, length) = place.split_once(':').expect("alphabet:length");
        made.push_str(&letters(random, alphabet, length.parse().expect("a length")));
        rest = after;
    }
    made.push_str(rest);
    (before.to_owned(), made, after)
}

fn each(text: &str, form: impl Fn(u8) -> String) -> String {
    text.bytes().map(form).collect()
}

fn secret(random: &mut fastrand::Rng, number: usize) -> Secret {
    let (kind, pattern) = KINDS[number % KINDS.len()];
    let writing = WRITINGS[number / KINDS.len() % WRITINGS.len()];
    let (before, value, after) = make(random, pattern);
    let whole = format!("{before}{value}{after}");
    let mut forbidden = vec![value.clone()];
    let line = match writing {
        Writing::Clear => whole,
        // The name goes with the value: a value without any shape or name is a secret to nobody.
        Writing::Base64 | Writing::UrlBase64 | Writing::Hex => {
            let form = match writing {
                Writing::Base64 => STANDARD.encode(&whole),
                Writing::UrlBase64 => URL_SAFE_NO_PAD.encode(&whole),
                _ => each(&whole, |byte| format!("{byte:02x}")),
            };
            forbidden.push(form.clone());
            form
        }
        Writing::Percent | Writing::JsonEscapes | Writing::HtmlEntities => {
            let form = each(&value, |byte| match writing {
                Writing::Percent => format!("%{byte:02X}"),
                Writing::JsonEscapes => format!("\\u{byte:04x}"),
                _ => format!("&#{byte};"),
            });
            forbidden.push(form.clone());
            format!("{before}{form}{after}")
        }
        Writing::Hidden => {
            let hidden: String = value.chars().flat_map(|c| [c, '\u{200b}']).collect();
            format!("{before}{hidden}{after}")
        }
        Writing::Wrapped => {
            let (head, tail) = value.split_at(value.len() / 2);
            // The whole line is long, as lines are that are broken; half of a value is secret, too.
            forbidden = vec![head.to_owned(), tail.to_owned()];
            format!("{} {before}{head}\n{tail}{after}", "x".repeat(70))
        }
    };
    Secret {
        kind,
        writing,
        forbidden,
        line: format!("step {number}: {line} done"),
    }
}

#[tokio::test]
async fn no_seeded_secret_comes_out_anywhere() {
    let mut random = fastrand::Rng::with_seed(17);
    let secrets: Vec<Secret> = (0..SECRETS).map(|number| secret(&mut random, number)).collect();
    assert!(KINDS.len() >= 60 && SECRETS >= KINDS.len() * WRITINGS.len());

    let gemini = FakeGemini::answering(|_| answer(&good_answer().to_string())).await;
    let mut worker = TestWorker::asking(&gemini).await;
    let mut surfaces = String::new();
    for (number, some) in secrets.chunks(PER_ALERT).enumerate() {
        let text: Vec<&str> = some.iter().map(|secret| secret.line.as_str()).collect();
        let id = worker
            .alert(
                &json!({"alertname": "Leak", "pod": format!("p-{number}"), "service": format!("s-{number}")}),
                &json!({"description": text.join("\n")}),
            )
            .await;
        let report = worker.report().await;
        let _ = write!(
            surfaces,
            "{}\n{}\n",
            report.markdown,
            serde_json::to_string(&report.report).expect("JSON")
        );
        for path in ["", "/report.json", "/report.md"] {
            surfaces.push_str(&worker.get(&format!("/api/v1/incidents/{id}{path}")).await.text());
        }
        surfaces.push_str(&worker.get(&format!("/incidents/{id}")).await.text());
    }
    surfaces.push_str(&worker.metrics());
    for request in gemini.received(SECRETS / PER_ALERT).await {
        surfaces.push_str(&request.body.to_string());
    }
    let store = worker.store.clone();
    for suffix in ["", "-wal"] {
        let file = format!("{}{suffix}", store.display());
        let bytes = std::fs::read(&file).unwrap_or_default();
        surfaces.push_str(&String::from_utf8_lossy(&bytes));
    }
    worker.stop().await;

    assert!(
        surfaces.contains("[REDACTED:github_token:"),
        "the texts did arrive"
    );
    // JSON doubles the backslashes of what is written with escapes.
    surfaces.push_str(&surfaces.replace("\\\\", "\\"));
    let (owners, values): (Vec<usize>, Vec<&str>) = secrets
        .iter()
        .enumerate()
        .flat_map(|(owner, secret)| secret.forbidden.iter().map(move |value| (owner, value.as_str())))
        .unzip();
    let forbidden = aho_corasick::AhoCorasick::new(values).expect("a few thousand values");
    let mut owners: Vec<usize> = forbidden
        .find_overlapping_iter(&surfaces)
        .map(|found| owners[found.pattern().as_usize()])
        .collect();
    owners.sort_unstable();
    owners.dedup();
    let leaked: Vec<String> = owners
        .iter()
        .map(|owner| &secrets[*owner])
        .map(|secret| format!("{} ({:?}): {}", secret.kind, secret.writing, secret.line))
        .collect();
    assert!(
        leaked.is_empty(),
        "{} of {SECRETS} leaked:\n{}",
        leaked.len(),
        leaked.iter().take(40).cloned().collect::<Vec<_>>().join("\n")
    );
}
