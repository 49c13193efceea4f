//! Round trips of everything that is encoded, and garbage.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use proptest::prelude::*;
use trine_types::{ClusterId, Incarnation, Rights};

use super::*;
use crate::assignments::Assignment;
use crate::command::{Answer, Command, Query};
use crate::nodes::{Applicant, BootId, StartReport};
use crate::passwords::PasswordHash;
use crate::tokens::NewSecret;
use crate::users::{Based, UserSpec};

fn address() -> impl Strategy<Value = SocketAddr> {
    (any::<[u8; 16]>(), any::<u16>(), any::<bool>()).prop_map(|(ip, port, four)| {
        if four {
            SocketAddr::from(([ip[0], ip[1], ip[2], ip[3]], port))
        } else {
            SocketAddr::from((ip, port))
        }
    })
}

fn applicant() -> impl Strategy<Value = Applicant> {
    let addresses = prop::collection::vec(address(), 0..4);
    (any::<[u8; 32]>(), "[a-z]{1,12}", "[a-z]{0,3}", 1_u16..500, addresses, 1_u32..3).prop_map(
        |(id, name, zone, weight, addresses, features)| Applicant {
            id: NodeId(id),
            name,
            zone,
            weight,
            addresses,
            features,
        },
    )
}

fn start() -> impl Strategy<Value = StartReport> {
    let clients = prop::collection::btree_map("[a-z]{1,6}", address(), 0..3);
    (1_u64..5, 0_u64..9, any::<u64>(), prop::collection::vec(address(), 0..3), clients).prop_map(
        |(number, incarnation, boot, addresses, clients)| StartReport {
            number: NodeNumber(number),
            incarnation: Incarnation(incarnation),
            boot: BootId(boot),
            addresses,
            clients,
            features: 1,
            issuer: [2; 32],
        },
    )
}

fn numbers() -> impl Strategy<Value = Vec<NodeNumber>> {
    prop::collection::vec((1_u64..6).prop_map(NodeNumber), 0..4)
}

fn rights() -> impl Strategy<Value = Rights> {
    let rule = prop_oneof![Just("data"), Just("publish:a.>"), Just("read:a*"), Just("command:@read")];
    let rules = || prop::collection::vec(rule.clone(), 0..3);
    (rules(), rules()).prop_map(|(allow, deny)| {
        let parse =
            |rules: Vec<&str>| rules.into_iter().filter_map(|rule| rule.parse().ok()).collect::<Vec<_>>();
        Rights::new(parse(allow), parse(deny))
    })
}

fn user() -> impl Strategy<Value = UserSpec> {
    let hash = (any::<[u8; 16]>(), any::<[u8; 32]>()).prop_map(|(salt, hash)| PasswordHash {
        salt,
        hash,
        ..PasswordHash::of_nobody()
    });
    let nkeys = prop::collection::btree_set(any::<[u8; 32]>(), 0..3);
    (any::<bool>(), any::<bool>(), prop::collection::vec(hash, 0..6), nkeys, rights()).prop_map(
        |(enabled, open, passwords, nkeys, rights)| UserSpec { enabled, open, passwords, nkeys, rights },
    )
}

fn about_logins() -> impl Strategy<Value = Command> {
    let name = || "[a-c ]";
    let based = prop_oneof![
        Just(Based::New),
        (0_u64..9, 0_u64..2).prop_map(|(number, revision)| Based::On { number, revision })
    ];
    let secret = || {
        (any::<[u8; 32]>(), prop::option::of(500_u64..5_000))
            .prop_map(|(verifier, life_ms)| NewSecret { verifier, life_ms })
    };
    let command = prop_oneof![
        (name(), user(), based, any::<bool>()).prop_map(|(name, spec, based, cut)| Command::PutUser {
            name,
            spec,
            based,
            cut
        }),
        name().prop_map(|name| Command::RemoveUser { name }),
        (name(), rights(), secret()).prop_map(|(name, rights, secret)| Command::AddToken {
            name,
            rights,
            secret
        }),
        (name(), secret()).prop_map(|(name, secret)| Command::RotateToken { name, secret }),
        name().prop_map(|name| Command::RemoveToken { name }),
    ];
    (command, prop::option::of("[a-c]{1,3}")).prop_map(|(command, who)| match who {
        Some(who) => Command::Audited { who, command: Box::new(command) },
        None => command,
    })
}

