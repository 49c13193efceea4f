//! The answers that a group's leader gets on its streams and to its heartbeats,
//! for the reads that need them.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

use crate::proof::{Proof, Turn};

/// What the voters of one group answered. No task can own it: the streams to
/// all voters, which belong to openraft, write it, and the reader looks at it.
#[derive(Debug, Default)]
pub(crate) struct Acks {
    turns: AtomicU64,
    proof: Mutex<Proof>,
    news: Notify,
}

/// What a read has to wait for.
#[derive(Debug, Clone)]
pub(crate) struct Question {
    /// The node that reads.
    pub(crate) me: u64,
    /// The term that it leads.
    pub(crate) term: u64,
    /// When the read began.
    pub(crate) began: Turn,
    /// Who votes: two sets while they change.
    pub(crate) voters: Vec<BTreeSet<u64>>,
}

impl Acks {
    /// The next message leaves, or a read begins.
    pub(crate) fn turn(&self) -> Turn {
        Turn(self.turns.fetch_add(1, Ordering::SeqCst))
    }

    /// See [`Proof::answered`].
    pub(crate) fn answered(&self, voter: u64, term: u64, sent: Turn) {
        self.proof.lock().unwrap_or_else(PoisonError::into_inner).answered(voter, term, sent);
        self.news.notify_waiters();
    }

    fn holds(&self, question: &Question) -> bool {
        let proof = self.proof.lock().unwrap_or_else(PoisonError::into_inner);
        proof.holds(question.me, question.term, question.began, &question.voters)
    }

    /// Until [`Proof::holds`]: for ever, if nobody answers. Nothing is lost
    /// when this is dropped.
    pub(crate) async fn proven(&self, question: &Question) {
        loop {
            // First, so that no news slips through between look and wait.
            let mut news = std::pin::pin!(self.news.notified());
            news.as_mut().enable();
            if self.holds(question) {
                return;
            }
            news.await;
        }
    }
}
