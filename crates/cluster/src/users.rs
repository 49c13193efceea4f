//! Users: who may log in, by which proofs, with which rights. A user's number
//! and epoch stand for its logins: a login under another number or an older
//! epoch is void.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use trine_types::Rights;
use trine_types::rights::MAX_RULES;

use crate::passwords::PasswordHash;

/// Most users of a cluster.
pub const MAX_USERS: usize = 1_000;
/// Longest name, in bytes.
pub const MAX_NAME_BYTES: usize = 63;
/// Most passwords of one user: a second one while the first is replaced.
pub const MAX_PASSWORDS: usize = 4;
/// Most nkeys of one user.
pub const MAX_NKEYS: usize = 8;
/// The user that a connection without a credential is. If there is no such
/// user, it may come in as long as there are no users at all.
pub const DEFAULT_USER: &str = "default";

/// What a user is, but for what the cluster counts.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct UserSpec {
    /// It may log in.
    pub enabled: bool,
    /// Any password is right, and none is needed.
    pub open: bool,
    /// Its passwords.
    pub passwords: Vec<PasswordHash>,
    /// Public Ed25519 keys by which it proves itself.
    pub nkeys: BTreeSet<[u8; 32]>,
    /// What it may do.
    pub rights: Rights,
}

/// One user.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct UserRow {
    /// Never given to another user or token.
    pub number: u64,
    /// Counts the times that its logins were made void.
    pub epoch: u64,
    /// Counts its changes.
    pub revision: u64,
    /// State time of its addition.
    pub added_ms: u64,
    /// State time of its last change.
    pub changed_ms: u64,
    /// What it is.
    pub spec: UserSpec,
}

/// The users, by name.
pub type Users = BTreeMap<String, UserRow>;

/// What a change of a user is based on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Based {
    /// There is no user of this name.
    New,
    /// The user has this number and revision.
    On {
        /// Its number.
        number: u64,
        /// Its revision.
        revision: u64,
    },
}

/// Why a user was not changed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, thiserror::Error)]
pub enum UserRefused {
    /// There is none.
    #[error("there is no user {0:?}")]
    None(String),
    /// There is one.
    #[error("there is a user {0:?} already")]
    Exists(String),
    /// Somebody else changed it first: look again.
    #[error("the user {0:?} was changed by somebody else at the same time: try again")]
    Outdated(String),
    /// The name cannot be a user's.
    #[error("a user's name has 1 to {MAX_NAME_BYTES} bytes, no spaces and nothing invisible")]
    BadName,
    /// Too many users.
    #[error("there are {MAX_USERS} users, which is the most there can be")]
    TooMany,
    /// Too many proofs.
    #[error("a user has at most {MAX_PASSWORDS} passwords and {MAX_NKEYS} nkeys")]
    TooManyProofs,
    /// Too many rules.
    #[error("a user or token has at most {MAX_RULES} rules")]
    TooManyRules,
}

/// Whether a user or token may be called this.
pub fn is_user_name(name: &str) -> bool {
    let fits = !name.is_empty() && name.len() <= MAX_NAME_BYTES;
    fits && !name.chars().any(|c| c.is_whitespace() || c.is_control())
}

/// Adds or replaces a user. With `cut`, its logins so far become void.
///
/// # Errors
/// [`UserRefused`]; nothing has changed.
pub fn put(
    users: &mut Users,
    (name, spec): (String, UserSpec),
    (based, cut): (Based, bool),
    (number, now_ms): (u64, u64),
) -> Result<(), UserRefused> {
    if !is_user_name(&name) {
        return Err(UserRefused::BadName);
    }
    if spec.passwords.len() > MAX_PASSWORDS || spec.nkeys.len() > MAX_NKEYS {
        return Err(UserRefused::TooManyProofs);
    }
    if spec.rights.rules() > MAX_RULES {
        return Err(UserRefused::TooManyRules);
    }
    let room = users.len() < MAX_USERS;
    match (users.get_mut(&name), based) {
        (None, Based::New) if !room => Err(UserRefused::TooMany),
        (None, Based::New) => {
            let row = UserRow { number, epoch: 0, revision: 0, added_ms: now_ms, changed_ms: now_ms, spec };
            users.insert(name, row);
            Ok(())
        }
        (None, Based::On { .. }) => Err(UserRefused::None(name)),
        (Some(_), Based::New) => Err(UserRefused::Exists(name)),
        (Some(row), Based::On { number, revision }) => {
            if (row.number, row.revision) != (number, revision) {
                return Err(UserRefused::Outdated(name));
            }
            row.revision += 1;
            row.epoch += u64::from(cut);
            row.changed_ms = now_ms;
            row.spec = spec;
            Ok(())
        }
    }
}

/// Removes a user.
///
/// # Errors
/// There is none.
pub fn remove(users: &mut Users, name: &str) -> Result<(), UserRefused> {
    users.remove(name).map(drop).ok_or_else(|| UserRefused::None(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(users: &mut Users, name: &str, number: u64) -> Result<(), UserRefused> {
        let spec = UserSpec { enabled: true, rights: Rights::data(), ..UserSpec::default() };
        put(users, (name.to_owned(), spec), (Based::New, false), (number, 5))
    }

    #[test]
    fn a_change_is_based_on_what_was_seen() {
        let mut users = Users::new();
        add(&mut users, "ann", 3).expect("new");
        assert_eq!(add(&mut users, "ann", 4), Err(UserRefused::Exists("ann".into())));
        let seen = Based::On { number: 3, revision: 0 };
        let change =
            |users: &mut Users, cut| put(users, ("ann".into(), UserSpec::default()), (seen, cut), (9, 8));
        assert_eq!(change(&mut users, true), Ok(()));
        assert_eq!((users["ann"].number, users["ann"].epoch, users["ann"].changed_ms), (3, 1, 8));
        assert_eq!(change(&mut users, true), Err(UserRefused::Outdated("ann".into())));
    }

    #[test]
    fn who_comes_back_under_an_old_name_is_another() {
        let mut users = Users::new();
        add(&mut users, "ann", 3).expect("new");
        remove(&mut users, "ann").expect("there");
        assert_eq!(remove(&mut users, "ann"), Err(UserRefused::None("ann".into())));
        add(&mut users, "ann", 4).expect("new");
        assert_eq!(users["ann"].number, 4);
        let old = Based::On { number: 3, revision: 0 };
        let late = put(&mut users, ("ann".into(), UserSpec::default()), (old, false), (5, 5));
        assert_eq!(late, Err(UserRefused::Outdated("ann".into())));
    }

    #[test]
    fn bounds_are_kept() {
        let mut users = Users::new();
        for bad in ["", "a b", "a\nb", &"x".repeat(64)] {
            assert_eq!(add(&mut users, bad, 1), Err(UserRefused::BadName), "{bad:?}");
        }
        let spec = UserSpec { nkeys: (0..9).map(|n| [n; 32]).collect(), ..UserSpec::default() };
        let refused = put(&mut users, ("ann".into(), spec), (Based::New, false), (1, 1));
        assert_eq!(refused, Err(UserRefused::TooManyProofs));
        for n in 0..MAX_USERS {
            add(&mut users, &format!("user{n}"), n as u64).expect("room");
        }
        assert_eq!(add(&mut users, "one-more", 0), Err(UserRefused::TooMany));
    }
}
