//! The tasks of the database: one per connection, one that accepts, one that
//! sweeps.

mod connection;
#[cfg(test)]
mod golden;
mod lanes;
mod pipeline;
mod serve;
mod sweep;
#[cfg(test)]
mod tests;

pub use serve::TOO_MANY_CONNECTIONS;
