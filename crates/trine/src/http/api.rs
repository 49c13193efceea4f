//! The admin API: from a request to the node's answer. The reports are those
//! of the admin socket and of `--json`, so that a script may use either.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use hyper::StatusCode;
use hyper::header::{ALLOW, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};

use super::guard::{Caller, Denied, Gate};
use super::jobs::Jobs;
use super::metrics::{Family, encode};
use super::origin;
use super::routes::{self, Found, LiveReport, METRICS_TYPE, ReadyReport, TicketRequest, What};
use super::site::{Asked, Reply, Site, status_of};
use crate::admin::protocol::{Answer, Refusal, RefusalKind, Request};
use crate::admin::server::Control;

/// Longest validity of a ticket, in seconds: 366 days.
const MAX_VALID_S: u64 = 366 * 24 * 3600;

/// Entries of the audit log that one answer holds.
const AUDIT_ENTRIES: usize = 1_000;

/// Says what a node has counted.
pub trait Measured: Send + Sync + 'static {
    /// All figures of this moment.
    fn families(&self) -> Vec<Family>;
}

/// See the module.
pub struct Api {
    control: Arc<dyn Control>,
    measured: Arc<dyn Measured>,
    gate: Gate,
    jobs: Option<Jobs>,
    name: String,
    document: Bytes,
}

/// Who asks what needs no credential.
const NOBODY: &str = "nobody";

impl Api {
    /// The API of the node behind `control`, whose figures `measured` knows,
    /// for whoever `gate` lets in. The node may be asked by its `name`.
    pub fn new(control: Arc<dyn Control>, measured: Arc<dyn Measured>, gate: Gate, name: String) -> Self {
        let document = routes::document().to_string().into();
        Self { control, measured, gate, jobs: None, name, document }
    }

    /// The same, with jobs.
    #[must_use]
    pub fn with_jobs(self, jobs: Jobs) -> Self {
        Self { jobs: Some(jobs), ..self }
    }

    async fn reply(&self, asked: Asked) -> Reply {
        let found = routes::find(asked.head.method.as_str(), asked.path());
        if let Found::Route(route, _) = &found
            && route.open
        {
            return self.health(route.what).await;
        }
        if let Err(foreign) = origin::check(&asked.head.headers, &self.name) {
            return misdirected(foreign);
        }
        let caller = match self.gate.admit(&asked.head.headers, asked.peer.ip()).await {
            Ok(caller) => caller,
            Err(denied) => return denial(denied),
        };
        match found {
            Found::Route(route, argument) => {
                if let What::Jobs(what) = route.what {
                    return match &self.jobs {
                        Some(jobs) => jobs.reply(&caller, what, &argument, asked).await,
                        None => no_jobs(),
                    };
                }
                if !caller.rights.is_admin() {
                    return no_right(&caller);
                }
                if route.method != "GET" {
                    let (by, peer) = (&caller.name, asked.peer);
                    tracing::info!(%by, %peer, method = route.method, path = asked.path(), "admin action");
                }
                self.perform(&caller.name, route.what, argument, asked).await
            }
            Found::OtherMethods(methods) => {
                let refusal = Refusal::new(format!("this path takes {methods}"));
                let reply = Reply::refusal(StatusCode::METHOD_NOT_ALLOWED, &refusal);
                match HeaderValue::try_from(methods) {
                    Ok(methods) => reply.header(ALLOW, methods),
                    Err(_) => reply,
                }
            }
            Found::Nothing => {
                let refusal = Refusal::new("there is nothing at this path")
                    .hint(format!("{} describes what there is", routes::DOCUMENT_PATH));
                Reply::refusal(StatusCode::NOT_FOUND, &refusal)
            }
        }
    }

    /// What everybody may ask, and therefore says next to nothing.
    async fn health(&self, what: What) -> Reply {
        if what == What::Live {
            return Reply::json(StatusCode::OK, &LiveReport { live: true });
        }
        let answer = self.control.answer(NOBODY, Request::Status {}).await;
        let ready = matches!(answer, Ok(Answer::Status(report)) if report.ready);
        let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        Reply::json(status, &ReadyReport { ready })
    }

    async fn perform(&self, who: &str, what: What, argument: String, asked: Asked) -> Reply {
        let request = match what {
            What::Live | What::Ready => return self.health(what).await,
            What::Document => return Reply::new(StatusCode::OK, "application/json", self.document.clone()),
            What::Metrics => {
                return Reply::new(StatusCode::OK, METRICS_TYPE, encode(self.measured.families()));
            }
            What::Jobs(_) => return no_jobs(),
            What::Status => Request::Status {},
            What::Nodes => Request::Nodes {},
            What::Peers => Request::Peers {},
            What::Groups => Request::Groups {},
            What::Users => Request::Users {},
            What::Tokens => Request::Tokens {},
            What::Audit => Request::Audit { last: AUDIT_ENTRIES },
            What::RemoveNode => Request::RemoveNode { node: argument },
            What::Ticket => match ticket(asked).await {
                Ok(request) => request,
                Err(reply) => return reply,
            },
        };
        match self.control.answer(who, request).await {
            Ok(answer) => report(answer),
            Err(refusal) => Reply::refusal(status_of(&refusal), &refusal),
        }
    }
}

