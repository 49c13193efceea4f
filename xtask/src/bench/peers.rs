//! `cargo xtask bench peers`: messages side by side, in one run on one
//! machine, with what a user would pick instead: `nats-server`, alone and
//! three of them clustered.

use std::fmt::Write as _;
use std::path::Path;

use super::{load, load_average};
use crate::bench::machine;
use crate::command::{Trouble, installed, root};
use crate::servers::{Dev, Nats, ask};

mod generator;

use generator::Generator;
pub(crate) use generator::{Figure, Mode};

/// Where the table goes.
const PAGE: &str = "docs/bench/peers.md";

/// Requests of one node to another.
const DIRECT_COUNT: &str = "50000";

/// What is asked of all systems alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Work {
    /// Whether publishers and subscribers are on different nodes of three.
    pub(crate) across: bool,
    pub(crate) mode: Mode,
}

impl Work {
    /// Every size at 1:1; N:N and 1:N with four; requests.
    pub(crate) fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for across in [false, true] {
            for (publishers, subscribers) in [(1, 1), (1, 4), (4, 4)] {
                for size in [16, 256, 16 * 1024] {
                    all.push(Self { across, mode: Mode::Publish { publishers, subscribers, size } });
                }
            }
            all.push(Self { across, mode: Mode::Request });
        }
        all
    }

    fn title(self) -> String {
        let place = if self.across { "across nodes" } else { "one node" };
        format!("{place}, {}", self.shape())
    }

    /// Who and how much, without where.
    pub(crate) fn shape(self) -> String {
        match self.mode {
            Mode::Publish { publishers, subscribers, size } => {
                format!("{publishers}:{subscribers}, {size} B")
            }
            Mode::Request | Mode::Tcp => "request and reply, 16 B".to_owned(),
        }
    }
}

/// One row: what each system did with the same work.
pub(crate) struct Row {
    pub(crate) work: Work,
    pub(crate) trine: Figure,
    pub(crate) nats: Figure,
}

impl Row {
    /// Trine by nats-server: of rates, so that more is better; of medians, so
    /// that less is.
    pub(crate) fn ratio(&self) -> f64 {
        match self.work.mode {
            Mode::Publish { .. } => self.trine.rate / self.nats.rate,
            Mode::Request | Mode::Tcp => self.trine.p50 / self.nats.p50,
        }
    }
}

/// Everything that one run measures.
pub(crate) struct Measured {
    pub(crate) rows: Vec<Row>,
    /// Request and reply over a plain TCP connection.
    pub(crate) tcp: Figure,
    /// The same of a node to another, without clients.
    pub(crate) direct: Figure,
}

/// Servers of one system: one alone, and three that know each other.
struct Places {
    alone: u16,
    three: Vec<u16>,
}

impl Places {
    fn of(&self, work: Work) -> (Vec<u16>, Vec<u16>) {
        match (work.across, work.mode) {
            (false, _) => (vec![self.alone], vec![self.alone]),
            // Publishers are spread over all three, and so are subscribers.
            (true, Mode::Publish { publishers: 2.., .. }) => (self.three.clone(), self.three.clone()),
            (true, Mode::Publish { subscribers: 2.., .. }) => (vec![self.three[0]], self.three[1..].to_vec()),
            (true, _) => (vec![self.three[0]], vec![self.three[1]]),
        }
    }
}

/// Measures everything, one system after another for each kind of work.
pub(crate) fn measure() -> Result<Measured, Trouble> {
    let generator = Generator::build()?;
    let trine = installed()?;
    let (one, three) = (Dev::start(&trine, 1)?, Dev::start(&trine, 3)?);
    let door = |dev: &Dev| -> Result<Vec<u16>, Trouble> {
        let doors: Option<Vec<u16>> = dev.doors.iter().map(|door| door.nats).collect();
        doors.ok_or_else(|| Trouble::Unexpected("trine dev has no NATS door".to_owned()))
    };
    let ours = Places { alone: door(&one)?[0], three: door(&three)? };
    let (alone, clustered) = (Nats::alone()?, Nats::clustered()?);
    let theirs = Places { alone: alone.ports[0], three: clustered.ports.clone() };
    let mut rows = Vec::new();
    for work in Work::all() {
        eprintln!("{}: nats-server", work.title());
        let nats = generator.run(work.mode, &theirs.of(work))?;
        eprintln!("{}: trine", work.title());
        let trine = generator.run(work.mode, &ours.of(work))?;
        rows.push(Row { work, trine, nats });
    }
    let tcp = generator.run(Mode::Tcp, &(Vec::new(), Vec::new()))?;
    let direct = direct(&trine, &three.doors[0].data)?;
    Ok(Measured { rows, tcp, direct })
}

