//! The unit of build cost in `scripts/build.sh`: generic code of the standard library, instantiated for many types.

use std::collections::{BTreeMap, HashMap};

fn count<const N: usize>(words: &[String]) -> Vec<(String, [u8; N])> {
    let mut by_word: HashMap<String, [u8; N]> = HashMap::new();
    let mut by_bytes: BTreeMap<[u8; N], Vec<usize>> = BTreeMap::new();
    for (i, word) in words.iter().enumerate() {
        let mut bytes = [0; N];
        bytes.iter_mut().zip(word.bytes()).for_each(|(to, from)| *to = from);
        by_word.entry(format!("{word}-{N}")).or_insert(bytes);
        by_bytes.entry(bytes).or_default().push(i);
    }
    by_bytes.retain(|_, places| places.len() > 1);
    let mut found: Vec<_> = by_word.into_iter().filter(|(_, bytes)| by_bytes.contains_key(bytes)).collect();
    found.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    found.dedup_by_key(|(_, bytes)| *bytes);
    found
}

macro_rules! counts {
    ($($n:literal)*) => {
        pub fn counts(words: &[String]) -> usize {
            0 $(+ count::<$n>(words).len())*
        }
    };
}

counts!(1 2 3 4 5);
