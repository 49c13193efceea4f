//! Who is connected to an HTTP door. When there are too many, the oldest of
//! those who have not asked anything yet goes for the newest: who means to ask
//! does so at once, and who only holds a place must not keep others out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::task::AbortHandle;

/// Whether a client has asked anything. Told by its connection, read by the
/// door.
#[derive(Debug, Clone, Default)]
pub struct Asked(Arc<AtomicBool>);

impl Asked {
    /// A whole request has come.
    pub fn note(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_noted(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The open connections, oldest first.
#[derive(Debug, Default)]
pub struct Crowd {
    next: u64,
    open: BTreeMap<u64, (Asked, AbortHandle)>,
}

impl Crowd {
    /// A number for the next connection.
    pub fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Notes a connection, which ends when `end` is told to.
    pub fn enter(&mut self, number: u64, asked: Asked, end: AbortHandle) {
        self.open.insert(number, (asked, end));
    }

    /// A connection has ended by itself.
    pub fn leave(&mut self, number: u64) {
        self.open.remove(&number);
    }

    /// Makes room for one more where at most `most` may be; `false`: all of
    /// them have asked something, and stay.
    pub fn make_room(&mut self, most: usize) -> bool {
        if self.open.len() < most {
            return true;
        }
        let silent = self.open.iter().find(|(_, (asked, _))| !asked.is_noted()).map(|(number, _)| *number);
        let Some((_, end)) = silent.and_then(|number| self.open.remove(&number)) else { return false };
        end.abort();
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_oldest_who_asked_nothing_goes_first() {
        let mut crowd = Crowd::default();
        let mut tasks = Vec::new();
        for number in 0..3 {
            let asked = Asked::default();
            if number == 0 {
                asked.note();
            }
            let task = tokio::spawn(std::future::pending::<()>());
            assert!(crowd.make_room(3));
            let number = crowd.number();
            crowd.enter(number, asked, task.abort_handle());
            tasks.push(task);
        }
        assert!(crowd.make_room(3));
        let mut tasks = tasks.into_iter();
        let (first, second) = (tasks.next().expect("three"), tasks.next().expect("three"));
        assert!(second.await.expect_err("it was ended").is_cancelled() && !first.is_finished());
        assert!(crowd.make_room(3), "there is room now");
        crowd.leave(3);
        assert!(crowd.make_room(2) && !crowd.make_room(1), "who has asked stays");
    }
}
