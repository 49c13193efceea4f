//! Chance, all of it from one seed. Each consumer (network, each node, each
//! client, the fault plan) gets a stream of its own, so that one more draw in
//! one of them does not shift all the others.

use std::sync::Mutex;

use trine_types::Entropy;

/// The step of the splitmix64 sequence (2^64 divided by the golden ratio).
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// A splitmix64 generator: tiny, fast, and good enough to choose faults.
#[derive(Debug, Clone)]
pub struct Rng {
    state: u64,
}

impl Rng {
    /// The stream named `stream` of `seed`.
    #[must_use]
    pub fn new(seed: u64, stream: &str) -> Self {
        let mut state = seed ^ GOLDEN;
        for byte in stream.bytes() {
            state = mix(state ^ u64::from(byte)).wrapping_add(GOLDEN);
        }
        Self { state }
    }

    /// The next 64 bits.
    pub fn draw(&mut self) -> u64 {
        self.state = self.state.wrapping_add(GOLDEN);
        mix(self.state)
    }

    /// A number below `bound`; `bound` must not be zero.
    pub fn below(&mut self, bound: u64) -> u64 {
        debug_assert!(bound > 0, "no number is below zero");
        // The bias of the remainder is below 2^-40 for the bounds used here.
        self.draw() % bound
    }

    /// A number in `low..=high`.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// True in `percent` of 100 draws.
    pub fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// One of `items`, or `None` if there are none.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        let len = u64::try_from(items.len()).ok().filter(|len| *len > 0)?;
        items.get(usize::try_from(self.below(len)).ok()?)
    }

    /// A random part of `items`, in their order: each is in with `percent`.
    pub fn some_of<T: Copy>(&mut self, items: &[T], percent: u64) -> Vec<T> {
        items.iter().copied().filter(|_| self.percent(percent)).collect()
    }
}

/// The finaliser of splitmix64: every input bit changes half of the output.
pub(crate) fn mix(mut value: u64) -> u64 {
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// The entropy of one node: the seed's, instead of the operating system's.
#[derive(Debug)]
pub struct SeededEntropy {
    // A lock because the seam hands out `&self`; only one thread ever holds it.
    rng: Mutex<Rng>,
}

impl SeededEntropy {
    /// Entropy that follows `rng`.
    #[must_use]
    pub fn new(rng: Rng) -> Self {
        Self { rng: Mutex::new(rng) }
    }
}

impl Entropy for SeededEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        let mut rng = self.rng.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for chunk in bytes.chunks_mut(8) {
            let word = rng.draw().to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_of_a_seed_repeat_and_differ() {
        let draw = |seed, stream| {
            let mut rng = Rng::new(seed, stream);
            (0..4).map(|_| rng.draw()).collect::<Vec<_>>()
        };
        assert_eq!(draw(7, "net"), draw(7, "net"));
        assert_ne!(draw(7, "net"), draw(7, "plan"));
        assert_ne!(draw(7, "net"), draw(8, "net"));
    }

    #[test]
    fn entropy_fills_odd_lengths() {
        let entropy = SeededEntropy::new(Rng::new(1, "n1"));
        let mut bytes = [0; 13];
        entropy.fill(&mut bytes);
        assert!(bytes.iter().any(|b| *b != 0));
    }
}
