//! The surfaces of a node that clients reach over the network: how each is
//! encrypted, and what the settings allow it beyond loopback.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use trine_front::tls::TlsError;
use trine_front::{Exposure, TlsAcceptor, TlsSettings, TlsSource};

use crate::config::ConfigError;

/// The Redis door.
pub const REDIS: &str = "redis";
/// The NATS door.
pub const NATS: &str = "nats";
/// NATS over WebSocket.
pub const WEBSOCKET: &str = "websocket";
/// The HTTP interface for administration.
pub const ADMIN: &str = "admin";

/// All surfaces, by their names in the settings.
const ALL: [&str; 4] = [ADMIN, NATS, REDIS, WEBSOCKET];
/// Folder below the data directory with the certificate that a node makes.
const TLS_FOLDER: &str = "tls";
/// What HTTP is called in a TLS handshake.
const HTTP: &[u8] = b"http/1.1";

/// Which surfaces may do beyond loopback what is otherwise refused.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BeyondLoopback {
    /// Speak without TLS.
    pub plain_text: BTreeSet<String>,
    /// Serve anyone while the cluster has no users.
    pub no_users: BTreeSet<String>,
}

/// How each surface is encrypted, by its name.
pub type Encryption = BTreeMap<String, TlsSource>;

/// The settings of all surfaces, checked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Surfaces {
    tls: Encryption,
    beyond: BeyondLoopback,
}

impl Surfaces {
    /// The files of private keys that surfaces are configured with.
    pub fn key_files(&self) -> Vec<PathBuf> {
        let key = |source: &TlsSource| match source {
            TlsSource::Files { key, .. } => Some(key.clone()),
            TlsSource::Automatic => None,
        };
        self.tls.values().filter_map(key).collect()
    }

    /// Checks that only surfaces are named that there are.
    ///
    /// # Errors
    /// The first name that is none.
    pub fn new(tls: Encryption, beyond: BeyondLoopback) -> Result<Self, ConfigError> {
        let named = tls.keys().map(|name| ("tls", name));
        let named = named.chain(beyond.plain_text.iter().map(|name| ("beyond_loopback.plain_text", name)));
        let mut named = named.chain(beyond.no_users.iter().map(|name| ("beyond_loopback.no_users", name)));
        if let Some((key, name)) = named.find(|(_, name)| !ALL.contains(&name.as_str())) {
            let allowed = "a surface is one of admin, nats, redis and websocket";
            return Err(ConfigError::OutOfRange { key, value: name.clone(), allowed });
        }
        Ok(Self { tls, beyond })
    }

    /// What the settings say about listening beyond loopback.
    pub fn exposure(&self, surface: &str) -> Exposure {
        Exposure {
            tls: self.tls.contains_key(surface),
            plain_text_allowed: self.beyond.plain_text.contains(surface),
            no_users_allowed: self.beyond.no_users.contains(surface),
        }
    }

    /// What makes the connections of `surface`, which listens on `address`,
    /// encrypted; `None`: they are plain. `data` is the data directory.
    ///
    /// # Errors
    /// Certificate or key cannot be used.
    pub fn encryption(
        &self,
        surface: &str,
        data: &Path,
        (name, address): (&str, SocketAddr),
    ) -> Result<Option<TlsAcceptor>, TlsError> {
        let Some(source) = self.tls.get(surface) else { return Ok(None) };
        let mut names = vec![name.to_owned()];
        if !address.ip().is_unspecified() {
            names.push(address.ip().to_string());
        }
        let protocols = if surface == ADMIN { vec![HTTP.to_vec()] } else { Vec::new() };
        let settings =
            TlsSettings { source: source.clone(), folder: data.join(TLS_FOLDER), names, protocols };
        TlsAcceptor::open(&settings).map(Some)
    }
}

/// Parses `SURFACE=auto` or `SURFACE=CERTIFICATE,KEY[,CLIENT_CA]`.
///
/// # Errors
/// Says which form is understood.
pub fn parse_tls(text: &str) -> Result<(String, TlsSource), String> {
    let wrong = || format!("`{text}`: write SURFACE=auto or SURFACE=CERTIFICATE,KEY[,CLIENT_CA]");
    let (surface, source) = text.split_once('=').ok_or_else(wrong)?;
    if source.is_empty() {
        return Err(wrong());
    }
    let Ok(source) = source.parse();
    Ok((surface.to_owned(), source))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_surface_that_is_none_is_named() {
        let tls = BTreeMap::from([("reddis".to_owned(), TlsSource::Automatic)]);
        let error = Surfaces::new(tls, BeyondLoopback::default()).expect_err("misspelt").to_string();
        assert!(error.contains("reddis") && error.contains("redis and websocket"), "{error}");
        let beyond = BeyondLoopback { no_users: BTreeSet::from(["all".to_owned()]), ..Default::default() };
        assert!(Surfaces::new(Encryption::new(), beyond).is_err());
    }

    #[test]
    fn what_is_said_of_one_surface_is_said_of_no_other() {
        let tls = BTreeMap::from([parse_tls("redis=auto").expect("the documented form")]);
        let beyond = BeyondLoopback { plain_text: BTreeSet::from([NATS.to_owned()]), ..Default::default() };
        let surfaces = Surfaces::new(tls, beyond).expect("both are surfaces");
        assert_eq!(surfaces.exposure(REDIS), Exposure { tls: true, ..Exposure::default() });
        assert_eq!(surfaces.exposure(NATS), Exposure { plain_text_allowed: true, ..Exposure::default() });
        assert_eq!(surfaces.exposure(ADMIN), Exposure::default());
        assert!(parse_tls("redis").is_err() && parse_tls("redis=").is_err());
    }
}
