//! What the door says about itself in `INFO`, at first and whenever it changes.

use serde::Serialize;

/// The release of nats-server whose client protocol is spoken here. Clients
/// take it as the list of what they may use.
pub const PROTOCOL_OF: &str = "2.10.29";

/// All of it, for one connection.
#[derive(Debug, Clone, Serialize)]
pub struct Info<'a> {
    /// The same for every connection.
    #[serde(flatten)]
    pub server: &'a ServerInfo,
    /// What security asks for.
    #[serde(flatten)]
    pub security: Security,
    /// About this connection.
    #[serde(flatten)]
    pub connection: ConnectionInfo<'a>,
    /// What changes while it lives.
    #[serde(flatten)]
    pub topology: &'a Topology,
}

/// The same for every connection of a door.
#[derive(Debug, Clone, Serialize)]
pub struct ServerInfo {
    /// Unique name of this server.
    pub server_id: String,
    /// Name for people.
    pub server_name: String,
    /// See [`PROTOCOL_OF`].
    pub version: &'static str,
    /// Newest protocol of servers.
    pub proto: i64,
    /// Some clients want it there: what the server is built with.
    pub go: &'static str,
    /// Where it listens.
    pub host: String,
    /// Port that it listens on.
    pub port: u16,
    /// Headers are understood.
    pub headers: bool,
    /// Largest message.
    pub max_payload: usize,
    /// Not offered.
    pub jetstream: bool,
    /// Name of the cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
}

/// What a client must show.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[expect(clippy::struct_excessive_bools, reason = "the protocol has them as independent switches")]
pub struct Security {
    /// Credentials.
    #[serde(skip_serializing_if = "is_false")]
    pub auth_required: bool,
    /// TLS.
    #[serde(skip_serializing_if = "is_false")]
    pub tls_required: bool,
    /// A certificate of its own.
    #[serde(skip_serializing_if = "is_false")]
    pub tls_verify: bool,
    /// TLS, if it wants.
    #[serde(skip_serializing_if = "is_false")]
    pub tls_available: bool,
}

/// About one connection.
#[derive(Debug, Clone, Serialize)]
pub struct ConnectionInfo<'a> {
    /// Its number.
    pub client_id: u64,
    /// Where it comes from.
    pub client_ip: &'a str,
    /// To be signed by who has an nkey.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nonce: Option<&'a str>,
}

/// What changes while a door is open.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Topology {
    /// Where else a client may connect.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub connect_urls: Vec<String>,
    /// The same over WebSocket.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ws_connect_urls: Vec<String>,
    /// The door closes soon.
    #[serde(skip_serializing_if = "is_false")]
    pub ldm: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_false(value: &bool) -> bool {
    !*value
}

impl Info<'_> {
    /// As JSON, on one line.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("only strings, numbers and switches")
    }
}

#[cfg(test)]
mod tests {
    use super::{ConnectionInfo, Info, PROTOCOL_OF, Security, ServerInfo, Topology};

    #[test]
    fn it_says_what_clients_ask_for_and_no_more() {
        let server = ServerInfo {
            server_id: "S".into(),
            server_name: "n".into(),
            version: PROTOCOL_OF,
            proto: 1,
            go: "rust",
            host: "127.0.0.1".into(),
            port: 4222,
            headers: true,
            max_payload: 1024,
            jetstream: false,
            cluster: None,
        };
        let topology = Topology { connect_urls: vec!["10.0.0.2:4222".into()], ..Topology::default() };
        let connection = ConnectionInfo { client_id: 3, client_ip: "::1", nonce: None };
        let security = Security { auth_required: true, ..Security::default() };
        let json = Info { server: &server, security, connection, topology: &topology }.to_json();
        let expected = "{\"server_id\":\"S\",\"server_name\":\"n\",\"version\":\"2.10.29\",\"proto\":1,\
            \"go\":\"rust\",\"host\":\"127.0.0.1\",\"port\":4222,\"headers\":true,\"max_payload\":1024,\
            \"jetstream\":false,\"auth_required\":true,\"client_id\":3,\"client_ip\":\"::1\",\
            \"connect_urls\":[\"10.0.0.2:4222\"]}";
        assert_eq!(json, expected);
    }
}
