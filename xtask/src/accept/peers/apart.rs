//! Nodes on hosts of their own: a link that is cut and comes back, and who
//! else is written to.

use std::time::Duration;

use crate::accept::Line;
use crate::command::Trouble;
use crate::faults::interest::{self, Healed};
use crate::faults::strangers;

/// Within this time of the end of a partition, interest is right again.
const RIGHT_WITHIN: Duration = Duration::from_secs(2);
/// Before TCP gives up by itself, the others give up who is cut off.
const GIVEN_UP_WITHIN: Duration = Duration::from_millis(2_500);
/// Cuts that TCP survives, and cuts that it does not.
const LENGTHS_MS: [u64; 6] = [2_700, 2_900, 4_000, 6_000, 10_000, 15_000];
const FEW_LENGTHS_MS: [u64; 2] = [2_700, 6_000];
/// How long nodes under load are watched.
const WATCHED: Duration = Duration::from_secs(10);

/// Interest after partitions of many lengths.
pub(super) fn partitions() -> Result<Vec<Line>, Trouble> {
    Ok(shown(&interest::partitions(&LENGTHS_MS.map(Duration::from_millis))?))
}

/// The same, fewer.
pub(super) fn some_partitions() -> Result<Vec<Line>, Trouble> {
    Ok(shown(&interest::partitions(&FEW_LENGTHS_MS.map(Duration::from_millis))?))
}

fn shown(cuts: &[Healed]) -> Vec<Line> {
    let each = |of: fn(&Healed) -> Option<Duration>| {
        let words = cuts.iter().map(|cut| match of(cut) {
            Some(took) => format!("{took:.2?} after a cut of {:.1?}", cut.cut_for),
            None => format!("never after a cut of {:.1?}", cut.cut_for),
        });
        words.collect::<Vec<_>>().join(", ")
    };
    let within = |of: fn(&Healed) -> Option<Duration>, limit| {
        cuts.iter().all(|cut| of(cut).is_some_and(|took| took <= limit))
    };
    let healed = cuts.iter().all(|cut| cut.right.is_some() && cut.arrived);
    let given_up = cuts.iter().all(|cut| cut.given_up.is_some());
    let figure = format!("{} cuts", cuts.len());
    vec![
        Line::of(given_up, "a node that is cut off in silence is given up while it is", figure.clone()),
        Line::of(healed, "what changed while a link was cut is known after, and arrives", figure),
        Line::timed(
            within(|cut| cut.given_up, GIVEN_UP_WITHIN),
            "a node that is cut off is given up before TCP does (2.5 s)",
            each(|cut| cut.given_up),
        ),
        Line::timed(
            within(|cut| cut.right, RIGHT_WITHIN),
            "after a partition of the mesh interest is right again within 2 s",
            each(|cut| cut.right),
        ),
    ]
}

/// Three nodes under load write to each other and to nobody else.
pub(super) fn nobody_else() -> Result<Vec<Line>, Trouble> {
    let crossed = strangers::crossed(WATCHED)?;
    let others: Vec<String> = crossed.outside.iter().map(|(to, count)| format!("{count} to {to}")).collect();
    let figure = format!(
        "{} frames among 3 hosts, to others: {}; a packet of our own to outside was seen: {}",
        crossed.among,
        if others.is_empty() { "none".to_owned() } else { others.join(", ") },
        crossed.control
    );
    let holds = crossed.outside.is_empty() && crossed.control && crossed.among > 0;
    Ok(vec![Line::of(holds, "no packet leaves to an address outside the configured peers", figure)])
}
