//! What passed the connections of a node, counted per lane and direction for
//! people who look at it. Calls of a node to itself are not counted: they pass
//! no connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::frame::{FrameReceiver, FrameSender};
use crate::lane::Lane;
use crate::transport::Connection;

/// Frames and their bytes, without what a transport adds to them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    /// Frames.
    pub frames: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What passed one lane to and from all peers since the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneTraffic {
    /// Which lane.
    pub lane: Lane,
    /// Given to connections.
    pub sent: Passed,
    /// Taken from connections.
    pub received: Passed,
}

/// Counts one direction of one lane.
#[derive(Debug, Default)]
pub(crate) struct Counter {
    frames: AtomicU64,
    bytes: AtomicU64,
}

impl Counter {
    pub(crate) fn count(&self, bytes: usize) {
        self.frames.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn passed(&self) -> Passed {
        Passed { frames: self.frames.load(Ordering::Relaxed), bytes: self.bytes.load(Ordering::Relaxed) }
    }
}

/// The counters of all lanes.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    lanes: [(Arc<Counter>, Arc<Counter>); 4],
}

impl Counters {
    /// Counts what passes `connection` from now on.
    pub(crate) fn watch(&self, connection: Connection) -> Connection {
        let (sent, received) = &self.lanes[connection.lane.index()];
        let frames_out: FrameSender = connection.sender.counted(sent.clone());
        let frames_in: FrameReceiver = connection.receiver.counted(received.clone());
        Connection { sender: frames_out, receiver: frames_in, ..connection }
    }

    pub(crate) fn read(&self) -> [LaneTraffic; 4] {
        Lane::ALL.map(|lane| {
            let (sent, received) = &self.lanes[lane.index()];
            LaneTraffic { lane, sent: sent.passed(), received: received.passed() }
        })
    }
}
