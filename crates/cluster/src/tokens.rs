//! Tokens: secrets with rights of their own, for programs. The cluster stores
//! a hash; the secret is random and long, so that a fast hash is enough, and
//! is shown once, to whoever made it.

use std::collections::BTreeMap;
use std::fmt;

use data_encoding::BASE32_NOPAD;
use serde::{Deserialize, Serialize};
use trine_types::rights::MAX_RULES;
use trine_types::{Entropy, Rights};

use crate::users::is_user_name;

/// Most tokens of a cluster.
pub const MAX_TOKENS: usize = 1_000;
/// Longest life of a token, in ms (366 days); one without a life has no end.
pub const MAX_LIFE_MS: u64 = 366 * 24 * 3600 * 1000;
/// What every token's text begins with: such text in the wrong place is found.
const PREFIX: &str = "trine_";
/// Random bytes of a token.
const SECRET_BYTES: usize = 32;

/// A token's secret.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenSecret([u8; SECRET_BYTES]);

impl TokenSecret {
    /// A new one.
    #[must_use]
    pub fn generate(entropy: &dyn Entropy) -> Self {
        let mut secret = [0; SECRET_BYTES];
        entropy.fill(&mut secret);
        Self(secret)
    }

    /// What somebody shows, if it has the form of a token.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim().strip_prefix(PREFIX)?;
        let bytes = BASE32_NOPAD.decode(text.to_ascii_uppercase().as_bytes()).ok()?;
        bytes.try_into().ok().map(Self)
    }

    /// What the cluster keeps of it.
    #[must_use]
    pub fn verifier(&self) -> [u8; 32] {
        blake3::derive_key("trine 2026 token", &self.0)
    }
}

impl fmt::Display for TokenSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", BASE32_NOPAD.encode(&self.0).to_ascii_lowercase())
    }
}

impl fmt::Debug for TokenSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenSecret")
    }
}

/// One token.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TokenRow {
    /// Never given to another token or user.
    pub number: u64,
    /// Counts its secrets.
    pub epoch: u64,
    /// A hash of the secret.
    pub verifier: [u8; 32],
    /// What its bearer may do.
    pub rights: Rights,
    /// State time of its addition.
    pub added_ms: u64,
    /// It is void from then on; `None`: it has no end.
    pub not_after_ms: Option<u64>,
}

impl TokenRow {
    /// Whether it is still good at this time.
    pub fn is_good(&self, now_ms: u64) -> bool {
        self.not_after_ms.is_none_or(|end| now_ms < end)
    }
}

/// The tokens, by name.
pub type Tokens = BTreeMap<String, TokenRow>;

/// Why a token was not changed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, thiserror::Error)]
pub enum TokenRefused {
    /// There is none.
    #[error("there is no token {0:?}: it was never added, or it has expired")]
    None(String),
    /// There is one.
    #[error("there is a token {0:?} already")]
    Exists(String),
    /// The name cannot be a token's.
    #[error("a token's name has 1 to 63 bytes, no spaces and nothing invisible")]
    BadName,
    /// Its life is out of bounds.
    #[error("a token lives 1 s to 366 days, or without end")]
    BadLife,
    /// Too many tokens.
    #[error("there are {MAX_TOKENS} tokens, which is the most there can be")]
    TooMany,
    /// Too many rules.
    #[error("a token has at most {MAX_RULES} rules")]
    TooManyRules,
}

/// A secret as `meta` hears of it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NewSecret {
    /// A hash of it.
    pub verifier: [u8; 32],
    /// How long it is good, in ms of state time; `None`: without end.
    pub life_ms: Option<u64>,
}

impl NewSecret {
    fn end(&self, now_ms: u64) -> Result<Option<u64>, TokenRefused> {
        match self.life_ms {
            Some(life) if !(1000..=MAX_LIFE_MS).contains(&life) => Err(TokenRefused::BadLife),
            life => Ok(life.map(|life| now_ms.saturating_add(life))),
        }
    }
}

/// Adds a token; returns when it ends.
///
/// # Errors
/// [`TokenRefused`]; nothing has changed.
pub fn add(
    tokens: &mut Tokens,
    name: String,
    rights: Rights,
    secret: &NewSecret,
    (number, now_ms): (u64, u64),
) -> Result<Option<u64>, TokenRefused> {
    let not_after_ms = secret.end(now_ms)?;
    if !is_user_name(&name) {
        return Err(TokenRefused::BadName);
    }
    if rights.rules() > MAX_RULES {
        return Err(TokenRefused::TooManyRules);
    }
    prune(tokens, now_ms);
    if tokens.contains_key(&name) {
        return Err(TokenRefused::Exists(name));
    }
    if tokens.len() >= MAX_TOKENS {
        return Err(TokenRefused::TooMany);
    }
    let verifier = secret.verifier;
    tokens.insert(name, TokenRow { number, epoch: 0, verifier, rights, added_ms: now_ms, not_after_ms });
    Ok(not_after_ms)
}

