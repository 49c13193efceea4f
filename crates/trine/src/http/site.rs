//! What an HTTP door serves: a request whose body is read within limits, a
//! reply that is whole in memory or made while it is read, and the trait between
//! door and answers.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::{BoxStream, StreamExt};
use http_body_util::{BodyExt, Either, Full, LengthLimitError, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
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

    /// The value of `name` in the query, as it stands there.
    pub fn query(&self, name: &str) -> Option<&str> {
        let pairs = self.head.uri.query()?.split('&');
        pairs.filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    /// Takes bodies of other bounds than the door's.
    #[must_use]
    pub fn within(self, max_body_bytes: usize, body_limit: Duration) -> Self {
        Self { max_body_bytes, body_limit, ..self }
    }

    /// The next piece of the body, `None` at its end; for bodies that should not
    /// be whole in memory. Each piece may take as long as a whole body.
    ///
    /// # Errors
    /// As [`Asked::body`].
    pub async fn piece(&mut self) -> Result<Option<Bytes>, Reply> {
        loop {
            let frame = match tokio::time::timeout(self.body_limit, self.body.frame()).await {
                Ok(None) => return Ok(None),
                Ok(Some(Ok(frame))) => frame,
                Ok(Some(Err(error))) => return Err(broken_off(&error)),
                Err(_) => return Err(too_slow(self.body_limit)),
            };
            let Ok(piece) = frame.into_data() else { continue };
            let Some(left) = self.max_body_bytes.checked_sub(piece.len()) else {
                return Err(too_large("what this takes"));
            };
            self.max_body_bytes = left;
            return Ok(Some(piece));
        }
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
                Err(too_large(format_args!("{} bytes", self.max_body_bytes)))
            }
            Ok(Err(error)) => Err(broken_off(&error)),
            Err(_) => Err(too_slow(self.body_limit)),
        }
    }
}

fn too_large(limit: impl fmt::Display) -> Reply {
    let what = format!("a body is at most {limit}");
    Reply::refusal(StatusCode::PAYLOAD_TOO_LARGE, &Refusal::new(what)).closing()
}

fn broken_off(error: &dyn fmt::Display) -> Reply {
    let what = format!("the body cannot be read: {error}");
    Reply::refusal(StatusCode::BAD_REQUEST, &Refusal::new(what)).closing()
}

fn too_slow(limit: Duration) -> Reply {
    let what = format!("the body took more than {} s", limit.as_secs());
    Reply::refusal(StatusCode::REQUEST_TIMEOUT, &Refusal::new(what)).closing()
}

/// A body that is made while it is read. An error breaks the connection off, so
/// that nobody takes what came before for all of it.
pub type Pieces = BoxStream<'static, io::Result<Bytes>>;

/// One reply.
pub struct Reply {
    /// The status.
    pub status: StatusCode,
    /// What the body is.
    pub content_type: &'static str,
    /// The body, if it is whole in memory.
    pub body: Bytes,
    pieces: Option<Pieces>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Reply");
        shown.field("status", &self.status).field("body", &self.body).finish_non_exhaustive()
    }
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
        Self { status, content_type, body: body.into(), pieces: None, headers: Vec::new() }
    }

    /// A body that is made while it is read.
    #[must_use]
    pub fn streamed(content_type: &'static str, pieces: Pieces) -> Self {
        Self { pieces: Some(pieces), ..Self::new(StatusCode::OK, content_type, Bytes::new()) }
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

    pub(super) fn into_response(self) -> Response<Sent> {
        let mut response = Response::new(match self.pieces {
            None => Either::Left(Full::new(self.body)),
            Some(pieces) => {
                let frames: Frames = pieces.map(|piece| piece.map(Frame::data)).boxed();
                Either::Right(StreamBody::new(frames))
            }
        });
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

type Frames = BoxStream<'static, io::Result<Frame<Bytes>>>;
/// The body of a response.
pub(super) type Sent = Either<Full<Bytes>, StreamBody<Frames>>;

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
