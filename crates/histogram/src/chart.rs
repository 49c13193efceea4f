//! Histograms as text.

use std::fmt;

use crate::{Histogram, PercentileStats};

/// Several histograms, a line each.
#[derive(Debug, Clone, Default)]
pub struct AsciiChart {
    lines: Vec<(String, PercentileStats)>,
}

impl AsciiChart {
    /// Without lines.
    #[must_use]
    pub const fn new() -> Self {
        Self { lines: Vec::new() }
    }

    /// With a line for `histogram`.
    #[must_use]
    // The interface is given.
    #[expect(clippy::needless_pass_by_value)]
    pub fn add<T>(mut self, name: &str, histogram: Histogram<T>) -> Self {
        self.lines.push((name.to_owned(), histogram.percentile_stats()));
        self
    }

    /// As it is shown.
    #[must_use]
    pub const fn detailed(&self) -> &Self {
        self
    }
}

impl fmt::Display for AsciiChart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, stats) in &self.lines {
            writeln!(f, "{name}: {stats}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_has_a_line_for_each_histogram() {
        let mut histogram = Histogram::<()>::new();
        histogram.record(9);
        let chart = AsciiChart::new().add("one", histogram.clone()).add("two", Histogram::<()>::new());
        let shown = chart.detailed().to_string();
        assert_eq!(shown.lines().count(), 2);
        assert!(shown.starts_with("one: 1 values, median 8"), "{shown}");
    }
}
