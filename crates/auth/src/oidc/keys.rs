//! [`KnownKeys`]: the keys of one issuer as they were fetched, and when to fetch them again. It does no I/O.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::algorithm::SigningAlgorithm;
use super::jwk::VerificationKey;

/// The times by which keys are fetched and forgotten.
#[derive(Debug, Clone, Copy)]
pub struct KeyTimes {
    /// The age from which keys are fetched again while they are in use.
    pub refresh: Duration,
    /// The least time between two fetches, whatever tokens are shown.
    pub refetch: Duration,
    /// The time for which a key goes on that the issuer no longer publishes.
    pub overlap: Duration,
    /// The time for which keys count that can't be fetched again.
    pub max_age: Duration,
}

impl Default for KeyTimes {
    fn default() -> Self {
        Self {
            refresh: Duration::from_secs(300),
            refetch: Duration::from_secs(10),
            overlap: Duration::from_secs(300),
            max_age: Duration::from_secs(24 * 3600),
        }
    }
}

/// A key that was fetched.
#[derive(Debug)]
struct KnownKey {
    key: Arc<VerificationKey>,
    /// The time from which the key is not published any more: that of the first fetch without it, or when that fetch was due.
    dropped: Option<Instant>,
}

/// The answer to the question for a key.
#[derive(Debug)]
pub(super) enum KeyLookup {
    /// The key, which was fetched not long ago.
    Fresh(Arc<VerificationKey>),
    /// The key, which counts, and is old enough to be fetched again.
    Stale(Arc<VerificationKey>),
    /// The key, which nobody used for a while. The issuer may have withdrawn it, so it counts only if a fetch fails.
    Overdue(Arc<VerificationKey>),
    /// No key that counts fits.
    Missing,
}

/// The keys of an issuer.
#[derive(Debug, Default)]
pub(super) struct KnownKeys {
    keys: Vec<KnownKey>,
    /// The time of the last fetch that succeeded.
    fetched: Option<Instant>,
    /// The time at which the last fetch began.
    tried: Option<Instant>,
    /// True if the last fetch failed.
    failed: bool,
}

impl KnownKeys {
    /// Finds the key for a token: by its id, or the only one that fits if the token names none.
    pub(super) fn find(&self, kid: Option<&str>, algorithm: SigningAlgorithm, now: Instant, times: &KeyTimes) -> KeyLookup {
        let Some(age) = self.fetched.map(|fetched| now.saturating_duration_since(fetched)) else { return KeyLookup::Missing };
        if age >= times.max_age {
            return KeyLookup::Missing;
        }
        let counts = |known: &&KnownKey| {
            let fits = known.key.fits(algorithm) && kid.is_none_or(|kid| known.key.kid.as_deref() == Some(kid));
            // A token without an id has a key that is published now: during an overlap there is more than one.
            fits && known.dropped.is_none_or(|dropped| kid.is_some() && now.saturating_duration_since(dropped) < times.overlap)
        };
        let mut found = self.keys.iter().filter(counts);
        let Some(key) = found.next().map(|known| known.key.clone()) else { return KeyLookup::Missing };
        if kid.is_none() && found.next().is_some() {
            // A token that does not say which of several keys it has is refused.
            return KeyLookup::Missing;
        }
        if age < times.refresh {
            KeyLookup::Fresh(key)
        } else if age < times.refresh.saturating_mul(2) || self.failed {
            KeyLookup::Stale(key)
        } else {
            KeyLookup::Overdue(key)
        }
    }

    /// Begins a fetch, unless one began a moment ago. Returns whether to fetch.
    pub(super) fn begin_fetch(&mut self, now: Instant, times: &KeyTimes) -> bool {
        let recent = self.tried.is_some_and(|tried| now.saturating_duration_since(tried) < times.refetch);
        if !recent {
            self.tried = Some(now);
        }
        !recent
    }

    /// Stores the keys of a fetch. Earlier ones go on for the time of overlap, unless a new one has their id.
    pub(super) fn store(&mut self, fetched: Vec<VerificationKey>, now: Instant, times: &KeyTimes) {
        let replaced = |known: &KnownKey| fetched.iter().any(|key| *key == *known.key || key.kid == known.key.kid);
        let mut earlier: Vec<KnownKey> = self.keys.drain(..).filter(|known| !replaced(known)).collect();
        // If nobody asked for a while, a key may have been withdrawn long ago. It must not begin to overlap now.
        let dropped = self.fetched.and_then(|fetched| fetched.checked_add(times.refresh)).map_or(now, |due| due.min(now));
        for known in &mut earlier {
            known.dropped.get_or_insert(dropped);
        }
        earlier.retain(|known| known.dropped.is_none_or(|dropped| now.saturating_duration_since(dropped) < times.overlap));
        self.keys = fetched.into_iter().map(|key| KnownKey { key: Arc::new(key), dropped: None }).chain(earlier).collect();
        (self.fetched, self.failed) = (Some(now), false);
    }

    /// Records that the fetch failed. The known keys go on.
    pub(super) fn fail(&mut self) {
        self.failed = true;
    }