impl Site for Api {
    fn answer(&self, asked: Asked) -> BoxFuture<'_, Reply> {
        Box::pin(self.reply(asked))
    }
}

fn no_jobs() -> Reply {
    let refusal = Refusal::new("this node takes no jobs").hint("ask another node");
    Reply::refusal(StatusCode::SERVICE_UNAVAILABLE, &refusal)
}

fn no_right(caller: &Caller) -> Reply {
    let refusal = Refusal::new(format!("{} may use jobs, not administer", caller.name))
        .hint("ask with a credential that has the right `admin`")
        .kind(RefusalKind::Denied);
    Reply::refusal(StatusCode::FORBIDDEN, &refusal)
}

/// An answer without the admin socket's envelope: the path says what it is.
fn report(answer: Answer) -> Reply {
    let ok = StatusCode::OK;
    match answer {
        Answer::Status(report) => Reply::json(ok, &report),
        Answer::Nodes(nodes) => Reply::json(ok, &nodes),
        Answer::Peers(peers) => Reply::json(ok, &peers),
        Answer::PeerEvents(events) => Reply::json(ok, &events),
        Answer::Groups(groups) => Reply::json(ok, &groups),
        Answer::Pass(pass) => Reply::json(ok, &pass),
        Answer::Ticket(ticket) => Reply::json(ok, &ticket),
        Answer::Removed(removed) => Reply::json(ok, &removed),
        Answer::Recovery(recovery) => Reply::json(ok, &recovery),
        Answer::Users(users) => Reply::json(ok, &users),
        Answer::Tokens(tokens) => Reply::json(ok, &tokens),
        Answer::Secret(secret) => Reply::json(ok, &secret),
        Answer::Gone { name } => Reply::json(ok, &serde_json::json!({ "removed": name })),
        Answer::Audit(actions) => Reply::json(ok, &actions),
        Answer::Talk(answer) => Reply::json(ok, &answer),
    }
}

/// Reads what a ticket is asked with; no body asks for the default.
async fn ticket(asked: Asked) -> Result<Request, Reply> {
    let body = asked.body().await?;
    let body: &[u8] = if body.is_empty() { b"{}" } else { &body };
    let wrong = |what: String| {
        let refusal = Refusal::new(what).kind(RefusalKind::Invalid).hint(r#"a body like {"valid_s":3600}"#);
        Reply::refusal(StatusCode::BAD_REQUEST, &refusal)
    };
    // Through a map: serde would take a list for a struct, too.
    let asked = serde_json::from_slice::<serde_json::Map<_, _>>(body)
        .and_then(|map| serde_json::from_value::<TicketRequest>(map.into()))
        .map_err(|error| wrong(format!("not a request for a ticket: {error}")))?;
    if !(1..=MAX_VALID_S).contains(&asked.valid_s) {
        return Err(wrong(format!("valid_s = {} is out of range; from 1 to {MAX_VALID_S}", asked.valid_s)));
    }
    Ok(Request::Ticket { valid_s: asked.valid_s })
}

fn misdirected(foreign: origin::Foreign) -> Reply {
    let (status, hint) = match foreign {
        origin::Foreign::Host => {
            (StatusCode::MISDIRECTED_REQUEST, "ask by address, as in http://127.0.0.1:7070/")
        }
        origin::Foreign::Origin => (StatusCode::FORBIDDEN, "ask from the command line or from a program"),
    };
    Reply::refusal(status, &Refusal::new(foreign).hint(hint).kind(RefusalKind::Denied)).closing()
}

fn denial(denied: Denied) -> Reply {
    let refusal = Refusal::new(denied).kind(RefusalKind::Denied);
    match denied {
        Denied::Missing | Denied::Wrong => Reply::refusal(
            StatusCode::UNAUTHORIZED,
            &refusal.hint("send `Authorization: Bearer TOKEN`; the node's token is in DATA/admin.token"),
        )
        .header(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"trine\"")),
        Denied::TooMany => Reply::refusal(StatusCode::TOO_MANY_REQUESTS, &refusal.hint("wait a second"))
            .header(RETRY_AFTER, HeaderValue::from_static("1")),
    }
}
