//! The rules: what each command does to a database. Pure: arguments and
//! entries in, a reply and changed rows out; time comes with the space.

pub mod chores;
pub mod expiry;
pub mod keys;
pub mod number;
pub mod once;
pub mod set;
pub mod text;
pub mod transaction;
pub mod walk;

#[cfg(test)]
mod model;
#[cfg(test)]
pub(crate) mod stories;
