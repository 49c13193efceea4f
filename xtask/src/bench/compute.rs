//! `cargo xtask bench compute`: jobs side by side, in one run on one machine,
//! with what a user would pick instead.
//!
//! | file | what |
//! |---|---|
//! | [`works`] | what is asked of all systems alike |
//! | [`systems`] | the systems, started and driven |
//! | [`nodes`] | nodes of Trine, started one by one |
//! | [`cost`] | processor time and memory of process trees |

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use super::{load, load_average, machine};
use crate::command::{Trouble, installed, root};

mod cost;
mod nodes;
mod systems;
mod works;

pub(crate) use cost::own_memory_mb;
pub(crate) use nodes::Nodes;
pub(crate) use systems::System;
use systems::{Loaded, Packages};
pub(crate) use works::{Figure, Part, Work};

/// Where the table goes.
const PAGE: &str = "docs/bench/compute.md";

/// What each system did with each work, or why it did not.
pub(crate) type Measured = BTreeMap<(Work, System), Result<Figure, String>>;

/// Measures the works whose name holds `only`, one system after the other.
pub(crate) fn measure(only: Option<&str>, part: Part) -> Result<(Measured, String), Trouble> {
    let trine = installed()?;
    let packages = Packages::open()?;
    let wanted = |work: &Work| only.is_none_or(|word| work.key().contains(word));
    let works: Vec<Work> = Work::ALL.into_iter().filter(wanted).collect();
    let mut measured = Measured::new();
    for system in System::PYTHON {
        let works: Vec<Work> = works.iter().copied().filter(|work| work.of(system)).collect();
        if works.is_empty() {
            continue;
        }
        eprintln!("{}: start", system.title());
        if let Err(why) = one(&packages, (system, &trine), (&works, part), &mut measured) {
            eprintln!("    {why}");
            for work in works {
                measured.entry((work, system)).or_insert_with(|| Err(why.clone()));
            }
        }
    }
    if works.contains(&Work::Processes) {
        for system in [System::Parallel, System::Xargs] {
            eprintln!("{}: processes", system.title());
            measured.insert((Work::Processes, system), systems::processes(system, None, &trine, part));
        }
    }
    Ok((measured, packages.versions()))
}

/// All works on one system.
fn one(
    packages: &Packages,
    (system, trine): (System, &Path),
    (works, part): (&[Work], Part),
    measured: &mut Measured,
) -> Result<(), String> {
    packages.install(system)?;
    let nodes = match system {
        System::Trine => Some(Nodes::start(trine, 3).map_err(|trouble| trouble.to_string())?),
        _ => None,
    };
    let mut loaded = Loaded::start(packages, system, nodes.as_ref(), part)?;
    for &work in works {
        eprintln!("{}: {}", system.title(), work.key());
        let figure = match work {
            Work::Processes => systems::processes(system, nodes.as_ref(), trine, part),
            _ => loaded.perform(work),
        };
        eprintln!("    {figure:?}");
        measured.insert((work, system), figure);
    }
    Ok(())
}

/// Measures, prints the tables and writes the page, if all works were measured.
pub(crate) fn compute(only: Option<&str>, part: Part) -> Result<(), Trouble> {
    let busy = load_average();
    let (measured, versions) = measure(only, part)?;
    let page = page(&measured, &versions, &busy);
    if part != Part::Whole {
        println!("A fifth of each work, whatever its title says:\n");
    }
    println!("{page}");
    if only.is_some() || part != Part::Whole {
        eprintln!("not all works were measured: {PAGE} stays as it is");
        return Ok(());
    }
    std::fs::write(root().join(PAGE), page).map_err(Trouble::at(PAGE))
}

/// The tables with their method.
fn page(measured: &Measured, versions: &str, busy: &str) -> String {
    let mut page = String::from(include_str!("compute/method.md"));
    page.push_str("\n## Measured\n");
    let parallel = load::first_line("parallel", &["--version"]);
    let _ = writeln!(
        page,
        "{} {versions}; {parallel}; {}. Load average of the machine before the run: {busy}.",
        machine(),
        load::first_line("python3", &["--version"])
    );
    for work in Work::ALL {
        if measured.keys().any(|(of, _)| *of == work) {
            section(work, measured, &mut page);
        }
    }
    page
}

