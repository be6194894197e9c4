//! Damage to bytes, by a seed, for tests of decoders.

/// Numbers by a seed.
#[derive(Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit.max(1) as u64) as usize
    }

    /// Changes some bytes: flips, cuts, puts in, doubles, and puts bytes that make large numbers.
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
}
