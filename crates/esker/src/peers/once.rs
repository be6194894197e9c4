//! [`SeenMessages`]: the messages that came, so that each counts once.

use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, PoisonError};

use esker_types::{Millis, to_millis};
use uuid::Uuid;

use super::VALID;

/// The ids of messages, in the order in which they came.
#[derive(Debug, Default)]
struct Seen {
    ids: HashSet<Uuid>,
    /// The ids with the times at which they came, in milliseconds since the Unix epoch.
    by_time: VecDeque<(Millis, Uuid)>,
}

/// The messages that came, for as long as they would count.
#[derive(Debug, Default)]
pub(super) struct SeenMessages(Mutex<Seen>);

impl SeenMessages {
    /// Notes that a message came at the time `now`. Returns false if it came before.
    pub(super) fn is_first(&self, id: Uuid, now: Millis) -> bool {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A sender's clock may be ahead, so a message may count for twice as long after it came.
        let forget_before = now.saturating_sub(to_millis(VALID * 2));
        while let Some((_, old)) = seen.by_time.pop_front_if(|(came, _)| *came < forget_before) {
            seen.ids.remove(&old);
        }
        let is_first = seen.ids.insert(id);
        if is_first {
            seen.by_time.push_back((now, id));
        }
        is_first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_counts_once_for_as_long_as_it_is_valid_and_is_then_forgotten() {
        let (seen, [one, other]) = (SeenMessages::default(), [Uuid::from_u128(1), Uuid::from_u128(2)]);
        let later = to_millis(VALID * 2);
        assert!(seen.is_first(one, 1000) && seen.is_first(other, 1001));
        assert!(!seen.is_first(one, 1000 + later), "its sender's clock may be ahead");
        assert!(seen.is_first(one, 1001 + later), "nobody would accept it by its time");
        let kept = seen.0.lock().expect("no panic");
        assert_eq!((kept.ids.len(), kept.by_time.len()), (2, 2));
    }
}
