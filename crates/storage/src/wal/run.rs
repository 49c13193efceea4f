//! Who drives the writer: an operating system thread in the product, a tokio
//! task in the simulator. The writer itself is the same.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::WalError;
use super::config::{Driver, WalConfig};
use super::handle::Shared;
use super::writer::Writer;
use crate::disk::Disk;

pub(super) fn start(
    disk: Arc<dyn Disk>,
    config: WalConfig,
    driver: Driver,
    shared: Arc<Shared>,
) -> Result<(), WalError> {
    let writer = Writer::new(disk, config, shared);
    match driver {
        Driver::Thread => {
            thread::Builder::new()
                .name("wal".to_owned())
                .spawn(move || drive_thread(&writer))
                .map_err(|error| WalError::Open { what: error.to_string().into() })?;
        }
        Driver::Task { sync_latency } => {
            tokio::spawn(drive_task(writer, sync_latency));
        }
    }
    Ok(())
}

fn drive_thread(writer: &Writer) {
    let shared = writer.shared.clone();
    while let Some(operations) = shared.queue.take_blocking(writer.config.batch_bytes) {
        writer.complete(operations);
    }
}

async fn drive_task(writer: Writer, sync_latency: Duration) {
    let shared = writer.shared.clone();
    while let Some(operations) = shared.queue.take_async(writer.config.batch_bytes).await {
        tokio::time::sleep(sync_latency).await;
        writer.complete(operations);
    }
}
