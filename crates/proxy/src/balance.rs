//! Which endpoint is used: power of two choices over least outstanding requests. No I/O, no clock.

/// What is known of an endpoint when a request looks for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Requests and connections on it that are not over, of this proxy.
    pub outstanding: u32,
    /// Dialing it failed a moment ago.
    pub failing: bool,
    /// This very request was sent there before.
    pub tried: bool,
}

impl Candidate {
    /// Lower is better: an endpoint that failed is used only when no other is left.
    fn class(self) -> u8 {
        u8::from(self.failing) + 2 * u8::from(self.tried)
    }
}

/// The index of the endpoint to use; `None` only when `count` is 0.
pub fn choose(count: usize, candidate: impl Fn(usize) -> Candidate, random: &mut Random) -> Option<usize> {
    let class = (0..count).map(|i| candidate(i).class()).min()?;
    let members = || (0..count).filter(|&i| candidate(i).class() == class);
    let size = members().count();
    let first = random.below(size);
    // Another one than the first, as long as there is one.
    let second = (first + 1 + random.below(size.max(2) - 1)) % size;
    let pick = |place| members().nth(place);
    let (first, second) = (pick(first)?, pick(second)?);
    Some(if candidate(second).outstanding < candidate(first).outstanding { second } else { first })
}

/// SplitMix64: fast and even, for balancing and ids. Not for secrets.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to `bound - 1`; 0 for a bound of 0.
    pub fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next()) * bound as u128) >> 64) as usize
    }

    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.next().to_le_bytes()[..chunk.len()]);
        }
        bytes
    }
}

#[cfg(test)]
mod tests;
