//! Stories of rights, and what holds for any rules.

use proptest::prelude::*;

use super::{Rights, Subscribing};
use crate::rule::{Access, Rule};

fn rights(allow: &[&str], deny: &[&str]) -> Rights {
    let rules =
        |texts: &[&str]| texts.iter().map(|text| text.parse().expect("a rule")).collect::<Vec<Rule>>();
    Rights::new(rules(allow), rules(deny))
}

#[test]
fn a_denial_wins() {
    let rights = rights(
        &["publish:orders.>", "key:app:*", "command:@all"],
        &["publish:orders.secret", "write:app:config", "command:flushall", "command:config|set"],
    );
    assert!(rights.may_publish(b"orders.eu.1") && !rights.may_publish(b"orders.secret"));
    assert!(!rights.may_publish(b"other"));
    assert!(rights.may_read_key(b"app:config") && !rights.may_write_key(b"app:config"));
    assert!(rights.may_write_key(b"app:1") && !rights.may_read_key(b"apq"));
    assert!(rights.may_run("get", None, &["read"]) && !rights.may_run("flushall", None, &[]));
    assert!(rights.may_run("config", Some("get"), &[]) && !rights.may_run("config", Some("set"), &[]));
    assert!(!rights.is_admin() && !rights.may_use_jobs("any"));
}

#[test]
fn a_wide_subscriber_sees_nothing_that_is_denied() {
    let rights = rights(&["subscribe:>"], &["subscribe:secret.>"]);
    assert_eq!(rights.may_subscribe(b">", None), Subscribing::Filtered);
    assert_eq!(rights.may_subscribe(b"*.a", None), Subscribing::Filtered);
    assert_eq!(rights.may_subscribe(b"open.*", None), Subscribing::Whole);
    assert_eq!(rights.may_subscribe(b"secret.*", None), Subscribing::Refused);
    assert!(rights.may_receive(b"open.a", None) && !rights.may_receive(b"secret.a", None));
}

#[test]
fn a_filter_wider_than_what_is_allowed_is_refused() {
    let rights = rights(&["subscribe:orders.*"], &[]);
    assert_eq!(rights.may_subscribe(b"orders.eu", None), Subscribing::Whole);
    for wider in [&b">"[..], b"orders.>", b"*.eu"] {
        assert_eq!(rights.may_subscribe(wider, None), Subscribing::Refused);
    }
}

#[test]
fn queues_are_allowed_and_denied_by_name() {
    let allowed = rights(&["subscribe:foo", "subscribe:foo v1", "subscribe:foo *.dev"], &[]);
    assert_eq!(allowed.may_subscribe(b"foo", None), Subscribing::Whole);
    assert_eq!(allowed.may_subscribe(b"foo", Some(b"v1")), Subscribing::Whole);
    assert_eq!(allowed.may_subscribe(b"foo", Some(b"a.dev")), Subscribing::Whole);
    assert_eq!(allowed.may_subscribe(b"foo", Some(b"v2")), Subscribing::Refused);
    let only = rights(&["subscribe:foo v1"], &[]);
    assert_eq!(only.may_subscribe(b"foo", None), Subscribing::Refused);
    let denied = rights(&["subscribe:>"], &["subscribe:foo v1"]);
    assert_eq!(denied.may_subscribe(b"foo", Some(b"v1")), Subscribing::Refused);
    assert_eq!(denied.may_subscribe(b"foo", Some(b"v2")), Subscribing::Whole);
    assert_eq!(denied.may_subscribe(b"foo", None), Subscribing::Whole);
}

#[test]
fn everything_data_and_nothing() {
    for (rights, data, admin) in
        [(Rights::everything(), true, true), (Rights::data(), true, false), (Rights::nothing(), false, false)]
    {
        assert_eq!(rights.may_publish(b"a"), data);
        assert_eq!(rights.may_subscribe(b">", None) == Subscribing::Whole, data);
        assert_eq!(rights.may_write_key(b"a"), data);
        assert_eq!(rights.may_run("flushall", None, &["dangerous"]), data);
        assert_eq!(rights.may_use_channel(b"a"), data);
        assert_eq!(rights.may_use_jobs("a"), data);
        assert_eq!(rights.is_admin(), admin);
    }
    assert!(!rights(&["everything"], &["admin"]).is_admin());
}

#[test]
fn what_is_no_rule_says_what_would_be() {
    for (text, wanted) in [
        ("", "everything"),
        ("keys:*", "key:PATTERN"),
        ("publish:a..b", "subject"),
        ("subscribe:a b c", "subject"),
        ("key:", "pattern"),
        ("command:a|b|c", "command"),
        ("command:@a|b", "command"),
        (&"a".repeat(600), "512"),
    ] {
        let error = text.parse::<Rule>().expect_err(text).to_string();
        assert!(error.contains(wanted), "{text}: {error}");
    }
    assert_eq!("command:GET".parse(), Ok(Rule::Command("get".into())));
}

