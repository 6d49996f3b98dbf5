//! Tokens that have been verified: signatures cost tens of microseconds, and a client sends its token with every request.

use std::sync::Arc;

use arc_swap::ArcSwapOption;

use crate::access::keys::Hash;
use crate::access::principal::Principal;

/// Places for one token: it may be in any of them.
const WAYS: usize = 4;
/// 4,096 tokens; one is about 300 bytes.
const SETS: usize = 1_024;

/// A token that was good, by its hash.
#[derive(Debug)]
pub(crate) struct VerifiedToken {
    pub(crate) hash: Hash,
    pub(crate) principal: Arc<Principal>,
    /// Seconds since 1970 from which on it is not.
    pub(crate) expires: i64,
    /// Of the keys that it was verified with: after a change it is verified again.
    pub(crate) generation: u64,
}

/// A table of fixed size, read without a lock. Only good tokens are put in, so that nobody without one can push
/// another's out; what is pushed out is verified again.
#[derive(Debug)]
pub(crate) struct TokenCache(Box<[ArcSwapOption<VerifiedToken>]>);

impl TokenCache {
    pub(crate) fn new() -> Self {
        Self((0..SETS * WAYS).map(|_| ArcSwapOption::empty()).collect())
    }

    fn set(&self, hash: &Hash) -> &[ArcSwapOption<VerifiedToken>] {
        let index = u16::from_le_bytes([hash[0], hash[1]]) as usize % SETS;
        &self.0[index * WAYS..][..WAYS]
    }

    /// The principal of a token that is still good.
    pub(crate) fn get(&self, hash: &Hash, now: i64, generation: u64) -> Option<Arc<Principal>> {
        self.set(hash).iter().find_map(|place| {
            let place = place.load();
            let token = place.as_ref()?;
            let good = token.hash == *hash && token.generation == generation && now < token.expires;
            good.then(|| Arc::clone(&token.principal))
        })
    }

    /// Keeps a token, in the place of one that is of no use any more, or of any.
    pub(crate) fn put(&self, token: VerifiedToken, now: i64) {
        let set = self.set(&token.hash);
        let of_no_use = |place: &ArcSwapOption<VerifiedToken>| {
            place.load().as_ref().is_none_or(|old| {
                old.hash == token.hash || old.expires <= now || old.generation != token.generation
            })
        };
        let place = set.iter().position(of_no_use);
        let place = place.unwrap_or(usize::from(token.hash[2]) % WAYS);
        set[place].store(Some(Arc::new(token)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(hash: Hash, expires: i64, generation: u64) -> VerifiedToken {
        VerifiedToken {
            hash,
            principal: Arc::new(Principal::new("ann", []).expect("a principal")),
            expires,
            generation,
        }
    }

    #[test]
    fn a_token_is_known_until_it_ends_or_keys_change() {
        let cache = TokenCache::new();
        let hash = [7; 32];
        assert!(cache.get(&hash, 0, 1).is_none());
        cache.put(token(hash, 100, 1), 0);
        assert!(cache.get(&hash, 99, 1).is_some());
        assert!(cache.get(&hash, 100, 1).is_none(), "it has ended");
        assert!(cache.get(&hash, 99, 2).is_none(), "the keys are others");
        let mut another = hash;
        another[31] = 0;
        assert!(cache.get(&another, 0, 1).is_none(), "in the same set");
    }

    #[test]
    fn a_full_set_keeps_as_many_as_it_has_places() {
        let cache = TokenCache::new();
        let hash = |last| {
            let mut hash = [0; 32];
            (hash[2], hash[31]) = (last, last);
            hash
        };
        for last in 0..40 {
            cache.put(token(hash(last), 100, 1), 0);
        }
        let kept = (0..40)
            .filter(|last| cache.get(&hash(*last), 0, 1).is_some())
            .count();
        assert_eq!(kept, WAYS);
        cache.put(token(hash(50), 300, 1), 100);
        assert!(
            cache.get(&hash(50), 100, 1).is_some(),
            "in the place of one that has ended"
        );
    }
}