/// One work: a row for each system.
fn section(work: Work, measured: &Measured, page: &mut String) {
    let _ = writeln!(page, "\n### {}\n", work.title());
    let trip = work == Work::Trip;
    let (head, columns) = match work {
        Work::Idle => ("| system | MB | Trine : it |\n", 3),
        Work::Trip => ("| system | median ms | p99 ms | CPU ms per task | median, Trine : it |\n", 5),
        _ => {
            ("| system | seconds | tasks/s | CPU ms per task | peak MB | not done | rate, Trine : it |\n", 7)
        }
    };
    let _ = writeln!(page, "{head}|{}", "---|".repeat(columns));
    let ours = measured.get(&(work, System::Trine)).and_then(|figure| figure.as_ref().ok());
    for ((_, system), figure) in measured.iter().filter(|((of, _), _)| *of == work) {
        let figure = match figure {
            Ok(figure) => figure,
            Err(why) => {
                let why: String = why.lines().collect::<Vec<_>>().join(" ").chars().take(200).collect();
                let _ = writeln!(page, "| {} | {why} |{}", system.title(), " |".repeat(columns - 2));
                continue;
            }
        };
        let ratio = ours.map_or_else(String::new, |ours| match work {
            Work::Idle => format!("{:.2}", ours.peak_mb / figure.peak_mb),
            Work::Trip => {
                median(ours).zip(median(figure)).map_or_else(String::new, |(a, b)| format!("{:.2}", a / b))
            }
            _ => format!("{:.2}", ours.rate() / figure.rate()),
        });
        let cells = match (work, figure.trip) {
            (Work::Idle, _) => match figure.node_mb {
                Some(node) => format!("{:.0}; one node without interpreters {node:.0}", figure.peak_mb),
                None => format!("{:.0}", figure.peak_mb),
            },
            (_, Some((median, p99))) if trip => format!("{median:.2} | {p99:.2} | {:.2}", figure.cpu_ms()),
            _ => {
                let memory =
                    if figure.peak_mb > 0.0 { format!("{:.0}", figure.peak_mb) } else { String::new() };
                // What a killed process has used is not to be had.
                let cpu =
                    if work == Work::Killed { String::new() } else { format!("{:.3}", figure.cpu_ms()) };
                format!("{:.2} | {:.0} | {cpu} | {memory} | {}", figure.wall, figure.rate(), figure.missing)
            }
        };
        let _ = writeln!(page, "| {} | {cells} | {ratio} |", system.title());
    }
}

fn median(figure: &Figure) -> Option<f64> {
    figure.trip.map(|(median, _)| median)
}

#[cfg(test)]
mod tests {
    use super::{Figure, Measured, System, Work, page};

    #[test]
    fn the_page_states_rates_costs_ratios_and_what_could_not_be_measured() {
        let figure = |wall, missing| Figure { wall, tasks: 100, missing, spent_ms: 50, ..Figure::default() };
        let trip = |median| Figure { trip: Some((median, 9.0)), ..figure(1.0, 0) };
        let measured = Measured::from([
            ((Work::Empty, System::Trine), Ok(figure(1.0, 0))),
            ((Work::Empty, System::Ray), Ok(figure(4.0, 20))),
            ((Work::Empty, System::Dask), Err("cannot be installed: no network".to_owned())),
            ((Work::Trip, System::Trine), Ok(trip(1.5))),
            ((Work::Trip, System::Pool), Ok(trip(0.5))),
        ]);
        let page = page(&measured, "ray 2", "0.1");
        assert!(page.contains("| Trine | 1.00 | 100 | 0.500 |  | 0 | 1.00 |"), "{page}");
        assert!(page.contains("| Ray | 4.00 | 20 | 0.500 |  | 20 | 5.00 |"), "{page}");
        assert!(page.contains("| Dask distributed | cannot be installed: no network |"), "{page}");
        assert!(page.contains("| ProcessPoolExecutor | 0.50 | 9.00 | 0.50 | 3.00 |"), "{page}");
    }
}
