//! What comes from another node: changes of what it wants, into the table;
//! messages, to the subscriptions here.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use tokio::time::Instant;
use trine_types::NodeId;

use super::codec::{NotAFrame, POSITION_BYTES, Record, put_position, take_position, take_record};
use super::interest::{Hearer, Position};
use crate::bus::Bus;
use crate::bus::publisher::{Pressure, Publisher};

struct State {
    hearer: Hearer,
    publisher: Publisher,
    /// When a frame last came.
    heard: Instant,
}

/// The receiving end of a link.
pub(crate) struct Incoming {
    peer: NodeId,
    bus: Bus,
    // Frames are taken on the task of the connection that they came by, the
    // link's task forgets: neither may wait for the other's queue.
    state: Mutex<State>,
}

impl Incoming {
    pub(crate) fn new(peer: NodeId, bus: Bus, now: Instant) -> Self {
        let state = State { hearer: Hearer::default(), publisher: bus.publisher(), heard: now };
        Self { peer, bus, state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a frame: all of it at once, so that frames are taken in the order
    /// of their arrival. The answer may be sent once the pressure is gone.
    ///
    /// # Errors
    /// [`NotAFrame`]: what stood before the bad record was taken.
    pub(crate) fn take(&self, frame: &[u8], now: Instant) -> Result<(Bytes, Pressure), NotAFrame> {
        let mut state = self.state();
        state.heard = now;
        let taken = self.records(&mut state, frame);
        let pressure = state.publisher.take_pressure();
        taken.map(|()| (answer(state.hearer.position()), pressure))
    }

    fn records(&self, state: &mut State, mut frame: &[u8]) -> Result<(), NotAFrame> {
        let mut at = take_position(&mut frame)?;
        while let Some(record) = take_record(&mut frame)? {
            match record {
                Record::Start => {
                    state.hearer.start(at.stream);
                    self.bus.forget(self.peer);
                }
                Record::Interest(interest) => {
                    if state.hearer.take(at) && !self.bus.want(self.peer, interest) {
                        tracing::warn!(peer = %self.peer.short(), "more interest than this node can note");
                    }
                    at.changes += 1;
                }
                Record::Message { message, plain, groups } => {
                    // Whoever is full is waited for when the frame is taken.
                    let _ = state.publisher.relay(&message, plain, &groups);
                }
            }
        }
        Ok(())
    }

    /// When the other node last sent a frame.
    pub(crate) fn heard(&self) -> Instant {
        self.state().heard
    }

    /// Forgets what the other node wants: it cannot be reached.
    pub(crate) fn forget(&self) {
        let mut state = self.state();
        state.hearer.forget();
        self.bus.forget(self.peer);
    }
}

/// The answer of a node that knows nothing of the sender.
pub(crate) fn answer(position: Position) -> Bytes {
    let mut bytes = BytesMut::with_capacity(POSITION_BYTES);
    put_position(&mut bytes, position);
    bytes.freeze()
}
