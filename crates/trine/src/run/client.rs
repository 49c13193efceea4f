//! The command line's side of the routes of jobs: finds nodes of this machine
//! and their tokens, asks the next one when one does not answer, and attaches
//! again to results where it was cut off.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use trine_compute::record::{Decoder, decode_result};
use trine_compute::{JobId, JobSpec, TaskResult};
use trine_front::tls::TlsDialler;

use crate::admin::client::{AdminClient, candidates};
use crate::cli::NodeTarget;
use crate::failure::Failure;
use crate::http::guard::token_path;

/// The variable that names the certificates to trust: with it, nodes are spoken
/// to over TLS, as by the Python package.
const CA_FILE: &str = "TRINE_CA_FILE";
/// How long a connection may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// How long an answer may take to begin.
const ANSWER_LIMIT: Duration = Duration::from_mins(2);
/// A stream of results says more often than this that it is alive.
const SILENCE_LIMIT: Duration = Duration::from_secs(30);
/// How long nodes that do not answer are asked again.
const UNREACHABLE_LIMIT: Duration = Duration::from_secs(30);
/// Pause between two rounds over all nodes.
const ROUND_PAUSE: Duration = Duration::from_millis(100);
/// Nodes that a blob is put on.
const COPIES: usize = 2;
/// Longest answer that is read whole.
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;

/// A node's HTTP door, and what opens it.
#[derive(Debug, Clone)]
struct Door {
    address: SocketAddr,
    token: String,
}

/// A connection to any of some nodes.
#[derive(Debug)]
pub struct Api {
    doors: Vec<Door>,
    /// How doors are encrypted; `None`: not at all.
    dialler: Option<TlsDialler>,
    at: usize,
    open: Option<SendRequest<Full<Bytes>>>,
}

impl Clone for Api {
    /// The same nodes over a connection of its own.
    fn clone(&self) -> Self {
        Self { doors: self.doors.clone(), dialler: self.dialler.clone(), at: self.at, open: None }
    }
}

/// Why a request has no answer.
#[derive(Debug)]
pub enum Unanswered {
    /// The node refuses, for good.
    Refused(StatusCode, Failure),
    /// No connection, or it broke: perhaps another node answers. Whether the
    /// request was carried out is known only if it was not sent.
    Broken {
        /// What happened.
        failure: Failure,
        /// Whether the request may have reached the node.
        sent: bool,
    },
}

impl From<Unanswered> for Failure {
    fn from(unanswered: Unanswered) -> Self {
        match unanswered {
            Unanswered::Refused(_, failure) | Unanswered::Broken { failure, .. } => failure,
        }
    }
}

/// A request.
#[derive(Debug, Clone)]
pub struct Ask<'a> {
    /// The method.
    pub method: Method,
    /// Path and query.
    pub path: &'a str,
    /// The body.
    pub body: Bytes,
    /// Whether it may be sent again when its answer was lost.
    pub repeat: bool,
}

impl<'a> Ask<'a> {
    /// Asks for something.
    #[must_use]
    pub fn get(path: &'a str) -> Self {
        Self { method: Method::GET, path, body: Bytes::new(), repeat: true }
    }

    /// Wants something to be done that may be done twice.
    #[must_use]
    pub fn post(path: &'a str, body: Bytes) -> Self {
        Self { method: Method::POST, path, body, repeat: true }
    }
}

impl Api {
    /// The nodes that run here, or the one that `target` names.
    ///
    /// # Errors
    /// There is none.
    pub async fn find(target: &NodeTarget) -> Result<Self, Failure> {
        let mut doors = Vec::new();
        for socket in candidates(target) {
            let Ok(mut client) = AdminClient::connect(&socket) else { continue };
            // One that is just stopping is no reason to give up on the others.
            let Ok(status) = client.status().await else { continue };
            let address = status.doors.admin.parse().map_err(Failure::new)?;
            let data = socket.parent().map_or_else(PathBuf::new, Path::to_path_buf);
            let token = std::fs::read_to_string(token_path(&data)).map_err(|error| {
                Failure::new(format!("cannot read {}: {error}", token_path(&data).display()))
                    .hint("run this as the user who runs the node")
            })?;
            doors.push(Door { address, token: token.trim().to_owned() });
        }
        if doors.is_empty() {
            // Says where it was looked for.
            AdminClient::find(target)?;
        }
        let trusted = std::env::var_os(CA_FILE).map(PathBuf::from);
        let dialler = trusted.map(|trusted| TlsDialler::open(&trusted)).transpose();
        let dialler = dialler.map_err(|error| {
            Failure::new(error).hint(format!("{CA_FILE} names the certificates to trust")).usage()
        })?;
        Ok(Self { doors, dialler, at: 0, open: None })
    }

