//! Accepting connections.

use tokio::task::JoinSet;
use trine_front::{Listener, TlsAcceptor};

use super::connection;
use crate::handle::Database;

/// What a connection over the limit is sent, to be given to the listener.
pub const TOO_MANY_CONNECTIONS: &[u8] = b"-ERR max number of clients reached\r\n";

impl Database {
    /// Serves the connections of `listener`, encrypted if `tls` is there, until [`Database::shut_down`];
    /// returns when the last one has ended. Dropping the future ends all of
    /// them at once.
    pub async fn serve(self, listener: Listener, tls: Option<TlsAcceptor>) {
        let mut shutdown = self.shutdown();
        let mut users = self.doorkeeper().login.changes();
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                _ = shutdown.wait_for(|down| *down) => break,
                Ok(()) = users.changed() => self.recheck_clients(),
                Some(_) = connections.join_next(), if !connections.is_empty() => {}
                accepted = listener.accept() => {
                    connections.spawn(connection::run(self.clone(), accepted, tls.clone()));
                }
            }
        }
        drop(listener);
        while connections.join_next().await.is_some() {}
    }
}
