//! Writing JSON into a byte buffer.

use super::is_plain;

/// Appends a JSON string.
pub(crate) fn write_str(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let mut rest = text.as_bytes();
    loop {
        let plain = rest.iter().take_while(|&&byte| is_plain(byte)).count();
        out.extend_from_slice(&rest[..plain]);
        let Some(&byte) = rest.get(plain) else { break };
        write_escape(out, byte);
        rest = &rest[plain + 1..];
    }
    out.push(b'"');
}

/// Appends a byte that does not stand for itself.
fn write_escape(out: &mut Vec<u8>, byte: u8) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let letter = match byte {
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        0..=0x1f => {
            out.extend_from_slice(b"\\u00");
            out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
            return;
        }
        itself => itself,
    };
    out.extend_from_slice(&[b'\\', letter]);
}

/// Appends an integer.
pub(crate) fn write_int(out: &mut Vec<u8>, value: impl itoa::Integer) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// A float that JSON can be asked to hold.
pub(crate) trait JsonFloat: Copy {
    /// Appends the shortest text that reads back as this very value, which is finite.
    fn write(self, out: &mut Vec<u8>);
    /// NaN or infinite: the word that Python's JSON uses.
    fn non_finite_word(self) -> Option<&'static str>;
}

macro_rules! floats {
    ($($type:ty)*) => {$(
        impl JsonFloat for $type {
            fn write(self, out: &mut Vec<u8>) {
                out.extend_from_slice(zmij::Buffer::new().format_finite(self).as_bytes());
            }

            fn non_finite_word(self) -> Option<&'static str> {
                if self.is_finite() {
                    None
                } else if self.is_nan() {
                    Some("NaN")
                } else if self > 0.0 {
                    Some("Infinity")
                } else {
                    Some("-Infinity")
                }
            }
        }
    )*};
}

floats! { f32 f64 }

/// Appends a finite `f64`.
pub(crate) fn write_f64(out: &mut Vec<u8>, value: f64) {
    value.write(out);
}

/// A JSON array of strings.
pub(crate) fn array_of_strings<S: AsRef<str>>(strings: impl IntoIterator<Item = S>) -> String {
    let mut out = vec![b'['];
    for (index, string) in strings.into_iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write_str(&mut out, string.as_ref());
    }
    out.push(b']');
    String::from_utf8(out).expect("made of strings and ASCII")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_escaped_as_serde_json_does() {
        for text in ["", "plain", "\"\\/\n\r\t", "\u{0}\u{1f}\u{7f}", "é\u{1f600}"] {
            let mut out = Vec::new();
            write_str(&mut out, text);
            let back: String = serde_json::from_slice(&out).unwrap();
            assert_eq!(back, text);
        }
    }

    #[test]
    fn floats_are_valid_json_and_keep_their_own_precision() {
        for value in [0.1_f32, 1.0, 1e-7, 3.402_823_5e38, -0.0, 16_777_216.0, 1.0e21] {
            let mut out = Vec::new();
            value.write(&mut out);
            let text = String::from_utf8(out).unwrap();
            assert!(serde_json::from_str::<f64>(&text).is_ok(), "{text}");
            assert_eq!(text.parse::<f32>().unwrap().to_bits(), value.to_bits());
        }
        let mut out = Vec::new();
        0.1_f32.write(&mut out);
        assert_eq!(out, b"0.1");
        assert_eq!(f32::NAN.non_finite_word(), Some("NaN"));
    }
}