fn command() -> impl Strategy<Value = Command> {
    let group = || (0_u16..4).prop_map(GroupId::partition);
    let ticket = || (0_u8..4).prop_map(|n| TicketId([n; 8]));
    let number = || (1_u64..6).prop_map(NodeNumber);
    prop_oneof![
        1 => (1_u16..4, any::<[u8; 32]>(), applicant()).prop_map(|(partitions, issuer, founder)| {
            Command::Genesis { cluster: ClusterId([1; 16]), partitions, issuer, founder }
        }),
        1 => (ticket(), any::<[u8; 32]>(), 0_u64..9_000, 0_u32..3)
            .prop_map(|(id, verifier, life_ms, uses)| Command::IssueTicket { id, verifier, life_ms, uses }),
        1 => (ticket(), applicant()).prop_map(|(ticket, applicant)| Command::Admit { ticket, applicant }),
        1 => start().prop_map(Command::Start),
        1 => number().prop_map(|number| Command::Leave { number }),
        1 => number().prop_map(|number| Command::Stay { number }),
        1 => (number(), any::<bool>()).prop_map(|(number, force)| Command::Remove { number, force }),
        1 => prop::collection::vec((group(), 0_u64..4, numbers()), 0..3)
            .prop_map(|changes| Command::Assign { changes }),
        1 => (group(), 0_u64..4, numbers()).prop_map(|(group, revision, members)| Command::Settle {
            group,
            revision,
            members: members.into_iter().collect(),
        }),
        1 => group().prop_map(|group| Command::Recreate { groups: vec![group] }),
        1 => (0_u32..3).prop_map(|to| Command::RaiseLevel { to }),
        1 => any::<[u8; 32]>().prop_map(|key| Command::RotateIssuer { key, endorsement: None }),
        1 => any::<[u8; 32]>().prop_map(|key| Command::RetireIssuer { key }),
        4 => about_logins(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn commands_survive_their_bytes(command in command()) {
        prop_assert_eq!(decode::<Command>(&encode(&command), "command"), Ok(command));
    }

    /// Any history of commands: the rows always rebuild the state, a refusal
    /// changes nothing, and what must always hold, holds.
    #[test]
    fn rows_rebuild_the_state(commands in prop::collection::vec(command(), 1..60)) {
        let mut state = MetaState::default();
        let mut rows: BTreeMap<Bytes, Bytes> = BTreeMap::new();
        let founder = Applicant {
            id: NodeId([1; 32]), name: "a".into(), zone: String::new(), weight: 1, addresses: vec![], features: 1,
        };
        let genesis = Command::Genesis { cluster: ClusterId([1; 16]), partitions: 4, issuer: [2; 32], founder };
        for (now_ms, command) in (1_000..).step_by(100).zip(std::iter::once(genesis).chain(commands)) {
            let before = state.clone();
            let answer = state.apply(now_ms, command);
            if matches!(answer, Answer::Refused(_)) {
                prop_assert_eq!(&before, &state);
            }
            for (key, value) in changes(&before, &state) {
                prop_assert!(key[0] != 0);
                match value {
                    Some(value) => drop(rows.insert(key, value)),
                    None => drop(rows.remove(&key)),
                }
            }
            let rebuilt = decode_rows(rows.iter().map(|(k, v)| (&k[..], &v[..])));
            prop_assert_eq!(rebuilt.as_ref(), Ok(&state));
            prop_assert!(!state.nodes.is_empty());
            let names: BTreeSet<_> = state.nodes.values().map(|n| &n.name).collect();
            prop_assert_eq!(names.len(), state.nodes.len());
            prop_assert!(state.nodes.values().all(|n| !state.revoked.contains_key(&n.id)));
            for Assignment { replicas, .. } in state.assignments.values() {
                prop_assert!(replicas.iter().all(|n| state.nodes.contains_key(n)));
            }
        }
    }

    #[test]
    fn garbage_is_an_error(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        let _ = decode::<Command>(&bytes, "command");
        let _ = decode::<Query>(&bytes, "query");
        let _ = decode::<Answer>(&bytes, "answer");
        let _ = decode_rows([(&bytes[..], &bytes[..])]);
    }
}
