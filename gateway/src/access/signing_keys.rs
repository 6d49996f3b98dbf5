//! The keys that an issuer signs with: a JSON Web Key Set (RFC 7517, 7518 §6, 8037).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{self, RsaPublicKeyComponents, UnparsedPublicKey};
use serde_json::Value;

/// How a token is signed: with a private key that only the issuer has. `none` is no signature; `HS256` and its kind
/// would make whoever can verify a token one who can sign it, and let a public key be taken for a shared one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Algorithm {
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    EdDsa,
}

impl Algorithm {
    pub(crate) const ALL: [Self; 9] = [
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
        Self::Es256,
        Self::Es384,
        Self::EdDsa,
    ];

    /// Its name in `alg` (RFC 7518 §3.1, RFC 8037 §3.1).
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::EdDsa => "EdDSA",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }
}

/// Keys of a set beyond which it is not read.
const MAX_KEYS: usize = 64;
/// Bytes of an RSA modulus: 2,048 to 8,192 bits.
const RSA_BYTES: std::ops::RangeInclusive<usize> = 256..=1_024;

/// An issuer's public keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SigningKeys(Vec<SigningKey>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct SigningKey {
    id: Option<Box<str>>,
    /// The one algorithm that it is for, if its issuer says so.
    algorithm: Option<Algorithm>,
    material: Material,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Material {
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    /// Points, uncompressed: 4, x, y.
    P256(Vec<u8>),
    P384(Vec<u8>),
    Ed25519(Vec<u8>),
}

/// What became of a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verified {
    Good,
    Bad,
    /// No key has this id.
    UnknownKey,
    /// The key is for another algorithm.
    WrongAlgorithm,
}

impl SigningKeys {
    /// Reads a set. Keys that are for something else, or of a kind that is not known here, are left out.
    ///
    /// # Errors
    /// What was expected, for a person: JSON with keys, at least one of them usable.
    pub(crate) fn parse(content: &[u8]) -> Result<Self, String> {
        let set: Value =
            serde_json::from_slice(content).map_err(|error| format!("expected JSON: {error}"))?;
        let keys = set["keys"].as_array().ok_or("expected an object with `keys`")?;
        if keys.len() > MAX_KEYS {
            return Err(format!("expected at most {MAX_KEYS} keys, found {}", keys.len()));
        }
        let usable: Vec<_> = keys.iter().filter_map(SigningKey::read).collect();
        if usable.is_empty() {
            return Err(format!(
                "expected an RSA key of at least 2048 bits, a P-256, P-384 or Ed25519 key; none of {} is one",
                keys.len()
            ));
        }
        Ok(Self(usable))
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether a key with this id, or any if none is named, has signed `message`. The id is compared, never used as a
    /// path or an address.
    pub(crate) fn verify(
        &self,
        id: Option<&str>,
        algorithm: Algorithm,
        message: &[u8],
        signed: &[u8],
    ) -> Verified {
        let mut outcome = Verified::UnknownKey;
        for key in &self.0 {
            if id.is_some() && key.id.as_deref() != id {
                continue;
            }
            match key.verify(algorithm, message, signed) {
                None if outcome == Verified::UnknownKey => outcome = Verified::WrongAlgorithm,
                None => {}
                Some(true) => return Verified::Good,
                Some(false) => outcome = Verified::Bad,
            }
        }
        outcome
    }
}

impl SigningKey {
    fn read(key: &Value) -> Option<Self> {
        if key["use"].as_str().is_some_and(|usage| usage != "sig") {
            return None;
        }
        let bytes = |name: &str| URL_SAFE_NO_PAD.decode(key[name].as_str()?).ok();
        let point = |len: usize| {
            let (x, y) = (bytes("x")?, bytes("y")?);
            (x.len() == len && y.len() == len).then(|| [&[4][..], &x, &y].concat())
        };
        let material = match (key["kty"].as_str()?, key["crv"].as_str()) {
            ("RSA", _) => {
                let n: Vec<u8> = bytes("n")?.into_iter().skip_while(|byte| *byte == 0).collect();
                RSA_BYTES.contains(&n.len()).then_some(())?;
                Material::Rsa { n, e: bytes("e")? }
            }
            ("EC", Some("P-256")) => Material::P256(point(32)?),
            ("EC", Some("P-384")) => Material::P384(point(48)?),
            ("OKP", Some("Ed25519")) => Material::Ed25519(bytes("x").filter(|x| x.len() == 32)?),
            _ => return None,
        };
        let algorithm = match key["alg"].as_str() {
            None => None,
            Some(name) => Some(Algorithm::named(name)?),
        };
        Some(Self {
            id: key["kid"].as_str().map(Into::into),
            algorithm,
            material,
        })
    }

