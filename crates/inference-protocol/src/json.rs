//! JSON without a document tree: values go from the body straight into typed buffers, and back.

mod data;
mod read;
mod scalar;
mod values;
mod write;

pub(crate) use self::{
    data::{DataFault, Numbers, Sink, Strings, nested, read_data},
    read::{DEPTH_LIMIT, Fault, Mode, Reader, Text, is_base64},
    scalar::Scalar,
    values::Values,
    write::{JsonFloat, array_of_strings, write_f64, write_int, write_str},
};

/// Whether a byte of a JSON string stands for itself: no quote, no backslash, no control character.
#[inline]
fn is_plain(byte: u8) -> bool {
    const PLAIN: [bool; 256] = {
        let mut plain = [true; 256];
        let mut control = 0;
        while control < 0x20 {
            plain[control] = false;
            control += 1;
        }
        plain[b'"' as usize] = false;
        plain[b'\\' as usize] = false;
        plain
    };
    PLAIN[usize::from(byte)]
}

/// Reads the text that [`array_of_strings`] wrote; `None` for any other text.
pub(crate) fn parse_array_of_strings(text: &str) -> Option<Vec<String>> {
    let mut reader = Reader::over(text, Mode::Strict);
    let mut strings = Vec::new();
    let mut array = reader.enter_array().ok()?;
    while reader.next_element(&mut array).ok()? {
        strings.push(reader.string().ok()?.into_owned());
    }
    reader.end().ok()?;
    Some(strings)
}
