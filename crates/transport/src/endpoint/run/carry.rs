//! The task of a link: it exists while the link dials or is connected.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use tokio::time::{Instant, sleep_until, timeout};

use crate::endpoint::handle::Shared;
use crate::endpoint::link::Link;
use crate::envelope::Envelope;
use crate::error::{CallRefused, OpenError, UnreachableCause};
use crate::frame::FrameReceiver;
use crate::transport::Connection;

/// Replies completed under one lock, at most.
const REPLY_BATCH: usize = 256;

/// How far away "no deadline" is; the timer is moved when there is one.
const NEVER: std::time::Duration = std::time::Duration::from_hours(24 * 365);

type Replies = Vec<(u64, Result<bytes::Bytes, CallRefused>)>;

/// Dials, carries calls until the connection ends, and fails what is left.
pub(in crate::endpoint) async fn run_link(link: Arc<Link>, shared: Arc<Shared>) {
    match dial(&link, &shared).await {
        Ok(connection) => {
            let started = Instant::now();
            let generation = shared.note_connected(&link);
            carry(&link, connection).await;
            link.disconnected(&shared.config, started.elapsed(), shared.entropy.next_u64());
            shared.note_disconnected(&link, generation);
        }
        Err(reason) => {
            tracing::debug!(peer = %link.peer.short(), lane = ?link.lane, %reason, "could not connect");
            link.not_connected(&shared.config, reason, shared.entropy.next_u64());
        }
    }
}

async fn dial(link: &Link, shared: &Arc<Shared>) -> Result<Connection, OpenError> {
    if link.peer == shared.transport.local() {
        return Ok(super::serve::loopback(shared, link.lane));
    }
    let mut open = pin!(timeout(shared.config.dial_timeout, shared.transport.open(link.peer, link.lane)));
    loop {
        let todo = link.todo();
        if todo.stop {
            return Err(OpenError::Unreachable(UnreachableCause::Broken));
        }
        tokio::select! {
            biased;
            opened = &mut open => {
                let opened = opened.unwrap_or(Err(OpenError::Unreachable(UnreachableCause::TimedOut)));
                return opened.map(|connection| shared.counters.watch(connection));
            }
            () = poll_fn(|cx| link.signal.poll_raised(cx)) => {}
            () = sleep_until(todo.sweep.unwrap_or_else(|| Instant::now() + NEVER)) => link.sweep(Instant::now()),
        }
    }
}

async fn carry(link: &Link, connection: Connection) {
    let Connection { sender, mut receiver, closer, .. } = connection;
    link.connected(sender.clone(), closer.clone());
    let mut replies = Replies::new();
    let mut armed = Instant::now() + NEVER;
    let mut timer = pin!(sleep_until(armed));
    loop {
        let todo = link.todo();
        if todo.stop {
            break;
        }
        if let Some(sweep) = todo.sweep
            && sweep != armed
        {
            armed = sweep;
            timer.as_mut().reset(sweep);
        }
        let waits = todo.send.is_some();
        let send = async {
            match todo.send {
                Some(frame) => sender.send(frame).await.is_ok(),
                None => false,
            }
        };
        tokio::select! {
            biased;
            alive = receive(&mut receiver, &mut replies) => {
                link.complete(&mut replies);
                if !alive {
                    break;
                }
            }
            () = poll_fn(|cx| link.signal.poll_raised(cx)) => {}
            done = send, if waits => {
                if !done {
                    break;
                }
                link.sent_front();
            }
            () = timer.as_mut(), if todo.sweep.is_some() => {
                link.sweep(Instant::now());
                armed = Instant::now() + NEVER;
            }
        }
    }
    closer.close();
}

/// Waits for replies and takes all that are there; false when the connection
/// is over (or the peer sent something that no callee sends).
async fn receive(receiver: &mut FrameReceiver, replies: &mut Replies) -> bool {
    poll_fn(|cx| {
        while replies.len() < REPLY_BATCH {
            match receiver.poll_recv(cx) {
                Poll::Ready(Some(frame)) => match Envelope::decode(frame) {
                    Ok(Envelope::Reply { id, answer }) => replies.push((id, answer)),
                    Ok(_) | Err(_) => return Poll::Ready(false),
                },
                Poll::Ready(None) => return Poll::Ready(false),
                Poll::Pending if replies.is_empty() => return Poll::Pending,
                Poll::Pending => break,
            }
        }
        Poll::Ready(true)
    })
    .await
}
