//! Seeded random damage to bytes and JSON, for tests of decoders.
//!
//! The first function runs a test with one generator per seed, and prints the seed that fails.

use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};

/// Runs `work` once for each seed, with a generator of that seed. A panic prints the seed.
///
/// The number of seeds is `slice`, or as many as fit into `ESKER_DAMAGE_SECONDS` seconds if that variable is set. `ESKER_SEED` is
/// the first seed.
pub(crate) fn for_each_seed(slice: u64, mut work: impl FnMut(&mut FuzzRng)) {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let until = number("ESKER_DAMAGE_SECONDS").map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let first = number("ESKER_SEED").unwrap_or(1);
    for seed in first.. {
        if until.map_or(seed - first >= slice, |until| Instant::now() >= until) {
            return;
        }
        let reporter = SeedReporter(seed);
        work(&mut FuzzRng::new(seed));
        std::mem::forget(reporter);
    }
}

/// A guard that prints its seed when a panic drops it.
struct SeedReporter(u64);

impl Drop for SeedReporter {
    fn drop(&mut self) {
        eprintln!("it fails with ESKER_SEED={}", self.0);
    }
}

/// A pseudo-random generator (xorshift64).
#[derive(Debug)]
pub(crate) struct FuzzRng(u64);

impl FuzzRng {
    /// Returns a generator for `seed`.
    pub(crate) const fn new(seed: u64) -> Self {
        // Adjacent seeds must not begin alike, and the state of an xorshift must not be 0.
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Returns a number from 0 to `limit` - 1; 0 if `limit` is 0.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit.max(1) as u64) as usize
    }

    /// Returns one item of `of`.
    pub(crate) fn one<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }

    /// Returns `file` with up to four changes: bytes flipped, cut, inserted, doubled, or set to 0xff, which makes large numbers.
    pub(crate) fn damage(&mut self, file: &[u8]) -> Vec<u8> {
        let mut file = file.to_vec();
        for _ in 0..=self.below(4) {
            let at = self.below(file.len());
            match self.below(7) {
                0 => file.truncate(at),
                1 => {
                    let end = (at + self.below(9)).min(file.len());
                    file.drain(at..end);
                }
                2 => file.insert(at, self.below(256) as u8),
                3 => {
                    let end = (at + self.below(64)).min(file.len());
                    let piece = file[at..end].to_vec();
                    file.splice(at..at, piece);
                }
                4 => {
                    let end = (at + 1 + self.below(8)).min(file.len());
                    file[at..end].fill(0xff);
                }
                _ => {
                    if let Some(byte) = file.get_mut(at) {
                        *byte ^= 1 << self.below(8);
                    }
                }
            }
            if file.is_empty() {
                break;
            }
        }
        file
    }

    /// Changes up to three values of `json`, which stays valid JSON: replaces them, by others of the text too, or removes them.
    pub(crate) fn damage_json(&mut self, json: &mut Json) {
        for _ in 0..=self.below(3) {
            let (at, other) = (self.below(count(json)), self.below(count(json)));
            let other = place(json, &mut { other }).map_or(Json::Null, |value| value.clone());
            let Some(value) = place(json, &mut { at }) else { continue };
            match (self.below(5), value) {
                (0, value) => *value = other,
                (1, Json::Object(fields)) => {
                    let key = fields.keys().nth(self.below(fields.len())).cloned().unwrap_or_default();
                    fields.remove(&key);
                    if self.below(2) == 0 {
                        fields.insert(["", "later", "type", "fields"][self.below(4)].to_owned(), other);
                    }
                }
                (1, Json::Array(items)) if !items.is_empty() => {
                    items.remove(self.below(items.len()));
                }
                (2, Json::Array(items)) => items.push(other),
                (_, value) => *value = self.odd(value),
            }
        }
    }

    /// Returns a value that a decoder may stumble over.
    fn odd(&mut self, value: &Json) -> Json {
        match self.below(16) {
            0 => Json::Null,
            1 => true.into(),
            2 => i64::MIN.into(),
            3 => i64::MAX.into(),
            4 => u64::MAX.into(),
            5 => i32::MAX.into(),
            6 => (i64::from(i32::MAX) + 1).into(),
            7 => 1.5e300.into(),
            8 => "".into(),
            9 => json!([]),
            10 => json!({}),
            11 => (0..self.below(130)).fold(json!("deep"), |inner, _| json!([inner])),
            12 => (0..self.below(40)).fold(
                json!("int"),
                |inner, id| json!({"type": "list", "element-id": id, "element": inner, "element-required": false}),
            ),
            _ => match value {
                Json::Number(number) => (number.as_i64().unwrap_or(0).wrapping_add(self.below(3) as i64 - 1)).into(),
                Json::String(text) => String::from_utf8_lossy(&self.damage(text.as_bytes())).into_owned().into(),
                _ => (self.below(5) as i64 - 2).into(),
            },
        }
    }
}

/// Returns the number of values in `json`, nested ones included.
fn count(json: &Json) -> usize {
    1 + match json {
        Json::Array(items) => items.iter().map(count).sum(),
        Json::Object(fields) => fields.values().map(count).sum(),
        _ => 0,
    }
}

/// Returns the value at position `at` in the order in which values are written.
fn place<'a>(json: &'a mut Json, at: &mut usize) -> Option<&'a mut Json> {
    if *at == 0 {
        return Some(json);
    }
    *at -= 1;
    match json {
        Json::Array(items) => items.iter_mut().find_map(|item| place(item, at)),
        Json::Object(fields) => fields.values_mut().find_map(|value| place(value, at)),
        _ => None,
    }
}
