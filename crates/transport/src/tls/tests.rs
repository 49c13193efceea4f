//! Strangers of every kind: what they get is a refusal, and what they do
//! never keeps an admitted node out.

use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use futures::FutureExt;
use futures::future::{BoxFuture, join_all, pending};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use trine_types::{ClusterId, NodeId};

use super::greeting::{MAX_GREETING_BYTES, decode_acceptor, encode_acceptor, encode_dialler};
use super::keys::{JOIN, Keys, LANES};
use super::stream::{read_frame, write_frame};
use super::transport::TlsTransport;
use crate::certificate::AdmissionCertificate;
use crate::error::{OpenError, RefusalReason};
use crate::identity::{Identity, IssuingKey};
use crate::join::{JoinAttempt, JoinHandler, JoinRefused, MAX_JOIN_REQUEST_BYTES};
use crate::lane::Lane;
use crate::suite::twin::{Founded, NOW_MS, bind};
use crate::transport::Transport;

/// Waits here end by an event; this only keeps a broken test from hanging.
const LONG: Duration = Duration::from_secs(20);

fn id(seed: u8) -> NodeId {
    Identity::from_seed([seed; 32]).node_id()
}

/// Node `one` that knows where `two` is.
fn knows(one: &TlsTransport, two: &TlsTransport) {
    one.set_addresses(two.local(), vec![two.address()]);
}

/// Shows that an admitted node gets in, and is the first that ever did.
async fn first_in(target: &TlsTransport, cluster: &Founded) {
    let (friend, _trust) = cluster.node(77);
    knows(&friend, target);
    let opened = tokio::time::timeout(LONG, friend.open(target.local(), Lane::Control)).await.unwrap();
    let opened = opened.unwrap();
    let mut accepted = target.accept().await.unwrap();
    assert_eq!(accepted.peer, friend.local(), "nobody got in before");
    opened.sender.send(Bytes::from_static(b"hello")).await.unwrap();
    assert_eq!(accepted.receiver.recv().await.unwrap(), "hello");
}

/// A session with any key and protocol, past TLS but not past the greeting.
async fn session(seed: u8, target: &TlsTransport, protocol: &[u8]) -> TlsStream<TcpStream> {
    let keys = Keys::new(&Identity::from_seed([seed; 32])).unwrap();
    let config = keys.client(target.local(), protocol).unwrap();
    let stream = TcpStream::connect(target.address()).await.unwrap();
    let name = ServerName::from(target.address().ip());
    TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap()
}

