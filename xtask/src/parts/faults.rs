//! Faults.

use crate::command::Trouble;
use crate::parts::{Count, Part};

pub(super) struct Faults;

impl Part for Faults {
    fn name(&self) -> &'static str {
        "faults"
    }

    fn run(&self) -> Result<Count, Trouble> {
        Err(Trouble::Unexpected("not there yet".to_owned()))
    }
}
