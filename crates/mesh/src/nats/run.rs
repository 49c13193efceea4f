//! Tasks of the door: one that accepts, one for each connection.

mod connection;
mod io;
mod serve;
mod websocket;

pub(crate) use connection::Shown;
pub use serve::TOO_MANY_CONNECTIONS;

#[cfg(test)]
mod tests;
