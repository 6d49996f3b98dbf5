//! When a canary is worse than it may be.

use super::Share;
use super::fields::Fields;

/// The guard of a route: the revisions beside the stable one are compared with it, and one that is worse loses its traffic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuardSpec {
    /// Name of the revision that the others are compared with.
    pub stable: String,
    /// A canary may have this much more of its answers fail, as a share of all.
    pub errors: Share,
    /// A canary's 95th percentile of latency may be this much longer, as a share of the stable revision's.
    pub slower: Share,
    /// The admin port of the sidecars beside the endpoints, whose drift state is compared; none without sidecars.
    pub sidecar_port: Option<u16>,
}

impl GuardSpec {
    /// The default limits: one answer in a hundred, half as long again.
    pub fn new(stable: impl Into<String>) -> Self {
        Self {
            stable: stable.into(),
            errors: Share::of_millionths(10_000),
            slower: Share::of_millionths(500_000),
            sidecar_port: None,
        }
    }
}

/// The `guard` table of a route.
pub(super) fn read(fields: &mut Fields<'_>) -> Option<GuardSpec> {
    let default = GuardSpec::new(fields.required_text("stable")?);
    Some(GuardSpec {
        errors: fields.setting("errors").unwrap_or(default.errors),
        slower: fields.setting("slower").unwrap_or(default.slower),
        sidecar_port: fields.setting("sidecar_port"),
        ..default
    })
}
