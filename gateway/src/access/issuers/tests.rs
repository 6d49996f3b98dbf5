use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use plumbline_service::metrics::Metrics as Registry;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::{Value, json};

use super::*;
use crate::access::keys::hash_of;
use crate::access::signing_keys::Algorithm;

const NOW: i64 = 1_800_000_000;

/// A key of an issuer.
struct Signer(EcdsaKeyPair);

impl Signer {
    fn new() -> Self {
        let (random, how) = (SystemRandom::new(), &ECDSA_P256_SHA256_FIXED_SIGNING);
        let document = EcdsaKeyPair::generate_pkcs8(how, &random).expect("a key");
        Self(EcdsaKeyPair::from_pkcs8(how, document.as_ref(), &random).expect("a key"))
    }

    fn jwk(&self, id: &str) -> Value {
        let point = &self.0.public_key().as_ref()[1..];
        let encoded = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        json!({"kty": "EC", "crv": "P-256", "kid": id, "x": encoded(&point[..32]), "y": encoded(&point[32..])})
    }

    fn set(&self, id: &str) -> SigningKeys {
        let set = json!({"keys": [self.jwk(id)]}).to_string();
        SigningKeys::parse(set.as_bytes()).expect("a set")
    }

    fn token(&self, header: &Value, claims: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", part(header), part(claims));
        let signature = self
            .0
            .sign(&SystemRandom::new(), message.as_bytes())
            .expect("signed");
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
    }
}

fn issuers() -> Issuers {
    let spec = IssuerSpec {
        issuer: "https://issuer".to_owned(),
        audience: "models".to_owned(),
        keys: KeySource::Url {
            url: http::Uri::from_static("http://issuer/keys"),
            ca: "/ca.pem".into(),
            refresh: std::time::Duration::from_mins(5),
            grace: std::time::Duration::from_hours(1),
        },
        algorithms: vec![Algorithm::Es256],
        leeway: std::time::Duration::from_secs(30),
        principal_claim: "sub".to_owned(),
        groups_claim: "groups".to_owned(),
        prefix: "corp:".to_owned(),
    };
    Issuers::new(&[spec], &AccessMetrics::declare(&Registry::default()))
}

fn header() -> Value {
    json!({"alg": "ES256", "kid": "k1"})
}

fn claims() -> Value {
    json!({"iss": "https://issuer", "aud": ["other", "models"], "sub": "ann", "exp": NOW + 60, "groups": ["risk"]})
}

fn ask(issuers: &Issuers, token: &str, now: i64) -> Result<Arc<Principal>, Refusal> {
    issuers.principal(token.as_bytes(), &hash_of(token.as_bytes()), now)
}

