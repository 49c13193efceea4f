//! The house rules, each counted as one test.

use crate::command::{Trouble, root};
use crate::parts::{Count, Part};
use crate::tidy;

pub(super) struct Tidy;

impl Part for Tidy {
    fn name(&self) -> &'static str {
        "tidy"
    }

    fn run(&self) -> Result<Count, Trouble> {
        let found = tidy::violations(root()).map_err(|error| Trouble::Unexpected(error.to_string()))?;
        let mut total = Count::default();
        for rule in tidy::rule_names() {
            let broken: Vec<String> = found
                .iter()
                .filter(|(name, _)| *name == rule)
                .map(|(_, v)| format!("{v} [{rule}]"))
                .collect();
            total.add(&Count::one(broken.is_empty(), broken.join("\n")));
        }
        Ok(total)
    }
}
