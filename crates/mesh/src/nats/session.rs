//! What one client said about itself, who it is, and what it asked for: the
//! rules of the protocol without a socket.

use std::collections::BTreeMap;

use bytes::Bytes;
use trine_front::login::{Credential, MAX_CREDENTIAL_BYTES, Principal};
use trine_types::Rights;
use trine_types::nkey::public_key;
use trine_types::rights::Subscribing;
use trine_types::subject::{is_reserved, is_valid_filter, is_valid_subject, matches};

use super::connect::{ConnectOptions, PROTOCOL};
use super::error::Refusal;
use super::nkey;

/// Longest name of a subscription or queue group, in bytes.
const MAX_NAME_BYTES: usize = 1024;

/// One subscription of the client. `I` is what the run task knows it by.
#[derive(Debug, Clone)]
pub struct Held<I> {
    /// Which subjects.
    pub filter: Bytes,
    /// Its queue group.
    pub queue: Option<Bytes>,
    /// What to end it with.
    pub id: I,
}

/// What a CONNECT asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Greeting {
    /// Whoever shows this credential.
    Login(Credential),
    /// Whoever shows nothing.
    Anonymous,
}

/// Whether a message may be published.
#[derive(Debug, PartialEq, Eq)]
pub enum Publishing {
    /// It may.
    Yes,
    /// Nobody can have subscribed to such a subject.
    Nowhere,
    /// It may not.
    No(Refusal),
}

/// A wish to subscribe that is granted.
#[derive(Debug, PartialEq, Eq)]
pub enum Granted {
    /// The client has this subscription already.
    Again,
    /// All of it.
    Whole,
    /// Each message is to be checked against the rights.
    Filtered,
}

/// One client.
#[derive(Debug)]
pub struct Session<I> {
    options: ConnectOptions,
    connected: bool,
    principal: Option<Principal>,
    subscriptions: BTreeMap<Bytes, Held<I>>,
    max_subscriptions: usize,
    pings_out: u32,
}

impl<I> Session<I> {
    /// A client that has said nothing yet. `anonymous`: who it is until then,
    /// if nobody needs a credential.
    pub fn new(anonymous: Option<Principal>, max_subscriptions: usize) -> Self {
        Self {
            options: ConnectOptions::default(),
            connected: false,
            principal: anonymous,
            subscriptions: BTreeMap::new(),
            max_subscriptions,
            pings_out: 0,
        }
    }

    /// What it said about itself.
    pub fn options(&self) -> &ConnectOptions {
        &self.options
    }

    /// Whether it is let in, and has said CONNECT.
    pub fn is_connected(&self) -> bool {
        self.connected && self.principal.is_some()
    }

    /// Whether it may do anything but CONNECT.
    pub fn is_let_in(&self) -> bool {
        self.principal.is_some()
    }

    /// Who it is.
    pub fn principal(&self) -> Option<&Principal> {
        self.principal.as_ref()
    }

    /// Its subscriptions by its own names for them.
    pub fn subscriptions(&self) -> &BTreeMap<Bytes, Held<I>> {
        &self.subscriptions
    }

    /// Takes a CONNECT. Nobody is let in yet. `nonce`: what was to be signed.
    ///
    /// # Errors
    /// The connection must end.
    pub fn connect(&mut self, json: &[u8], nonce: &str) -> Result<Greeting, Refusal> {
        self.options = ConnectOptions::from_json(json).map_err(|_| Refusal::BadConnect)?;
        let options = &self.options;
        if !(0..=PROTOCOL).contains(&options.protocol) {
            return Err(Refusal::BadProtocol);
        }
        if options.no_responders && !options.headers {
            return Err(Refusal::NoRespondersNeedsHeaders);
        }
        self.connected = true;
        let shown =
            |field: &Option<String>| field.as_deref().filter(|text| !text.is_empty()).map(str::to_owned);
        let credential = if let Some(key) = shown(&options.nkey) {
            let signature = shown(&options.sig).ok_or(Refusal::Authorization)?;
            Credential::Nkey {
                public: public_key(&key).ok_or(Refusal::Authorization)?,
                nonce: nonce.as_bytes().to_vec(),
                signature: nkey::signature(&signature).ok_or(Refusal::Authorization)?,
            }
        } else if let Some(token) = shown(&options.auth_token) {
            Credential::Token(token)
        } else if let Some(user) = shown(&options.user) {
            Credential::Password { user, password: options.pass.clone().unwrap_or_default() }
        } else {
            return Ok(Greeting::Anonymous);
        };
        match &credential {
            Credential::Password { user, password }
                if user.len().max(password.len()) > MAX_CREDENTIAL_BYTES =>
            {
                Err(Refusal::Authorization)
            }
            Credential::Token(token) if token.len() > MAX_CREDENTIAL_BYTES => Err(Refusal::Authorization),
            _ => Ok(Greeting::Login(credential)),
        }
    }