/// The bytes until the other side closes.
async fn rest(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> Vec<u8> {
    let mut bytes = Vec::new();
    // A reset is an end as well.
    let _ = tokio::time::timeout(LONG, stream.read_to_end(&mut bytes)).await.expect("it closes");
    bytes
}

#[tokio::test]
async fn every_unfit_certificate_is_refused_with_its_reason() {
    let cluster = Founded::new();
    let (target, trust) = cluster.node(1);
    trust.send_modify(|trust| {
        Arc::make_mut(trust).revoked.insert(id(5));
    });
    let stranger_key = IssuingKey::from_seed([99; 32]);
    let good = |seed| cluster.admission(id(seed));
    let mut expired = good(3);
    expired.not_after_ms = NOW_MS - 1;
    let mut elsewhere = good(4);
    elsewhere.cluster = ClusterId([6; 16]);
    let issue = |admission| AdmissionCertificate::issue(admission, &cluster.issuer);
    let cases = [
        (2, AdmissionCertificate::issue(good(2), &stranger_key), RefusalReason::BadCertificate),
        (3, issue(expired), RefusalReason::Expired),
        (4, issue(elsewhere), RefusalReason::OtherCluster),
        (5, issue(good(5)), RefusalReason::Revoked),
        (6, issue(good(7)), RefusalReason::OtherKey),
    ];
    for (seed, certificate, reason) in cases {
        let mut own = cluster.trust(id(seed));
        own.certificate = Some(certificate);
        let (outsider, _trust) = bind(seed, own, |_| {});
        knows(&outsider, &target);
        let refused = outsider.open(target.local(), Lane::Control).await.unwrap_err();
        assert_eq!(refused, OpenError::Refused(reason));
    }
    let (without, _trust) = bind(8, crate::Trust::default(), |_| {});
    knows(&without, &target);
    assert!(without.open(target.local(), Lane::Log).await.is_err());
    first_in(&target, &cluster).await;
}

#[tokio::test]
async fn a_refused_peer_gets_the_reason_and_nothing_it_sends_is_read() {
    let cluster = Founded::new();
    let (target, _trust) = cluster.node(1);
    let forged = AdmissionCertificate::issue(cluster.admission(id(2)), &IssuingKey::from_seed([99; 32]));
    let mut stranger = session(2, &target, LANES).await;
    write_frame(&mut stranger, encode_dialler(Lane::Request, &forged)).await.unwrap();
    // Sent right behind the greeting, without waiting to be let in.
    let _ = write_frame(&mut stranger, Bytes::from_static(b"delete everything")).await;
    let mut buffer = BytesMut::new();
    let answer = read_frame(&mut stranger, &mut buffer, MAX_GREETING_BYTES).await.unwrap();
    assert_eq!(decode_acceptor(&answer), Err(RefusalReason::BadCertificate));
    assert!(buffer.is_empty() && rest(&mut stranger).await.is_empty(), "nothing follows");
    first_in(&target, &cluster).await;
}

#[tokio::test]
async fn an_unknown_key_gets_no_application_byte() {
    let cluster = Founded::new();
    let (target, _trust) = cluster.node(1);
    let forged = AdmissionCertificate::issue(cluster.admission(id(2)), &IssuingKey::from_seed([99; 32]));
    let stolen = AdmissionCertificate::issue(cluster.admission(id(7)), &cluster.issuer);
    let cases = [(2, forged, RefusalReason::BadCertificate), (3, stolen, RefusalReason::OtherKey)];
    for (seed, certificate, reason) in cases {
        for lane in Lane::ALL {
            let mut stranger = session(seed, &target, LANES).await;
            // The greeting, and questions behind it that nobody waits to be let in for.
            let greeting = encode_dialler(lane, &certificate);
            for frame in [greeting].into_iter().chain((0..100).map(|n| Bytes::from(vec![n; 64]))) {
                let _ = write_frame(&mut stranger, frame).await;
            }
            let decrypted = rest(&mut stranger).await;
            // Everything that its keys open is the refusal, or the reset took that.
            let refusal = encode_acceptor(&Err(reason));
            let frame = [&u32::try_from(refusal.len()).unwrap().to_le_bytes()[..], &refusal].concat();
            assert!(frame.starts_with(&decrypted), "{decrypted:?} on {lane:?}");
        }
    }
    first_in(&target, &cluster).await;
}

#[tokio::test]
async fn the_dialler_judges_the_acceptor_too() {
    let cluster = Founded::new();
    let (one, trust) = cluster.node(1);
    let (two, _trust) = cluster.node(2);
    // Another node's address: the key there is not the one expected.
    one.set_addresses(id(3), vec![two.address()]);
    let error = one.open(id(3), Lane::Control).await.unwrap_err();
    assert_eq!(error, OpenError::WrongPeer("it proved another key"));
    trust.send_modify(|trust| {
        Arc::make_mut(trust).revoked.insert(id(2));
    });
    knows(&one, &two);
    assert!(matches!(one.open(id(2), Lane::Control).await, Err(OpenError::WrongPeer(_))));
    assert_eq!(one.open(id(4), Lane::Control).await.unwrap_err(), OpenError::UnknownAddress);
}

#[tokio::test]
async fn the_next_address_is_tried() {
    let cluster = Founded::new();
    let (one, _trust_one) = cluster.node(1);
    let (two, _trust_two) = cluster.node(2);
    let (three, _trust_three) = cluster.node(3);
    one.set_addresses(two.local(), vec![three.address(), two.address()]);
    assert_eq!(one.open(two.local(), Lane::Control).await.unwrap().peer, two.local());
    one.set_addresses(two.local(), vec![]);
    assert_eq!(one.open(two.local(), Lane::Control).await.unwrap_err(), OpenError::UnknownAddress);
}

#[tokio::test]
async fn revoking_cuts_open_connections_at_once() {
    let cluster = Founded::new();
    let (one, trust) = cluster.node(1);
    let (two, _trust) = cluster.node(2);
    let (bystander, _trust_three) = cluster.node(3);
    knows(&one, &two);
    knows(&two, &one);
    knows(&bystander, &one);
    let mut other = bystander.open(one.local(), Lane::Control).await.unwrap();
    let kept = one.accept().await.unwrap();
    let mut inbound = two.open(one.local(), Lane::Request).await.unwrap();
    let accepted = one.accept().await.unwrap();
    let outbound = one.open(two.local(), Lane::Request).await.unwrap();
    let mut two_accepted = two.accept().await.unwrap();
    trust.send_modify(|trust| {
        Arc::make_mut(trust).revoked.insert(id(2));
    });
    assert_eq!(inbound.receiver.recv().await, None);
    assert_eq!(two_accepted.receiver.recv().await, None);
    assert!(accepted.closer.is_closed() && outbound.closer.is_closed());
    assert_eq!(
        two.open(one.local(), Lane::Request).await.unwrap_err(),
        OpenError::Refused(RefusalReason::Revoked)
    );
    kept.sender.send(Bytes::from_static(b"still here")).await.unwrap();
    assert_eq!(other.receiver.recv().await.unwrap(), "still here");
}

#[tokio::test]
async fn retiring_an_issuing_key_cuts_what_it_admitted() {
    let cluster = Founded::new();
    let (one, trust) = cluster.node(1);
    let (two, _trust) = cluster.node(2);
    knows(&two, &one);
    let mut connection = two.open(one.local(), Lane::Request).await.unwrap();
    trust.send_modify(|trust| Arc::make_mut(trust).issuers.clear());
    assert_eq!(connection.receiver.recv().await, None);
}

#[tokio::test]
async fn noise_gets_nothing_and_keeps_nobody_out() {
    let cluster = Founded::new();
    let (target, _trust) = cluster.node(1);
    let noises: [&[u8]; 5] = [
        b"GET / HTTP/1.1\r\n\r\n",
        &[0; 4096],
        &[0xFF; 4096],
        &[22, 3, 1, 0xFF, 0xFF, 1, 2],
        b"*1\r\n$4\r\nPING\r\n",
    ];
    for noise in noises {
        let mut stream = TcpStream::connect(target.address()).await.unwrap();
        let _ = stream.write_all(noise).await;
        let _ = stream.shutdown().await;
        let answer = rest(&mut stream).await;
        assert!(answer.len() < 64, "an alert at most");
    }
    first_in(&target, &cluster).await;
}

#[tokio::test]
async fn noise_inside_tls_is_no_greeting() {
    let cluster = Founded::new();
    let (target, _trust) = cluster.node(1);
    let mut stranger = session(2, &target, LANES).await;
    write_frame(&mut stranger, Bytes::from_static(b"*1\r\n$4\r\nPING\r\n")).await.unwrap();
    let answer = read_frame(&mut stranger, &mut BytesMut::new(), MAX_GREETING_BYTES).await.unwrap();
    assert_eq!(decode_acceptor(&answer), Err(RefusalReason::BadGreeting));
    // A greeting that announces more than any greeting has.
    let mut stranger = session(2, &target, LANES).await;
    stranger.write_u32_le(u32::try_from(MAX_GREETING_BYTES).unwrap() + 1).await.unwrap();
    assert!(rest(&mut stranger).await.is_empty());
    first_in(&target, &cluster).await;
}

#[tokio::test]
async fn an_oversized_frame_ends_the_connection() {
    let cluster = Founded::new();
    let (target, _trust) = cluster.node(1);
    let certificate = AdmissionCertificate::issue(cluster.admission(id(2)), &cluster.issuer);
    let mut peer = session(2, &target, LANES).await;
    write_frame(&mut peer, encode_dialler(Lane::Bulk, &certificate)).await.unwrap();
    let welcome = read_frame(&mut peer, &mut BytesMut::new(), MAX_GREETING_BYTES).await.unwrap();
    assert!(decode_acceptor(&welcome).is_ok());
    let mut accepted = target.accept().await.unwrap();
    peer.write_u32_le(u32::MAX).await.unwrap();
    assert_eq!(accepted.receiver.recv().await, None);
}

#[tokio::test]
async fn silent_connections_by_the_hundred_keep_nobody_out() {
    let cluster = Founded::new();
    let (target, _trust) = bind(1, cluster.trust(id(1)), |config| {
        config.max_handshakes = 32;
        config.max_handshakes_per_source = 16;
    });
    let silent = join_all((0..400).map(|_| TcpStream::connect(target.address()))).await;
    assert!(silent.iter().all(Result::is_ok));
    first_in(&target, &cluster).await;
    drop(silent);
}

#[tokio::test]
async fn a_silent_stranger_is_dropped_in_time() {
    let cluster = Founded::new();
    let limit = Duration::from_millis(50);
    let (target, _trust) = bind(1, cluster.trust(id(1)), |config| config.handshake_timeout = limit);
    let mut silent = TcpStream::connect(target.address()).await.unwrap();
    assert!(rest(&mut silent).await.is_empty(), "before TLS");
    let mut greeted = session(2, &target, LANES).await;
    assert!(rest(&mut greeted).await.is_empty(), "before the greeting");
    let mut joiner = session(2, &target, JOIN).await;
    assert!(rest(&mut joiner).await.is_empty(), "before the join request");
}

#[tokio::test]
async fn a_dialler_gives_up_on_a_silent_acceptor() {
    let cluster = Founded::new();
    let limit = Duration::from_millis(50);
    let (one, _trust) = bind(1, cluster.trust(id(1)), |config| config.handshake_timeout = limit);
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    one.set_addresses(id(2), vec![silent.local_addr().unwrap()]);
    let error = one.open(id(2), Lane::Control).await.unwrap_err();
    assert!(matches!(error, OpenError::Unreachable(_)), "{error:?}");
}

/// Never decides.
struct Undecided;

impl JoinHandler for Undecided {
    fn join(&self, _attempt: JoinAttempt) -> BoxFuture<'static, Result<Bytes, JoinRefused>> {
        pending().boxed()
    }
}