    /// The answer to a request, asked of one node after the other until one
    /// answers.
    ///
    /// # Errors
    /// [`Unanswered`].
    pub async fn ask(&mut self, ask: &Ask<'_>) -> Result<Response<Incoming>, Unanswered> {
        let deadline = Instant::now() + UNREACHABLE_LIMIT;
        loop {
            let mut failed = None;
            for _ in 0..self.doors.len() {
                match self.once(ask).await {
                    Err(Unanswered::Broken { failure, sent }) => {
                        self.open = None;
                        self.at += 1;
                        if sent && !ask.repeat {
                            return Err(Unanswered::Broken { failure, sent });
                        }
                        failed = Some(failure);
                    }
                    decided => return decided,
                }
            }
            if Instant::now() > deadline {
                let failure = failed.unwrap_or_else(|| Failure::new("no node answers"));
                return Err(Unanswered::Broken { failure, sent: false });
            }
            tokio::time::sleep(ROUND_PAUSE).await;
        }
    }

    /// Asks, and reads the answer as JSON.
    ///
    /// # Errors
    /// As [`Api::ask`], or the answer is not understood.
    pub async fn json<T: DeserializeOwned>(&mut self, ask: &Ask<'_>) -> Result<T, Unanswered> {
        let body = self.bytes(ask).await?;
        serde_json::from_slice(&body).map_err(|error| {
            let failure = Failure::new(format!("the node's answer is not understood: {error}"))
                .hint("run the same version of trine as the node");
            Unanswered::Refused(StatusCode::OK, failure)
        })
    }

    /// Asks, and reads the whole answer.
    ///
    /// # Errors
    /// As [`Api::ask`], or the answer breaks off.
    pub async fn bytes(&mut self, ask: &Ask<'_>) -> Result<Bytes, Unanswered> {
        let response = self.ask(ask).await?;
        whole(response.into_body()).await.map_err(|failure| Unanswered::Broken { failure, sent: true })
    }

    async fn once(&mut self, ask: &Ask<'_>) -> Result<Response<Incoming>, Unanswered> {
        let door = self.doors[self.at % self.doors.len()].clone();
        let broken = |what: &dyn std::fmt::Display, sent| {
            let failure = Failure::new(format!("node at {}: {what}", door.address));
            Unanswered::Broken { failure, sent }
        };
        let mut sender = if let Some(open) = self.open.take().filter(|open| !open.is_closed()) {
            open
        } else {
            let connected = Box::pin(connect(door.address, self.dialler.as_ref())).await;
            connected.map_err(|what| broken(&what, false))?
        };
        let request = Request::builder()
            .method(&ask.method)
            .uri(ask.path)
            .header(HOST, door.address.to_string())
            .header(AUTHORIZATION, format!("Bearer {}", door.token))
            .header(
                CONTENT_TYPE,
                if ask.body.first() == Some(&b'{') { "application/json" } else { "application/octet-stream" },
            )
            .body(Full::new(ask.body.clone()))
            .map_err(|error| Unanswered::Refused(StatusCode::BAD_REQUEST, Failure::new(error)))?;
        sender.ready().await.map_err(|error| broken(&error, false))?;
        let sent = timeout(ANSWER_LIMIT, sender.send_request(request)).await;
        let response =
            sent.map_err(|_| broken(&"no answer in time", true))?.map_err(|error| broken(&error, true))?;
        let status = response.status();
        if status.is_success() {
            self.open = Some(sender);
            return Ok(response);
        }
        let body = whole(response.into_body()).await.unwrap_or_default();
        let failure = refusal(status, &body);
        match status {
            StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => Err(Unanswered::Broken { failure, sent: true }),
            _ => Err(Unanswered::Refused(status, failure)),
        }
    }

    /// Submits a job, without tasks yet.
    ///
    /// # Errors
    /// It is refused, or nobody answers.
    pub async fn create(&mut self, spec: &JobSpec) -> Result<JobId, Failure> {
        #[derive(serde::Deserialize)]
        struct Created {
            id: u64,
        }
        let body = Bytes::from(serde_json::to_vec(spec).map_err(Failure::new)?);
        let ask = Ask { repeat: false, ..Ask::post("/v1/jobs", body) };
        let created: Created = self.json(&ask).await?;
        Ok(JobId(created.id))
    }

    /// Submits tasks as records; the first has this index. Sent again, they
    /// are added once.
    ///
    /// # Errors
    /// They are refused, or nobody answers.
    pub async fn append(&mut self, job: JobId, first: u64, records: Bytes) -> Result<(), Unanswered> {
        self.bytes(&Ask::post(&format!("/v1/jobs/{job}/tasks?after={first}"), records)).await.map(drop)
    }

    /// Puts bytes where workers find them by their hash, on two nodes if there
    /// are two: one may be lost before they are fetched.
    ///
    /// # Errors
    /// They are refused, or nobody answers.
    pub async fn put(&mut self, bytes: &Bytes) -> Result<[u8; 32], Failure> {
        let hash = blake3::hash(bytes);
        let path = format!("/v1/blobs/{}", hash.to_hex());
        for _ in 0..self.doors.len().min(COPIES) {
            let ask = Ask { method: Method::PUT, ..Ask::post(&path, bytes.clone()) };
            self.bytes(&ask).await?;
            (self.at, self.open) = (self.at + 1, None);
        }
        Ok(*hash.as_bytes())
    }

