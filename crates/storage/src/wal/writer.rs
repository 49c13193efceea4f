//! The one writer.

use std::sync::Arc;

use super::config::WalConfig;
use super::handle::Shared;
use super::queue::Operation;
use crate::disk::Disk;

pub(super) struct Writer {
    _disk: Arc<dyn Disk>,
    pub(super) config: WalConfig,
    pub(super) shared: Arc<Shared>,
}

impl Writer {
    pub(super) fn new(disk: Arc<dyn Disk>, config: WalConfig, shared: Arc<Shared>) -> Self {
        Self { _disk: disk, config, shared }
    }

    pub(super) fn complete(&self, operations: Vec<Operation>) {
        let _ = &self.shared;
        for operation in operations {
            (operation.done)(Ok(()));
        }
    }
}
