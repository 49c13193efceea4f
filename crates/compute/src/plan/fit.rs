//! The model, fitted to pilots. Errors count relative to the time: a pilot of
//! a second says as much as one of a minute.

use super::nnls::{Solution, solutions};

/// One pilot.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Sample {
    /// On how many nodes.
    pub nodes: u64,
    /// How many tasks.
    pub tasks: u64,
    /// How long it took.
    pub seconds: f64,
}

/// A part of the predicted time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Term {
    /// What each run costs, however large: starting, and its longest task.
    Fixed,
    /// The tasks, shared by the nodes.
    Work,
    /// What grows slowly with the nodes: rounds over all of them, the wait for
    /// the slowest of more.
    Spread,
    /// What the master does for each node.
    Master,
}

impl Term {
    /// All, in the order of the model.
    pub const ALL: [Self; 4] = [Self::Fixed, Self::Work, Self::Spread, Self::Master];

    /// As in "limited by …".
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fixed => "start and longest task",
            Self::Work => "work",
            Self::Spread => "wait for the slowest",
            Self::Master => "master",
        }
    }
}

/// Too little to fit: pilots on at least two numbers of nodes, or with two
/// numbers of tasks per node, are needed. Nothing was changed; run more pilots.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{distinct} different pilots do not make a prediction; at least {LEAST_SAMPLES} are needed")]
pub struct TooFewSamples {
    /// How many there are.
    pub distinct: usize,
}

/// Different pilots without which nothing is predicted.
pub const LEAST_SAMPLES: usize = 3;
/// How much better, in parts of the mean squared error and per pilot, a model
/// must be for each term more: the factor of ln(n) in Bayes' criterion.
const THRIFT: f64 = 1.0;
/// What grows with each node is believed up to so many times the nodes of the
/// largest pilot.
pub const REACH: u64 = 8;
/// Pilots are not repeated to the percent; errors below are taken as this.
const NOISE: f64 = 0.02;

/// The model of one job.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Fit {
    terms: [f64; 4],
    /// The typical relative error at the pilots.
    pub error: f64,
}

impl Fit {
    /// Fits the model to pilots, for up to `most` nodes.
    ///
    /// # Errors
    /// [`TooFewSamples`].
    pub fn new(samples: &[Sample], most: u64) -> Result<Self, TooFewSamples> {
        let usable: Vec<&Sample> =
            samples.iter().filter(|sample| sample.seconds > 0.0 && sample.nodes > 0).collect();
        let mut kinds: Vec<(u64, u64)> = usable.iter().map(|sample| (sample.nodes, sample.tasks)).collect();
        kinds.sort_unstable();
        kinds.dedup();
        if kinds.len() < LEAST_SAMPLES {
            return Err(TooFewSamples { distinct: kinds.len() });
        }
        let largest = usable.iter().map(|sample| sample.nodes).max().unwrap_or(1);
        let terms = if most <= largest.saturating_mul(REACH) { 4 } else { 3 };
        let weighted = |sample: &&Sample| {
            let features = features(float(sample.nodes), float(sample.tasks));
            features.iter().take(terms).map(|feature| feature / sample.seconds).collect::<Vec<f64>>()
        };
        let rows: Vec<Vec<f64>> = usable.iter().map(weighted).collect();
        let wanted = vec![1.0; rows.len()];
        let count = float(rows.len() as u64);
        let thrifty = |solution: &Solution| {
            let error = solution.residual / count + NOISE * NOISE;
            count * error.ln() + THRIFT * f64::from(solution.columns) * count.ln()
        };
        let all = solutions(&rows, &wanted);
        let best = all.iter().min_by(|a, b| thrifty(a).total_cmp(&thrifty(b)));
        let mut terms = [0.0; 4];
        let mut error = 1.0;
        if let Some(best) = best {
            terms.iter_mut().zip(&best.coefficients).for_each(|(term, value)| *term = *value);
            error = (best.residual / count).sqrt();
        }
        Ok(Self { terms, error })
    }

    /// How long so many tasks take on so many nodes.
    #[must_use]
    pub fn seconds(&self, nodes: u64, tasks: u64) -> f64 {
        self.parts(nodes, tasks).iter().map(|(_, seconds)| seconds).sum()
    }

    /// The same by parts.
    #[must_use]
    pub fn parts(&self, nodes: u64, tasks: u64) -> [(Term, f64); 4] {
        let features = features(float(nodes.max(1)), float(tasks));
        let mut parts = Term::ALL.map(|term| (term, 0.0));
        for (part, (term, feature)) in parts.iter_mut().zip(self.terms.iter().zip(features)) {
            part.1 = term * feature;
        }
        parts
    }
}

fn features(nodes: f64, tasks: f64) -> [f64; 4] {
    [1.0, tasks / nodes, nodes.ln(), nodes]
}

/// A count to calculate with.
#[allow(clippy::cast_precision_loss, reason = "below 2^53")]
pub(super) const fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::{Fit, Sample, Term};

    fn samples(seconds: impl Fn(f64, f64) -> f64) -> Vec<Sample> {
        let sizes = [(1, 10), (1, 40), (2, 40), (4, 40), (4, 160), (8, 80), (8, 320)];
        let sample = |(nodes, tasks): (u32, u32)| Sample {
            nodes: nodes.into(),
            tasks: tasks.into(),
            seconds: seconds(nodes.into(), tasks.into()),
        };
        sizes.into_iter().map(sample).collect()
    }

    #[test]
    fn a_job_like_the_model_is_predicted_exactly() {
        let truth = |nodes: f64, tasks: f64| 0.3 + 0.2 * tasks / nodes + 0.05 * nodes;
        let fit = Fit::new(&samples(truth), 50).expect("enough samples");
        let (told, wanted) = (fit.seconds(50, 10_000), truth(50.0, 10_000.0));
        assert!((told / wanted - 1.0).abs() < 0.02, "{told} instead of {wanted}");
        let largest = fit.parts(200, 1000).into_iter().max_by(|a, b| a.1.total_cmp(&b.1));
        assert_eq!(largest.map(|(term, _)| term), Some(Term::Master));
    }

    #[test]
    fn noise_of_few_percent_is_not_multiplied_by_thousands_of_nodes() {
        let noise = |nodes: f64, tasks: f64| 1.0 + 0.02 * (nodes * 1.7 + tasks * 0.3).sin();
        let truth = |nodes: f64, tasks: f64| 1.0 + 0.2 * tasks / nodes;
        let fit = Fit::new(&samples(|nodes, tasks| truth(nodes, tasks) * noise(nodes, tasks)), 10_000);
        let told = fit.expect("enough samples").seconds(10_000, 1_000_000);
        assert!((told / truth(1e4, 1e6) - 1.0).abs() < 0.1, "{told} instead of 21");
    }

    #[test]
    fn too_little_is_said() {
        let sample = Sample { nodes: 1, tasks: 10, seconds: 1.0 };
        let error = Fit::new(&[sample, sample, sample], 8).expect_err("all the same");
        assert_eq!(error.distinct, 1);
        assert!(Fit::new(&[Sample { seconds: 0.0, ..sample }], 8).is_err());
    }
}