    /// No more tasks come.
    ///
    /// # Errors
    /// It is refused, or nobody answers.
    pub async fn close(&mut self, job: JobId) -> Result<(), Unanswered> {
        self.bytes(&Ask::post(&format!("/v1/jobs/{job}/close"), Bytes::from_static(b"{}"))).await.map(drop)
    }

    /// What is not done yet shall not be done, and what runs is killed.
    ///
    /// # Errors
    /// It is refused, or nobody answers.
    pub async fn cancel(&mut self, job: JobId) -> Result<(), Unanswered> {
        self.bytes(&Ask::post(&format!("/v1/jobs/{job}/cancel"), Bytes::from_static(b"{}"))).await.map(drop)
    }

    /// The results of a job, in the order of their commits, from the first on.
    #[must_use]
    pub fn results(&self, job: JobId) -> Results {
        Results { api: self.clone(), job, taken: 0, stream: None, decoder: Decoder::default() }
    }
}

async fn connect(
    address: SocketAddr,
    dialler: Option<&TlsDialler>,
) -> Result<SendRequest<Full<Bytes>>, String> {
    let stream = timeout(CONNECT_LIMIT, TcpStream::connect(address)).await;
    let stream =
        stream.map_err(|_| "no connection in time".to_owned())?.map_err(|error| error.to_string())?;
    // A record that waits for another costs more than a packet.
    let _ = stream.set_nodelay(true);
    match dialler {
        None => speak(stream).await,
        Some(dialler) => {
            let encrypted = dialler.dial(stream, None, address.ip()).await;
            speak(encrypted.map_err(|error| format!("{error}; {CA_FILE} names whom to trust"))?).await
        }
    }
}

async fn speak(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> Result<SendRequest<Full<Bytes>>, String> {
    let (sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    // It ends with the connection; what it says, the request says, too.
    tokio::spawn(async move { drop(connection.await) });
    Ok(sender)
}

async fn whole(body: Incoming) -> Result<Bytes, Failure> {
    let limited = http_body_util::Limited::new(body, MAX_ANSWER_BYTES).collect();
    let read =
        timeout(ANSWER_LIMIT, limited).await.map_err(|_| Failure::new("the answer did not end in time"))?;
    read.map(http_body_util::Collected::to_bytes)
        .map_err(|error| Failure::new(format!("the answer broke off: {error}")))
}

fn refusal(status: StatusCode, body: &[u8]) -> Failure {
    #[derive(serde::Deserialize)]
    struct Report {
        error: Error,
    }
    #[derive(serde::Deserialize)]
    struct Error {
        message: String,
        hint: Option<String>,
    }
    match serde_json::from_slice::<Report>(body) {
        Ok(Report { error: Error { message, hint: Some(hint) } }) => Failure::new(message).hint(hint),
        Ok(Report { error: Error { message, hint: None } }) => Failure::new(message),
        Err(_) => Failure::new(format!("the node answers {status}")),
    }
}

/// The results of a job as they are committed.
#[derive(Debug)]
pub struct Results {
    api: Api,
    job: JobId,
    taken: u64,
    stream: Option<Incoming>,
    decoder: Decoder,
}

impl Results {
    /// The next one; `None` when the job is over.
    ///
    /// # Errors
    /// The job is not known, or no node answers for long.
    pub async fn next(&mut self) -> Result<Option<TaskResult>, Failure> {
        loop {
            match self.decoder.next_record().map_err(Failure::new)? {
                Some(record) if record.is_sign_of_life() => continue,
                Some(record) => {
                    self.taken += 1;
                    return decode_result(record).map(Some).map_err(Failure::new);
                }
                None => {}
            }
            let Some(stream) = &mut self.stream else {
                let path = format!("/v1/jobs/{}/results?from={}", self.job, self.taken);
                self.decoder = Decoder::default();
                self.stream = Some(self.api.ask(&Ask::get(&path)).await?.into_body());
                continue;
            };
            match timeout(SILENCE_LIMIT, stream.frame()).await {
                Ok(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        self.decoder.feed(&data);
                    }
                }
                Ok(None) => return self.decoder.finish().map(|()| None).map_err(Failure::new),
                // Cut off: attach again, perhaps to another node.
                Ok(Some(Err(_))) | Err(_) => {
                    self.stream = None;
                    self.api.open = None;
                    self.api.at += 1;
                }
            }
        }
    }
}

/// Records that are sent together.
#[derive(Debug, Default)]
pub struct Batch {
    /// What is sent.
    pub records: BytesMut,
    /// How many.
    pub count: usize,
}
