//! May a surface listen where it was told to? On loopback always; anywhere
//! else only with TLS and with users, unless the settings say otherwise in so
//! many words. Pure.

use std::net::{IpAddr, SocketAddr};

/// What the settings say about one surface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Exposure {
    /// Connections are encrypted.
    pub tls: bool,
    /// It may listen beyond loopback without TLS.
    pub plain_text_allowed: bool,
    /// It may listen beyond loopback while nobody has to log in.
    pub no_users_allowed: bool,
}

/// Why a surface may not listen there. Nothing was opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Exposed {
    /// Without TLS.
    #[error(
        "{surface} would listen on {address} without TLS, so that anyone on the way could read and change what \
         is sent, passwords too: set a certificate (`--tls {surface}=auto` makes one), listen on 127.0.0.1, or \
         accept it with `--allow-plain-text-beyond-loopback {surface}`"
    )]
    PlainText {
        /// Its name in the settings.
        surface: &'static str,
        /// Where.
        address: SocketAddr,
    },
    /// Without users.
    #[error(
        "{surface} would listen on {address} and the cluster has no users, so that anyone could read and change \
         the data: add one first (start on 127.0.0.1, then `trine user add NAME --allow data`), or accept it \
         with `--allow-no-users-beyond-loopback {surface}`"
    )]
    NoUsers {
        /// Its name in the settings.
        surface: &'static str,
        /// Where.
        address: SocketAddr,
    },
}

/// Whether only this machine can come from there.
#[must_use]
pub fn is_local(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

impl Exposure {
    /// May `surface` listen on `address`, as far as what is sent can be seen?
    ///
    /// # Errors
    /// [`Exposed::PlainText`].
    pub fn check_transport(&self, surface: &'static str, address: SocketAddr) -> Result<(), Exposed> {
        if is_local(address.ip()) || self.tls || self.plain_text_allowed {
            return Ok(());
        }
        Err(Exposed::PlainText { surface, address })
    }

    /// May it, as far as who comes in is known? `users`: there are some, or
    /// nobody gets in without a credential.
    ///
    /// # Errors
    /// [`Exposed::NoUsers`].
    pub fn check_users(
        &self,
        surface: &'static str,
        address: SocketAddr,
        users: bool,
    ) -> Result<(), Exposed> {
        if is_local(address.ip()) || users || self.no_users_allowed {
            return Ok(());
        }
        Err(Exposed::NoUsers { surface, address })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(address: &str, exposure: Exposure, users: bool) -> Result<(), Exposed> {
        let address = address.parse().expect("an address");
        exposure.check_transport("redis", address)?;
        exposure.check_users("redis", address, users)
    }

    #[test]
    fn loopback_needs_nothing() {
        for address in ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
            assert_eq!(allowed(address, Exposure::default(), false), Ok(()), "{address}");
        }
    }

    #[test]
    fn beyond_loopback_needs_both_or_words() {
        let tls = Exposure { tls: true, ..Exposure::default() };
        let plain = Exposure { plain_text_allowed: true, ..Exposure::default() };
        let open = Exposure { no_users_allowed: true, ..tls };
        for address in ["0.0.0.0:1", "10.0.0.1:1", "[::]:1", "[2001:db8::1]:1"] {
            let refused = allowed(address, Exposure::default(), true).expect_err("plain text");
            assert!(matches!(refused, Exposed::PlainText { .. }));
            assert!(refused.to_string().contains("--tls redis=auto"), "{refused}");
            let refused = allowed(address, tls, false).expect_err("no users");
            assert!(refused.to_string().contains("trine user add"), "{refused}");
            assert!(allowed(address, plain, false).is_err());
            assert_eq!(allowed(address, tls, true), Ok(()));
            assert_eq!(allowed(address, plain, true), Ok(()));
            assert_eq!(allowed(address, open, false), Ok(()));
        }
    }
}
