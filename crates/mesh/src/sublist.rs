//! Which subscriptions a subject matches: a tree of tokens, one level per
//! token, with a branch of its own for each wildcard.
//!
//! Matching visits only branches that can match, so that its cost depends on
//! the subject's tokens and the wildcards on its way, never on how many
//! subscriptions there are elsewhere.

use std::collections::BTreeMap;

use bytes::Bytes;
use trine_types::subject::tokens;

/// Subscriptions by filter, queue group and id. Filters must be valid.
#[derive(Debug)]
pub struct Sublist<T> {
    root: Level<T>,
    len: usize,
}

#[derive(Debug)]
struct Level<T> {
    literal: BTreeMap<Box<[u8]>, Branch<T>>,
    any: Option<Box<Branch<T>>>,
    /// Subscriptions whose filter ends here in `>`.
    rest: Leaf<T>,
}

#[derive(Debug)]
struct Branch<T> {
    /// Subscriptions whose filter ends here.
    leaf: Leaf<T>,
    next: Level<T>,
}

#[derive(Debug)]
struct Leaf<T> {
    plain: BTreeMap<u64, T>,
    groups: BTreeMap<Bytes, BTreeMap<u64, T>>,
}

impl<T> Default for Leaf<T> {
    fn default() -> Self {
        Self { plain: BTreeMap::new(), groups: BTreeMap::new() }
    }
}

impl<T> Default for Level<T> {
    fn default() -> Self {
        Self { literal: BTreeMap::new(), any: None, rest: Leaf::default() }
    }
}

impl<T> Default for Branch<T> {
    fn default() -> Self {
        Self { leaf: Leaf::default(), next: Level::default() }
    }
}

impl<T> Default for Sublist<T> {
    fn default() -> Self {
        Self { root: Level::default(), len: 0 }
    }
}

impl<T> Leaf<T> {
    fn is_empty(&self) -> bool {
        self.plain.is_empty() && self.groups.is_empty()
    }

    fn insert(&mut self, queue: Option<&Bytes>, id: u64, value: T) -> Option<T> {
        match queue {
            None => self.plain.insert(id, value),
            Some(queue) => self.groups.entry(queue.clone()).or_default().insert(id, value),
        }
    }

    fn remove(&mut self, queue: Option<&Bytes>, id: u64) -> Option<T> {
        let Some(queue) = queue else { return self.plain.remove(&id) };
        let group = self.groups.get_mut(queue)?;
        let removed = group.remove(&id);
        if group.is_empty() {
            self.groups.remove(queue);
        }
        removed
    }

    fn visit<'a>(&'a self, each: &mut impl FnMut(Option<&'a Bytes>, u64, &'a T)) {
        for (id, value) in &self.plain {
            each(None, *id, value);
        }
        for (queue, group) in &self.groups {
            for (id, value) in group {
                each(Some(queue), *id, value);
            }
        }
    }
}

impl<T> Level<T> {
    fn is_empty(&self) -> bool {
        self.literal.is_empty() && self.any.is_none() && self.rest.is_empty()
    }

    /// The leaf of the filter with these tokens, made if it is missing.
    fn leaf<'f>(&mut self, mut filter: impl Iterator<Item = &'f [u8]>) -> &mut Leaf<T> {
        let (mut level, mut last) = (self, filter.next());
        loop {
            let branch = match last {
                None | Some(b">") => return &mut level.rest,
                Some(b"*") => level.any.get_or_insert_default().as_mut(),
                Some(token) => {
                    if !level.literal.contains_key(token) {
                        level.literal.insert(token.into(), Branch::default());
                    }
                    level.literal.get_mut(token).expect("it was inserted above if it was missing")
                }
            };
            last = filter.next();
            if last.is_none() {
                return &mut branch.leaf;
            }
            level = &mut branch.next;
        }
    }

    /// Removes below this level, and branches that are empty then.
    fn remove(&mut self, filter: &[&[u8]], queue: Option<&Bytes>, id: u64) -> Option<T> {
        let (token, after) = filter.split_first()?;
        match *token {
            b">" => self.rest.remove(queue, id),
            b"*" => {
                let branch = self.any.as_mut()?;
                let removed = branch.remove(after, queue, id);
                if branch.is_empty() {
                    self.any = None;
                }
                removed
            }
            token => {
                let branch = self.literal.get_mut(token)?;
                let removed = branch.remove(after, queue, id);
                if branch.is_empty() {
                    self.literal.remove(token);
                }
                removed
            }
        }
    }

    fn visit<'a>(&'a self, subject: &[&[u8]], each: &mut impl FnMut(Option<&'a Bytes>, u64, &'a T)) {
        let [token, after @ ..] = subject else { return };
        self.rest.visit(each);
        for branch in self.any.as_deref().into_iter().chain(self.literal.get(*token)) {
            if after.is_empty() {
                branch.leaf.visit(each);
            } else {
                branch.next.visit(after, each);
            }
        }
    }
}

