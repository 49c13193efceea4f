//! Who is next: the highest priority; within it the user whose dominant share
//! (the larger of its shares of all cores and of all memory), divided by its
//! weight, is smallest; of that user the oldest job. Jobs whose tasks need the
//! same are one entry, so that a pull looks at needs, not at jobs.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::facts::Slots;
use crate::spec::JobId;

/// A user's number within the scheduler.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct UserId(u32);

/// A whole cluster's worth of share.
const WHOLE: u128 = 1 << 48;

/// Users, what they use, and which of their jobs have tasks that wait.
#[derive(Debug, Default)]
pub struct Shares {
    names: BTreeMap<String, UserId>,
    users: BTreeMap<UserId, User>,
    next: u32,
    levels: BTreeMap<Reverse<i32>, Level>,
    total: Slots,
}

#[derive(Debug)]
struct User {
    name: String,
    weights: BTreeMap<JobId, u32>,
    weight: u32,
    used: Slots,
    share: u64,
    levels: BTreeSet<Reverse<i32>>,
}

/// Jobs of one priority.
#[derive(Debug, Default)]
struct Level {
    order: BTreeSet<(u64, UserId)>,
    ready: BTreeMap<UserId, BTreeMap<Slots, BTreeSet<JobId>>>,
}

impl Shares {
    /// Notes a job of `name`.
    pub fn join(&mut self, name: &str, job: JobId, weight: u32) -> UserId {
        let id = if let Some(id) = self.names.get(name) {
            *id
        } else {
            let id = UserId(self.next);
            self.next = self.next.wrapping_add(1);
            self.names.insert(name.to_owned(), id);
            let user = User {
                name: name.to_owned(),
                weights: BTreeMap::new(),
                weight: 1,
                used: Slots::NONE,
                share: 0,
                levels: BTreeSet::new(),
            };
            self.users.insert(id, user);
            id
        };
        self.change(id, |user| {
            user.weights.insert(job, weight.max(1));
            user.weight = user.weight.max(weight);
        });
        id
    }

    /// Forgets a job, which must not be ready nor use anything any more.
    pub fn leave(&mut self, id: UserId, job: JobId) {
        self.change(id, |user| {
            user.weights.remove(&job);
            user.weight = user.weights.values().copied().max().unwrap_or(1);
        });
        if self.users.get(&id).is_some_and(|user| user.weights.is_empty())
            && let Some(user) = self.users.remove(&id)
        {
            self.names.remove(&user.name);
        }
    }

    /// The job has tasks that may be granted.
    pub fn ready(&mut self, id: UserId, priority: i32, need: Slots, job: JobId) {
        let Some(user) = self.users.get_mut(&id) else { return };
        let level = self.levels.entry(Reverse(priority)).or_default();
        level.ready.entry(id).or_default().entry(need).or_default().insert(job);
        if user.levels.insert(Reverse(priority)) {
            level.order.insert((user.share, id));
        }
    }

    /// It has none any more.
    pub fn done(&mut self, id: UserId, priority: i32, need: Slots, job: JobId) {
        let Some(level) = self.levels.get_mut(&Reverse(priority)) else { return };
        let Some(needs) = level.ready.get_mut(&id) else { return };
        if let Some(jobs) = needs.get_mut(&need) {
            jobs.remove(&job);
            if jobs.is_empty() {
                needs.remove(&need);
            }
        }
        if needs.is_empty() {
            level.ready.remove(&id);
            if let Some(user) = self.users.get_mut(&id) {
                level.order.remove(&(user.share, id));
                user.levels.remove(&Reverse(priority));
            }
        }
        if level.order.is_empty() {
            self.levels.remove(&Reverse(priority));
        }
    }

    /// The user got slots. A task that needs none counts as a thousandth of a
    /// core, so that such tasks are shared fairly, too.
    pub fn charge(&mut self, id: UserId, need: Slots) {
        self.change(id, |user| user.used = user.used.plus(cost(need)));
    }

    /// The user gave slots back.
    pub fn refund(&mut self, id: UserId, need: Slots) {
        self.change(id, |user| user.used = user.used.minus(cost(need)));
    }

    /// The cluster has become larger or smaller.
    pub fn resize(&mut self, total: Slots) {
        if self.total == total {
            return;
        }
        self.total = total;
        let ids: Vec<UserId> = self.users.keys().copied().collect();
        for id in ids {
            self.change(id, |_| ());
        }
    }

    /// All slots of all workers.
    pub const fn total(&self) -> Slots {
        self.total
    }

    /// Does any job have a task that may be granted?
    pub fn any_ready(&self) -> bool {
        !self.levels.is_empty()
    }

    /// The job whose turn it is among those that fit into `room` and that
    /// `accept`, with its priority.
    pub fn first_fit(&self, room: Slots, accept: impl Fn(JobId) -> bool) -> Option<(i32, JobId)> {
        for (Reverse(priority), level) in &self.levels {
            for (_, user) in &level.order {
                let Some(needs) = level.ready.get(user) else { continue };
                let fitting = needs.iter().filter(|(need, _)| room.fits(**need));
                let oldest = fitting.filter_map(|(_, jobs)| jobs.iter().copied().find(|job| accept(*job)));
                if let Some(job) = oldest.min() {
                    return Some((*priority, job));
                }
            }
        }
        None
    }

