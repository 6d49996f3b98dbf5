//! A monitor's state as bytes, so that a restart changes no verdict.
//!
//! Bytes, numbers little-endian: `PLMONITR`, the version (4), the checksum of the rest (8), the SHA-256 of the profile (32), then the state
//! in the postcard format of its types here.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::subject::{SubjectMonitor, SubjectState};
use super::track::Track;
use super::{Monitor, MonitorError, Settings};
use crate::SplitMix64;
use crate::profile::Profile;
use crate::season::SeasonState;

const MAGIC: [u8; 8] = *b"PLMONITR";
/// Raised when the state's types change.
const VERSION: u32 = 1;

/// SHA-256 of a profile as JSON.
pub(super) type ProfileDigest = [u8; 32];

/// Why a state cannot be taken up.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The profile or a setting cannot be used, whatever the state.
    #[error(transparent)]
    Monitor(#[from] MonitorError),
    /// These bytes are something else.
    #[error("not a monitor's state: expected bytes that begin with \"PLMONITR\", found {found:?}")]
    Format {
        /// The first bytes.
        found: String,
    },
    /// Another version of this program wrote it.
    #[error("state of version {found}, expected version {expected}")]
    Version {
        /// Its version.
        found: u32,
        /// The one that this program reads.
        expected: u32,
    },
    /// It belongs to another profile.
    #[error("state of the profile {found}, expected {expected}")]
    Profile {
        /// Digest of its profile.
        found: String,
        /// Digest of the profile given.
        expected: String,
    },
    /// It is not what was written.
    #[error("damaged state: {problem}")]
    Damaged {
        /// What shows it.
        problem: String,
    },
}

/// Everything of a [`Monitor`] that rows change.
#[derive(Serialize)]
struct StateRef<'a> {
    track: Track,
    window_index: u64,
    window_rows: u64,
    window_opened_unix_ms: i64,
    rows: u64,
    subjects: Vec<&'a SubjectState>,
    seasons: Vec<Option<&'a SeasonState>>,
}

/// The same, read.
#[derive(Deserialize)]
struct State {
    track: Track,
    window_index: u64,
    window_rows: u64,
    window_opened_unix_ms: i64,
    rows: u64,
    subjects: Vec<SubjectState>,
    seasons: Vec<Option<SeasonState>>,
}

