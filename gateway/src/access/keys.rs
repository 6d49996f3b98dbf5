//! API keys: a file of hashes.
//!
//! A key is 32 random bytes, so that its plain SHA-256 is as hard to turn back as the key is to guess: salt and slow
//! hashes protect what people choose, and would cost every request milliseconds. A key is found by its hash, in a map:
//! the time that takes depends on the hash alone, from which nothing can be learned about any key.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;

use plumbline_service::config::ParseSetting;
use ring::digest::{SHA256, digest};

use crate::access::principal::Principal;
use crate::config::Fields;

/// SHA-256 of a credential.
pub(crate) type Hash = [u8; 32];

/// The hash of a key or token as it is sent.
pub(crate) fn hash_of(credential: &[u8]) -> Hash {
    let digest = digest(&SHA256, credential);
    digest.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// A key's owner, and how long it is that.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    pub(crate) principal: Arc<Principal>,
    /// Seconds since 1970 from which on it is no key.
    pub(crate) expires: Option<i64>,
}

/// Every key of the file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Keys(HashMap<Hash, Key>);

impl Keys {
    pub(crate) fn get(&self, hash: &Hash) -> Option<&Key> {
        self.0.get(hash)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Reads the content of a file of `[[key]]` tables.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub(crate) fn parse(content: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(content).map_err(|_| "expected TOML in UTF-8".to_owned())?;
        let table: toml::Table = text
            .parse()
            .map_err(|error: toml::de::Error| format!("expected TOML: {}", error.to_string().trim_end()))?;
        let mut problems = Vec::new();
        let mut keys = HashMap::new();
        let mut fields = Fields::new("keys", &table, &mut problems);
        fields.tables("key", |fields| {
            if let Some((Sha256(hash), key)) = read(fields)
                && keys.insert(hash, key).is_some()
            {
                fields.problem("`hash`: another key has the same");
            }
        });
        fields.end();
        if problems.is_empty() {
            Ok(Self(keys))
        } else {
            Err(problems.join("; "))
        }
    }
}

fn read(fields: &mut Fields<'_>) -> Option<(Sha256, Key)> {
    let name = fields.required_text("principal");
    let hash = fields.required_setting("hash");
    let groups = fields.texts("groups").unwrap_or_default();
    let expires = fields.setting::<Time>("expires");
    let principal = Principal::new(name?, groups);
    if principal.is_none() {
        fields
            .problem("`principal` and `groups`: expected names of 1 to 256 bytes without control characters");
    }
    let key = Key {
        principal: Arc::new(principal?),
        expires: expires.map(|Time(seconds)| seconds),
    };
    Some((hash?, key))
}

/// `sha256:` and 64 hexadecimal digits.
struct Sha256(Hash);

impl ParseSetting for Sha256 {
    fn parse_setting(text: &str) -> Result<Self, String> {
        // The text is not repeated: it may be a key that somebody forgot to hash.
        let expected = || "expected sha256: and 64 hexadecimal digits".to_owned();
        let digits = text.strip_prefix("sha256:").ok_or_else(expected)?.as_bytes();
        let mut hash = [0; 32];
        if digits.len() != 2 * hash.len() {
            return Err(expected());
        }
        for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
            let digit = |digit: u8| char::from(digit).to_digit(16).ok_or_else(expected);
            *byte = (digit(pair[0])? << 4 | digit(pair[1])?) as u8;
        }
        Ok(Self(hash))
    }
}

/// A time with its offset, as seconds since 1970.
struct Time(i64);

impl ParseSetting for Time {
    fn parse_setting(text: &str) -> Result<Self, String> {
        let time: Result<jiff::Timestamp, _> = text.parse();
        time.map(|time| Self(time.as_second()))
            .map_err(|_| "expected a time such as 2027-01-31T00:00:00Z".to_owned())
    }
}

/// A new key and the table that lets it in, for a person to keep the one and file the other.
///
/// # Errors
/// The name cannot be a principal's.
pub(crate) fn generate(principal: &str) -> Result<String, String> {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use ring::rand::SecureRandom as _;

    if Principal::new(principal, []).is_none() {
        return Err("expected a principal's name of 1 to 256 bytes without control characters".to_owned());
    }
    let mut secret = [0; 32];
    ring::rand::SystemRandom::new()
        .fill(&mut secret)
        .map_err(|_| "the system gives no random numbers".to_owned())?;
    // A prefix that scanners for leaked secrets can look for.
    let key = format!("plk_{}", URL_SAFE_NO_PAD.encode(secret));
    let mut hash = String::with_capacity(64);
    for byte in hash_of(key.as_bytes()) {
        let _infallible = write!(hash, "{byte:02x}");
    }
    let name = toml::Value::from(principal);
    Ok(format!(
        "# The key, shown this once: {key}\n\n[[key]]\nprincipal = {name}\nhash = \"sha256:{hash}\"\n"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_key_opens_what_its_table_says() {
        let text = generate("team \"a\"").expect("a key");
        let keys = Keys::parse(text.as_bytes()).expect("valid");
        let key = text
            .lines()
            .find_map(|line| line.strip_prefix("# The key, shown this once: "))
            .expect("the key");
        let found = keys.get(&hash_of(key.as_bytes())).expect("the key's");
        assert_eq!(&*found.principal.name, "team \"a\"");
        assert!(keys.get(&hash_of(b"another")).is_none());
        assert_ne!(
            text,
            generate("team \"a\"").expect("a key"),
            "never the same twice"
        );
        assert!(generate("").is_err());
    }

    #[test]
    fn hashes_are_those_of_other_tools() {
        // printf %s abc | sha256sum
        let hash = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(
            Sha256::parse_setting(hash).ok().map(|hash| hash.0),
            Some(hash_of(b"abc"))
        );
    }

    #[test]
    fn every_problem_of_a_file_is_told_without_what_may_be_a_key() {
        let hash = format!("sha256:{}", "ab".repeat(32));
        let text = format!(
            "[[key]]\nprincipal = \"ann\"\nhash = \"plk_secret\"\n\
             [[key]]\nhash = \"{hash}\"\nexpires = \"tomorrow\"\n\
             [[key]]\nprincipal = \"bob\"\nhash = \"{hash}\"\ngroup = []\n\
             [[key]]\nprincipal = \"\"\nhash = \"{hash}\"\n\
             [[key]]\nprincipal = \"eve\"\nhash = \"{hash}\"\nexpires = 2027-01-31T00:00:00Z\n"
        );
        let problems = Keys::parse(text.as_bytes()).expect_err("many problems");
        for expected in [
            "key 1: `hash`: expected sha256: and 64 hexadecimal digits",
            "key 2: `principal` is missing",
            "key 2: `expires`: expected a time such as",
            "key 3: unknown key `group`",
            "key 4: `principal` and `groups`: expected names",
            "key 5: `hash`: another key has the same",
        ] {
            assert!(problems.contains(expected), "missing {expected:?} in: {problems}");
        }
        assert!(!problems.contains("plk_secret"), "{problems}");
        assert!(Keys::parse(b"\xff").is_err() && Keys::parse(b"[key").is_err());
    }

    #[test]
    fn a_key_ends_when_its_table_says() {
        let text = format!(
            "[[key]]\nprincipal = \"ann\"\nhash = \"sha256:{}\"\nexpires = 1970-01-02T00:00:00Z\n",
            "00".repeat(32)
        );
        let keys = Keys::parse(text.as_bytes()).expect("valid");
        assert_eq!(keys.get(&[0; 32]).expect("a key").expires, Some(86_400));
    }
}
