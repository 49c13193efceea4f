//! Users, tokens and the audit log on the admin socket, as people see them:
//! never a hash, and a secret only once.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Rules in their text form.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Rules {
    /// What is allowed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<String>,
    /// What is denied, whatever is allowed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deny: Vec<String>,
}

/// By what a user logs in.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Proofs {
    /// Its password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// Public nkeys (`U…`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nkeys: Vec<String>,
    /// It needs none.
    #[serde(default)]
    pub no_password: bool,
}

impl std::fmt::Debug for Proofs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Passwords stay out of logs.
        f.debug_struct("Proofs").field("nkeys", &self.nkeys).finish_non_exhaustive()
    }
}

/// A user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UserReport {
    /// Its name.
    pub name: String,
    /// Whether it may log in.
    pub enabled: bool,
    /// Whether it needs no proof.
    pub no_password: bool,
    /// How many passwords it has.
    pub passwords: usize,
    /// Its public nkeys.
    pub nkeys: Vec<String>,
    /// What it may do.
    #[serde(flatten)]
    pub rules: Rules,
    /// State time of its addition, in ms since the epoch.
    pub added_ms: u64,
    /// State time of its last change.
    pub changed_ms: u64,
    /// Numbers of nodes that did not say in time that they know of its
    /// addition.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unknown_at: Vec<u64>,
}

/// A token, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TokenReport {
    /// Its name.
    pub name: String,
    /// What its bearer may do.
    #[serde(flatten)]
    pub rules: Rules,
    /// State time of its addition, in ms since the epoch.
    pub added_ms: u64,
    /// State time of its end, if it has one.
    pub not_after_ms: Option<u64>,
}

/// A token's secret, shown once.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SecretReport {
    /// Its name.
    pub name: String,
    /// The secret.
    pub token: String,
    /// State time of its end, if it has one.
    pub not_after_ms: Option<u64>,
}

impl std::fmt::Debug for SecretReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SecretReport").field("name", &self.name).finish_non_exhaustive()
    }
}

/// One action of an administrator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuditReport {
    /// Its number, from 1.
    pub serial: u64,
    /// State time, in ms since the epoch.
    pub at_ms: u64,
    /// Who asked for it.
    pub who: String,
    /// What changed.
    pub what: String,
}
