//! Who asks.

/// Somebody who has shown who they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Principal {
    /// Never empty, no control characters, at most [`MAX_NAME_BYTES`].
    pub(crate) name: Box<str>,
    pub(crate) groups: Box<[Box<str>]>,
}

/// Longest name of a principal or group: it is shown in the log and compared in every rule.
pub(crate) const MAX_NAME_BYTES: usize = 256;
/// Groups of one principal that are kept; tokens of a directory may list hundreds.
pub(crate) const MAX_GROUPS: usize = 256;

impl Principal {
    /// Nothing when the name or a group's cannot be one.
    pub(crate) fn new<'a>(name: &str, groups: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        let groups: Option<Box<[Box<str>]>> = groups
            .into_iter()
            .take(MAX_GROUPS + 1)
            .map(|group| is_name(group).then(|| group.into()))
            .collect();
        let groups = groups.filter(|groups| groups.len() <= MAX_GROUPS)?;
        is_name(name).then(|| Self {
            name: name.into(),
            groups,
        })
    }
}

/// Whether a text can name a principal or a group.
pub(crate) fn is_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= MAX_NAME_BYTES && !text.chars().any(char::is_control)
}