    /// Nothing when the key is not for this algorithm.
    fn verify(&self, algorithm: Algorithm, message: &[u8], signed: &[u8]) -> Option<bool> {
        if self.algorithm.is_some_and(|own| own != algorithm) {
            return None;
        }
        let elliptic = |how: &'static dyn signature::VerificationAlgorithm, key: &Vec<u8>| {
            UnparsedPublicKey::new(how, key).verify(message, signed).is_ok()
        };
        Some(match (&self.material, algorithm) {
            (Material::P256(key), Algorithm::Es256) => elliptic(&signature::ECDSA_P256_SHA256_FIXED, key),
            (Material::P384(key), Algorithm::Es384) => elliptic(&signature::ECDSA_P384_SHA384_FIXED, key),
            (Material::Ed25519(key), Algorithm::EdDsa) => elliptic(&signature::ED25519, key),
            (Material::Rsa { n, e }, _) => {
                let how = match algorithm {
                    Algorithm::Rs256 => &signature::RSA_PKCS1_2048_8192_SHA256,
                    Algorithm::Rs384 => &signature::RSA_PKCS1_2048_8192_SHA384,
                    Algorithm::Rs512 => &signature::RSA_PKCS1_2048_8192_SHA512,
                    Algorithm::Ps256 => &signature::RSA_PSS_2048_8192_SHA256,
                    Algorithm::Ps384 => &signature::RSA_PSS_2048_8192_SHA384,
                    Algorithm::Ps512 => &signature::RSA_PSS_2048_8192_SHA512,
                    Algorithm::Es256 | Algorithm::Es384 | Algorithm::EdDsa => return None,
                };
                RsaPublicKeyComponents { n, e }
                    .verify(how, message, signed)
                    .is_ok()
            }
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Made with `openssl genrsa 2048`, `openssl dgst -sha256 -sign` and `openssl dgst -sha512 -sign -sigopt
    /// rsa_padding_mode:pss`.
    const MODULUS: &str = "3WtSVol5Apws__36o7KjFrY5i1inA7Ub4kMJT_i18v1RCn6aqdhvV2rpa9qbIZ_Fk9iyKp2aGXG27nK4taSdafub6JRiUB5fS23Uh0xJP__Ntuycdpk21PK3CeQGMoqHEUFygtM6a5gyWx9Lbzyk191KXxVznMcfOnf4_Do-x3mxqGgmqUnTlWQ3ugHE2dircgyQDu5h13PTsVNl2kmA9XCn0B6fklRmxZO5qHsWTuJ1X2ekCAHX1wDp2STRPhRGi-pSx197RhYhSBB3Iyb8AWifaNtDXVpKQDLPxFoexOrb7_yop8A6iRl79gt3DtLPJjLXxsZIdO8aUrCEacG0-w";
    const RS256: &str = "rwp683JldE2g3JIeSirafqv4NkTirmaPTkMW7nxF1TNmIiqN5_aEJrsjupd5KWYqd711_hwcFpBauTrZ7_yULC6SFTh_vZxWgNdhnkWTYwB2LIK8p8vXZ1IiiwzaVZLVitRt57VsIYuvuwJXPDWWM-W2Q6Ezazl-uWvB8JJUZvPgL7EN89-SDbbr-JQs99npL3zpCZVIL7Bhon5ySY7ShvyTLSNx8NkwXhIrRimNpTMdt18qtmDt_bvuSUE4HsIe4bnBTGPYXzL0Y4WBLbIMIuh2IoL1MZ6lGovaaJnTsSfbksrq8S3eKVgtb4jM9luCh2woI6jmuZu30K8N6Leg3w";
    const PS512: &str = "m7CGbiwu4p5FC8oC7bSu-x7v12GpYGv9vHZLwxds64p8Bq8ySfe2jOhIGCsrdhh2YEpf3JmeBEaE5LRowBlpF1lB9VubKqDov5K6qk6dVayYaK_zsakIV4UXGozRYpBFYrgNjb-f1KXumALSBsmSn8gwt18pXXoMITtMWXZZWJRtwd1lwweMp8ql-iNY27K5P5G4FUqjhoP-jdAuFWfvm9DgtNfMBrpbnHNJFR2gwtnIFyzlqj6UO75GAypeMsm73Km1chwubSm5qp7JtdppJ955rF9fwZYCvmoSigZp9rOy-VIjqHqCh9R8avo1vDQq_fh1kOFo885MITAjei-LBw";
    const MESSAGE: &[u8] = b"signed by openssl";

    fn keys(keys: &Value) -> Result<SigningKeys, String> {
        SigningKeys::parse(json!({ "keys": keys }).to_string().as_bytes())
    }

    fn rsa() -> Value {
        json!({"kty": "RSA", "kid": "r", "n": MODULUS, "e": "AQAB"})
    }

    #[test]
    fn signatures_of_another_implementation_are_good() {
        let set = keys(&json!([rsa()])).expect("a set");
        let decoded = |text| URL_SAFE_NO_PAD.decode(text).expect("base64url");
        let (rs256, ps512) = (decoded(RS256), decoded(PS512));
        assert_eq!(
            set.verify(Some("r"), Algorithm::Rs256, MESSAGE, &rs256),
            Verified::Good
        );
        assert_eq!(
            set.verify(None, Algorithm::Ps512, MESSAGE, &ps512),
            Verified::Good
        );
        assert_eq!(
            set.verify(None, Algorithm::Rs256, b"another", &rs256),
            Verified::Bad
        );
        assert_eq!(set.verify(None, Algorithm::Rs256, MESSAGE, &ps512), Verified::Bad);
        assert_eq!(set.verify(None, Algorithm::Rs256, MESSAGE, b""), Verified::Bad);
        assert_eq!(
            set.verify(None, Algorithm::Es256, MESSAGE, &rs256),
            Verified::WrongAlgorithm
        );
        assert_eq!(
            set.verify(Some("../r"), Algorithm::Rs256, MESSAGE, &rs256),
            Verified::UnknownKey
        );
    }

    #[test]
    fn a_key_is_only_for_its_algorithm() {
        let mut key = rsa();
        key["alg"] = "PS512".into();
        let set = keys(&json!([key])).expect("a set");
        let rs256 = URL_SAFE_NO_PAD.decode(RS256).expect("base64url");
        assert_eq!(
            set.verify(Some("r"), Algorithm::Rs256, MESSAGE, &rs256),
            Verified::WrongAlgorithm
        );
    }

    #[test]
    fn keys_that_cannot_be_used_are_left_out() {
        let short = "x".repeat(43);
        let mut set = vec![
            json!({"kty": "oct", "k": "c2VjcmV0"}),
            json!({"kty": "RSA", "n": short, "e": "AQAB"}),
            json!({"kty": "RSA", "use": "enc", "n": MODULUS, "e": "AQAB"}),
            json!({"kty": "RSA", "alg": "HS256", "n": MODULUS, "e": "AQAB"}),
            json!({"kty": "EC", "crv": "P-256", "x": short}),
            json!({"kty": "EC", "crv": "secp256k1", "x": short, "y": short}),
            json!({"kty": "OKP", "crv": "X25519", "x": short}),
            json!({"kty": "OKP", "crv": "Ed25519", "x": "c2hvcnQ"}),
            json!("key"),
        ];
        let problem = keys(&json!(set)).expect_err("none is usable");
        assert!(problem.contains("none of 9 is one"), "{problem}");
        set.push(rsa());
        assert_eq!(keys(&json!(set)).map(|set| set.len()), Ok(1));
        assert!(keys(&json!(vec![rsa(); MAX_KEYS + 1])).is_err());
        assert!(keys(&json!({})).is_err() && SigningKeys::parse(b"[]").is_err());
    }
}
