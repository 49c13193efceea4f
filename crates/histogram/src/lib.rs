//! Histograms by powers of two, under the name and with the interface of the
//! crate `base2histogram`, which openraft counts its batches with. That crate
//! makes tables for all precisions that it offers when it is first used: 18
//! MiB per process, of which openraft needs 2 KiB. Nothing of Trine reads what
//! is counted here. To be removed when a version makes its tables as needed.
//!
//! Deliberately absent: precision beyond a factor of two, and whatever of the
//! interface openraft does not use.

mod chart;
mod histogram;

pub use chart::AsciiChart;
pub use histogram::{Histogram, PercentileStats};
