//! Requests that have something in common go to the same revision.
//!
//! Weighted rendezvous hashing (Schindelhauer & Schomaker 2005, "Weighted distributed hash tables", §3.3): a revision with weight `w`
//! draws `−ln(u) / w`, where `u` in (0, 1] follows from the key and the revision's name; the smallest wins. Each revision gets
//! the part of the keys that its weight is of all weights; when one weight changes, keys move only to or from its revision,
//! as few as possible; the order of revisions does not matter.

use std::sync::Arc;

use http::HeaderMap;
use sha2::{Digest as _, Sha256};

use super::Revision;
use crate::config::Sticky;

/// What a request sticks by: the first 8 bytes, big-endian, of SHA-256 over the model's name, a zero byte and the value. The
/// same in every gateway and after every restart; of two models, independent. Nothing for a request without the value.
pub(super) fn key(model: &str, sticky: &Sticky, headers: &HeaderMap) -> Option<u64> {
    let Sticky::Header(name) = sticky;
    let value = headers.get(name)?;
    let hash = Sha256::new()
        .chain_update(model.as_bytes())
        .chain_update([0])
        .chain_update(value.as_bytes())
        .finalize();
    Some(first_8_bytes(&hash))
}

/// What a revision's draws follow from.
pub(crate) fn seed(revision: &str) -> u64 {
    first_8_bytes(&Sha256::digest(revision.as_bytes()))
}

fn first_8_bytes(hash: &[u8]) -> u64 {
    u64::from_be_bytes(*hash.first_chunk().expect("SHA-256 has 32 bytes"))
}

/// The index of the revision that a key belongs to; nothing when none has a weight.
pub(super) fn choose(key: u64, revisions: &[Arc<Revision>]) -> Option<usize> {
    let with_weight = revisions
        .iter()
        .enumerate()
        .filter(|(_, revision)| revision.weight > 0);
    let draws = with_weight.map(|(index, revision)| (index, draw(key, revision.seed, revision.weight)));
    let smallest = draws.min_by(|(_, a), (_, b)| a.total_cmp(b));
    smallest.map(|(index, _)| index)
}

/// Exponentially distributed with this rate, which is above 0.
fn draw(key: u64, seed: u64, weight: u32) -> f64 {
    // 53 bits, as many as a double has; never 0.
    let unit = ((mixed(key ^ seed) >> 11) + 1) as f64 * (-53_f64).exp2();
    -unit.ln() / f64::from(weight)
}

/// Every bit of the result depends on every bit of `bits` (the finalizer of `MurmurHash3`).
fn mixed(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 33)).wrapping_mul(0xFF51_AFD7_ED55_8CCD);
    bits = (bits ^ (bits >> 33)).wrapping_mul(0xC4CE_B9FE_1A85_EC53);
    bits ^ (bits >> 33)
}