impl Monitor {
    /// The state as bytes, for [`restore`](Self::restore): about 1 KiB a subject.
    pub fn snapshot(&self) -> Vec<u8> {
        let state = StateRef {
            track: self.track,
            window_index: self.window_index,
            window_rows: self.window_rows,
            window_opened_unix_ms: self.window_opened_unix_ms,
            rows: self.rows,
            subjects: self.subjects.iter().map(|s| &s.state).collect(),
            seasons: self.subjects.iter().map(SubjectMonitor::season_state).collect(),
        };
        let mut bytes = Vec::with_capacity(HEADER + 64 + self.subjects.len() * 1_536);
        bytes.extend(MAGIC);
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend([0; 8]);
        bytes.extend(self.profile_digest);
        let mut bytes =
            postcard::to_extend(&state, bytes).expect("a state has no maps or sequences of unknown length");
        let checksum = checksum(&bytes[CHECKED..]);
        bytes[CHECKED - 8..CHECKED].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// A monitor of the model that `profile` belongs to, in the state that [`snapshot`](Self::snapshot) told: its verdicts are those of the
    /// monitor that was asked, had it gone on with the same settings.
    ///
    /// # Errors
    /// [`RestoreError`] for what [`new`](Self::new) refuses, for a state of another version or profile, and for a damaged one.
    pub fn restore(profile: &Profile, settings: Settings, state: &[u8]) -> Result<Self, RestoreError> {
        let mut monitor = Self::new(profile, settings, 0)?;
        let state = read(state, &monitor)?;
        for (subject, (state, season)) in monitor
            .subjects
            .iter_mut()
            .zip(state.subjects.into_iter().zip(state.seasons))
        {
            subject.state = state;
            if let (Some(own), Some(season)) = (&mut subject.season, season) {
                own.state = season;
            }
        }
        monitor.track = state.track;
        monitor.window_index = state.window_index;
        monitor.window_rows = state.window_rows;
        monitor.window_opened_unix_ms = state.window_opened_unix_ms;
        monitor.rows = state.rows;
        Ok(monitor)
    }

    /// What binds states to the profile: `sha256:` and 64 hex digits over its JSON, without whitespace.
    pub fn profile_digest(&self) -> String {
        hex(&self.profile_digest)
    }
}

/// Where the checked part begins: after magic, version and checksum.
const CHECKED: usize = 8 + 4 + 8;
/// Where the state begins.
const HEADER: usize = CHECKED + 32;

fn read(bytes: &[u8], monitor: &Monitor) -> Result<State, RestoreError> {
    let damaged = |problem: String| RestoreError::Damaged { problem };
    let (magic, rest) = bytes.split_at(bytes.len().min(MAGIC.len()));
    if magic != MAGIC {
        return Err(RestoreError::Format {
            found: String::from_utf8_lossy(magic).into_owned(),
        });
    }
    let short = || damaged(format!("expected at least {HEADER} bytes, found {}", bytes.len()));
    let (version, rest) = rest.split_first_chunk().ok_or_else(short)?;
    let version = u32::from_le_bytes(*version);
    if version != VERSION {
        return Err(RestoreError::Version {
            found: version,
            expected: VERSION,
        });
    }
    let (written, rest) = rest.split_first_chunk().ok_or_else(short)?;
    let (written, found) = (u64::from_le_bytes(*written), checksum(rest));
    if written != found {
        return Err(damaged(format!(
            "expected the checksum {written:016x}, found {found:016x}"
        )));
    }
    let (digest, rest) = rest.split_first_chunk().ok_or_else(short)?;
    if *digest != monitor.profile_digest {
        return Err(RestoreError::Profile {
            found: hex(digest),
            expected: monitor.profile_digest(),
        });
    }
    let (state, rest) =
        postcard::take_from_bytes::<State>(rest).map_err(|error| damaged(error.to_string()))?;
    if !rest.is_empty() {
        return Err(damaged(format!(
            "expected its end, found {} bytes more",
            rest.len()
        )));
    }
    // The checksum holds, so that only a program that miswrites them can bring other shapes about; still, no index may trust them.
    let expected = monitor.subjects.len();
    for (found, of) in [
        (state.subjects.len(), "subjects"),
        (state.seasons.len(), "seasons"),
    ] {
        if expected != found {
            return Err(damaged(format!("expected {expected} {of}, found {found}")));
        }
    }
    let misfit = monitor
        .subjects
        .iter()
        .zip(state.subjects.iter().zip(&state.seasons))
        .find(|(s, (read, season))| !s.state.fits(read) || !s.season_fits(season.as_ref()));
    match misfit {
        Some((subject, _)) => Err(damaged(format!(
            "expected the {} bins of `{}`, found others",
            subject.info.bins.len(),
            subject.info.name
        ))),
        None => Ok(state),
    }
}

pub(super) fn digest(profile: &Profile) -> ProfileDigest {
    let json = serde_json::to_vec(profile).expect("every map key is a string");
    Sha256::digest(json).into()
}

fn hex(digest: &ProfileDigest) -> String {
    let digits = digest.iter().map(|byte| format!("{byte:02x}"));
    std::iter::once("sha256:".to_owned()).chain(digits).collect()
}

/// Tells damage, not malice: eight bytes at a time through the mixing function of `SplitMix64`.
fn checksum(bytes: &[u8]) -> u64 {
    let words = bytes.chunks(8).map(|chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        u64::from_le_bytes(word)
    });
    words.fold(bytes.len() as u64, |sum, word| {
        SplitMix64::new(sum ^ word).next_u64()
    })
}
