//! How long a job will take on 1, 2, 4 … N nodes, before it runs: from short
//! pilots on few nodes, by the model of Ernest (Venkataraman et al., NSDI
//! 2016). Pure: who runs the pilots brings their times.
//!
//! ```text
//! seconds(nodes, tasks) = t0 + t1 * tasks/nodes + t2 * ln(nodes) + t3 * nodes
//! ```
//!
//! `t0` is what each run costs, `t1` the work shared by the nodes, `t2` what
//! grows with rounds over all nodes and with the wait for the slowest of more
//! of them, `t3` what the master does for each node. None of them can be
//! negative; a term that explains nothing is left out, and `t3` is fitted only
//! where pilots reach far enough: a second in a hundred that chance adds to a
//! pilot of four nodes must not be multiplied by ten thousand.
//!
//! | file | what |
//! |---|---|
//! | [`fit`] | the model and its terms, from samples |
//! | [`nnls`] | non-negative least squares |
//! | [`advice`] | the table: time, efficiency, bottleneck, and how many nodes to take |

pub mod advice;
pub mod fit;
pub mod nnls;

pub use advice::{Advice, Bottleneck, Choice, Local, Question, Row, advise};
pub use fit::{Fit, Sample, Term, TooFewSamples};
