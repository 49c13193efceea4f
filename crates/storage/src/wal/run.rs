//! Who drives the writer: an operating system thread in the product, a tokio
//! task in the simulator. The writer itself is the same.

use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use tokio::time::Instant;

use super::WalError;
use super::config::Driver;
use super::handle::Shared;
use super::queue::Operation;
use super::writer::Writer;
use crate::planted;

pub(super) fn start(writer: Writer, driver: Driver) -> Result<(), WalError> {
    match driver {
        Driver::Thread => {
            thread::Builder::new()
                .name("wal".to_owned())
                .spawn(move || drive_thread(writer))
                .map_err(|error| WalError::open("no thread for the writer", &error))?;
        }
        Driver::Task { sync_latency } => {
            tokio::spawn(drive_task(writer, sync_latency));
        }
    }
    Ok(())
}

/// A callback that panics must not leave everyone waiting for ever.
struct FailOnPanic(Weak<Shared>);

impl Drop for FailOnPanic {
    fn drop(&mut self) {
        if thread::panicking()
            && let Some(shared) = self.0.upgrade()
        {
            let error = WalError::Failed { what: "a callback panicked".into() };
            for operation in shared.queue.fail(&error) {
                (operation.done)(Err(error.clone()));
            }
            shared.stopped.send_replace(true);
        }
    }
}

fn drive_thread(mut writer: Writer) {
    let shared = writer.shared.clone();
    let _guard = FailOnPanic(Arc::downgrade(&shared));
    while let Some(mut operations) = shared.queue.take_blocking(writer.config.batch_bytes) {
        let written = writer.write(&operations);
        plant_ack_before_sync(&mut operations);
        shared.pace().begin(Instant::now());
        let synced = written.and_then(|()| writer.sync());
        let sync_time = shared.pace().end(Instant::now());
        if !finish(&mut writer, operations, synced, sync_time) {
            break;
        }
    }
    stop(writer, shared);
}

async fn drive_task(mut writer: Writer, sync_latency: Duration) {
    let shared = writer.shared.clone();
    let _guard = FailOnPanic(Arc::downgrade(&shared));
    while let Some(mut operations) = shared.queue.take_async(writer.config.batch_bytes).await {
        let written = writer.write(&operations);
        plant_ack_before_sync(&mut operations);
        shared.pace().begin(Instant::now());
        tokio::time::sleep(sync_latency + writer.sync_delay()).await;
        let synced = written.and_then(|()| writer.sync());
        let sync_time = shared.pace().end(Instant::now());
        if !finish(&mut writer, operations, synced, sync_time) {
            break;
        }
    }
    stop(writer, shared);
}

/// Lets go of the disk, then says so.
fn stop(writer: Writer, shared: Arc<Shared>) {
    let stopped = shared.stopped.clone();
    drop((writer, shared));
    stopped.send_replace(true);
}

/// Completes what was synced, or fails the log. False if it has failed.
fn finish(
    writer: &mut Writer,
    operations: Vec<Operation>,
    synced: Result<(), WalError>,
    sync_time: Duration,
) -> bool {
    match synced {
        Ok(()) => {
            writer.complete(operations, sync_time);
            true
        }
        Err(error) => {
            tracing::error!(%error, "stopping");
            let waiting = writer.shared.queue.fail(&error);
            for operation in operations.into_iter().chain(waiting) {
                (operation.done)(Err(error.clone()));
            }
            false
        }
    }
}

/// A planted bug: acknowledges before the sync.
fn plant_ack_before_sync(operations: &mut [Operation]) {
    if planted::active(planted::ACK_BEFORE_SYNC) {
        for operation in operations {
            std::mem::replace(&mut operation.done, Box::new(drop))(Ok(()));
        }
    }
}
