//! Random numbers from a seed, the same on every machine.

/// A generator of random numbers: splitmix64.
#[derive(Debug)]
pub struct Random(pub u64);

impl Random {
    /// Returns the next number.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    /// Returns a number below another.
    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    /// Returns true once in so many times.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// Returns an item of a list.
    pub fn pick<T: Copy>(&mut self, all: &[T]) -> T {
        let at = usize::try_from(self.below(all.len() as u64)).expect("the index of an item");
        all[at]
    }
}
