//! Small files that a node replaces whole: its identity, its incarnation, its
//! format version. A reader sees the old content or the new one, never a mix,
//! and damage is an error, never a missing file.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use crate::disk::Disk;

/// First bytes of every node file.
const MAGIC: [u8; 8] = *b"TRINEF\0\x01";
const HEADER_BYTES: usize = 16;

/// Largest content, in bytes.
pub const MAX_NODE_FILE_BYTES: usize = 1024 * 1024;

/// Reading or replacing a node file failed.
#[derive(Debug, thiserror::Error)]
pub enum NodeFileError {
    /// The disk failed. After a failed write either content may be there.
    #[error("{name}: {source}")]
    Disk {
        /// The file.
        name: String,
        /// What the disk said.
        source: io::Error,
    },
    /// The file is there but is not what was written. Do not replace it: a
    /// node that lost its identity or incarnation must not start.
    #[error("{name} is damaged: {what}")]
    Damaged {
        /// The file.
        name: String,
        /// What does not verify.
        what: &'static str,
    },
}

/// One small file. Callers see to it that one task at a time writes it.
///
/// ```text
///  0       8        12        16
///  | magic | length | crc32c  | content ... |      little-endian;
///                                                  the CRC covers the content
/// ```
#[derive(Clone)]
pub struct NodeFile {
    disk: Arc<dyn Disk>,
    name: String,
}

impl NodeFile {
    /// The file `name` on `disk`; nothing is read or made yet.
    pub fn new(disk: Arc<dyn Disk>, name: &str) -> Self {
        Self { disk, name: name.to_owned() }
    }

    fn disk_error(&self, source: io::Error) -> NodeFileError {
        NodeFileError::Disk { name: self.name.clone(), source }
    }

    fn damaged(&self, what: &'static str) -> NodeFileError {
        NodeFileError::Damaged { name: self.name.clone(), what }
    }

    /// The content, or `None` if the file was never written. Blocking.
    ///
    /// # Errors
    /// [`NodeFileError`].
    pub fn read(&self) -> Result<Option<Bytes>, NodeFileError> {
        let file = match self.disk.open(&self.name, false) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.disk_error(error)),
        };
        let length = file.length().map_err(|error| self.disk_error(error))?;
        let length = usize::try_from(length)
            .ok()
            .filter(|length| (HEADER_BYTES..=HEADER_BYTES + MAX_NODE_FILE_BYTES).contains(length))
            .ok_or_else(|| self.damaged("its length is impossible"))?;
        let mut bytes = vec![0; length];
        file.read_at(0, &mut bytes).map_err(|error| self.disk_error(error))?;
        let content = decode(&bytes).map_err(|what| self.damaged(what))?;
        Ok(Some(Bytes::copy_from_slice(content)))
    }

    /// Replaces the content; it is durable on return. Blocking.
    ///
    /// # Errors
    /// [`NodeFileError::Disk`]: either content may be there.
    pub fn write(&self, content: &[u8]) -> Result<(), NodeFileError> {
        self.replace(content).map_err(|error| self.disk_error(error))
    }

    fn replace(&self, content: &[u8]) -> io::Result<()> {
        let bytes = encode(content)?;
        let temporary = format!("{}.new", self.name);
        let file = self.disk.open(&temporary, true)?;
        file.set_len(0)?;
        file.write_at(0, &bytes)?;
        file.sync()?;
        self.disk.rename(&temporary, &self.name)?;
        self.disk.sync_dir(self.name.rsplit_once('/').map_or("", |(dir, _)| dir))
    }
}

fn encode(content: &[u8]) -> io::Result<Vec<u8>> {
    let length = u32::try_from(content.len())
        .ok()
        .filter(|_| content.len() <= MAX_NODE_FILE_BYTES)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "too large for a node file"))?;
    let mut bytes = Vec::with_capacity(HEADER_BYTES + content.len());
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&crc32c::crc32c(content).to_le_bytes());
    bytes.extend_from_slice(content);
    Ok(bytes)
}

fn decode(bytes: &[u8]) -> Result<&[u8], &'static str> {
    let (header, content) = bytes.split_at_checked(HEADER_BYTES).ok_or("it is too short")?;
    if header[..8] != MAGIC {
        return Err("it does not begin like a node file of this version");
    }
    let field = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    if usize::try_from(field(8)) != Ok(content.len()) {
        return Err("its length is wrong");
    }
    if field(12) != crc32c::crc32c(content) {
        return Err("its checksum is wrong");
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::SimDisk;

    #[test]
    fn content_is_replaced_and_read_back() {
        let disk = SimDisk::new(1);
        let file = NodeFile::new(disk.mount().expect("mount"), "identity");
        assert_eq!(file.read().expect("nothing yet"), None);
        file.write(b"one").expect("write");
        file.write(b"").expect("write");
        assert_eq!(file.read().expect("read").as_deref(), Some(&b""[..]));
        assert!(file.write(&vec![0; MAX_NODE_FILE_BYTES + 1]).is_err());
    }

    #[test]
    fn a_crash_leaves_the_old_or_the_new_content() {
        for seed in 0..300 {
            let disk = SimDisk::new(seed);
            let file = NodeFile::new(disk.mount().expect("mount"), "n/incarnation");
            file.write(b"old").expect("write");
            if seed % 2 == 0 {
                disk.fail_syncs(1);
            } else {
                file.write(b"new").expect("write");
            }
            let interrupted = file.write(b"next").is_err();
            disk.crash();
            let file = NodeFile::new(disk.mount().expect("mount"), "n/incarnation");
            let content = file.read().expect("never damaged").expect("never missing");
            assert_eq!(&content[..], if interrupted { &b"old"[..] } else { b"next" });
        }
    }

    #[test]
    fn damage_is_an_error_at_every_byte() {
        let disk = SimDisk::new(1);
        let file = NodeFile::new(disk.mount().expect("mount"), "f");
        file.write(b"content").expect("write");
        let length = HEADER_BYTES as u64 + 7;
        for offset in 0..length {
            assert!(disk.corrupt("f", offset, 1));
            assert!(matches!(file.read(), Err(NodeFileError::Damaged { .. })), "{offset}");
            assert!(disk.corrupt("f", offset, 1));
        }
        assert!(disk.truncate("f", 20));
        assert!(matches!(file.read(), Err(NodeFileError::Damaged { .. })));
    }
}
