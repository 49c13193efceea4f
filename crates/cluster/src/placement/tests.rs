//! Stories and properties of placement.

use proptest::prelude::*;

use super::*;

fn groups(count: u16) -> Vec<GroupId> {
    (0..count).map(GroupId::partition).collect()
}

fn nodes(count: u64) -> Vec<Candidate> {
    (1..=count).map(|n| Candidate { number: NodeNumber(n), weight: 100, zone: String::new() }).collect()
}

fn loads(places: &Places) -> BTreeMap<NodeNumber, usize> {
    let mut loads = BTreeMap::new();
    for node in places.values().flatten() {
        *loads.entry(*node).or_default() += 1;
    }
    loads
}

fn leads(places: &Places) -> BTreeMap<NodeNumber, usize> {
    let mut leads = BTreeMap::new();
    for node in places.values().filter_map(|r| r.first()) {
        *leads.entry(*node).or_default() += 1;
    }
    leads
}

fn moved(before: &Places, after: &Places) -> usize {
    after.iter().map(|(g, new)| new.iter().filter(|n| !before[g].contains(n)).count()).sum()
}

#[test]
fn one_two_three_nodes_hold_everything_and_lead_evenly() {
    let mut places = Places::new();
    for count in 1..=3 {
        places = plan(&nodes(count), &groups(16), 3, &places);
        assert!(places.values().all(|r| r.len() as u64 == count), "{places:?}");
        let leads = leads(&places);
        let (least, most) = (leads.values().min().expect("some"), leads.values().max().expect("some"));
        assert!(most - least <= 1, "{leads:?}");
    }
}

#[test]
fn a_fourth_node_takes_only_its_share() {
    let before = plan(&nodes(3), &groups(16), 3, &Places::new());
    let after = plan(&nodes(4), &groups(16), 3, &before);
    assert_eq!(moved(&before, &after), 12, "16 * 3 / 4");
    assert!(loads(&after).values().all(|&load| load == 12), "{:?}", loads(&after));
}

#[test]
fn a_plan_that_is_in_place_changes_nothing() {
    let once = plan(&nodes(5), &groups(32), 3, &Places::new());
    assert_eq!(plan(&nodes(5), &groups(32), 3, &once), once);
}

#[test]
fn replicas_spread_over_zones() {
    let mut six = nodes(6);
    for (n, node) in six.iter_mut().enumerate() {
        node.zone = ["a", "b", "c"][n / 2].to_owned();
    }
    let places = plan(&six, &groups(16), 3, &Places::new());
    for replicas in places.values() {
        let zones: BTreeSet<u64> = replicas.iter().map(|n| (n.0 - 1) / 2).collect();
        assert_eq!(zones.len(), 3, "{replicas:?}");
    }
}

#[test]
fn a_heavy_node_gets_more() {
    let mut four = nodes(4);
    four[0].weight = 300;
    let places = plan(&four, &groups(32), 1, &Places::new());
    let loads = loads(&places);
    assert!((16..=17).contains(&loads[&NodeNumber(1)]), "{loads:?}");
}

#[test]
fn losing_a_node_moves_only_what_it_held() {
    let before = plan(&nodes(5), &groups(20), 3, &Places::new());
    let held = before.values().filter(|r| r.contains(&NodeNumber(2))).count();
    let rest: Vec<_> = nodes(5).into_iter().filter(|n| n.number.0 != 2).collect();
    let after = plan(&rest, &groups(20), 3, &before);
    assert!(moved(&before, &after) <= held + 2, "{} moved, {held} held", moved(&before, &after));
}

fn any_nodes() -> impl Strategy<Value = Vec<Candidate>> {
    prop::collection::btree_map(1_u64..60, (1_u16..4, 0_u8..5), 1..12).prop_map(|map| {
        map.into_iter()
            .map(|(n, (weight, zone))| Candidate {
                number: NodeNumber(n),
                weight: weight * 100,
                zone: if zone == 0 { String::new() } else { format!("z{zone}") },
            })
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    /// Never fewer replicas than possible, never two on one node, zones as
    /// many as possible, and planning again changes nothing.
    #[test]
    fn plans_are_complete_and_stable(old in any_nodes(), new in any_nodes(), count in 1_u16..40, replicas in 1_usize..6) {
        let groups = groups(count);
        let before = plan(&old, &groups, replicas, &Places::new());
        let after = plan(&new, &groups, replicas, &before);
        let zone_of = |n: &NodeNumber| {
            let node = new.iter().find(|c| c.number == *n).expect("only candidates are placed");
            if node.zone.is_empty() { format!("/{n}") } else { node.zone.clone() }
        };
        let zones: BTreeSet<String> = new.iter().map(|c| zone_of(&c.number)).collect();
        for replicas_of in after.values() {
            let distinct: BTreeSet<_> = replicas_of.iter().collect();
            prop_assert_eq!(distinct.len(), replicas_of.len());
            prop_assert_eq!(replicas_of.len(), replicas.min(new.len()));
            let used: BTreeSet<_> = replicas_of.iter().map(zone_of).collect();
            prop_assert_eq!(used.len(), replicas_of.len().min(zones.len()));
        }
        let again = plan(&new, &groups, replicas, &after);
        prop_assert_eq!(again, after);
    }

    /// Without zones and with equal weights, loads and leads differ by at most one.
    #[test]
    fn equal_nodes_share_evenly(old in 1_u64..10, new in 1_u64..10, count in 1_u16..40, replicas in 1_usize..4) {
        let groups = groups(count);
        let before = plan(&nodes(old), &groups, replicas, &Places::new());
        let after = plan(&nodes(new), &groups, replicas, &before);
        for counts in [loads(&after), leads(&after)] {
            let all: Vec<usize> = nodes(new).iter().map(|n| counts.get(&n.number).copied().unwrap_or(0)).collect();
            let (least, most) = (all.iter().min().expect("some"), all.iter().max().expect("some"));
            prop_assert!(most - least <= 1, "{:?}", all);
        }
    }

    /// A node that joins takes its share; nothing moves between the others.
    #[test]
    fn a_joining_node_takes_only_its_share(old in 3_u64..10, count in 1_u16..40) {
        let groups = groups(count);
        let before = plan(&nodes(old), &groups, 3, &Places::new());
        let after = plan(&nodes(old + 1), &groups, 3, &before);
        let share = (groups.len() * 3).div_ceil(usize::try_from(old + 1).expect("small"));
        prop_assert!(moved(&before, &after) <= share, "{} > {share}", moved(&before, &after));
        for (group, replicas) in &after {
            for node in replicas.iter().filter(|n| !before[group].contains(n)) {
                prop_assert_eq!(node.0, old + 1);
            }
        }
    }
}
