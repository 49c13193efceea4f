//! Durability.

use crate::command::Trouble;
use crate::parts::{Count, Part};

pub(super) struct Durability;

impl Part for Durability {
    fn name(&self) -> &'static str {
        "durability"
    }

    fn run(&self) -> Result<Count, Trouble> {
        Err(Trouble::Unexpected("not there yet".to_owned()))
    }
}
