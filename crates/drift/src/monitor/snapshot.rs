//! A monitor's state as bytes, so that a restart changes no verdict.
//!
//! Bytes, numbers little-endian: `PLMONITR`, the version (4), the checksum of the rest (8), the SHA-256 of the profile (32), then the state
//! in the postcard format of its types here. The segments of a model have the same form, with eight letters of their own.

use serde::de::DeserializeOwned;
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
pub(crate) type ProfileDigest = [u8; 32];

/// Why a state cannot be taken up.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The profile or a setting cannot be used, whatever the state.
    #[error(transparent)]
    Monitor(#[from] MonitorError),
    /// These bytes are something else.
    #[error("not a monitor's state: expected bytes that begin with {expected:?}, found {found:?}")]
    Format {
        /// How its bytes begin.
        expected: String,
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
pub(crate) struct MonitorStateRef<'a> {
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
pub(crate) struct MonitorState {
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
        let room = self.subjects.len() * 1_536;
        seal(MAGIC, &self.profile_digest, &self.changing(), room)
    }

    /// A monitor of the model that `profile` belongs to, in the state that [`snapshot`](Self::snapshot) told: its verdicts are those of the
    /// monitor that was asked, had it gone on with the same settings.
    ///
    /// # Errors
    /// [`RestoreError`] for what [`new`](Self::new) refuses, for a state of another version or profile, and for a damaged one.
    pub fn restore(profile: &Profile, settings: Settings, state: &[u8]) -> Result<Self, RestoreError> {
        let mut monitor = Self::new(profile, settings, 0)?;
        let state = open(MAGIC, &monitor.profile_digest, state)?;
        monitor.take_up(state)?;
        Ok(monitor)
    }

    /// What rows change.
    pub(crate) fn changing(&self) -> MonitorStateRef<'_> {
        MonitorStateRef {
            track: self.track,
            window_index: self.window_index,
            window_rows: self.window_rows,
            window_opened_unix_ms: self.window_opened_unix_ms,
            rows: self.rows,
            subjects: self.subjects.iter().map(|s| &s.state).collect(),
            seasons: self.subjects.iter().map(SubjectMonitor::season_state).collect(),
        }
    }

    /// Goes on from what [`changing`](Self::changing) told; nothing has changed after an error.
    pub(crate) fn take_up(&mut self, state: MonitorState) -> Result<(), RestoreError> {
        // The checksum holds, so that only a program that miswrites them can bring other shapes about; still, no index may trust them.
        let damaged = |problem: String| RestoreError::Damaged { problem };
        let expected = self.subjects.len();
        for (found, of) in [
            (state.subjects.len(), "subjects"),
            (state.seasons.len(), "seasons"),
        ] {
            if expected != found {
                return Err(damaged(format!("expected {expected} {of}, found {found}")));
            }
        }
        let misfit = self
            .subjects
            .iter()
            .zip(state.subjects.iter().zip(&state.seasons))
            .find(|(s, (read, season))| !s.state.fits(read) || !s.season_fits(season.as_ref()));
        if let Some((subject, _)) = misfit {
            return Err(damaged(format!(
                "expected the {} bins of `{}`, found others",
                subject.info.bins.len(),
                subject.info.name
            )));
        }
        for (subject, (state, season)) in self
            .subjects
            .iter_mut()
            .zip(state.subjects.into_iter().zip(state.seasons))
        {
            subject.state = state;
            if let (Some(own), Some(season)) = (&mut subject.season, season) {
                own.state = season;
            }
        }
        self.track = state.track;
        self.window_index = state.window_index;
        self.window_rows = state.window_rows;
        self.window_opened_unix_ms = state.window_opened_unix_ms;
        self.rows = state.rows;
        Ok(())
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

/// A state as bytes, which take about `room`.
pub(crate) fn seal(magic: [u8; 8], profile: &ProfileDigest, state: &impl Serialize, room: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + 64 + room);
    bytes.extend(magic);
    bytes.extend(VERSION.to_le_bytes());
    bytes.extend([0; 8]);
    bytes.extend(profile);
    let mut bytes =
        postcard::to_extend(state, bytes).expect("a state has no maps or sequences of unknown length");
    let checksum = checksum(&bytes[CHECKED..]);
    bytes[CHECKED - 8..CHECKED].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

/// The state that was [sealed](seal) for the same profile.
pub(crate) fn open<T: DeserializeOwned>(
    expected: [u8; 8],
    profile: &ProfileDigest,
    bytes: &[u8],
) -> Result<T, RestoreError> {
    let damaged = |problem: String| RestoreError::Damaged { problem };
    let (magic, rest) = bytes.split_at(bytes.len().min(expected.len()));
    if magic != expected {
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        return Err(RestoreError::Format {
            expected: text(&expected),
            found: text(magic),
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
    if digest != profile {
        return Err(RestoreError::Profile {
            found: hex(digest),
            expected: hex(profile),
        });
    }
    let (state, rest) = postcard::take_from_bytes(rest).map_err(|error| damaged(error.to_string()))?;
    if !rest.is_empty() {
        return Err(damaged(format!(
            "expected its end, found {} bytes more",
            rest.len()
        )));
    }
    Ok(state)
}

pub(crate) fn digest(profile: &Profile) -> ProfileDigest {
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
