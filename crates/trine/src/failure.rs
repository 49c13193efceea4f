//! What the command line says when it cannot do what was asked: what went
//! wrong, and what the user can do about it. Rooms have their own error enums;
//! this is the one place where they become words for a person.

use std::fmt;

/// A command that did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    what: String,
    hint: Option<String>,
    code: u8,
}

impl Failure {
    /// A failure without advice: the message says it all.
    #[must_use]
    pub fn new(what: impl fmt::Display) -> Self {
        Self { what: what.to_string(), hint: None, code: 1 }
    }

    /// Adds what the user can do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl fmt::Display) -> Self {
        self.hint = Some(hint.to_string());
        self
    }

    /// Marks the failure as wrong usage or configuration (exit code 2, as for
    /// a flag that the parser refuses).
    #[must_use]
    pub fn usage(mut self) -> Self {
        self.code = 2;
        self
    }

    /// What went wrong, without the advice.
    pub fn what(&self) -> &str {
        &self.what
    }

    /// What the user can do about it, if there is something.
    pub fn advice(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// The exit code of the process.
    pub fn code(&self) -> u8 {
        self.code
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        match &self.hint {
            Some(hint) => write!(f, "\n  try: {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Failure {}