impl<T> Branch<T> {
    fn is_empty(&self) -> bool {
        self.leaf.is_empty() && self.next.is_empty()
    }

    fn remove(&mut self, after: &[&[u8]], queue: Option<&Bytes>, id: u64) -> Option<T> {
        if after.is_empty() { self.leaf.remove(queue, id) } else { self.next.remove(after, queue, id) }
    }
}

impl<T> Sublist<T> {
    /// How many subscriptions there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds a subscription, or replaces the one with the same filter, queue
    /// and id, which is returned.
    pub fn insert(&mut self, filter: &[u8], queue: Option<&Bytes>, id: u64, value: T) -> Option<T> {
        let replaced = self.root.leaf(tokens(filter)).insert(queue, id, value);
        self.len += usize::from(replaced.is_none());
        replaced
    }

    /// Removes the subscription, if it is there.
    pub fn remove(&mut self, filter: &[u8], queue: Option<&Bytes>, id: u64) -> Option<T> {
        let tokens: Vec<&[u8]> = tokens(filter).collect();
        let removed = self.root.remove(&tokens, queue, id);
        self.len -= usize::from(removed.is_some());
        removed
    }

    /// Calls `each` for every subscription whose filter matches `subject`,
    /// in an order that depends on nothing but the subscriptions.
    pub fn visit<'a>(&'a self, subject: &[u8], mut each: impl FnMut(Option<&'a Bytes>, u64, &'a T)) {
        let tokens: Vec<&[u8]> = tokens(subject).collect();
        self.root.visit(&tokens, &mut each);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use trine_types::subject::matches;

    type Entry = (String, Option<&'static str>, u64);

    fn found(list: &Sublist<u64>, subject: &str) -> Vec<(Option<Bytes>, u64)> {
        let mut found = Vec::new();
        list.visit(subject.as_bytes(), |queue, id, value| {
            assert_eq!(id, *value);
            found.push((queue.cloned(), id));
        });
        found.sort();
        found
    }

    #[test]
    fn an_emptied_list_keeps_no_branches() {
        let mut list = Sublist::default();
        let queue = Bytes::from_static(b"q");
        for (id, filter) in [(1, "a.b.c"), (2, "a.*.c"), (3, "a.>"), (4, ">"), (5, "*")] {
            assert_eq!(list.insert(filter.as_bytes(), Some(&queue), id, id), None);
        }
        assert_eq!(found(&list, "a.b.c").len(), 4);
        assert_eq!(list.insert(b"*", Some(&queue), 5, 5), Some(5));
        assert_eq!(list.remove(b"*", None, 5), None, "it is in a group");
        assert_eq!(list.remove(b"a.b", Some(&queue), 1), None);
        for (id, filter) in [(1, "a.b.c"), (2, "a.*.c"), (3, "a.>"), (4, ">"), (5, "*")] {
            assert_eq!(list.remove(filter.as_bytes(), Some(&queue), id), Some(id));
        }
        assert!(list.is_empty() && list.root.is_empty());
    }

    fn filter() -> impl Strategy<Value = String> {
        let token = prop_oneof![4 => "[abc]", 1 => Just("*".to_owned())];
        (prop::collection::vec(token, 1..4), any::<bool>()).prop_map(|(mut tokens, rest)| {
            tokens.extend(rest.then(|| ">".to_owned()));
            tokens.join(".")
        })
    }

    fn entry() -> impl Strategy<Value = Entry> {
        let queue = prop_oneof![Just(None), Just(Some("p")), Just(Some("q"))];
        (filter(), queue, 0..6_u64)
    }

    proptest! {
        #[test]
        fn agrees_with_trying_every_filter(
            steps in prop::collection::vec((entry(), prop::bool::weighted(0.7)), 0..60),
            subjects in prop::collection::vec("[abc](\\.[abc]){0,3}", 1..12),
        ) {
            let (mut list, mut model) = (Sublist::default(), std::collections::BTreeSet::new());
            for ((filter, queue, id), add) in steps {
                let name = queue.map(|name| Bytes::from_static(name.as_bytes()));
                if add {
                    let replaced = list.insert(filter.as_bytes(), name.as_ref(), id, id).is_some();
                    prop_assert_eq!(replaced, !model.insert((filter, name, id)));
                } else {
                    let removed = list.remove(filter.as_bytes(), name.as_ref(), id).is_some();
                    prop_assert_eq!(removed, model.remove(&(filter, name, id)));
                }
                prop_assert_eq!(list.len(), model.len());
            }
            for subject in subjects {
                let mut expected: Vec<_> = model
                    .iter()
                    .filter(|(filter, ..)| matches(filter.as_bytes(), subject.as_bytes()))
                    .map(|(_, queue, id)| (queue.clone(), *id))
                    .collect();
                expected.sort();
                prop_assert_eq!(found(&list, &subject), expected);
            }
        }
    }
}