    /// Checks whether a missing key may be one that could not be fetched.
    pub(super) fn may_be_incomplete(&self, now: Instant, times: &KeyTimes) -> bool {
        self.failed || self.fetched.is_none_or(|fetched| now.saturating_duration_since(fetched) >= times.max_age)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::jwk::parse_key_set;
    use super::super::testing::SigningKey;
    use super::*;

    const ES256: SigningAlgorithm = SigningAlgorithm::Es256;

    fn set(keys: &[&SigningKey]) -> Vec<VerificationKey> {
        let keys: Vec<_> = keys.iter().map(|key| key.jwk()).collect();
        parse_key_set(json!({"keys": keys}).to_string().as_bytes()).expect("a set")
    }

    fn after(begin: Instant, seconds: u64) -> Instant {
        begin + Duration::from_secs(seconds)
    }

    #[test]
    fn known_keys_go_on_without_the_provider_until_their_time_is_over() {
        let (begin, times) = (Instant::now(), KeyTimes::default());
        let mut keys = KnownKeys::default();
        assert!(keys.may_be_incomplete(begin, &times));
        keys.store(set(&[&SigningKey::p256("a")]), begin, &times);
        let find = |keys: &KnownKeys, seconds| keys.find(Some("a"), ES256, after(begin, seconds), &times);
        assert!(matches!(find(&keys, 599), KeyLookup::Stale(_)) && matches!(find(&keys, 600), KeyLookup::Overdue(_)));
        keys.fail();
        assert!(matches!(find(&keys, 299), KeyLookup::Fresh(_)));
        assert!(matches!(find(&keys, 300), KeyLookup::Stale(_)) && matches!(find(&keys, 86_399), KeyLookup::Stale(_)));
        assert!(matches!(find(&keys, 86_400), KeyLookup::Missing));
        assert!(keys.may_be_incomplete(begin, &times), "the last fetch failed");
        keys.store(Vec::new(), begin, &times);
        assert!(!keys.may_be_incomplete(after(begin, 86_399), &times) && keys.may_be_incomplete(after(begin, 86_400), &times));
    }

    #[test]
    fn a_key_that_is_no_longer_published_goes_on_for_the_overlap() {
        let (begin, times) = (Instant::now(), KeyTimes::default());
        let (old, new, replacement) = (SigningKey::p256("old"), SigningKey::p256("new"), SigningKey::p256("old"));
        let mut keys = KnownKeys::default();
        keys.store(set(&[&old]), begin, &times);
        keys.store(set(&[&new]), after(begin, 100), &times);
        keys.store(set(&[&new]), after(begin, 200), &times);
        let has = |keys: &KnownKeys, kid, seconds| {
            let found = keys.find(Some(kid), ES256, after(begin, seconds), &times);
            !matches!(found, KeyLookup::Missing)
        };
        let counted = [has(&keys, "old", 399), has(&keys, "old", 400), has(&keys, "new", 400)];
        assert_eq!(counted, [true, false, true], "counted from the first set without it");
        keys.store(set(&[&replacement]), after(begin, 250), &times);
        match keys.find(Some("old"), ES256, after(begin, 250), &times) {
            KeyLookup::Fresh(key) => assert_eq!(*key, set(&[&replacement])[0], "the new key of the id"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_key_that_was_withdrawn_while_nobody_asked_does_not_come_back() {
        let (begin, times) = (Instant::now(), KeyTimes::default());
        let (old, new) = (SigningKey::p256("old"), SigningKey::p256("new"));
        let mut keys = KnownKeys::default();
        keys.store(set(&[&old]), begin, &times);
        keys.store(set(&[&new]), after(begin, 600), &times);
        assert!(matches!(keys.find(Some("old"), ES256, after(begin, 600), &times), KeyLookup::Missing));
        assert!(matches!(keys.find(Some("new"), ES256, after(begin, 600), &times), KeyLookup::Fresh(_)));
    }

    #[test]
    fn a_token_without_an_id_has_the_only_key_that_fits() {
        let (begin, times) = (Instant::now(), KeyTimes::default());
        let mut keys = KnownKeys::default();
        let missing = |keys: &KnownKeys| matches!(keys.find(None, ES256, begin, &times), KeyLookup::Missing);
        keys.store(set(&[&SigningKey::p256("a"), &SigningKey::ed25519("b")]), begin, &times);
        assert!(!missing(&keys));
        keys.store(set(&[&SigningKey::p256("a"), &SigningKey::p256("b")]), begin, &times);
        assert!(missing(&keys), "either could be meant");
        keys.store(set(&[&SigningKey::p256("c")]), begin, &times);
        assert!(!missing(&keys), "the others are not published any more");
    }

    #[test]
    fn fetches_keep_their_distance_whether_they_succeed_or_not() {
        let (begin, times) = (Instant::now(), KeyTimes::default());
        let mut keys = KnownKeys::default();
        let tried = [0, 1, 9, 10, 11, 20].map(|seconds| keys.begin_fetch(after(begin, seconds), &times));
        assert_eq!(tried, [true, false, false, true, false, true]);
    }
}
