//! What to tell the user: a table of numbers of nodes, and one to take.

use super::fit::{Fit, Term, float};

/// More nodes are recommended only if they save more than this part of the
/// time.
const SAVES: f64 = 0.1;
/// More rows than this no table has: 2^63 nodes.
const MAX_ROWS: usize = 64;

/// What running without a cluster was measured to take.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Local {
    /// Mean seconds of one task, started directly.
    pub task_seconds: f64,
    /// How many run side by side.
    pub slots: u64,
}

impl Local {
    /// How long so many tasks take.
    #[must_use]
    pub fn seconds(&self, tasks: u64) -> f64 {
        float(tasks.div_ceil(self.slots.max(1))) * self.task_seconds
    }
}

/// What is asked.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Question {
    /// How many tasks.
    pub tasks: u64,
    /// Mean seconds of one, as a worker executes it.
    pub task_seconds: f64,
    /// How many run side by side on a node.
    pub slots: u64,
    /// How many nodes there are.
    pub most: u64,
    /// What the master was measured to spend on one task: no number of nodes
    /// makes it less. Zero if nobody measured.
    pub master_seconds: f64,
    /// What running without a cluster takes, if that was measured.
    pub local: Option<Local>,
}

/// What most of the time goes to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bottleneck {
    /// A term of the model.
    Part(Term),
    /// The master, which handles one task after the other.
    Assignment,
}

impl Bottleneck {
    /// As in "limited by …".
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Part(term) => term.name(),
            Self::Assignment => "assignment by the master",
        }
    }
}

/// One line of the table.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Row {
    /// So many nodes.
    pub nodes: u64,
    /// Take so long.
    pub seconds: f64,
    /// Of what they could do, this part is the tasks' own work.
    pub efficiency: f64,
    /// What most of it goes to.
    pub bottleneck: Bottleneck,
}

/// What to take.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Choice {
    /// No cluster: it would lose, or win too little.
    Local {
        /// What that takes.
        seconds: f64,
    },
    /// So many nodes; more would save little.
    Nodes(u64),
}

/// The answer of `plan`.
#[derive(Clone, PartialEq, Debug)]
pub struct Advice {
    /// 1, 2, 4 … and all nodes.
    pub rows: Vec<Row>,
    /// What to take.
    pub choice: Choice,
}

/// Answers it, by a model of the same job.
#[must_use]
pub fn advise(fit: &Fit, question: &Question) -> Advice {
    let most = question.most.max(1);
    let mut counts: Vec<u64> =
        std::iter::successors(Some(1_u64), |nodes| nodes.checked_mul(2)).take(MAX_ROWS).collect();
    counts.retain(|nodes| *nodes < most);
    counts.push(most);
    let rows: Vec<Row> = counts.into_iter().map(|nodes| row(fit, question, nodes)).collect();
    let choice = choose(&rows, question.local.map(|local| local.seconds(question.tasks)));
    Advice { rows, choice }
}

fn row(fit: &Fit, question: &Question, nodes: u64) -> Row {
    let (modelled, tasks) = (fit.seconds(nodes, question.tasks), float(question.tasks));
    let assignment = tasks * question.master_seconds;
    let seconds = modelled.max(assignment);
    let work = tasks * question.task_seconds / float(nodes.saturating_mul(question.slots.max(1)));
    let largest = fit.parts(nodes, question.tasks).into_iter().max_by(|a, b| a.1.total_cmp(&b.1));
    Row {
        nodes,
        seconds,
        efficiency: if seconds > 0.0 { (work / seconds).min(1.0) } else { 0.0 },
        bottleneck: if assignment > modelled {
            Bottleneck::Assignment
        } else {
            Bottleneck::Part(largest.map_or(Term::Work, |(term, _)| term))
        },
    }
}

fn choose(rows: &[Row], local: Option<f64>) -> Choice {
    let fastest = rows.iter().map(|row| row.seconds).fold(f64::INFINITY, f64::min);
    let enough = fastest / (1.0 - SAVES);
    match local {
        Some(seconds) if seconds <= enough => Choice::Local { seconds },
        _ => Choice::Nodes(rows.iter().find(|row| row.seconds <= enough).map_or(1, |row| row.nodes)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::fit::{Fit, Sample, Term};
    use super::{Bottleneck, Choice, Local, Question, advise};

    /// Half a second to start, `task` seconds each, a tenth of a second of the
    /// master for each node.
    fn fit(task: f64) -> Fit {
        let sizes = [(1_u32, 10_u32), (2, 20), (2, 80), (4, 40), (8, 40), (8, 160)];
        let samples = sizes.map(|(nodes, tasks)| Sample {
            nodes: nodes.into(),
            tasks: tasks.into(),
            seconds: 0.5 + task * f64::from(tasks) / f64::from(nodes) + 0.1 * f64::from(nodes),
        });
        Fit::new(&samples, 64).expect("enough samples")
    }

    const QUESTION: Question =
        Question { tasks: 10_000, task_seconds: 1.0, slots: 1, most: 50, master_seconds: 0.0, local: None };

    #[test]
    fn long_work_takes_many_nodes_until_they_save_little() {
        let local = Some(Local { task_seconds: 1.0, slots: 1 });
        let advice = advise(&fit(1.0), &Question { local, ..QUESTION });
        let nodes: Vec<u64> = advice.rows.iter().map(|row| row.nodes).collect();
        assert_eq!(nodes, [1, 2, 4, 8, 16, 32, 50]);
        assert_eq!(advice.choice, Choice::Nodes(50));
        let work = Bottleneck::Part(Term::Work);
        assert!(advice.rows.iter().all(|row| row.bottleneck == work && row.efficiency > 0.9), "{advice:#?}");
        let short = advise(&fit(1.0), &Question { tasks: 100, most: 64, ..QUESTION });
        assert_eq!(short.choice, Choice::Nodes(32), "{short:#?}");
        assert_eq!(short.rows.last().map(|row| row.bottleneck), Some(Bottleneck::Part(Term::Master)));
    }

    #[test]
    fn what_a_cluster_would_lose_runs_locally() {
        let local = Some(Local { task_seconds: 0.001, slots: 2 });
        let advice = advise(&fit(0.002), &Question { tasks: 100, task_seconds: 0.001, local, ..QUESTION });
        assert_eq!(advice.choice, Choice::Local { seconds: 0.05 });
    }

    #[test]
    fn no_number_of_nodes_beats_the_master() {
        let advice = advise(&fit(1.0), &Question { master_seconds: 0.1, ..QUESTION });
        let last = advice.rows.last().expect("at least one row");
        assert!((last.seconds - 1000.0).abs() < 1e-6 && last.bottleneck == Bottleneck::Assignment);
        assert_eq!(advice.choice, Choice::Nodes(16), "{advice:#?}");
    }
}
