//! Values that stand in a line in another writing: base64, hex, percent-encoded, as escapes of JSON or HTML.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::finder::{Finder, Hit, add};

/// Shortest run of base64 that may hold a secret with what names it.
const MIN_BASE64: usize = 20;
/// Shortest run of hex digits.
const MIN_HEX: usize = 24;
/// Characters of a run that are decoded first: most runs are names and digests, which begin with what is no text.
const PROBE: usize = 12;
/// Writings in writings that are undone.
const DEPTH: usize = 2;

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// Adds what is found in `line` once its encoded parts are read; base64 and hex go as a whole, escapes character by character.
pub(super) fn find(line: &str, finder: &Finder, hits: &mut Vec<Hit>) {
    runs(line, finder, DEPTH, hits);
    escapes(line, finder, hits);
}

/// Runs of base64 and hex.
fn runs(line: &str, finder: &Finder, depth: usize, hits: &mut Vec<Hit>) {
    let bytes = line.as_bytes();
    let mut place = 0;
    while place < bytes.len() {
        if !is_base64(bytes[place]) {
            place += 1;
            continue;
        }
        let length = bytes[place..].iter().take_while(|byte| is_base64(**byte)).count();
        if length >= MIN_BASE64 {
            let run = &line[place..place + length];
            let mut end = place + length;
            if let Some(kind) = decoded(run).and_then(|text| kind_of(&text, finder, depth)) {
                end += bytes[end..]
                    .iter()
                    .take(2)
                    .take_while(|byte| **byte == b'=')
                    .count();
                add(
                    hits,
                    Hit {
                        kind,
                        range: place..end,
                    },
                );
            }
        }
        place += length;
    }
}

fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'-' | b'_')
}

/// What a run says as hex or as base64, when that is text.
fn decoded(run: &str) -> Option<String> {
    if run.len() >= MIN_HEX && run.len().is_multiple_of(2) && run.bytes().all(|byte| byte.is_ascii_hexdigit())
    {
        return hex(&run[..PROBE])
            .filter(|bytes| is_text(bytes))
            .and_then(|_| text(&hex(run)?));
    }
    let standard = |run: &str| -> Option<Vec<u8>> {
        // Three quarters of a byte cannot stand alone: a cut run loses its last character.
        let whole = &run[..run.len() - usize::from(run.len() % 4 == 1)];
        if whole.contains(['-', '_']) {
            BASE64.decode(whole.replace('-', "+").replace('_', "/")).ok()
        } else {
            BASE64.decode(whole).ok()
        }
    };
    let begin = standard(&run[..PROBE])?;
    if is_text(&begin) {
        text(&standard(run)?)
    } else {
        None
    }
}

fn hex(run: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| (byte as char).to_digit(16).map(|digit| digit as u8);
    run.as_bytes()
        .chunks_exact(2)
        .map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?))
        .collect()
}

/// Whether all but one byte in eight are of ASCII text.
fn is_text(bytes: &[u8]) -> bool {
    let strange = bytes
        .iter()
        .filter(|byte| !(byte.is_ascii_graphic() || byte.is_ascii_whitespace()))
        .count();
    strange * 8 <= bytes.len()
}

fn text(bytes: &[u8]) -> Option<String> {
    is_text(bytes).then(|| String::from_utf8_lossy(bytes).into_owned())
}

/// The kind of a secret in `text`, written in clear or encoded once more.
fn kind_of(text: &str, finder: &Finder, depth: usize) -> Option<&'static str> {
    let mut hits = Vec::new();
    finder.find(text, &mut hits);
    escapes(text, finder, &mut hits);
    if hits.is_empty() && depth > 1 {
        runs(text, finder, depth - 1, &mut hits);
    }
    hits.first().map(|hit| hit.kind)
}

/// Percent-encoding, `\u0041`, `\x41` and `&#65;`: undone with a map, so that only the value goes.
fn escapes(line: &str, finder: &Finder, hits: &mut Vec<Hit>) {
    if !line.contains(['%', '\\', '&']) {
        return;
    }
    let mut plain = String::with_capacity(line.len());
    // Where each byte of `plain` begins in the line, and the end.
    let mut places = Vec::with_capacity(line.len() + 1);
    let (mut place, mut undone) = (0, false);
    while let Some(next) = line[place..].chars().next() {
        let (character, length) = match escape(&line[place..]) {
            Some(escaped) => {
                undone = true;
                escaped
            }
            None => (next, next.len_utf8()),
        };
        plain.push(character);
        places.resize(plain.len(), place);
        place += length;
    }
    if !undone {
        return;
    }
    places.push(line.len());
    let mut found = Vec::new();
    finder.find(&plain, &mut found);
    for hit in found {
        let range = places[hit.range.start]..places[hit.range.end];
        add(
            hits,
            Hit {
                kind: hit.kind,
                range,
            },
        );
    }
}

/// The ASCII character that an escape at the beginning of `text` stands for, and its length.
fn escape(text: &str) -> Option<(char, usize)> {
    let (digits, radix, length) = if let Some(rest) = text.strip_prefix('%') {
        (rest.get(..2)?, 16, 3)
    } else if let Some(rest) = text.strip_prefix("\\u") {
        (rest.get(..4)?, 16, 6)
    } else if let Some(rest) = text.strip_prefix("\\x") {
        (rest.get(..2)?, 16, 4)
    } else if let Some(rest) = text.strip_prefix("&#") {
        let (number, radix) = rest
            .strip_prefix(['x', 'X'])
            .map_or((rest, 10), |rest| (rest, 16));
        let end = number.find(';').filter(|end| (1..=4).contains(end))?;
        (&number[..end], radix, text.len() - number.len() + end + 1)
    } else {
        return None;
    };
    let plain = digits.chars().all(|c| c.is_digit(radix));
    let code = plain.then(|| u32::from_str_radix(digits, radix).ok())??;
    let character = char::from_u32(code).filter(|c| c.is_ascii_graphic() || *c == ' ')?;
    Some((character, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_undone() {
        let cases = [
            ("%41b", Some(('A', 3))),
            ("\\u0041b", Some(('A', 6))),
            ("\\x2Db", Some(('-', 4))),
            ("&#65;b", Some(('A', 5))),
            ("&#x41;b", Some(('A', 6))),
            ("%4", None),
            ("%zz", None),
            ("%00", None),
            ("&#;", None),
            ("&#999999;", None),
            ("\\u00e9", None),
            ("%é1", None),
            ("A", None),
        ];
        for (text, expected) in cases {
            assert_eq!(escape(text), expected, "{text}");
        }
    }

    #[test]
    fn runs_of_text_are_told_from_names_and_digests() {
        assert_eq!(
            decoded("cGFzc3dvcmQ9aHVudGVyMg").as_deref(),
            Some("password=hunter2")
        );
        assert_eq!(
            decoded("70617373776f72643d68756e74657232").as_deref(),
            Some("password=hunter2")
        );
        for name in [
            "usr/lib/python3/site-packages/numpy",
            "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b",
            "plumbline_request_duration_seconds_bucket",
        ] {
            assert_eq!(decoded(name), None, "{name}");
        }
    }
}