#[tokio::test]
async fn a_joiner_sends_one_frame_of_bounded_size() {
    let cluster = Founded::new();
    let (target, _trust) = cluster.node(1);
    let mut joiner = session(2, &target, JOIN).await;
    let mut long = BytesMut::new();
    long.put_u32_le(u32::try_from(MAX_JOIN_REQUEST_BYTES).unwrap() + 1);
    joiner.write_all(&long).await.unwrap();
    assert!(rest(&mut joiner).await.is_empty());
    let mut joiner = session(2, &target, JOIN).await;
    write_frame(&mut joiner, Bytes::from_static(b"?")).await.unwrap();
    assert!(rest(&mut joiner).await.is_empty());
    first_in(&target, &cluster).await;
}

#[tokio::test]
async fn few_may_join_at_once_and_indecision_has_a_limit() {
    use crate::ticket::{Contact, Secret, Ticket};
    let cluster = Founded::new();
    let (target, _trust) = bind(1, cluster.trust(id(1)), |config| {
        config.max_joins_per_source = 2;
        config.join_timeout = Duration::from_millis(300);
    });
    target.serve_joins(Arc::new(Undecided));
    let ticket = Ticket {
        cluster: cluster.cluster,
        contacts: vec![Contact { address: target.address(), node: target.local() }],
        secret: Secret([1; 16]),
        not_after_ms: 0,
    };
    let (outsider, _trust) = bind(2, crate::Trust::default(), |_| {});
    let outcomes = join_all((0..6).map(|_| outsider.join(ticket.clone(), Bytes::new()))).await;
    let reasons: Vec<String> = outcomes.into_iter().map(|outcome| outcome.unwrap_err().to_string()).collect();
    assert_eq!(reasons.iter().filter(|reason| reason.contains("at once")).count(), 4, "{reasons:?}");
    assert_eq!(reasons.iter().filter(|reason| reason.contains("in time")).count(), 2, "{reasons:?}");
}
