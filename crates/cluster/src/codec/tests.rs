//! Round trips of everything that is encoded, and garbage.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use proptest::prelude::*;
use trine_types::{ClusterId, Incarnation};

use super::*;
use crate::assignments::Assignment;
use crate::command::{Answer, Command, Query};
use crate::nodes::{Applicant, BootId, StartReport};

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

fn command() -> impl Strategy<Value = Command> {
    let group = || (0_u16..4).prop_map(GroupId::partition);
    let ticket = || (0_u8..4).prop_map(|n| TicketId([n; 8]));
    let number = || (1_u64..6).prop_map(NodeNumber);
    prop_oneof![
        (1_u16..4, any::<[u8; 32]>(), applicant()).prop_map(|(partitions, issuer, founder)| {
            Command::Genesis { cluster: ClusterId([1; 16]), partitions, issuer, founder }
        }),
        (ticket(), any::<[u8; 32]>(), 0_u64..9_000, 0_u32..3)
            .prop_map(|(id, verifier, life_ms, uses)| Command::IssueTicket { id, verifier, life_ms, uses }),
        (ticket(), applicant()).prop_map(|(ticket, applicant)| Command::Admit { ticket, applicant }),
        start().prop_map(Command::Start),
        number().prop_map(|number| Command::Leave { number }),
        number().prop_map(|number| Command::Stay { number }),
        (number(), any::<bool>()).prop_map(|(number, force)| Command::Remove { number, force }),
        prop::collection::vec((group(), 0_u64..4, numbers()), 0..3)
            .prop_map(|changes| Command::Assign { changes }),
        (group(), 0_u64..4, numbers()).prop_map(|(group, revision, members)| Command::Settle {
            group,
            revision,
            members: members.into_iter().collect(),
        }),
        group().prop_map(|group| Command::Recreate { groups: vec![group] }),
        (0_u32..3).prop_map(|to| Command::RaiseLevel { to }),
        any::<[u8; 32]>().prop_map(|key| Command::RotateIssuer { key, endorsement: None }),
        any::<[u8; 32]>().prop_map(|key| Command::RetireIssuer { key }),
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
