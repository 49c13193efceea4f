//! The bench's promises. The table itself is written by `cargo xtask bench peers`.

use crate::accept::Line;
use crate::bench::peers::{Mode, Row, measure};
use crate::command::Trouble;

const REQUEST_RATIO: f64 = 0.8;
/// 40 us where plain TCP takes 13.
const DIRECT_RATIO: f64 = 40.0 / 13.0;

/// Every row of the bench, and the worst of each kind.
pub(super) fn thresholds() -> Result<Vec<Line>, Trouble> {
    let measured = measure()?;
    let mut lines = Vec::new();
    for (across, place) in [(false, "on one node"), (true, "across nodes")] {
        let here: Vec<&Row> = measured.rows.iter().filter(|row| row.work.across == across).collect();
        let publishing = |row: &&&Row| matches!(row.work.mode, Mode::Publish { .. });
        let list: Vec<String> = here
            .iter()
            .filter(publishing)
            .map(|row| format!("{} {:.2}", row.work.shape(), row.ratio()))
            .collect();
        let holds = here.iter().filter(publishing).all(|row| row.ratio() >= 1.0);
        let name = format!("publish to subscribe {place}: at least nats-server's rate");
        lines.push(Line::of(holds, &name, list.join(", ")));
        for row in here.iter().filter(|row| row.work.mode == Mode::Request) {
            let name = format!("request and reply {place}: at most 0.8 of nats-server's median");
            let (trine, nats) = (row.trine.as_times(), row.nats.as_times());
            let figure = format!("{trine} us, nats-server {nats} us; ratio {:.2}", row.ratio());
            lines.push(Line::of(row.ratio() <= REQUEST_RATIO, &name, figure));
        }
    }
    let (direct, tcp) = (&measured.direct, &measured.tcp);
    let name = "direct request between nodes: under 40 us median where plain TCP takes 13 us";
    let figure = format!("{} us, plain TCP {} us", direct.as_times(), tcp.as_times());
    lines.push(Line::of(direct.p50 < DIRECT_RATIO * tcp.p50, name, figure));
    Ok(lines)
}
