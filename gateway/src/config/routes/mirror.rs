//! Where copies of a route's requests go, and how much of them.

use std::num::NonZeroUsize;

use plumbline_service::config::{ByteSize, ParseSetting};
use plumbline_service::upstream::Target;

use super::{Fields, endpoints};

/// Copies of inference requests, whose answers no client sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MirrorSpec {
    /// Where they go.
    pub to: MirrorTo,
    /// Of the requests, those that are copied.
    pub share: Share,
    /// Copies that are being made or answered; requests beyond are not copied.
    pub max_in_flight: NonZeroUsize,
    /// Bytes of requests, and of answers to be compared, that all copies hold together.
    pub max_bytes: ByteSize,
    /// Whether the predictions of both answers are compared.
    pub compare: bool,
}

impl MirrorSpec {
    /// All requests, with the default budget of 16 copies and 16 MiB, not compared.
    pub fn new(to: MirrorTo) -> Self {
        Self {
            to,
            share: Share::ALL,
            max_in_flight: NonZeroUsize::new(16).expect("not zero"),
            max_bytes: ByteSize(16 << 20),
            compare: false,
        }
    }
}

/// Where copies go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MirrorTo {
    /// The endpoints of a revision of the route.
    Revision(String),
    /// Endpoints that serve none of its requests.
    Endpoints(Vec<Target>),
}

/// A part of a whole, in millionths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share(u32);

impl Share {
    /// All of them.
    pub const ALL: Self = Self(1_000_000);

    /// A part in millionths, above 0 and at most [`Self::ALL`].
    pub(crate) const fn of_millionths(millionths: u32) -> Self {
        Self(millionths)
    }

    /// The part from 0 to 1.
    pub fn fraction(self) -> f64 {
        f64::from(self.0) / 1e6
    }

    /// The part in millionths.
    pub fn millionths(self) -> u32 {
        self.0
    }
}

impl ParseSetting for Share {
    fn parse_setting(text: &str) -> Result<Self, String> {
        let share: Option<f64> = text.parse().ok().filter(|share| *share > 0.0 && *share <= 1.0);
        let millionths = share.map(|share| (share * 1e6).round() as u32);
        millionths
            .filter(|millionths| *millionths > 0)
            .map(Self)
            .ok_or_else(|| "expected a share above 0 and at most 1, such as 0.1".to_owned())
    }
}

pub(super) fn read(fields: &mut Fields<'_>) -> Option<MirrorSpec> {
    let revision = fields.text("revision").map(str::to_owned);
    let urls = fields.texts("endpoints");
    let to = match (revision, urls) {
        (Some(revision), None) => Some(MirrorTo::Revision(revision)),
        (None, Some(urls)) => Some(MirrorTo::Endpoints(endpoints(urls.into_iter(), |problem| {
            fields.problem(problem);
        }))),
        _ => {
            fields.problem("expected either `revision` or `endpoints`");
            None
        }
    };
    let share = fields.setting("share");
    let max_in_flight = fields.setting("max_in_flight");
    let max_bytes = fields.setting("max_bytes");
    let compare = fields.switch("compare");
    let default = MirrorSpec::new(to?);
    Some(MirrorSpec {
        share: share.unwrap_or(default.share),
        max_in_flight: max_in_flight.unwrap_or(default.max_in_flight),
        max_bytes: max_bytes.unwrap_or(default.max_bytes),
        compare,
        ..default
    })
}