/// Lets the node in `data` ask another one, one request in flight.
fn direct(trine: &Path, data: &Path) -> Result<Figure, Trouble> {
    let ping = ["peer", "ping", "node2", "--bytes", "16", "--count", DIRECT_COUNT, "--json"];
    let report = ask(trine, data, &ping)?;
    let micros = |name: &str| report[name].as_f64().map(|ns| ns / 1_000.0);
    let times = micros("median_ns").zip(micros("p99_ns"));
    let (p50, p99) = times.ok_or_else(|| Trouble::Unexpected(format!("trine peer ping said: {report}")))?;
    Ok(Figure { rate: 1e6 / p50, p50, p99 })
}

/// Measures, prints the table and writes the page.
pub(crate) fn peers() -> Result<(), Trouble> {
    let busy = load_average();
    let page = page(&measure()?, &busy);
    println!("{page}");
    let path = root().join(PAGE);
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(Trouble::at(PAGE))?;
    }
    std::fs::write(&path, page).map_err(Trouble::at(PAGE))
}

/// The table with its method.
fn page(measured: &Measured, busy: &str) -> String {
    let mut page = String::from(include_str!("peers/method.md"));
    page.push_str("\n## Measured\n");
    let server = load::first_line("nats-server", &["--version"]);
    let _ = writeln!(page, "{} {server}. Load average of the machine before the run: {busy}.\n", machine());
    page.push_str("| work | Trine | nats-server | Trine : nats-server |\n|---|---|---|---|\n");
    for row in &measured.rows {
        let (trine, nats) = match row.work.mode {
            Mode::Publish { .. } => (row.trine.as_rate(), row.nats.as_rate()),
            Mode::Request | Mode::Tcp => (row.trine.as_times(), row.nats.as_times()),
        };
        let _ = writeln!(page, "| {} | {trine} | {nats} | {:.2} |", row.work.title(), row.ratio());
    }
    let _ = writeln!(
        page,
        "\nMessages per second that all subscribers together received: a higher ratio is better. Requests: \
         median / 99th percentile in microseconds: a lower ratio is better. The same request over a plain TCP \
         connection: {}; of a node to another, encrypted and without clients (`trine peer ping`): {}.",
        measured.tcp.as_times(),
        measured.direct.as_times()
    );
    page
}

#[cfg(test)]
mod tests {
    use super::{Figure, Measured, Mode, Row, Work, page};

    #[test]
    fn the_page_states_ratios_of_rates_and_of_medians() {
        let figure = |rate, p50| Figure { rate, p50, p99: 2.0 * p50 };
        let row = |mode| Row {
            work: Work { across: true, mode },
            trine: figure(300.0, 90.0),
            nats: figure(100.0, 100.0),
        };
        let publish = Mode::Publish { publishers: 4, subscribers: 4, size: 256 };
        let measured = Measured {
            rows: vec![row(publish), row(Mode::Request)],
            tcp: figure(1.0, 13.0),
            direct: figure(1.0, 30.0),
        };
        let page = page(&measured, "0.1");
        assert!(page.contains("| across nodes, 4:4, 256 B | 300 | 100 | 3.00 |"), "{page}");
        assert!(page.contains("| 90.0 / 180.0 | 100.0 / 200.0 | 0.90 |"), "{page}");
        assert!(page.contains("plain TCP connection: 13.0 / 26.0; of a node to"), "{page}");
        assert!(page.contains("(`trine peer ping`): 30.0 / 60.0."), "{page}");
    }
}
