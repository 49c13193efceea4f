//! Which changes of interest count. Pure.
//!
//! The teller numbers the changes of one stream; a stream starts with
//! everything that the teller wants. The hearer takes a change only if it has
//! taken all before it, and says with each answer how far it is. So a teller
//! that hears an unexpected answer starts a new stream, and both agree again,
//! whatever was lost, repeated or forgotten in between.

/// How far a hearer is: the stream and how many of its changes it took.
/// Stream 0 means that it knows nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// A random number of the teller's, never 0.
    pub stream: u64,
    /// Changes so far.
    pub changes: u64,
}

/// The side that tells what it wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Teller {
    told: Position,
}

impl Teller {
    /// Whether it has to start a stream before it tells anything.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        self.told.stream == 0
    }

    /// Where the next change stands.
    #[must_use]
    pub fn position(&self) -> Position {
        self.told
    }

    /// Starts a stream.
    pub fn start(&mut self, stream: u64) {
        self.told = Position { stream: stream.max(1), changes: 0 };
    }

    /// Another change was told.
    pub fn tell(&mut self) {
        self.told.changes += 1;
    }

    /// The flow broke: nothing is told until the next start.
    pub fn silence(&mut self) {
        self.told = Position::default();
    }

    /// Whether the hearer's answer to a frame that ended at `sent` is what it
    /// should be. Answers about earlier streams say nothing.
    #[must_use]
    pub fn agrees(&self, sent: Position, heard: Position) -> bool {
        sent.stream != self.told.stream || sent == heard
    }
}

/// The side that hears what the other wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hearer {
    heard: Position,
}

impl Hearer {
    /// How far it is.
    #[must_use]
    pub fn position(&self) -> Position {
        self.heard
    }

    /// A stream starts: forget what the teller wanted before.
    pub fn start(&mut self, stream: u64) {
        self.heard = Position { stream, changes: 0 };
    }

    /// Whether the change at `at` is the next one, to be taken now.
    pub fn take(&mut self, at: Position) -> bool {
        let next = at == self.heard;
        self.heard.changes += u64::from(next);
        next
    }

    /// What the teller wants was forgotten.
    pub fn forget(&mut self) {
        self.heard = Position::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeSet, VecDeque};

    /// One frame: where it stands, whether it starts a stream, its changes.
    type Sent = (Position, bool, Vec<(u8, bool)>);

    #[derive(Default)]
    struct Model {
        teller: Teller,
        hearer: Hearer,
        wants: BTreeSet<u8>,
        believed: BTreeSet<u8>,
        streams: u64,
        flow: VecDeque<Sent>,
    }

    impl Model {
        fn start(&mut self) {
            self.streams += 1;
            self.teller.start(self.streams);
            let changes: Vec<_> = self.wants.iter().map(|want| (*want, true)).collect();
            self.push(true, changes);
        }

        fn push(&mut self, starts: bool, changes: Vec<(u8, bool)>) {
            let at = self.teller.position();
            for _ in &changes {
                self.teller.tell();
            }
            self.flow.push_back((at, starts, changes));
        }

        fn change(&mut self, what: u8, wanted: bool) {
            if wanted {
                self.wants.insert(what)
            } else {
                self.wants.remove(&what)
            };
            if !self.teller.is_silent() {
                self.push(false, vec![(what, wanted)]);
            }
        }

        fn arrive(&mut self) {
            let Some((mut at, starts, changes)) = self.flow.pop_front() else { return };
            if starts {
                self.hearer.start(at.stream);
                self.believed.clear();
            }
            for (what, wanted) in changes {
                if self.hearer.take(at) {
                    if wanted {
                        self.believed.insert(what)
                    } else {
                        self.believed.remove(&what)
                    };
                }
                at.changes += 1;
            }
            if !self.teller.agrees(at, self.hearer.position()) {
                self.teller.silence();
            }
        }
    }

    proptest! {
        #[test]
        fn both_agree_again_whatever_was_lost(steps in prop::collection::vec((0..7_u8, 0..5_u8), 0..120)) {
            let mut model = Model::default();
            for (step, what) in steps {
                match step {
                    0 => model.change(what, true),
                    1 => model.change(what, false),
                    2 | 3 => model.arrive(),
                    4 => { model.flow.pop_front(); }
                    5 => { model.hearer.forget(); model.believed.clear(); }
                    _ => if model.teller.is_silent() { model.start() },
                }
            }
            // The network is fine from now on; an empty frame is a beat.
            for _ in 0..4 {
                if model.teller.is_silent() { model.start() } else { model.push(false, vec![]) }
                while !model.flow.is_empty() { model.arrive(); }
            }
            prop_assert!(!model.teller.is_silent());
            prop_assert_eq!(model.wants, model.believed);
        }
    }
}