    /// Lets it in as this principal, or as another one than before.
    pub fn let_in(&mut self, principal: Principal) {
        self.principal = Some(principal);
    }

    fn rights(&self) -> Option<&Rights> {
        self.principal.as_ref().map(|principal| &*principal.rights)
    }

    /// Whether a message may be published to `subject`. A pedantic client is
    /// told when nobody can subscribe to it.
    pub fn publish(&self, subject: &[u8]) -> Publishing {
        let Some(rights) = self.rights() else { return Publishing::No(Refusal::Authorization) };
        if is_reserved(subject) || !rights.may_publish(subject) {
            return Publishing::No(Refusal::Publish(subject.to_vec()));
        }
        if !is_valid_subject(subject) {
            return if self.options.pedantic {
                Publishing::No(Refusal::InvalidPublishSubject)
            } else {
                Publishing::Nowhere
            };
        }
        Publishing::Yes
    }

    /// Whether it may subscribe.
    ///
    /// # Errors
    /// It may not; what it is to be told.
    pub fn subscribe(&self, filter: &[u8], queue: Option<&[u8]>, sid: &[u8]) -> Result<Granted, Refusal> {
        let too_long = |name: &[u8]| name.len() > MAX_NAME_BYTES;
        if !is_valid_filter(filter) || too_long(sid) || queue.is_some_and(too_long) {
            return Err(Refusal::InvalidSubject);
        }
        let granted = self.granted(filter, queue)?;
        if self.subscriptions.contains_key(sid) {
            return Ok(Granted::Again);
        }
        if self.subscriptions.len() >= self.max_subscriptions {
            return Err(Refusal::MaxSubscriptions);
        }
        Ok(granted)
    }

    /// Whether its rights let it subscribe.
    ///
    /// # Errors
    /// They do not.
    pub fn granted(&self, filter: &[u8], queue: Option<&[u8]>) -> Result<Granted, Refusal> {
        match self.rights().ok_or(Refusal::Authorization)?.may_subscribe(filter, queue) {
            Subscribing::Refused => Err(Refusal::Subscribe(filter.to_vec(), queue.map(<[u8]>::to_vec))),
            Subscribing::Whole => Ok(Granted::Whole),
            Subscribing::Filtered => Ok(Granted::Filtered),
        }
    }

    /// Notes a subscription that was granted and made.
    pub fn hold(&mut self, sid: Bytes, held: Held<I>) {
        self.subscriptions.insert(sid, held);
    }

    /// Forgets a subscription.
    pub fn release(&mut self, sid: &[u8]) -> Option<Held<I>> {
        self.subscriptions.remove(sid)
    }

    /// The first of its own subscriptions that takes answers to `reply`: where
    /// it hears that nobody received its request.
    pub fn sid_for(&self, reply: &[u8]) -> Option<&Bytes> {
        if !is_valid_subject(reply) {
            return None;
        }
        let mut own = self.subscriptions.iter();
        own.find(|(_, held)| held.queue.is_none() && matches(&held.filter, reply)).map(|(sid, _)| sid)
    }

    /// Notes that it is asked for a sign of life; `false`: it did not answer
    /// the last `allowed` times.
    pub fn ask_for_life(&mut self, allowed: u32) -> bool {
        self.pings_out += 1;
        self.pings_out <= allowed
    }

    /// Notes a sign of life.
    pub fn is_alive(&mut self) {
        self.pings_out = 0;
    }
}

#[cfg(test)]
mod tests;
