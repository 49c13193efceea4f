//! Named amounts, like `gpu = 2`: what nodes declare beside processors and
//! memory, and what tasks take of it. They are counted, not handed out. Few and
//! small, so that the scheduler copies them as it copies numbers. Pure.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// Most names of one node or task.
pub const MAX_AMOUNTS: usize = 8;
/// Longest name, in bytes.
pub const MAX_AMOUNT_NAME: usize = 16;

/// Amounts by name, none of them zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<String, u32>", into = "BTreeMap<String, u32>")]
pub struct Amounts([Amount; MAX_AMOUNTS]);

/// Places without a name come last.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
struct Amount {
    name: [u8; MAX_AMOUNT_NAME],
    count: u32,
}

impl Amount {
    fn is_used(&self) -> bool {
        self.name[0] != 0
    }

    fn name(&self) -> &str {
        let end = self.name.iter().position(|byte| *byte == 0).unwrap_or(MAX_AMOUNT_NAME);
        std::str::from_utf8(&self.name[..end]).unwrap_or_default()
    }
}

/// Amounts that cannot be.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BadAmounts {
    /// There are too many names.
    #[error("at most {MAX_AMOUNTS} names")]
    TooMany,
    /// It is no name.
    #[error("`{0}` is no name of a resource: 1 to {MAX_AMOUNT_NAME} letters, digits, `-`, `_` and `.`")]
    Name(String),
}

impl TryFrom<BTreeMap<String, u32>> for Amounts {
    type Error = BadAmounts;

    fn try_from(named: BTreeMap<String, u32>) -> Result<Self, BadAmounts> {
        let mut amounts = Self::NONE;
        let mut places = amounts.0.iter_mut();
        for (name, count) in named {
            let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
            if name.is_empty() || name.len() > MAX_AMOUNT_NAME || !name.bytes().all(fine) {
                return Err(BadAmounts::Name(name));
            }
            if count == 0 {
                continue;
            }
            let place = places.next().ok_or(BadAmounts::TooMany)?;
            place.name[..name.len()].copy_from_slice(name.as_bytes());
            place.count = count;
        }
        Ok(amounts)
    }
}

impl From<Amounts> for BTreeMap<String, u32> {
    fn from(amounts: Amounts) -> Self {
        amounts.iter().map(|(name, count)| (name.to_owned(), count)).collect()
    }
}

impl fmt::Display for Amounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: Vec<_> = self.iter().map(|(name, count)| format!("{name}={count}")).collect();
        f.write_str(&all.join(", "))
    }
}

impl fmt::Debug for Amounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl Amounts {
    /// Nothing.
    pub const NONE: Self = Self([Amount { name: [0; MAX_AMOUNT_NAME], count: 0 }; MAX_AMOUNTS]);

    /// All, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u32)> {
        self.0.iter().filter(|amount| amount.is_used()).map(|amount| (amount.name(), amount.count))
    }

    /// Whether it is nothing.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::NONE
    }

    fn of(&self, name: &[u8; MAX_AMOUNT_NAME]) -> u32 {
        self.0.iter().find(|amount| amount.name == *name).map_or(0, |amount| amount.count)
    }

    /// Is there as much as `need`, of each?
    #[must_use]
    pub fn fits(&self, need: &Self) -> bool {
        need.0.iter().all(|amount| !amount.is_used() || amount.count <= self.of(&amount.name))
    }

    fn each(&self, count: impl Fn(&Amount) -> u32) -> Self {
        let mut left = Self::NONE;
        let counted = self.0.iter().filter(|amount| amount.is_used());
        let counted = counted.map(|amount| Amount { count: count(amount), ..*amount });
        for (place, amount) in left.0.iter_mut().zip(counted.filter(|amount| amount.count > 0)) {
            *place = amount;
        }
        left
    }

    /// What is left without `other`, at least nothing.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        self.each(|amount| amount.count.saturating_sub(other.of(&amount.name)))
    }

    /// The smaller of both, of each.
    #[must_use]
    pub fn least(&self, other: &Self) -> Self {
        self.each(|amount| amount.count.min(other.of(&amount.name)))
    }

    /// Both together. Of more than [`MAX_AMOUNTS`] names, which only sums over
    /// several nodes have, the last ones are left out.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        let mut sum: BTreeMap<[u8; MAX_AMOUNT_NAME], u32> = BTreeMap::new();
        for amount in self.0.iter().chain(&other.0).filter(|amount| amount.is_used()) {
            let count = sum.entry(amount.name).or_default();
            *count = count.saturating_add(amount.count);
        }
        let mut amounts = Self::NONE;
        for (place, (name, count)) in amounts.0.iter_mut().zip(sum) {
            *place = Amount { name, count };
        }
        amounts
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(named: &[(&str, u32)]) -> Amounts {
        let named: BTreeMap<String, u32> =
            named.iter().map(|(name, count)| ((*name).into(), *count)).collect();
        Amounts::try_from(named).expect("few and short")
    }

    #[test]
    fn amounts_are_counted_by_name() {
        let node = of(&[("gpu", 2), ("licence", 1)]);
        assert!(node.fits(&of(&[("gpu", 2)])) && node.fits(&Amounts::NONE) && node.fits(&node));
        assert!(!node.fits(&of(&[("gpu", 3)])) && !node.fits(&of(&[("tpu", 1)])));
        assert_eq!(node.minus(&of(&[("gpu", 2), ("tpu", 1)])), of(&[("licence", 1)]));
        assert_eq!(node.least(&of(&[("gpu", 1)])), of(&[("gpu", 1)]));
        assert_eq!(node.to_string(), "gpu=2, licence=1");
        assert_eq!(of(&[("gpu", 0)]), Amounts::NONE);
    }

    #[test]
    fn what_is_no_amount_is_told() {
        let wrong =
            |named: Vec<(String, u32)>| Amounts::try_from(BTreeMap::from_iter(named)).expect_err("wrong");
        for name in ["", "a b", "a name of seventeen", "\u{e9}"] {
            assert_eq!(wrong(vec![(name.into(), 1)]), BadAmounts::Name(name.into()));
        }
        let many = (0..=MAX_AMOUNTS).map(|n| (format!("n{n}"), 1)).collect();
        assert_eq!(wrong(many), BadAmounts::TooMany);
    }

    proptest! {
        #[test]
        fn what_is_taken_comes_back(have in any_amounts(), take in any_amounts()) {
            let taken = have.least(&take);
            prop_assert!(have.fits(&taken) && take.fits(&taken));
            prop_assert_eq!(have.minus(&taken).plus(&taken), have);
            let bytes = crate::codec::encode(&have);
            prop_assert_eq!(crate::codec::decode::<Amounts>(&bytes, "amounts"), Ok(have));
        }
    }

    fn any_amounts() -> impl Strategy<Value = Amounts> {
        prop::collection::btree_map("[a-d]{1,2}", 0..4_u32, 0..MAX_AMOUNTS)
            .prop_map(|named| Amounts::try_from(named).expect("few and short"))
    }
}
