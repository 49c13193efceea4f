//! What a single connection promises.

use bytes::Bytes;
use trine_types::limits::MAX_FRAME_BYTES;

use super::twin::Twin;
use crate::frame::{QUEUE_BYTES, SendError};
use crate::lane::Lane;
use crate::transport::Connection;

async fn connect(twin: &Twin, lane: Lane) -> (Connection, Connection) {
    let (dialled, accepted) = tokio::join!(twin.one.open(twin.two.local(), lane), twin.two.accept());
    let (dialled, accepted) = (dialled.unwrap(), accepted.unwrap());
    assert_eq!((dialled.peer, dialled.lane), (twin.two.local(), lane));
    assert_eq!((accepted.peer, accepted.lane), (twin.one.local(), lane));
    (dialled, accepted)
}

fn numbered(number: u32) -> Bytes {
    Bytes::from(number.to_le_bytes().to_vec())
}

pub(super) async fn frames_arrive_in_order_both_ways(twin: Twin) {
    let (mut one, mut two) = connect(&twin, Lane::Log).await;
    let sending = async {
        for number in 0..2000 {
            one.sender.send(numbered(number)).await.unwrap();
            two.sender.send(numbered(number + 1)).await.unwrap();
        }
    };
    let receiving = async {
        for number in 0..2000 {
            assert_eq!(two.receiver.recv().await, Some(numbered(number)));
            assert_eq!(one.receiver.recv().await, Some(numbered(number + 1)));
        }
    };
    tokio::join!(sending, receiving);
}

pub(super) async fn a_slow_receiver_stops_the_sender(twin: Twin) {
    let (one, mut two) = connect(&twin, Lane::Bulk).await;
    let block = Bytes::from(vec![7; 256 * 1024]);
    let (mut sent, mut received) = (0, 0);
    // Nobody receives: the sender must come to wait. What it could send until
    // then (queues, windows, socket buffers) is bounded.
    while tokio::time::timeout(std::time::Duration::from_millis(300), one.sender.send(block.clone()))
        .await
        .is_ok()
    {
        sent += 1;
        assert!(sent * block.len() < 8 * QUEUE_BYTES, "the sender is never stopped");
    }
    assert_eq!(one.sender.try_send(block.clone()), Err(SendError::Full));
    while received < sent {
        assert_eq!(two.receiver.recv().await.unwrap().len(), block.len());
        received += 1;
    }
    one.sender.send(block.clone()).await.unwrap();
    assert_eq!(two.receiver.recv().await, Some(block));
}

pub(super) async fn the_largest_frame_passes_and_a_larger_one_is_not_taken(twin: Twin) {
    let (one, mut two) = connect(&twin, Lane::Request).await;
    let largest = Bytes::from(vec![3; MAX_FRAME_BYTES]);
    let over = Bytes::from(vec![4; MAX_FRAME_BYTES + 1]);
    assert_eq!(one.sender.send(over).await, Err(SendError::TooLarge(MAX_FRAME_BYTES + 1)));
    one.sender.send(largest.clone()).await.unwrap();
    one.sender.send(Bytes::new()).await.unwrap();
    assert!(two.receiver.recv().await == Some(largest), "the largest frame arrives whole");
    assert_eq!(two.receiver.recv().await, Some(Bytes::new()));
}

pub(super) async fn dropping_one_end_ends_the_other(twin: Twin) {
    let (one, mut two) = connect(&twin, Lane::Control).await;
    drop(one);
    assert_eq!(two.receiver.recv().await, None);
    assert_eq!(two.receiver.recv().await, None, "the end stays the end");
}

pub(super) async fn closing_one_end_ends_the_other(twin: Twin) {
    let (one, mut two) = connect(&twin, Lane::Control).await;
    two.closer.close();
    assert_eq!(two.receiver.recv().await, None);
    assert_eq!(two.sender.try_send(numbered(1)), Err(SendError::Closed));
    let mut receiver = one.receiver;
    assert_eq!(receiver.recv().await, None);
}

pub(super) async fn what_was_sent_before_a_drop_arrives(twin: Twin) {
    let (one, mut two) = connect(&twin, Lane::Request).await;
    for number in 0..100 {
        one.sender.send(numbered(number)).await.unwrap();
    }
    drop(one);
    for number in 0..100 {
        assert_eq!(two.receiver.recv().await, Some(numbered(number)));
    }
    assert_eq!(two.receiver.recv().await, None);
}

pub(super) async fn shutdown_ends_accepting_and_connections(twin: Twin) {
    let (mut one, two) = connect(&twin, Lane::Control).await;
    twin.two.shutdown();
    assert!(twin.two.accept().await.is_none());
    assert_eq!(one.receiver.recv().await, None);
    drop(two);
    assert!(twin.one.open(twin.two.local(), Lane::Control).await.is_err());
    assert!(twin.two.open(twin.one.local(), Lane::Control).await.is_err());
}
