//! Expands the placeholders of the adversarial cases: credentials are made at run time, from a fixed seed.

use std::collections::HashMap;

/// The hostile text with what it must not leak.
pub(crate) struct Seeded {
    pub(crate) text: String,
    /// Kind and value of everything that was made.
    pub(crate) secrets: Vec<(String, String)>,
}

const UPPER: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
const ALPHANUMERIC: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
const BASE64: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const URL64: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const PRINTABLE: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!#$%^*()-_=+";

pub(crate) fn expand(text: &str, seed: u64) -> Seeded {
    let mut maker = Maker {
        random: fastrand::Rng::with_seed(seed),
        last: HashMap::new(),
        secrets: Vec::new(),
    };
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, from)) = rest.split_once("{{") {
        expanded.push_str(before);
        let Some((name, after)) = from.split_once("}}") else {
            expanded.push_str("{{");
            rest = from;
            continue;
        };
        match maker.value(name) {
            Some(value) => expanded.push_str(&value),
            // Not one of ours: a template of the hostile text itself.
            None => expanded.extend(["{{", name, "}}"]),
        }
        rest = after;
    }
    expanded.push_str(rest);
    Seeded {
        text: expanded,
        secrets: maker.secrets,
    }
}

struct Maker {
    random: fastrand::Rng,
    last: HashMap<String, String>,
    secrets: Vec<(String, String)>,
}

impl Maker {
    fn value(&mut self, placeholder: &str) -> Option<String> {
        let parts: Vec<&str> = placeholder.split(':').collect();
        match parts.as_slice() {
            ["repeat", text, count] => Some(text.repeat(count.parse().expect("a count"))),
            ["same", name] => Some(self.last.get(*name).expect("made before").clone()),
            ["gen", name] => Some(self.make(name)),
            ["gen", name, "rest"] => {
                let value = self.last.get(*name).expect("its prefix came before").clone();
                let prefix = self
                    .last
                    .get(&format!("{name}:prefix"))
                    .expect("its prefix")
                    .len();
                Some(value[prefix..].to_owned())
            }
            ["gen", name, prefix] => {
                let length: usize = prefix
                    .strip_prefix("prefix")
                    .expect("prefixN")
                    .parse()
                    .expect("a length");
                let value = self.make(name);
                self.last
                    .insert(format!("{name}:prefix"), value[..length].to_owned());
                Some(value[..length].to_owned())
            }
            _ => None,
        }
    }

    fn make(&mut self, name: &str) -> String {
        let kind = name.trim_end_matches(|c: char| c.is_ascii_digit());
        let dashes = "-".repeat(5);
        let (value, is_secret) = match kind {
            "aws_access_key_id" => (format!("AKIA{}", self.letters(UPPER, 16)), true),
            "aws_secret_access_key" => (self.letters(BASE64, 40), true),
            "aws_session_token" => (self.letters(BASE64, 220), true),
            "github_token" => (format!("ghp_{}", self.letters(ALPHANUMERIC, 36)), true),
            "github_fine_grained_pat" => {
                let (head, tail) = (self.letters(ALPHANUMERIC, 22), self.letters(ALPHANUMERIC, 59));
                (format!("github_pat_{head}_{tail}"), true)
            }
            "password" => (self.letters(PRINTABLE, 16), true),
            "jwt" => (
                format!(
                    "eyJhbGciOiJIUzI1NiJ9.{}.{}",
                    self.letters(URL64, 40),
                    self.letters(URL64, 43)
                ),
                true,
            ),
            "pem_begin" => (format!("{dashes}BEGIN RSA PRIVATE KEY{dashes}"), false),
            "pem_end" => (format!("{dashes}END RSA PRIVATE KEY{dashes}"), false),
            "pem_body_line" => (self.letters(BASE64, 64), true),
            unknown => panic!("no such kind of value: {unknown}"),
        };
        self.last.insert(name.to_owned(), value.clone());
        if is_secret {
            self.secrets.push((kind.to_owned(), value.clone()));
        }
        value
    }

    fn letters(&mut self, alphabet: &str, length: usize) -> String {
        let alphabet: Vec<char> = alphabet.chars().collect();
        (0..length)
            .map(|_| alphabet[self.random.usize(..alphabet.len())])
            .collect()
    }
}

#[test]
fn placeholders_are_expanded_and_remembered() {
    let seeded = expand(
        "a={{gen:github_token:prefix8}}|{{gen:github_token:rest}} b={{same:github_token}} {{repeat:x:3}} {{own}}",
        1,
    );
    let value = &seeded.secrets[0].1;
    let expected = format!("a={}|{} b={value} xxx {{{{own}}}}", &value[..8], &value[8..]);
    assert_eq!(seeded.text, expected);
}
