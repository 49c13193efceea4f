//! What a client says about itself in `CONNECT`.

use serde::{Deserialize, Deserializer};

/// Newest protocol of clients that we know: 1 has INFO at any time.
pub const PROTOCOL: i64 = 1;

/// Options of a client; what is missing or unknown is as in nats-server.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default)]
#[expect(clippy::struct_excessive_bools, reason = "the protocol has them as independent switches")]
pub struct ConnectOptions {
    /// Wants `+OK` after each operation.
    #[serde(deserialize_with = "or_default")]
    pub verbose: bool,
    /// Wants its subjects checked.
    #[serde(deserialize_with = "or_default")]
    pub pedantic: bool,
    /// Gets its own messages, too.
    #[serde(deserialize_with = "or_default")]
    pub echo: bool,
    /// Understands headers.
    #[serde(deserialize_with = "or_default")]
    pub headers: bool,
    /// Wants to hear at once when nobody receives its requests.
    #[serde(deserialize_with = "or_default")]
    pub no_responders: bool,
    /// Newest protocol that it speaks.
    #[serde(deserialize_with = "or_default")]
    pub protocol: i64,
    /// User name.
    pub user: Option<String>,
    /// Password.
    pub pass: Option<String>,
    /// Token.
    pub auth_token: Option<String>,
    /// Public nkey.
    pub nkey: Option<String>,
    /// The nonce of INFO, signed, as base64.
    pub sig: Option<String>,
    /// Name of the connection.
    pub name: Option<String>,
    /// Language of the client library.
    pub lang: Option<String>,
    /// Version of the client library.
    pub version: Option<String>,
}

impl Default for ConnectOptions {
    /// What holds before CONNECT: somebody types by hand.
    fn default() -> Self {
        Self {
            verbose: true,
            pedantic: true,
            echo: true,
            headers: false,
            no_responders: false,
            protocol: 0,
            user: None,
            pass: None,
            auth_token: None,
            nkey: None,
            sig: None,
            name: None,
            lang: None,
            version: None,
        }
    }
}

/// `null` is as good as nothing.
fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

impl ConnectOptions {
    /// Reads the JSON of a CONNECT.
    ///
    /// # Errors
    /// It is not JSON, or a known field has another type.
    pub fn from_json(json: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(json)
    }
}

#[cfg(test)]
mod tests {
    use super::ConnectOptions;

    #[test]
    fn what_is_missing_is_as_in_nats_server() {
        let options =
            ConnectOptions::from_json(b"{\"user\":null,\"echo\":false,\"new_thing\":[1]}").expect("JSON");
        assert_eq!(options, ConnectOptions { echo: false, ..ConnectOptions::default() });
        assert!(options.verbose && options.pedantic && !options.headers);
    }

    #[test]
    fn another_type_is_refused() {
        assert!(ConnectOptions::from_json(b"{\"verbose\":\"yes\"}").is_err());
        assert!(ConnectOptions::from_json(b"{").is_err());
    }
}
