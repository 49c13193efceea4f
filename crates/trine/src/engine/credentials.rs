//! What proves to an engine that somebody may use it, made anew each time it is
//! brought up: a secret that its parts share, and a certificate that is its own
//! authority. Programs get them as files that only their owner can read.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use trine_front::tls::certificate::self_signed;
use trine_types::Entropy;

use super::kind::Kind;
use crate::failure::Failure;
use crate::seams::OsEntropy;

/// Bytes of a secret.
const SECRET_BYTES: usize = 32;

/// See the module.
pub(super) struct Made {
    pub(super) secret: String,
    certificate: String,
    key: String,
    folder: PathBuf,
}

/// Makes them; the files go to `folder`, or `./trine-ENGINE`.
///
/// # Errors
/// The folder cannot be made.
pub(super) fn make(kind: Kind, folder: Option<&Path>) -> Result<Made, Failure> {
    let folder = folder.map_or_else(|| PathBuf::from(format!("trine-{kind}")), Path::to_path_buf);
    let folder = std::path::absolute(&folder).map_err(Failure::new)?;
    let mut secret = [0; SECRET_BYTES];
    OsEntropy.fill(&mut secret);
    let (certificate, key) = self_signed(&[format!("trine-{kind}")]).map_err(Failure::new)?;
    let made = Made { secret: HEXLOWER.encode(&secret), certificate, key, folder };
    let folder = made.folder.display();
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&made.folder).map_err(|error| {
        Failure::new(format!("{folder} cannot be made: {error}"))
            .hint("name another one with --credentials DIR")
    })?;
    made.write("certificate.pem", &made.certificate)?;
    made.write("key.pem", &made.key)?;
    Ok(made)
}

impl Made {
    /// What the agents get in their environment.
    pub(super) fn for_agents(&self) -> Vec<(String, String)> {
        let certificate = self.certificate.clone();
        vec![
            ("TRINE_ENGINE_CA".into(), certificate.clone()),
            ("TRINE_ENGINE_CERT".into(), certificate),
            ("TRINE_ENGINE_KEY".into(), self.key.clone()),
        ]
    }

    /// Writes the file with the variables that programs need; where it is.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn write_environment(&self, kind: Kind, url: &str) -> Result<PathBuf, Failure> {
        let folder = self.folder.display().to_string();
        let lines = kind.environment(url, &folder, &self.secret);
        let quote = |text: &str| text.replace('\'', r"'\''");
        let lines = lines.iter().map(|(name, value)| format!("export {name}='{}'\n", quote(value)));
        self.write("env", &lines.collect::<String>())
    }

    fn write(&self, name: &str, text: &str) -> Result<PathBuf, Failure> {
        let path = self.folder.join(name);
        let cannot = |error| Failure::new(format!("{} cannot be written: {error}", path.display()));
        // One that was there may be readable by others.
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(cannot(error)),
            _ => {}
        }
        let mut file =
            fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).map_err(cannot)?;
        file.write_all(text.as_bytes()).map_err(cannot)?;
        Ok(path)
    }
}