fn filter() -> impl Strategy<Value = String> {
    let token = prop_oneof![Just("a"), Just("b"), Just("*")];
    (prop::collection::vec(token, 1..4), any::<bool>())
        .prop_map(|(tokens, rest)| tokens.join(".") + if rest { ".>" } else { "" })
}

fn subject() -> impl Strategy<Value = String> {
    prop::collection::vec(prop_oneof![Just("a"), Just("b")], 1..5).prop_map(|tokens| tokens.join("."))
}

fn rule() -> impl Strategy<Value = Rule> {
    let access = prop_oneof![Just(Access::Read), Just(Access::Write), Just(Access::Both)];
    prop_oneof![
        1 => prop_oneof![Just(Rule::Everything), Just(Rule::Data), Just(Rule::Admin)],
        2 => filter().prop_map(Rule::Subject),
        2 => filter().prop_map(Rule::Publish),
        3 => (filter(), prop::option::of("[a-c]")).prop_map(|(filter, queue)| Rule::Subscribe(filter, queue)),
        2 => (access, "[a-c*?]{1,4}").prop_map(|(access, pattern)| Rule::Key(access, pattern)),
        1 => "[a-c]{1,3}(\\|[a-c])?".prop_map(Rule::Command),
        1 => "[a-c]{1,3}".prop_map(Rule::Category),
        1 => "[a-c*]{1,4}".prop_map(Rule::Channel),
        1 => "[a-c*]{1,4}".prop_map(Rule::Jobs),
    ]
}

fn rules() -> impl Strategy<Value = Vec<Rule>> {
    prop::collection::vec(rule(), 0..6)
}

proptest! {
    #[test]
    fn rules_survive_their_text(rule in rule()) {
        prop_assert_eq!(rule.to_string().parse(), Ok(rule));
    }

    #[test]
    fn text_never_panics(text in "(subject|subscribe|key|command|jobs)?:?[a-b.*>@| ]{0,12}") {
        if let Ok(rule) = text.parse::<Rule>() {
            prop_assert_eq!(rule.to_string().parse(), Ok(rule));
        }
    }

    /// Whoever was let in sees a subject only if no rule denies it and some
    /// rule allows it.
    #[test]
    fn no_denied_subject_is_ever_seen(
        allow in rules(), deny in rules(), filter in filter(), subject in subject(),
        queue in prop::option::of("[a-c]"),
    ) {
        let rights = Rights::new(allow, deny);
        let queue = queue.as_deref().map(str::as_bytes);
        let subscribing = rights.may_subscribe(filter.as_bytes(), queue);
        if subscribing != Subscribing::Refused && crate::subject::matches(filter.as_bytes(), subject.as_bytes()) {
            let alone = rights.may_subscribe(subject.as_bytes(), queue) != Subscribing::Refused;
            let seen = rights.may_receive(subject.as_bytes(), queue);
            // What may not be had alone may not be had through a wider filter.
            prop_assert!(alone || !seen || queue.is_some());
            prop_assert!(subscribing == Subscribing::Filtered || seen);
        }
    }

    /// One more denial never gives anything; one more allowance never takes
    /// anything (but for queues, where naming one narrows).
    #[test]
    fn denials_only_take(
        allow in rules(), deny in rules(), more in rule(), subject in subject(), key in "[a-c]{0,3}",
    ) {
        let before = Rights::new(allow.clone(), deny.clone());
        let after = Rights::new(allow, deny.into_iter().chain([more]));
        let (subject, key) = (subject.as_bytes(), key.as_bytes());
        prop_assert!(before.may_publish(subject) || !after.may_publish(subject));
        prop_assert!(before.may_receive(subject, None) || !after.may_receive(subject, None));
        prop_assert!(before.may_read_key(key) || !after.may_read_key(key));
        prop_assert!(before.may_write_key(key) || !after.may_write_key(key));
        prop_assert!(before.may_run("a", None, &["b"]) || !after.may_run("a", None, &["b"]));
        prop_assert!(before.is_admin() || !after.is_admin());
    }

    /// The quick answers agree with the rules.
    #[test]
    fn what_is_open_is_allowed(allow in rules(), deny in rules(), subject in subject(), key in "[a-c]{0,3}") {
        let rights = Rights::new(allow, deny);
        let slow = Rights { open: super::Open::default(), ..rights.clone() };
        let (subject, key) = (subject.as_bytes(), key.as_bytes());
        prop_assert_eq!(rights.may_publish(subject), slow.may_publish(subject));
        prop_assert_eq!(rights.may_read_key(key), slow.may_read_key(key));
        prop_assert_eq!(rights.may_write_key(key), slow.may_write_key(key));
        prop_assert_eq!(rights.may_run("a", None, &["b"]), slow.may_run("a", None, &["b"]));
        prop_assert_eq!(rights.may_subscribe(subject, None), slow.may_subscribe(subject, None));
        prop_assert_eq!(rights.may_receive(subject, None), slow.may_receive(subject, None));
    }
}