/// Gives a token another secret; the old one is void at once.
///
/// # Errors
/// [`TokenRefused`]; nothing has changed.
pub fn rotate(
    tokens: &mut Tokens,
    name: &str,
    secret: &NewSecret,
    now_ms: u64,
) -> Result<Option<u64>, TokenRefused> {
    let not_after_ms = secret.end(now_ms)?;
    let row = tokens.get_mut(name).filter(|row| row.is_good(now_ms));
    let row = row.ok_or_else(|| TokenRefused::None(name.to_owned()))?;
    row.epoch += 1;
    row.verifier = secret.verifier;
    row.not_after_ms = not_after_ms;
    Ok(not_after_ms)
}

/// Removes a token.
///
/// # Errors
/// There is none.
pub fn remove(tokens: &mut Tokens, name: &str) -> Result<(), TokenRefused> {
    tokens.remove(name).map(drop).ok_or_else(|| TokenRefused::None(name.to_owned()))
}

/// The token with this secret, if it is good.
pub fn find<'a>(tokens: &'a Tokens, secret: &TokenSecret, now_ms: u64) -> Option<(&'a String, &'a TokenRow)> {
    // Hashes of guesses tell nothing about the hashes that are stored.
    let verifier = secret.verifier();
    tokens.iter().find(|(_, row)| row.verifier == verifier && row.is_good(now_ms))
}

/// Forgets tokens whose time is over.
pub fn prune(tokens: &mut Tokens, now_ms: u64) {
    tokens.retain(|_, row| row.is_good(now_ms));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(n: u8) -> TokenSecret {
        TokenSecret([n; SECRET_BYTES])
    }

    fn new(n: u8, life_ms: Option<u64>) -> NewSecret {
        NewSecret { verifier: secret(n).verifier(), life_ms }
    }

    #[test]
    fn a_secret_survives_its_text_and_is_not_printed() {
        let text = secret(7).to_string();
        assert_eq!(TokenSecret::parse(&text), Some(secret(7)));
        assert!(text.starts_with("trine_") && !format!("{:?}", secret(7)).contains("trine_"));
        for bad in ["", "trine_", "trine_aa", &text[6..], &text[..text.len() - 1]] {
            assert_eq!(TokenSecret::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_token_ends_by_itself_by_rotation_and_by_removal() {
        let mut tokens = Tokens::new();
        assert_eq!(
            add(&mut tokens, "app".into(), Rights::data(), &new(1, Some(5_000)), (1, 100)),
            Ok(Some(5_100))
        );
        assert!(find(&tokens, &secret(1), 5_099).is_some() && find(&tokens, &secret(1), 5_100).is_none());
        assert_eq!(rotate(&mut tokens, "app", &new(2, None), 200), Ok(None));
        assert!(find(&tokens, &secret(1), 200).is_none(), "a stolen secret is void once it is replaced");
        assert!(find(&tokens, &secret(2), u64::MAX).is_some());
        remove(&mut tokens, "app").expect("there");
        assert!(find(&tokens, &secret(2), 300).is_none());
        assert_eq!(rotate(&mut tokens, "app", &new(3, None), 300), Err(TokenRefused::None("app".into())));
    }

    #[test]
    fn an_expired_token_cannot_be_brought_back_and_makes_room() {
        let mut tokens = Tokens::new();
        add(&mut tokens, "app".into(), Rights::data(), &new(1, Some(1_000)), (1, 0)).expect("new");
        assert_eq!(rotate(&mut tokens, "app", &new(2, None), 1_000), Err(TokenRefused::None("app".into())));
        add(&mut tokens, "app".into(), Rights::data(), &new(3, None), (2, 1_000)).expect("the name is free");
        assert_eq!(tokens["app"].number, 2);
    }

    #[test]
    fn bounds_are_kept() {
        let mut tokens = Tokens::new();
        let mut added =
            |name: &str, life| add(&mut tokens, name.into(), Rights::data(), &new(1, life), (1, 0));
        assert_eq!(added("a b", None), Err(TokenRefused::BadName));
        assert_eq!(added("a", Some(10)), Err(TokenRefused::BadLife));
        for n in 0..MAX_TOKENS {
            assert!(added(&format!("t{n}"), None).is_ok());
        }
        assert_eq!(added("t0", None), Err(TokenRefused::Exists("t0".into())));
        assert_eq!(added("one-more", None), Err(TokenRefused::TooMany));
    }
}
