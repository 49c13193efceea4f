//! What a client is told that did something wrong, in nats-server's words,
//! since client libraries look for them.

use std::fmt::Write as _;

use super::parser::ParseError;
use crate::bus::SubscribeError;

/// Something that a client is not let do, or did too late.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// What came is no operation.
    Parse(ParseError),
    /// The subject cannot be published to; only said to pedantic clients.
    InvalidPublishSubject,
    /// The filter cannot be subscribed to.
    InvalidSubject,
    /// No right to publish there.
    Publish(Vec<u8>),
    /// No right to subscribe there.
    Subscribe(Vec<u8>, Option<Vec<u8>>),
    /// One subscription too many.
    MaxSubscriptions,
    /// Wrong or missing credentials.
    Authorization,
    /// No credentials in time.
    AuthTimeout,
    /// The CONNECT is not JSON with the fields that it should have.
    BadConnect,
    /// A protocol that came after us.
    BadProtocol,
    /// `no_responders` without `headers`.
    NoRespondersNeedsHeaders,
    /// No sign of life.
    Stale,
    /// The door is closing.
    Shutdown,
}

impl Refusal {
    /// What the client reads; `None`: nats-server says nothing either.
    pub fn text(&self) -> Option<String> {
        Some(match self {
            // A client that is told why the door closes may not come back.
            Self::Parse(ParseError::Arguments(_)) | Self::BadConnect | Self::Shutdown => return None,
            Self::Parse(error) => error.to_string(),
            Self::InvalidPublishSubject => "Invalid Publish Subject".into(),
            Self::InvalidSubject => "Invalid Subject".into(),
            Self::Publish(subject) => format!("Permissions Violation for Publish to {}", quoted(subject)),
            Self::Subscribe(filter, None) => {
                format!("Permissions Violation for Subscription to {}", quoted(filter))
            }
            Self::Subscribe(filter, Some(queue)) => format!(
                "Permissions Violation for Subscription to {} using queue {}",
                quoted(filter),
                quoted(queue)
            ),
            Self::MaxSubscriptions => "maximum subscriptions exceeded".into(),
            Self::Authorization => "Authorization Violation".into(),
            Self::AuthTimeout => "Authentication Timeout".into(),
            Self::BadProtocol => "invalid client protocol".into(),
            Self::NoRespondersNeedsHeaders => "no responders requires headers support".into(),
            Self::Stale => "Stale Connection".into(),
        })
    }

    /// The bus did not take a subscription.
    pub fn of_bus(error: SubscribeError) -> Self {
        match error {
            SubscribeError::InvalidFilter | SubscribeError::InvalidQueue => Self::InvalidSubject,
            SubscribeError::TooMany => Self::MaxSubscriptions,
        }
    }

    /// Whether the connection ends.
    pub fn closes(&self) -> bool {
        !matches!(
            self,
            Self::InvalidPublishSubject
                | Self::InvalidSubject
                | Self::Publish(_)
                | Self::Subscribe(..)
                | Self::MaxSubscriptions
        )
    }
}

/// In quotes, with what is not printable escaped, so that a client cannot
/// smuggle a line end into its own error.
fn quoted(text: &[u8]) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for byte in text {
        match byte {
            b'"' | b'\\' => {
                out.push('\\');
                out.push(char::from(*byte));
            }
            0x20..0x7f => out.push(char::from(*byte)),
            other => {
                // Writing to a string cannot fail.
                let _ = write!(out, "\\x{other:02x}");
            }
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::Refusal;

    #[test]
    fn the_texts_are_nats_servers() {
        let text = |refusal: Refusal| refusal.text().expect("it says something");
        assert_eq!(text(Refusal::Publish(b"a.b".to_vec())), "Permissions Violation for Publish to \"a.b\"");
        assert_eq!(
            text(Refusal::Subscribe(b"a".to_vec(), Some(b"q".to_vec()))),
            "Permissions Violation for Subscription to \"a\" using queue \"q\""
        );
        assert_eq!(
            text(Refusal::Publish(b"a\r\"\\".to_vec())).split(" to ").nth(1),
            Some("\"a\\x0d\\\"\\\\\"")
        );
    }

    #[test]
    fn a_missing_right_does_not_close_and_a_wrong_password_does() {
        assert!(!Refusal::Publish(Vec::new()).closes());
        assert!(Refusal::Authorization.closes());
    }
}