    /// The job whose turn it is on a worker of `whole` slots, if there is no
    /// room for it now. One that waits for something named, which others may
    /// hold for long, waits beside them: it does not keep the worker from the
    /// rest.
    pub fn without_room(&self, room: Slots, whole: Slots, accept: impl Fn(JobId) -> bool) -> Option<JobId> {
        for level in self.levels.values() {
            for (_, user) in &level.order {
                let needs = level.ready.get(user).into_iter().flatten();
                let fitting = needs.filter(|(need, _)| whole.fits(**need) && room.named.fits(&need.named));
                let first = fitting
                    .filter_map(|(need, jobs)| Some((*jobs.iter().find(|job| accept(**job))?, need)))
                    .min();
                if let Some((job, need)) = first {
                    return (!room.fits(*need)).then_some(job);
                }
            }
        }
        None
    }

    fn change(&mut self, id: UserId, change: impl FnOnce(&mut User)) {
        let Some(user) = self.users.get_mut(&id) else { return };
        change(user);
        let share = dominant(user, self.total);
        if share == user.share {
            return;
        }
        for level in &user.levels {
            if let Some(level) = self.levels.get_mut(level) {
                level.order.remove(&(user.share, id));
                level.order.insert((share, id));
            }
        }
        user.share = share;
    }
}

fn cost(need: Slots) -> Slots {
    Slots { cpu_milli: need.cpu_milli.max(1), ..need }
}

/// One division for share and weight together, so that three tasks of a user
/// of weight three are exactly one task of a user of weight one.
fn dominant(user: &User, total: Slots) -> u64 {
    let weight = u128::from(user.weight.max(1));
    let part =
        |used: u64, whole: u64| u128::from(used).saturating_mul(WHOLE) / (u128::from(whole.max(1)) * weight);
    let larger = part(user.used.cpu_milli, total.cpu_milli)
        .max(part(user.used.memory_bytes, total.memory_bytes.max(user.used.memory_bytes)));
    u64::try_from(larger).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::{Shares, Slots};
    use crate::spec::JobId;

    const CORE: Slots = Slots::cores(1, 0);

    #[test]
    fn weights_and_priorities_order_users() {
        let mut shares = Shares::default();
        shares.resize(Slots::cores(12, 0));
        let small = shares.join("small", JobId(1), 1);
        let large = shares.join("large", JobId(2), 3);
        shares.ready(small, 0, CORE, JobId(1));
        shares.ready(large, 0, CORE, JobId(2));
        let mut served = [0, 0];
        for _ in 0..12 {
            let (_, job) = shares.first_fit(CORE, |_| true).expect("both have work");
            served[usize::from(job == JobId(2))] += 1;
            shares.charge(if job == JobId(2) { large } else { small }, CORE);
        }
        assert_eq!(served, [3, 9]);
        shares.ready(small, 1, CORE, JobId(1));
        assert_eq!(shares.first_fit(CORE, |_| true), Some((1, JobId(1))));
    }

    #[test]
    fn the_dominant_kind_counts() {
        let mut shares = Shares::default();
        shares.resize(Slots::cores(10, 1000));
        let cores = shares.join("cores", JobId(1), 1);
        let memory = shares.join("memory", JobId(2), 1);
        let lean = Slots::cores(1, 10);
        let fat = Slots::cores(1, 500);
        shares.ready(cores, 0, lean, JobId(1));
        shares.ready(memory, 0, fat, JobId(2));
        shares.charge(memory, fat);
        for _ in 0..5 {
            assert_eq!(shares.first_fit(fat, |_| true), Some((0, JobId(1))), "half of the memory is more");
            shares.charge(cores, lean);
        }
        shares.charge(cores, lean);
        assert_eq!(shares.first_fit(fat, |_| true), Some((0, JobId(2))));
    }

    #[test]
    fn what_does_not_fit_is_passed_over_and_users_without_jobs_are_forgotten() {
        let mut shares = Shares::default();
        let user = shares.join("a", JobId(1), 1);
        shares.join("a", JobId(2), 1);
        shares.ready(user, 0, Slots::cores(8, 0), JobId(1));
        shares.ready(user, 0, CORE, JobId(2));
        assert_eq!(shares.first_fit(CORE, |_| true), Some((0, JobId(2))));
        assert_eq!(shares.first_fit(Slots::cores(8, 0), |_| true), Some((0, JobId(1))));
        shares.done(user, 0, CORE, JobId(2));
        shares.done(user, 0, Slots::cores(8, 0), JobId(1));
        assert!(!shares.any_ready());
        shares.leave(user, JobId(1));
        shares.leave(user, JobId(2));
        assert!(shares.users.is_empty() && shares.names.is_empty());
    }
}
