//! Users and tokens as administrators change them: from text to rules, from
//! passwords to hashes, and back to what people may see.

use std::time::Duration;

use trine_cluster::command::Refusal as Refused;
use trine_cluster::passwords::{PasswordHash, SALT_BYTES};
use trine_cluster::tokens::TokenRow;
use trine_cluster::users::{MAX_NAME_BYTES, UserRefused, UserRow, UserSpec};
use trine_cluster::{Cluster, ClusterError};
use trine_storage::Workers;
use trine_types::{Entropy, Rights, Rule};

use crate::admin::logins::{AuditReport, Proofs, Rules, SecretReport, TokenReport, UserReport};
use crate::admin::protocol::{Answer, Refusal, RefusalKind, Request};
use crate::control::refusal;

pub mod redis;

/// Answers what is about users, tokens and the audit log.
///
/// # Errors
/// Why it was not done.
pub(crate) async fn answer(
    cluster: &Cluster,
    hashing: &Workers,
    entropy: &dyn Entropy,
    request: Request,
) -> Result<Answer, Refusal> {
    let done = |result: Result<(), ClusterError>| result.map_err(|error| refusal(&error));
    match request {
        Request::Users {} => Ok(Answer::Users(users(cluster))),
        Request::AddUser { name, proofs, rules } => {
            let spec = UserSpec { enabled: true, rights: rights(&rules)?, ..UserSpec::default() };
            let spec = prove(spec, proofs, hashing, entropy).await?;
            if spec.passwords.is_empty() && spec.nkeys.is_empty() && !spec.open {
                return Err(invalid("a user needs a password, an nkey, or to be told that it needs none"));
            }
            let behind = cluster.add_user(&name, spec.clone()).await.map_err(|error| refusal(&error))?;
            let unknown_at = behind.into_iter().map(|node| node.0).collect();
            Ok(Answer::Users(vec![UserReport { unknown_at, ..fresh(&name, &spec) }]))
        }
        Request::RotateUser { name, proofs, rules } => {
            let row = find(cluster, &name)?;
            let mut spec = row.spec.clone();
            if rules != Rules::default() {
                spec.rights = rights(&rules)?;
            }
            let spec = if proofs == Proofs::default() {
                spec
            } else {
                let bare = UserSpec { passwords: vec![], nkeys: [].into(), open: false, ..spec };
                prove(bare, proofs, hashing, entropy).await?
            };
            done(cluster.change_user(&name, &row, spec.clone(), true).await)?;
            Ok(Answer::Users(vec![user(&name, &UserRow { spec, ..row })]))
        }
        Request::RemoveUser { name } => {
            done(cluster.remove_user(&name).await)?;
            Ok(Answer::Gone { name })
        }
        Request::Audit { last } => Ok(Answer::Audit(audit(cluster, last))),
        about_tokens => answer_tokens(cluster, about_tokens).await,
    }
}

async fn answer_tokens(cluster: &Cluster, request: Request) -> Result<Answer, Refusal> {
    let life = |seconds: Option<u64>| seconds.map(Duration::from_secs);
    let (name, issued) = match request {
        Request::Tokens {} => {
            let meta = cluster.meta().borrow().clone();
            return Ok(Answer::Tokens(meta.tokens.iter().map(|(name, row)| token(name, row)).collect()));
        }
        Request::RemoveToken { name } => {
            cluster.remove_token(&name).await.map_err(|error| refusal(&error))?;
            return Ok(Answer::Gone { name });
        }
        Request::AddToken { name, life_s, rules } => {
            let issued = cluster.add_token(&name, rights(&rules)?, life(life_s)).await;
            (name, issued)
        }
        Request::RotateToken { name, life_s } => {
            let issued = cluster.rotate_token(&name, life(life_s)).await;
            (name, issued)
        }
        other => return Err(invalid(&format!("{other:?} is not about logins"))),
    };
    let issued = issued.map_err(|error| refusal(&error))?;
    let (token, not_after_ms) = (issued.secret.to_string(), issued.not_after_ms);
    Ok(Answer::Secret(SecretReport { name, token, not_after_ms }))
}

