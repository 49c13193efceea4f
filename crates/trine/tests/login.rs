//! Logins on a real node: guessing is slowed by count and by the clock, and a
//! login ends with what it stands on.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use trine::node::Node;
use trine_cluster::MetaState;
use trine_cluster::passwords::PasswordHash;
use trine_cluster::users::UserSpec;
use trine_front::{Credential, Login, LoginRefused};
use trine_storage::OrderedStore;
use trine_types::Rights;

mod lone;

const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
/// Whoever guesses gets no more tries than this in an hour.
const GUESSES_IN_AN_HOUR: u32 = 740;

fn password(text: &str) -> Credential {
    Credential::Password { user: "ann".into(), password: text.into() }
}

/// Waits until the node's own view of `meta` says so.
async fn heard(node: &Node, says: impl FnMut(&Arc<MetaState>) -> bool) {
    node.cluster.meta().wait_for(says).await.expect("the node runs");
}

async fn with_ann() -> Node {
    let node = lone::node(OrderedStore::new(1)).await;
    let hash = PasswordHash::make(b"right", [1; 16]).expect("a password");
    let spec =
        UserSpec { enabled: true, passwords: vec![hash], rights: Rights::data(), ..UserSpec::default() };
    node.cluster.add_user("ann", spec).await.expect("added");
    heard(&node, |meta| meta.users.contains_key("ann")).await;
    node
}

#[tokio::test]
async fn whoever_guesses_is_slowed_and_others_are_not() {
    let node = with_ann().await;
    assert!(node.logins.login(HERE, password("right")).await.is_ok());
    let stranger = IpAddr::from([192, 0, 2, 1]);
    let token = || Credential::Token("trine_guess".into());
    tokio::time::pause();
    let (began, mut guesses) = (Instant::now(), 0);
    while began.elapsed() < Duration::from_hours(1) {
        match node.logins.login(stranger, token()).await {
            Err(LoginRefused::Wrong) => guesses += 1,
            Err(LoginRefused::Slowed(wait)) => tokio::time::advance(wait).await,
            other => panic!("{other:?}"),
        }
    }
    assert!(guesses > 10 && guesses < GUESSES_IN_AN_HOUR, "{guesses}");
    // The loop ended as soon as it might try again.
    assert_eq!(node.logins.login(stranger, token()).await, Err(LoginRefused::Wrong));
    assert!(matches!(node.logins.login(stranger, password("right")).await, Err(LoginRefused::Slowed(_))));
    assert!(node.logins.login(HERE, password("right")).await.is_ok(), "another source is not slowed");
}

#[tokio::test]
async fn a_login_ends_with_its_user() {
    let node = with_ann().await;
    assert_eq!(node.logins.anonymous(HERE), None, "there are users");
    let mut changes = node.logins.changes();
    let ann = node.logins.login(HERE, password("right")).await.expect("right");
    assert_eq!(node.logins.renew(&ann).as_ref(), Some(&ann));
    changes.borrow_and_update();
    node.cluster.remove_user("ann").await.expect("removed");
    changes.changed().await.expect("surfaces are told");
    assert_eq!(node.logins.renew(&ann), None);
    assert_eq!(node.logins.login(HERE, password("right")).await, Err(LoginRefused::Wrong));
}

#[tokio::test]
async fn a_stolen_token_is_of_no_use_once_it_is_replaced() {
    let node = with_ann().await;
    let stolen = node.cluster.add_token("app", Rights::data(), None).await.expect("added").secret.to_string();
    let mut changes = node.logins.changes();
    let show = |secret: &str| node.logins.login(HERE, Credential::Token(secret.to_owned()));
    heard(&node, |meta| meta.tokens.contains_key("app")).await;
    let thief = show(&stolen).await.expect("good");
    changes.borrow_and_update();
    let fresh = node.cluster.rotate_token("app", None).await.expect("replaced").secret.to_string();
    changes.changed().await.expect("surfaces are told");
    assert_eq!(node.logins.renew(&thief), None);
    assert_eq!(show(&stolen).await, Err(LoginRefused::Wrong));
    assert!(show(&fresh).await.is_ok());
}

#[tokio::test]
async fn a_token_ends_by_itself() {
    let node = with_ann().await;
    let mut changes = node.logins.changes();
    let life = Some(Duration::from_secs(1));
    let secret = node.cluster.add_token("app", Rights::data(), life).await.expect("added").secret.to_string();
    let show = || node.logins.login(HERE, Credential::Token(secret.clone()));
    heard(&node, |meta| meta.tokens.contains_key("app")).await;
    let bearer = show().await.expect("good");
    while node.logins.renew(&bearer).is_some() {
        changes.changed().await.expect("surfaces are told");
    }
    assert_eq!(show().await, Err(LoginRefused::Wrong));
}
