//! What joining promises. Node one joins through node two.

use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use trine_types::ClusterId;

use super::twin::Twin;
use crate::join::{JoinAttempt, JoinError, JoinHandler, JoinRefused, MAX_JOIN_BODY_BYTES};
use crate::ticket::{Contact, Secret, Ticket};

const SECRET: Secret = Secret([11; 16]);

/// A cluster with one open ticket.
struct Judge {
    used: bool,
}

fn refused(reason: &str) -> JoinRefused {
    JoinRefused { reason: reason.to_owned() }
}

impl JoinHandler for Judge {
    fn join(&self, attempt: JoinAttempt) -> BoxFuture<'static, Result<Bytes, JoinRefused>> {
        let outcome = if attempt.ticket != SECRET.id() {
            Err(refused("the ticket is not known"))
        } else if !attempt.proves(&SECRET.verifier()) {
            Err(refused("the ticket's secret is not proven"))
        } else if self.used {
            Err(refused("the ticket was used"))
        } else {
            Ok(Bytes::from([&attempt.joiner.0[..], &attempt.request].concat()))
        };
        std::future::ready(outcome).boxed()
    }
}

fn ticket(twin: &Twin) -> Ticket {
    let contact = Contact { address: twin.two_address, node: twin.two.local() };
    Ticket { cluster: ClusterId([5; 16]), contacts: vec![contact], secret: SECRET, not_after_ms: 0 }
}

fn request() -> Bytes {
    Bytes::from_static(b"my name and my address")
}

pub(super) async fn a_ticket_admits_who_knows_its_secret(twin: Twin) {
    twin.two.serve_joins(Arc::new(Judge { used: false }));
    let reply = twin.one.join(ticket(&twin), request()).await.unwrap();
    assert_eq!(reply, [&twin.one.local().0[..], &request()].concat());
}

pub(super) async fn a_ticket_without_its_secret_is_worth_nothing(twin: Twin) {
    twin.two.serve_joins(Arc::new(Judge { used: false }));
    let mut guessed = ticket(&twin);
    guessed.secret = Secret([12; 16]);
    let outcome = twin.one.join(guessed, request()).await;
    assert_eq!(outcome, Err(JoinError::Refused(refused("the ticket is not known"))));
}

pub(super) async fn the_handler_refuses_in_its_own_words(twin: Twin) {
    twin.two.serve_joins(Arc::new(Judge { used: true }));
    let outcome = twin.one.join(ticket(&twin), request()).await;
    assert_eq!(outcome, Err(JoinError::Refused(refused("the ticket was used"))));
}

pub(super) async fn without_a_handler_nobody_joins(twin: Twin) {
    let outcome = twin.one.join(ticket(&twin), request()).await;
    assert!(matches!(outcome, Err(JoinError::Refused(_) | JoinError::NoContact(_))), "{outcome:?}");
}

pub(super) async fn the_first_contact_that_answers_decides(twin: Twin) {
    twin.two.serve_joins(Arc::new(Judge { used: false }));
    let mut with_dead_contact = ticket(&twin);
    // The right address with another key: the joiner must not talk to it.
    let other = Contact { address: twin.two_address, node: twin.absent };
    with_dead_contact.contacts.insert(0, other);
    assert!(twin.one.join(with_dead_contact, request()).await.is_ok());
}

pub(super) async fn a_contact_that_nobody_runs_is_no_contact(twin: Twin) {
    twin.two.serve_joins(Arc::new(Judge { used: false }));
    let mut wrong = ticket(&twin);
    wrong.contacts[0].node = twin.absent;
    let outcome = twin.one.join(wrong, request()).await;
    assert!(matches!(outcome, Err(JoinError::NoContact(_))), "{outcome:?}");
}

pub(super) async fn too_long_a_request_is_not_sent(twin: Twin) {
    twin.two.serve_joins(Arc::new(Judge { used: false }));
    let long = Bytes::from(vec![0; MAX_JOIN_BODY_BYTES + 1]);
    let outcome = twin.one.join(ticket(&twin), long).await;
    assert_eq!(outcome, Err(JoinError::TooLarge(MAX_JOIN_BODY_BYTES + 1)));
}
