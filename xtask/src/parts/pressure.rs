//! Many clients, slow clients, strangers and cut links, in short: what
//! `accept peers` measures at length, with what is true on any machine judged.

use crate::accept;
use crate::command::Trouble;
use crate::parts::{Count, Part};

pub(super) struct Pressure;

impl Part for Pressure {
    fn name(&self) -> &'static str {
        "pressure"
    }

    fn run(&self) -> Result<Count, Trouble> {
        Ok(accept::pressure())
    }
}