#[test]
fn a_good_token_names_its_principal_until_it_ends() {
    let (issuers, signer) = (issuers(), Signer::new());
    let token = signer.token(&header(), &claims());
    assert_eq!(ask(&issuers, &token, NOW), Err(Refusal::KeysUnavailable));
    issuers.known[0].got(signer.set("k1"));
    let expected = Principal::new("corp:ann", ["corp:risk"]).expect("a principal");
    assert_eq!(*ask(&issuers, &token, NOW).expect("good"), expected);
    let hits = issuers.metrics.cache_hits.clone();
    assert_eq!(hits.get(), 0);
    assert_eq!(
        *ask(&issuers, &token, NOW + 89).expect("within the leeway"),
        expected
    );
    assert_eq!(hits.get(), 1);
    assert_eq!(ask(&issuers, &token, NOW + 90), Err(Refusal::Expired));
    let without_id = signer.token(&json!({"alg": "ES256"}), &claims());
    assert!(ask(&issuers, &without_id, NOW).is_ok());
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn each_thing_that_is_wrong_with_a_token_is_a_refusal() {
    let (issuers, signer, stranger) = (issuers(), Signer::new(), Signer::new());
    issuers.known[0].got(signer.set("k1"));
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut claims = claims();
        change(&mut claims);
        signer.token(&header(), &claims)
    };
    let good = signer.token(&header(), &claims());
    let (message, _) = good.rsplit_once('.').expect("parts");
    let other_claims = changed(&|claims| claims["sub"] = "root".into());
    let other_message = other_claims.rsplit_once('.').expect("parts").0;
    let good_signature = good.rsplit_once('.').expect("parts").1;
    for (token, refusal) in [
        (format!("{message}."), Refusal::Signature),
        (format!("{other_message}.{good_signature}"), Refusal::Signature),
        (stranger.token(&header(), &claims()), Refusal::Signature),
        (
            signer.token(&json!({"alg": "none", "kid": "k1"}), &claims()),
            Refusal::Algorithm,
        ),
        // The public key as a shared secret: there is no way in for it.
        (
            signer.token(&json!({"alg": "HS256", "kid": "k1"}), &claims()),
            Refusal::Algorithm,
        ),
        // Known, and not among the issuer's.
        (
            signer.token(&json!({"alg": "RS256", "kid": "k1"}), &claims()),
            Refusal::Algorithm,
        ),
        (
            signer.token(&json!({"alg": "ES256", "kid": "../../etc/passwd"}), &claims()),
            Refusal::UnknownSigningKey,
        ),
        // A key that the token brings along is not used.
        (
            stranger.token(
                &json!({"alg": "ES256", "kid": "k1", "jwk": stranger.jwk("k1"), "jku": "http://evil"}),
                &claims(),
            ),
            Refusal::Signature,
        ),
        (
            changed(&|claims| claims["iss"] = "https://evil".into()),
            Refusal::UnknownIssuer,
        ),
        (
            changed(&|claims| claims["iss"] = "https://issuer/".into()),
            Refusal::UnknownIssuer,
        ),
        (
            changed(&|claims| claims["iss"] = json!(["https://issuer"])),
            Refusal::Claims,
        ),
        (
            changed(&|claims| claims["aud"] = "model".into()),
            Refusal::Audience,
        ),
        (changed(&|claims| claims["aud"] = json!([])), Refusal::Audience),
        (
            changed(&|claims| claims["exp"] = (NOW - 30).into()),
            Refusal::Expired,
        ),
        (changed(&|claims| claims["exp"] = Value::Null), Refusal::Claims),
        (
            changed(&|claims| claims["exp"] = "tomorrow".into()),
            Refusal::Claims,
        ),
        (
            changed(&|claims| claims["exp"] = (-1e300).into()),
            Refusal::Expired,
        ),
        (
            changed(&|claims| claims["nbf"] = (NOW + 31).into()),
            Refusal::NotYetValid,
        ),
        (
            changed(&|claims| claims["nbf"] = 1e300.into()),
            Refusal::NotYetValid,
        ),
        (changed(&|claims| claims["sub"] = "".into()), Refusal::Claims),
        (
            changed(&|claims| claims["sub"] = "ann\nroot".into()),
            Refusal::Claims,
        ),
        (changed(&|claims| claims["groups"] = json!([7])), Refusal::Claims),
        (
            changed(&|claims| claims["groups"] = json!(vec!["g"; 300])),
            Refusal::Claims,
        ),
    ] {
        // Asked twice: what is refused is not remembered as good.
        for _ in 0..2 {
            assert_eq!(ask(&issuers, &token, NOW), Err(refusal), "{token}");
        }
    }
    assert!(ask(&issuers, &good, NOW).is_ok());
    assert!(
        ask(
            &issuers,
            &changed(&|claims| claims["nbf"] = (NOW + 30).into()),
            NOW
        )
        .is_ok()
    );
    assert!(ask(&issuers, &changed(&|claims| claims["exp"] = 1e300.into()), NOW).is_ok());
}

#[test]
fn a_key_that_the_issuer_has_taken_back_is_worth_nothing_any_more() {
    let (issuers, old, new) = (issuers(), Signer::new(), Signer::new());
    let issuer = &issuers.known[0];
    issuer.got(old.set("k1"));
    let token = old.token(&header(), &claims());
    assert!(ask(&issuers, &token, NOW).is_ok());
    issuer.got(old.set("k1"));
    assert!(ask(&issuers, &token, NOW).is_ok());
    assert_eq!(
        issuers.metrics.cache_hits.get(),
        1,
        "the same keys again change nothing"
    );
    issuer.got(new.set("k2"));
    assert_eq!(
        ask(&issuers, &token, NOW),
        Err(Refusal::UnknownSigningKey),
        "also from the cache"
    );
}

#[test]
fn keys_outlive_their_issuer_by_the_grace_and_no_longer() {
    let (issuers, signer) = (issuers(), Signer::new());
    let issuer = &issuers.known[0];
    issuer.got(signer.set("k1"));
    let token = signer.token(&header(), &claims());
    issuer.not_got("away");
    assert!(ask(&issuers, &token, NOW).is_ok());
    issuer.got.fetch_sub(3_601, Ordering::Relaxed);
    issuer.not_got("away");
    assert_eq!(ask(&issuers, &token, NOW), Err(Refusal::KeysUnavailable));
    issuer.got(signer.set("k1"));
    assert!(ask(&issuers, &token, NOW).is_ok());
}
