//! What a client may do, told as short stories.

use std::sync::Arc;

use bytes::Bytes;
use trine_front::login::{Account, Credential, Principal};
use trine_types::Rights;

use super::{Granted, Greeting, Held, Publishing, Session};
use crate::nats::error::Refusal;

fn as_user(allow: &[&str], deny: &[&str]) -> Session<u64> {
    let rules = |texts: &[&str]| texts.iter().map(|text| text.parse().expect("a rule")).collect::<Vec<_>>();
    let rights = Arc::new(Rights::new(rules(allow), rules(deny)));
    let principal = Principal { name: "ann".into(), rights, account: Account::User(1), epoch: 0 };
    Session::new(Some(principal), 2)
}

fn hold(session: &mut Session<u64>, sid: &'static str, filter: &'static str) {
    let held = Held { filter: Bytes::from_static(filter.as_bytes()), queue: None, id: 1 };
    session.hold(Bytes::from_static(sid.as_bytes()), held);
}

#[test]
fn the_credential_that_a_client_shows() {
    let mut session: Session<u64> = Session::new(None, 2);
    assert_eq!(session.connect(b"{}", "n"), Ok(Greeting::Anonymous));
    let greeting = session.connect(b"{\"user\":\"a\",\"pass\":\"b\"}", "n");
    let password = Credential::Password { user: "a".into(), password: "b".into() };
    assert_eq!(greeting, Ok(Greeting::Login(password)));
    let greeting = session.connect(b"{\"auth_token\":\"t\"}", "n");
    assert_eq!(greeting, Ok(Greeting::Login(Credential::Token("t".into()))));
    assert_eq!(session.connect(b"{\"nkey\":\"UA\",\"sig\":\"AA\"}", "n"), Err(Refusal::Authorization));
    assert_eq!(session.connect(b"{\"nkey\":\"UA\"}", "n"), Err(Refusal::Authorization));
    let long = format!("{{\"auth_token\":\"{}\"}}", "t".repeat(600));
    assert_eq!(session.connect(long.as_bytes(), "n"), Err(Refusal::Authorization));
    assert!(!session.is_let_in());
}

#[test]
fn what_a_connect_cannot_ask_for() {
    let mut session: Session<u64> = Session::new(None, 2);
    assert_eq!(session.connect(b"{\"protocol\":2}", "n"), Err(Refusal::BadProtocol));
    let alone = b"{\"no_responders\":true}";
    assert_eq!(session.connect(alone, "n"), Err(Refusal::NoRespondersNeedsHeaders));
    assert_eq!(session.connect(b"7", "n"), Err(Refusal::BadConnect));
}

#[test]
fn publishing_needs_the_right_and_a_subject() {
    let mut session = as_user(&["publish:a.*"], &["publish:a.secret"]);
    assert_eq!(session.publish(b"a.b"), Publishing::Yes);
    assert_eq!(session.publish(b"a.secret"), Publishing::No(Refusal::Publish(b"a.secret".to_vec())));
    assert_eq!(session.publish(b"b"), Publishing::No(Refusal::Publish(b"b".to_vec())));
    assert_eq!(session.publish(b"a.*"), Publishing::No(Refusal::InvalidPublishSubject));
    session.connect(b"{\"pedantic\":false}", "").expect("a client");
    assert_eq!(session.publish(b"a.*"), Publishing::Nowhere);
    assert_eq!(Session::<u64>::new(None, 1).publish(b"a"), Publishing::No(Refusal::Authorization));
    // What nodes tell, nobody else tells, whatever their rights.
    let admin = as_user(&["data"], &[]);
    let event = b"_job.7.done";
    assert_eq!(admin.publish(event), Publishing::No(Refusal::Publish(event.to_vec())));
    assert_eq!(admin.publish(b"_jobs.7"), Publishing::Yes);
}

#[test]
fn a_wider_filter_is_granted_but_checked() {
    let session = as_user(&["subscribe:>"], &["subscribe:secret.>"]);
    assert_eq!(session.subscribe(b">", None, b"1"), Ok(Granted::Filtered));
    assert_eq!(session.subscribe(b"open.*", None, b"1"), Ok(Granted::Whole));
    let refused = session.subscribe(b"secret.*", Some(b"q"), b"1");
    assert_eq!(refused, Err(Refusal::Subscribe(b"secret.*".to_vec(), Some(b"q".to_vec()))));
    assert_eq!(session.subscribe(b"a..b", None, b"1"), Err(Refusal::InvalidSubject));
}

#[test]
fn subscriptions_are_counted_and_named_once() {
    let mut session = as_user(&["data"], &[]);
    hold(&mut session, "1", "a");
    assert_eq!(session.subscribe(b"b", None, b"1"), Ok(Granted::Again));
    hold(&mut session, "2", "b");
    assert_eq!(session.subscribe(b"c", None, b"3"), Err(Refusal::MaxSubscriptions));
    assert!(session.release(b"2").is_some() && session.release(b"2").is_none());
    assert_eq!(session.subscribe(b"c", None, b"3"), Ok(Granted::Whole));
}

#[test]
fn nobody_answers_where_the_answer_would_have_come() {
    let mut session = as_user(&["data"], &[]);
    hold(&mut session, "7", "_INBOX.x.*");
    assert_eq!(session.sid_for(b"_INBOX.x.1").map(|sid| &**sid), Some(&b"7"[..]));
    assert_eq!(session.sid_for(b"elsewhere"), None);
    assert_eq!(session.sid_for(b"_INBOX.x.*"), None);
}

#[test]
fn silence_is_counted() {
    let mut session = as_user(&[], &[]);
    assert!(session.ask_for_life(2) && session.ask_for_life(2) && !session.ask_for_life(2));
    session.is_alive();
    assert!(session.ask_for_life(2));
}
