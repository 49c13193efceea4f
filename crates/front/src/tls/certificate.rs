//! Certificate and key: from PEM files, or made by the node for itself and
//! kept in its data directory, the key readable by its owner only.
//!
//! A certificate that the node makes is signed by itself. Clients are given
//! `certificate.pem` as the authority to trust (`--cacert`), and check with it
//! that they talk to this very node.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::{Deserialize, Deserializer};

use super::{TlsError, TlsSettings};

/// Name of the certificate that a node makes for itself.
pub const CERTIFICATE_FILE: &str = "certificate.pem";
/// Name of its key.
pub const KEY_FILE: &str = "key.pem";
/// Every such certificate is good for these.
const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "::1"];
/// What stands before the names in the first line of its file.
const NAMES: &str = "for: ";
/// Read and write: the owner.
const OWNER_ONLY: u32 = 0o600;
/// Largest PEM file that is read.
const MAX_PEM_BYTES: u64 = 1 << 20;

/// Where certificate and key come from. As text: `auto`, or the files
/// `CERTIFICATE,KEY[,CLIENT_CA]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TlsSource {
    /// The node makes them.
    Automatic,
    /// Files in PEM form.
    Files {
        /// The certificate, followed by those between it and its authority.
        certificate: PathBuf,
        /// Its key.
        key: PathBuf,
        /// With it, only clients with a certificate of this authority may
        /// connect.
        client_ca: Option<PathBuf>,
    },
}

impl<'de> Deserialize<'de> for TlsSource {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Ok(source) = String::deserialize(deserializer)?.parse();
        Ok(source)
    }
}

impl FromStr for TlsSource {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        if text == "auto" {
            return Ok(Self::Automatic);
        }
        let mut files = text.splitn(3, ',').map(PathBuf::from);
        let certificate = files.next().unwrap_or_default();
        // One file may hold both.
        let key = files.next().unwrap_or_else(|| certificate.clone());
        Ok(Self::Files { certificate, key, client_ca: files.next() })
    }
}

impl fmt::Display for TlsSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Automatic => f.write_str("auto"),
            Self::Files { certificate, key, client_ca } => {
                write!(f, "{},{}", certificate.display(), key.display())?;
                client_ca.as_ref().map_or(Ok(()), |authority| write!(f, ",{}", authority.display()))
            }
        }
    }
}

/// Certificate and key, read.
pub(super) struct Pair {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
    pub(super) client_ca: Option<Vec<CertificateDer<'static>>>,
}

/// Reads what the settings name, or makes it.
pub(super) fn obtain(settings: &TlsSettings) -> Result<Pair, TlsError> {
    match &settings.source {
        TlsSource::Automatic => {
            let certificate = settings.folder.join(CERTIFICATE_FILE);
            let key = settings.folder.join(KEY_FILE);
            let names = names(&settings.names);
            if !is_for(&certificate, &names) || !key.exists() {
                make(&settings.folder, &names)?;
            }
            read_pair(&certificate, &key, None)
        }
        TlsSource::Files { certificate, key, client_ca } => read_pair(certificate, key, client_ca.as_deref()),
    }
}

fn names(more: &[String]) -> BTreeSet<String> {
    LOOPBACK.iter().map(|&name| name.to_owned()).chain(more.iter().cloned()).collect()
}

/// Whether the certificate at `path` is good for all of `names`.
fn is_for(path: &Path, names: &BTreeSet<String>) -> bool {
    let text = fs::read_to_string(path).unwrap_or_default();
    let Some(line) = text.lines().next().and_then(|line| line.strip_prefix(NAMES)) else { return false };
    let known: BTreeSet<&str> = line.split(' ').collect();
    names.iter().all(|name| known.contains(name.as_str()))
}

/// A certificate that is signed by itself, and its key, both as PEM: for a
/// surface that lives shorter than a node, or elsewhere.
///
/// # Errors
/// [`TlsError::Make`].
pub fn self_signed(names: &[String]) -> Result<(String, String), TlsError> {
    generate(names).map_err(|error| TlsError::Make(error.to_string()))
}

fn generate(names: &[String]) -> Result<(String, String), rcgen::Error> {
    let key = rcgen::KeyPair::generate()?;
    let mut parameters = rcgen::CertificateParams::new(names)?;
    // Clients look authorities up by name: those of several nodes have to have
    // different ones to be trusted together. The key's first bytes differ.
    let print =
        key.public_key_raw().iter().skip(1).take(8).fold(0_u64, |all, &byte| (all << 8) | u64::from(byte));
    parameters.distinguished_name.push(rcgen::DnType::CommonName, format!("trine {print:016x}"));
    Ok((parameters.self_signed(&key)?.pem(), key.serialize_pem()))
}

fn make(folder: &Path, names: &BTreeSet<String>) -> Result<(), TlsError> {
    let names: Vec<String> = names.iter().cloned().collect();
    let (certificate, key) = self_signed(&names)?;
    fs::create_dir_all(folder).map_err(|source| TlsError::File { path: folder.to_owned(), source })?;
    // The key first: a certificate without its key would be taken for whole.
    replace(&folder.join(KEY_FILE), &key)?;
    let text = format!("{NAMES}{}\n{}", names.join(" "), certificate);
    replace(&folder.join(CERTIFICATE_FILE), &text)
}

/// Writes a file whole, readable by its owner only.
fn replace(path: &Path, text: &str) -> Result<(), TlsError> {
    let write = || -> io::Result<()> {
        let fresh = path.with_extension("new");
        // One that a crash left behind may have other permissions.
        let _ = fs::remove_file(&fresh);
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(OWNER_ONLY).open(&fresh)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&fresh, path)
    };
    write().map_err(|source| TlsError::File { path: path.to_owned(), source })
}

fn read_pair(certificate: &Path, key: &Path, client_ca: Option<&Path>) -> Result<Pair, TlsError> {
    let of_key = fs::metadata(key).map_err(|source| TlsError::File { path: key.to_owned(), source })?;
    let mode = of_key.permissions().mode() & 0o777;
    // A group may be given the right to read, as Debian's ssl-cert is.
    if mode & 0o027 != 0 {
        return Err(TlsError::ReadableKey { path: key.to_owned(), mode });
    }
    let text = read(key)?;
    let wanted = |path: &Path, wanted| TlsError::Pem { path: path.to_owned(), wanted };
    Ok(Pair {
        chain: certificates(certificate)?,
        key: PrivateKeyDer::from_pem_slice(&text).map_err(|_| wanted(key, "private key"))?,
        client_ca: client_ca.map(certificates).transpose()?,
    })
}

pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let found = found.ok().filter(|found| !found.is_empty());
    found.ok_or_else(|| TlsError::Pem { path: path.to_owned(), wanted: "certificate" })
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let failed = |source| TlsError::File { path: path.to_owned(), source };
    let length = fs::metadata(path).map_err(failed)?.len();
    if length > MAX_PEM_BYTES {
        return Err(failed(io::Error::other("it is too large for a PEM file")));
    }
    fs::read(path).map_err(failed)
}
