//! CloudEvents in their structured form: a JSON object with attributes, and a V1 body as `data`.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;

use crate::{
    ProtocolError,
    json::{Mode, Reader, write_str},
};

/// Attributes that every event has.
const REQUIRED: [&str; 4] = ["specversion", "id", "source", "type"];

/// The data of an event, as it stands in the body: a JSON value, or base64 text of one.
///
/// # Errors
/// What is wrong with the body; an attribute that every event has, or the data, is missing.
pub fn data_of_event(body: &Bytes) -> Result<Bytes, ProtocolError> {
    let mut reader = Reader::new(body, Mode::Strict)?;
    let error = |reader: &Reader<'_>, fault| reader.error(fault, || "the event".to_owned());
    let mut object = reader.enter_object().map_err(|fault| error(&reader, fault))?;
    let mut seen = [false; REQUIRED.len()];
    let mut data = None;
    while let Some(key) = reader
        .next_key(&mut object)
        .map_err(|fault| error(&reader, fault))?
    {
        match &*key {
            "data" => {
                let text = reader.skip().map_err(|fault| error(&reader, fault))?;
                data = Some(body.slice_ref(text.as_bytes()));
            }
            "data_base64" => {
                let text = reader
                    .string()
                    .map_err(|fault| reader.error(fault, || "data_base64".to_owned()))?;
                let decoded = STANDARD.decode(text.as_bytes());
                data = Some(decoded.map(Bytes::from).map_err(|_| ProtocolError::Field {
                    field: "data_base64".into(),
                    expected: "base64 text",
                    got: "other text".into(),
                })?);
            }
            key => {
                if let Some(at) = REQUIRED.iter().position(|required| *required == key) {
                    seen[at] = true;
                    reader
                        .string()
                        .map_err(|fault| reader.error(fault, || key.to_owned()))?;
                } else {
                    reader.skip().map_err(|fault| error(&reader, fault))?;
                }
            }
        }
    }
    reader.end().map_err(|fault| error(&reader, fault))?;
    let missing = |field: &str| ProtocolError::MissingField { field: field.into() };
    if let Some(at) = seen.iter().position(|seen| !seen) {
        return Err(missing(REQUIRED[at]));
    }
    data.ok_or_else(|| missing("data"))
}

/// An event with these attributes and a JSON body as its data.
pub fn event_with_data(attributes: &[(&str, &str)], data: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(data.len() + 256);
    out.push(b'{');
    for (name, value) in attributes {
        write_str(&mut out, name);
        out.push(b':');
        write_str(&mut out, value);
        out.push(b',');
    }
    out.extend_from_slice(b"\"data\":");
    out.extend_from_slice(data);
    out.push(b'}');
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(body: &'static str) -> Result<Bytes, ProtocolError> {
        data_of_event(&Bytes::from_static(body.as_bytes()))
    }

    const HEAD: &str = r#"{"specversion":"1.0","id":"1","source":"s","type":"t""#;

    fn event(rest: &str) -> Result<Bytes, ProtocolError> {
        data_of_event(&format!("{HEAD}{rest}}}").into())
    }

    #[test]
    fn data_is_a_slice_of_the_body_or_base64() {
        assert_eq!(
            event(r#","x":[1],"data": {"instances": [1]} "#).unwrap(),
            r#"{"instances": [1]}"#
        );
        assert_eq!(event(r#","data_base64":"e30=""#).unwrap(), "{}");
        let made = event_with_data(&[("id", "a\"b")], b"{\"predictions\":[1]}");
        assert_eq!(made, r#"{"id":"a\"b","data":{"predictions":[1]}}"#);
    }

    #[test]
    fn what_is_no_event_is_refused() {
        let missing = |field: &str| Err(ProtocolError::MissingField { field: field.into() });
        assert_eq!(event(""), missing("data"));
        assert_eq!(data(r#"{"id":"1","data":{}}"#), missing("specversion"));
        assert!(data(r#"{"id":1}"#).is_err());
        assert!(event(r#","data_base64":"%""#).is_err());
        assert!(data("[]").is_err() && data("{").is_err());
    }
}