fn invalid(message: &str) -> Refusal {
    Refusal::new(message).kind(RefusalKind::Invalid)
}

fn find(cluster: &Cluster, name: &str) -> Result<UserRow, Refusal> {
    let meta = cluster.meta().borrow().clone();
    let none = || {
        let name = name.chars().take(MAX_NAME_BYTES).collect();
        refusal(&ClusterError::Refused(Refused::User(UserRefused::None(name))))
    };
    meta.users.get(name).cloned().ok_or_else(none)
}

/// The rights that these rules give; none given: all data.
fn rights(rules: &Rules) -> Result<Rights, Refusal> {
    let parse = |texts: &[String]| -> Result<Vec<Rule>, Refusal> {
        texts.iter().map(|text| text.parse().map_err(|error| invalid(&format!("{error}")))).collect()
    };
    if rules.allow.is_empty() {
        return Ok(Rights::new([Rule::Data], parse(&rules.deny)?));
    }
    Ok(Rights::new(parse(&rules.allow)?, parse(&rules.deny)?))
}

async fn prove(
    mut spec: UserSpec,
    proofs: Proofs,
    hashing: &Workers,
    entropy: &dyn Entropy,
) -> Result<UserSpec, Refusal> {
    spec.open |= proofs.no_password;
    for text in &proofs.nkeys {
        spec.nkeys.insert(nkey(text)?);
    }
    if let Some(password) = proofs.password {
        spec.passwords.push(hash(password, hashing, entropy).await?);
    }
    Ok(spec)
}

/// Hashes a password where that may take its time.
pub(crate) async fn hash(
    password: String,
    hashing: &Workers,
    entropy: &dyn Entropy,
) -> Result<PasswordHash, Refusal> {
    let mut salt = [0; SALT_BYTES];
    entropy.fill(&mut salt);
    let made = hashing.run(move || PasswordHash::make(password.as_bytes(), salt)).await;
    let made = made.map_err(|error| Refusal::new(error).kind(RefusalKind::Failed))?;
    made.ok_or_else(|| invalid("a password has 1 to 512 bytes"))
}

fn nkey(text: &str) -> Result<[u8; 32], Refusal> {
    trine_types::nkey::public_key(text)
        .ok_or_else(|| invalid(&format!("{text:?} is no public nkey of a user (U…)")))
}

fn shown(rights: &Rights) -> Rules {
    Rules {
        allow: rights.allowed().map(ToString::to_string).collect(),
        deny: rights.denied().map(ToString::to_string).collect(),
    }
}

fn user(name: &str, row: &UserRow) -> UserReport {
    UserReport {
        name: name.to_owned(),
        enabled: row.spec.enabled,
        no_password: row.spec.open,
        passwords: row.spec.passwords.len(),
        nkeys: row.spec.nkeys.iter().map(trine_types::nkey::text).collect(),
        rules: shown(&row.spec.rights),
        added_ms: row.added_ms,
        changed_ms: row.changed_ms,
        unknown_at: Vec::new(),
    }
}

fn fresh(name: &str, spec: &UserSpec) -> UserReport {
    let row = UserRow { number: 0, epoch: 0, revision: 0, added_ms: 0, changed_ms: 0, spec: spec.clone() };
    user(name, &row)
}

fn users(cluster: &Cluster) -> Vec<UserReport> {
    let meta = cluster.meta().borrow().clone();
    meta.users.iter().map(|(name, row)| user(name, row)).collect()
}

fn token(name: &str, row: &TokenRow) -> TokenReport {
    TokenReport {
        name: name.to_owned(),
        rules: shown(&row.rights),
        added_ms: row.added_ms,
        not_after_ms: row.not_after_ms,
    }
}

fn audit(cluster: &Cluster, last: usize) -> Vec<AuditReport> {
    let meta = cluster.meta().borrow().clone();
    let report = |(serial, row): (&u64, &trine_cluster::audit::AuditRow)| AuditReport {
        serial: *serial,
        at_ms: row.at_ms,
        who: row.who.clone(),
        what: row.what.clone(),
    };
    meta.audit.iter().rev().take(last).map(report).collect()
}
