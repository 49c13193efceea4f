//! What Prometheus scrapes: families of figures as plain data, and their
//! encoding. Rooms count; this only says what they counted, at the moment of
//! the scrape. [`node`] knows which figures a node has.

use std::fmt;

use bytes::Bytes;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

pub mod node;

/// Names and values that tell the samples of a family apart.
pub type Labels = Vec<(&'static str, String)>;

/// Figures of one meaning.
#[derive(Debug, Clone, PartialEq)]
pub struct Family {
    name: &'static str,
    help: &'static str,
    samples: Vec<(Labels, Figure)>,
}

/// One figure.
#[derive(Debug, Clone, PartialEq)]
pub enum Figure {
    /// Only grows while the process lives; the suffix `_total` is added.
    Count(u64),
    /// The same in seconds.
    Spent(f64),
    /// How it is now.
    Level(f64),
    /// How often how much.
    Histogram {
        /// All observed values together.
        sum: f64,
        /// Upper bound and how many values lie between it and the one before;
        /// the last bound is infinite.
        buckets: Vec<(f64, u64)>,
    },
}

impl Family {
    /// A family without samples yet. `help` is a sentence without its period.
    #[must_use]
    pub fn new(name: &'static str, help: &'static str) -> Self {
        Self { name, help, samples: Vec::new() }
    }

    /// A family of one figure without labels.
    #[must_use]
    pub fn one(name: &'static str, help: &'static str, figure: Figure) -> Self {
        Self::new(name, help).with(Vec::new(), figure)
    }

    /// Adds a sample. All samples of a family are of one kind and have the
    /// same label names.
    #[must_use]
    pub fn with(mut self, labels: Labels, figure: Figure) -> Self {
        self.samples.push((labels, figure));
        self
    }

    /// Adds samples.
    #[must_use]
    pub fn with_all(mut self, samples: impl IntoIterator<Item = (Labels, Figure)>) -> Self {
        self.samples.extend(samples);
        self
    }

    fn kind(&self) -> MetricType {
        match self.samples.first() {
            Some((_, Figure::Count(_) | Figure::Spent(_))) => MetricType::Counter,
            Some((_, Figure::Histogram { .. })) => MetricType::Histogram,
            Some((_, Figure::Level(_))) | None => MetricType::Gauge,
        }
    }
}

impl Figure {
    fn encode(&self, encoder: &mut MetricEncoder<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => encoder.encode_counter::<NoLabelSet, _, f64>(count, None),
            Self::Spent(seconds) => encoder.encode_counter::<NoLabelSet, _, f64>(seconds, None),
            Self::Level(level) => encoder.encode_gauge(level),
            Self::Histogram { sum, buckets } => {
                let count = buckets.iter().map(|(_, count)| count).sum();
                encoder.encode_histogram::<NoLabelSet>(*sum, count, buckets, None)
            }
        }
    }
}

/// The families of one scrape, as the encoder wants to be given them.
#[derive(Debug)]
struct Scrape(Vec<Family>);

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for family in self.0.iter().filter(|family| !family.samples.is_empty()) {
            let mut metric = encoder.encode_descriptor(family.name, family.help, None, family.kind())?;
            for (labels, figure) in &family.samples {
                if labels.is_empty() {
                    figure.encode(&mut metric)?;
                } else {
                    figure.encode(&mut metric.encode_family(labels)?)?;
                }
            }
        }
        Ok(())
    }
}

/// The families as text in the `OpenMetrics` format, which Prometheus prefers.
#[must_use]
pub fn encode(families: Vec<Family>) -> Bytes {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Scrape(families)));
    let mut text = String::new();
    match text::encode(&mut text, &registry) {
        Ok(()) => text.into(),
        // A string takes everything; the signature cannot say so.
        Err(fmt::Error) => Bytes::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_written_as_prometheus_reads_them() {
        let families = vec![
            Family::one("trine_commands", "Commands taken", Figure::Count(7)),
            Family::new("trine_group_term", "Term")
                .with(vec![("group", "meta".to_owned())], Figure::Level(3.0))
                .with(vec![("group", "a\"b".to_owned())], Figure::Level(4.5)),
            Family::one(
                "trine_time_seconds",
                "Time",
                Figure::Histogram { sum: 0.5, buckets: vec![(0.1, 2), (f64::INFINITY, 1)] },
            ),
            Family::new("trine_nothing", "Has no samples"),
        ];
        let expected = "\
# HELP trine_commands Commands taken
# TYPE trine_commands counter
trine_commands_total 7
# HELP trine_group_term Term
# TYPE trine_group_term gauge
trine_group_term{group=\"meta\"} 3.0
trine_group_term{group=\"a\\\"b\"} 4.5
# HELP trine_time_seconds Time
# TYPE trine_time_seconds histogram
trine_time_seconds_sum 0.5
trine_time_seconds_count 3
trine_time_seconds_bucket{le=\"0.1\"} 2
trine_time_seconds_bucket{le=\"+Inf\"} 3
# EOF
";
        assert_eq!(encode(families), expected);
    }
}
