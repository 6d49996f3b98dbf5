//! What `Accept-Encoding` asks for.

use http::HeaderValue;

use super::Coding;

/// The coding that a client wants its reply in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The coding.
    pub coding: Coding,
    /// Whether the plain form is refused, so that even a short reply has to be compressed.
    pub always: bool,
}

impl Accepted {
    /// Reads `Accept-Encoding` headers: the coding with the largest weight, gzip first among equals; nothing when
    /// plain replies are preferred, or no coding is named. `*` alone asks for nothing.
    pub fn parse<'a>(values: impl IntoIterator<Item = &'a HeaderValue>) -> Option<Accepted> {
        let (mut weights, mut identity, mut any) = ([None; 2], None, None);
        for value in values {
            for item in value.as_bytes().split(|&byte| byte == b',') {
                let (name, weight) = weighted(item);
                if name == b"*" {
                    any = Some(weight);
                } else if name.eq_ignore_ascii_case(b"identity") {
                    identity = Some(weight);
                } else if let Some(coding) = Coding::parse(name) {
                    weights[coding as usize] = Some(weight);
                }
            }
        }
        let always = identity.or(any) == Some(0);
        let weight = |coding: Coding| match weights[coding as usize] {
            None if always => any.unwrap_or(0),
            named => named.unwrap_or(0),
        };
        let [first, second] = Coding::ALL;
        let coding = if weight(second) > weight(first) {
            second
        } else {
            first
        };
        let wanted = weight(coding) > 0 && weight(coding) >= identity.unwrap_or(0);
        wanted.then_some(Accepted { coding, always })
    }
}

/// A name and its weight in thousandths; a malformed weight counts as 0, so that nothing is compressed by mistake.
fn weighted(item: &[u8]) -> (&[u8], u16) {
    let mut parts = item.split(|&byte| byte == b';');
    let name = parts.next().unwrap_or_default().trim_ascii();
    let weight = parts.find_map(|part| {
        let part = part.trim_ascii();
        part.strip_prefix(b"q=").or_else(|| part.strip_prefix(b"Q="))
    });
    let thousandths = match weight {
        None => 1_000,
        Some(text) => std::str::from_utf8(text)
            .ok()
            .and_then(|text| text.parse::<f32>().ok())
            .filter(|weight| (0.0..=1.0).contains(weight))
            .map_or(0, |weight| (weight * 1_000.0).round() as u16),
    };
    (name, thousandths)
}
