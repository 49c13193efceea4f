//! TLS over TCP: the transport of the product.
//!
//! TLS 1.3 only (RFC 8446), both sides by raw public key (RFC 7250), Ed25519.
//! The handshake lets any key in; what lets a node in is the greeting after
//! it, which carries the admission certificate and comes before any other
//! byte. A connection is up for the dialler only after the acceptor's
//! greeting: in TLS 1.3 the client's handshake ends before the server has
//! judged the client.
//!
//! | file | what |
//! |---|---|
//! | `keys` | raw public keys for rustls |
//! | `greeting` | the first frame each way |
//! | `socket` | TCP options: how a dead cable is noticed |
//! | `pace` | keeps the bulk lane to its rate |
//! | `stream` | frames over an open session: reading, batched writing |
//! | `dial` | the dialler's handshake, for lanes and for joining |
//! | `admit` | the acceptor's handshake |
//! | `listen` | accepting: bounded handshakes, joiners |
//! | `transport` | [`TlsTransport`] |
//!
//! Strangers are bounded in number and in time: a handshake has a time limit,
//! and when too many are under way the oldest is dropped for the newest, so
//! that silent connections by the thousand keep nobody out.

mod admit;
mod dial;
mod greeting;
mod keys;
mod listen;
mod pace;
mod socket;
mod stream;
mod transport;

pub use transport::TlsTransport;

#[cfg(test)]
mod tests;
