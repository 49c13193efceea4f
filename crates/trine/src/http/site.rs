//! What an HTTP door serves: a request whose body is read within limits, a
//! reply that is whole in memory, and the trait between door and answers.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Response, StatusCode};
use serde::Serialize;

use super::limits::HttpLimits;
use crate::admin::protocol::{Refusal, RefusalKind};

/// Answers requests of one door.
pub trait Site: Send + Sync + 'static {
    /// Answers one request. Errors are replies too.
    fn answer(&self, asked: Asked) -> BoxFuture<'_, Reply>;
}

/// One request. Its body has not been read yet, so that who has no right to
/// ask cannot make the node take one.
#[derive(Debug)]
pub struct Asked {
    /// Method, target, headers.
    pub head: Parts,
    /// Where the client is.
    pub peer: SocketAddr,
    body: Incoming,
    max_body_bytes: usize,
    body_limit: Duration,
}

impl Asked {
    pub(super) fn new(request: hyper::Request<Incoming>, peer: SocketAddr, limits: &HttpLimits) -> Self {
        let (head, body) = request.into_parts();
        Self { head, peer, body, max_body_bytes: limits.max_body_bytes, body_limit: limits.body_limit }
    }

    /// The path, without the query.
    pub fn path(&self) -> &str {
        self.head.uri.path()
    }

    /// Reads the body to its end.
    ///
    /// # Errors
    /// The reply to send instead: it is too large, too slow, or broken off.
    pub async fn body(self) -> Result<Bytes, Reply> {
        let reading = Limited::new(self.body, self.max_body_bytes).collect();
        match tokio::time::timeout(self.body_limit, reading).await {
            Ok(Ok(read)) => Ok(read.to_bytes()),
            Ok(Err(error)) if error.is::<LengthLimitError>() => {
                let what = format!("a body is at most {} bytes", self.max_body_bytes);
                Err(Reply::refusal(StatusCode::PAYLOAD_TOO_LARGE, &Refusal::new(what)).closing())
            }
            Ok(Err(error)) => {
                let what = format!("the body cannot be read: {error}");
                Err(Reply::refusal(StatusCode::BAD_REQUEST, &Refusal::new(what)).closing())
            }
            Err(_) => {
                let what = format!("the body took more than {} s", self.body_limit.as_secs());
                Err(Reply::refusal(StatusCode::REQUEST_TIMEOUT, &Refusal::new(what)).closing())
            }
        }
    }
}

/// One reply, whole in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The status.
    pub status: StatusCode,
    /// What the body is.
    pub content_type: &'static str,
    /// The body.
    pub body: Bytes,
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// `{"error": …}`, as the command line prints it with `--json`.
#[derive(Debug, Serialize, schemars::JsonSchema)]
pub struct ErrorReport {
    /// What was refused and why.
    pub error: Refusal,
}

impl Reply {
    /// A reply of any kind.
    #[must_use]
    pub fn new(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        Self { status, content_type, body: body.into(), headers: Vec::new() }
    }

    /// A report as JSON.
    #[must_use]
    pub fn json(status: StatusCode, report: &impl Serialize) -> Self {
        match serde_json::to_vec(report) {
            Ok(body) => Self::new(status, "application/json", body),
            Err(error) => Self::refusal(
                StatusCode::INTERNAL_SERVER_ERROR,
                &Refusal::new(format!("the report cannot be written: {error}")),
            ),
        }
    }

    /// Why not, as JSON.
    #[must_use]
    pub fn refusal(status: StatusCode, refusal: &Refusal) -> Self {
        let kind = refusal.kind.unwrap_or(kind_of(status));
        let error = Refusal { kind: Some(kind), ..refusal.clone() };
        let body = serde_json::to_vec(&ErrorReport { error });
        // Strings and an enum: nothing in it that JSON could refuse.
        Self::new(status, "application/json", body.unwrap_or_default())
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Closes the connection after this reply: what follows on it cannot be
    /// understood any more.
    #[must_use]
    pub fn closing(self) -> Self {
        self.header(hyper::header::CONNECTION, HeaderValue::from_static("close"))
    }

    pub(super) fn into_response(self) -> Response<http_body_util::Full<Bytes>> {
        let mut response = Response::new(http_body_util::Full::new(self.body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        // What a node says is about this moment and for who asked.
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(hyper::header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        for (name, value) in self.headers {
            headers.insert(name, value);
        }
        response
    }
}

/// What kind of refusal a status is.
fn kind_of(status: StatusCode) -> RefusalKind {
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS => {
            RefusalKind::Denied
        }
        StatusCode::NOT_FOUND => RefusalKind::NotFound,
        StatusCode::CONFLICT => RefusalKind::Conflict,
        status if status.is_client_error() => RefusalKind::Invalid,
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => RefusalKind::Unavailable,
        _ => RefusalKind::Failed,
    }
}

/// The status that goes with a node's refusal.
#[must_use]
pub fn status_of(refusal: &Refusal) -> StatusCode {
    match refusal.kind {
        Some(RefusalKind::Invalid) => StatusCode::BAD_REQUEST,
        Some(RefusalKind::Denied) => StatusCode::FORBIDDEN,
        Some(RefusalKind::NotFound) => StatusCode::NOT_FOUND,
        Some(RefusalKind::Conflict) => StatusCode::CONFLICT,
        Some(RefusalKind::Unavailable) => StatusCode::SERVICE_UNAVAILABLE,
        Some(RefusalKind::Failed) | None => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
