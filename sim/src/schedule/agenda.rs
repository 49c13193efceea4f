//! What happens when: the earliest first, and of the same moment what was
//! planned first.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// Microseconds of virtual time.
pub type Micros = u64;

/// Events to come.
#[derive(Debug)]
pub struct Agenda<E> {
    heap: BinaryHeap<Entry<E>>,
    now: Micros,
    next: u64,
}

#[derive(Debug)]
struct Entry<E> {
    at: Micros,
    order: u64,
    event: E,
}

impl<E> PartialEq for Entry<E> {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
    }
}

impl<E> Eq for Entry<E> {}

impl<E> PartialOrd for Entry<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Entry<E> {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.order).cmp(&(self.at, self.order))
    }
}

impl<E> Default for Agenda<E> {
    fn default() -> Self {
        Self { heap: BinaryHeap::new(), now: 0, next: 0 }
    }
}

impl<E> Agenda<E> {
    /// The moment of the last event.
    #[must_use]
    pub const fn now(&self) -> Micros {
        self.now
    }

    /// Plans an event, `after` from now.
    pub fn plan(&mut self, after: Micros, event: E) {
        self.heap.push(Entry { at: self.now + after, order: self.next, event });
        self.next += 1;
    }
}

/// Goes to the next event.
impl<E> Iterator for Agenda<E> {
    type Item = E;

    fn next(&mut self) -> Option<E> {
        let entry = self.heap.pop()?;
        self.now = entry.at;
        Some(entry.event)
    }
}

#[cfg(test)]
mod tests {
    use super::Agenda;

    #[test]
    fn in_order_of_time_then_of_planning() {
        let mut agenda = Agenda::default();
        agenda.plan(5, 'c');
        agenda.plan(1, 'a');
        agenda.plan(5, 'd');
        agenda.plan(2, 'b');
        let all: String = agenda.by_ref().collect();
        assert_eq!((all.as_str(), agenda.now()), ("abcd", 5));
    }
}
