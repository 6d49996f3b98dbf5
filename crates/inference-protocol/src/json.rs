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
