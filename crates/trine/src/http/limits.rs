//! The bounds of an HTTP door.

use std::time::Duration;

use trine_front::Limits;

/// Bounds of one HTTP door. The defaults suit people, scripts and scrapers;
/// nobody needs thousands of connections to ask how a node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpLimits {
    /// Connections at the same time. For one more, the oldest that has not
    /// asked anything yet is closed; if all have, it gets 503.
    pub max_connections: usize,
    /// Bytes of a request's line and headers together; more get 431.
    pub max_header_bytes: usize,
    /// Headers of a request; more get 431.
    pub max_headers: usize,
    /// Bytes of a request's body; more get 413.
    pub max_body_bytes: usize,
    /// How long a client may take to send line and headers, and to stay
    /// silent between two requests; then the connection is closed.
    pub header_limit: Duration,
    /// How long a client may take to send a body; then it gets 408.
    pub body_limit: Duration,
    /// How long an answer may take to be made; then the client gets 504.
    /// Removing a node copies data, hence the length.
    pub answer_limit: Duration,
    /// How long a client may take to read something of what is written to it;
    /// then the connection is closed.
    pub write_limit: Duration,
    /// How long requests that are under way may go on when the door closes.
    pub stop_limit: Duration,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            max_connections: 128,
            max_header_bytes: 16 * 1024,
            max_headers: 64,
            max_body_bytes: 64 * 1024,
            header_limit: Duration::from_secs(5),
            body_limit: Duration::from_secs(5),
            answer_limit: Duration::from_mins(2),
            write_limit: Duration::from_secs(10),
            stop_limit: Duration::from_secs(2),
        }
    }
}

/// Connections that are let in beyond the limit while others go for them.
const AT_THE_DOOR: usize = 16;

impl HttpLimits {
    /// The limits of the listener in front of it.
    #[must_use]
    pub fn of_listener(&self) -> Limits {
        let most = self.max_connections + AT_THE_DOOR;
        Limits { max_connections: most, max_per_source: most, backlog: 128 }
    }
}

/// What a connection over the limit is sent before it is closed.
pub const TOO_MANY_CONNECTIONS: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\n\
content-type: application/json\r\nconnection: close\r\ncontent-length: 95\r\n\r\n\
{\"error\":{\"kind\":\"unavailable\",\"message\":\"too many connections\",\"hint\":\"close some and retry\"}}";

#[cfg(test)]
mod tests {
    use super::TOO_MANY_CONNECTIONS;

    #[test]
    fn the_refusal_says_its_length() {
        let text = std::str::from_utf8(TOO_MANY_CONNECTIONS).expect("plain text");
        let (head, body) = text.split_once("\r\n\r\n").expect("head and body");
        assert!(head.contains(&format!("content-length: {}", body.len())), "{} bytes", body.len());
    }
}
