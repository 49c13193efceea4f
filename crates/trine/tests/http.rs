//! The admin API over real sockets: what it answers, and what it does to
//! clients without a credential, from other sites, too large, too slow, or
//! without sense.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;
use trine::admin::protocol::{Answer, Refusal, RefusalKind, RemovedReport, Request, TicketReport};
use trine::admin::server::Control;
use trine::http::HttpServer;
use trine::http::api::{Api, Measured};
use trine::http::guard::{self, Gate, NodeToken};
use trine::http::limits::{HttpLimits, TOO_MANY_CONNECTIONS};
use trine::http::metrics::{Family, Figure};
use trine::seams::OsEntropy;
use trine_front::{Exposure, Listeners};

/// How long anything here may take.
const LIMIT: Duration = Duration::from_secs(20);

/// A node that knows little.
struct Fixed;

impl Control for Fixed {
    fn answer<'a>(&'a self, _: &'a str, request: Request) -> BoxFuture<'a, Result<Answer, Refusal>> {
        Box::pin(async move {
            match request {
                Request::Nodes {} => Ok(Answer::Nodes(Vec::new())),
                Request::Ticket { valid_s } => {
                    Ok(Answer::Ticket(TicketReport { ticket: "trine-x".to_owned(), not_after_ms: valid_s }))
                }
                Request::RemoveNode { node } if node == "n2" => {
                    Ok(Answer::Removed(RemovedReport { number: 2, name: node }))
                }
                Request::RemoveNode { .. } => {
                    Err(Refusal::new("no such node").hint("look").kind(RefusalKind::NotFound))
                }
                Request::Groups {} => std::future::pending().await,
                _ => Err(Refusal::new("not heard").kind(RefusalKind::Unavailable)),
            }
        })
    }
}

impl Measured for Fixed {
    fn families(&self) -> Vec<Family> {
        vec![Family::one("trine_commands", "Commands taken", Figure::Count(7))]
    }
}

struct Door {
    address: SocketAddr,
    token: String,
    server: HttpServer,
    _data: tempfile::TempDir,
}

fn door(limits: HttpLimits) -> Door {
    let data = tempfile::tempdir().expect("temporary folder");
    let guard = NodeToken::open(data.path(), &OsEntropy).expect("a token is made");
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let listener =
        Listeners::bind("admin", any, Exposure::default(), limits.of_listener(), TOO_MANY_CONNECTIONS);
    let listener = Arc::new(listener.expect("a free port"));
    let address = listener.local_addr();
    let api =
        Api::new(Arc::new(Fixed), Arc::new(Fixed), Gate::new(vec![Arc::new(guard)]), "node1".to_owned());
    let runtime = tokio::runtime::Handle::current();
    let server = HttpServer::start(listener, None, Arc::new(api), limits, &runtime);
    Door { address, token: token_in(data.path()), server, _data: data }
}

fn token_in(data: &Path) -> String {
    std::fs::read_to_string(guard::token_path(data)).expect("the token file").trim().to_owned()
}

impl Door {
    async fn open(&self) -> TcpStream {
        TcpStream::connect(self.address).await.expect("the door is open")
    }

    /// Sends bytes and reads until the door closes the connection.
    async fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = self.open().await;
        // A door that refuses early closes while we are still sending.
        let _ = stream.write_all(bytes).await;
        rest_of(&mut stream).await
    }

    /// One request with this token and these lines; the whole answer.
    async fn ask(&self, line: &str, token: Option<&str>, lines: &[&str], body: &str) -> String {
        let host = format!("Host: {}", self.address);
        let bearer = token.map(|token| format!("Authorization: Bearer {token}"));
        let length = format!("Content-Length: {}", body.len());
        let mut sent = vec![format!("{line} HTTP/1.1"), "Connection: close".to_owned()];
        sent.extend(bearer);
        sent.extend((!lines.iter().any(|line| line.starts_with("Host:"))).then_some(host));
        sent.extend((!body.is_empty()).then_some(length));
        sent.extend(lines.iter().map(|line| (*line).to_owned()));
        let request = sent.join("\r\n") + "\r\n";
        self.raw(format!("{request}\r\n{body}").as_bytes()).await
    }

    async fn with_token(&self, line: &str, body: &str) -> String {
        self.ask(line, Some(&self.token), &[], body).await
    }
}

async fn rest_of(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let read = tokio::time::timeout(LIMIT, stream.read_to_end(&mut answer)).await;
    // A reset is a way to close, too.
    let _ = read.expect("the door closes the connection in time");
    String::from_utf8_lossy(&answer).into_owned()
}

fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
}

fn json(answer: &str) -> serde_json::Value {
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}"))
}

#[tokio::test]
async fn answers_are_the_reports_of_the_admin_socket() {
    let door = door(HttpLimits::default());
    assert_eq!(json(&door.with_token("GET /v1/nodes", "").await), serde_json::json!([]));
    let ticket = door.with_token("POST /v1/tickets", r#"{"valid_s":60}"#).await;
    assert_eq!(json(&ticket), serde_json::json!({"ticket": "trine-x", "not_after_ms": 60}));
    let ticket = door.with_token("POST /v1/tickets", "").await;
    assert_eq!(json(&ticket)["not_after_ms"], 3600);
    let removed = door.with_token("DELETE /v1/nodes/n2", "").await;
    assert_eq!(json(&removed), serde_json::json!({"number": 2, "name": "n2"}));
    let metrics = door.with_token("GET /metrics", "").await;
    assert!(metrics.contains("trine_commands_total 7\n"), "{metrics}");
    let document = json(&door.with_token("GET /openapi.json", "").await);
    assert_eq!(document["openapi"], "3.1.0");
    let live = door.ask("GET /health/live", None, &[], "").await;
    assert_eq!((status(&live), json(&live)), (200, serde_json::json!({"live": true})));
    let ready = door.ask("GET /health/ready", None, &[], "").await;
    assert_eq!((status(&ready), json(&ready)), (503, serde_json::json!({"ready": false})));
}

#[tokio::test]
async fn errors_are_json_with_kind_message_and_hint() {
    let door = door(HttpLimits::default());
    let error = |answer: &str| (status(answer), json(answer)["error"]["kind"].as_str().map(str::to_owned));
    let gone = door.with_token("DELETE /v1/nodes/n7", "").await;
    assert_eq!(error(&gone), (404, Some("not-found".to_owned())));
    assert_eq!(json(&gone)["error"]["hint"], "look");
    let unheard = door.with_token("GET /v1/status", "").await;
    assert_eq!(error(&unheard), (503, Some("unavailable".to_owned())));
    let nothing = door.with_token("GET /v2/status", "").await;
    assert_eq!(error(&nothing), (404, Some("not-found".to_owned())));
    let method = door.with_token("PUT /v1/nodes", "").await;
    assert_eq!(error(&method), (405, Some("invalid".to_owned())));
    assert!(method.to_lowercase().contains("allow: get\r\n"), "{method}");
    for body in ["{", "[]", r#"{"valid":1}"#, r#"{"valid_s":0}"#, r#"{"valid_s":-1}"#, "\0"] {
        let refused = door.with_token("POST /v1/tickets", body).await;
        assert_eq!(error(&refused), (400, Some("invalid".to_owned())), "{body}");
    }
}

#[tokio::test]
async fn nothing_but_health_is_said_without_a_credential() {
    let door = door(HttpLimits::default());
    let asked = [
        "GET /v1/status",
        "GET /metrics",
        "GET /openapi.json",
        "POST /v1/tickets",
        "DELETE /v1/nodes/n2",
        "GET /",
    ];
    for line in asked {
        let refused = door.ask(line, None, &[], "").await;
        assert_eq!(status(&refused), 401, "{line}");
        assert!(refused.to_lowercase().contains("www-authenticate: bearer"), "{refused}");
    }
    let begin = Instant::now();
    let wrong = door.ask("GET /v1/nodes", Some("wrong"), &[], "").await;
    assert_eq!(status(&wrong), 401);
    assert!(begin.elapsed() >= guard::WRONG_PAUSE, "{:?}", begin.elapsed());
    let near = &door.token[..door.token.len() - 1];
    assert_eq!(status(&door.ask("GET /v1/nodes", Some(near), &[], "").await), 401);
    assert_eq!(status(&door.with_token("GET /v1/nodes", "").await), 200);
}

#[tokio::test]
async fn guesses_are_few_and_do_not_hold_up_who_knows_the_token() {
    let door = door(HttpLimits::default());
    let guesses: Vec<String> = (0..32).map(|guess| format!("guess-{guess}")).collect();
    let begin = Instant::now();
    let guessing = futures::future::join_all(
        guesses.iter().map(|guess| door.ask("GET /v1/nodes", Some(guess), &[], "")),
    );
    let knowing = async {
        let answer = door.with_token("GET /v1/nodes", "").await;
        (status(&answer), begin.elapsed())
    };
    let (judged, (known, after)) = tokio::join!(guessing, knowing);
    let count = |wanted| judged.iter().filter(|answer| status(answer) == wanted).count();
    assert_eq!(count(401) + count(429), guesses.len());
    assert!(count(401) <= guard::WRONG_AT_ONCE * 2, "{} were judged", count(401));
    assert_eq!(known, 200);
    assert!(after < guard::WRONG_PAUSE, "{after:?}");
}

#[tokio::test]
async fn other_names_and_other_sites_are_refused_even_with_the_token() {
    let door = door(HttpLimits::default());
    let ask = async |lines: &[&str]| status(&door.ask("GET /v1/nodes", Some(&door.token), lines, "").await);
    assert_eq!(ask(&["Host: evil.example"]).await, 421);
    assert_eq!(ask(&["Host: evil.example:7070"]).await, 421);
    assert_eq!(ask(&["Origin: http://evil.example"]).await, 403);
    assert_eq!(ask(&["Origin: null"]).await, 403);
    assert_eq!(ask(&["Sec-Fetch-Site: cross-site"]).await, 403);
    assert_eq!(ask(&[&format!("Origin: http://{}", door.address)]).await, 200);
    assert_eq!(ask(&["Host: localhost"]).await, 200);
    assert_eq!(ask(&["Host: node1:7070"]).await, 200);
    let preflight = door.ask("OPTIONS /v1/nodes", None, &["Origin: http://evil.example"], "").await;
    assert_eq!(status(&preflight), 403);
    assert!(!preflight.to_lowercase().contains("access-control"), "{preflight}");
    let old = door.raw(b"GET /v1/nodes HTTP/1.0\r\n\r\n").await;
    assert_eq!(status(&old), 421, "{old}");
}

#[tokio::test]
async fn what_is_too_large_is_refused() {
    let limits = HttpLimits { max_body_bytes: 1000, ..HttpLimits::default() };
    let door = door(limits.clone());
    let long = format!("X-Long: {}", "x".repeat(limits.max_header_bytes));
    assert_eq!(status(&door.ask("GET /v1/nodes", Some(&door.token), &[&long], "").await), 431);
    let many = vec!["X-Many: 1"; limits.max_headers];
    assert_eq!(status(&door.ask("GET /v1/nodes", Some(&door.token), &many, "").await), 431);
    let path = format!("GET /{}", "x".repeat(limits.max_header_bytes));
    let refused = status(&door.with_token(&path, "").await);
    assert!(matches!(refused, 414 | 431), "{refused}");
    let body = " ".repeat(limits.max_body_bytes + 1);
    assert_eq!(status(&door.with_token("POST /v1/tickets", &body).await), 413);
    // Who has no right to ask cannot make the door read a body.
    assert_eq!(status(&door.ask("POST /v1/tickets", None, &["Content-Length: 1000000000"], "").await), 401);
}

fn impatient() -> HttpLimits {
    let soon = Duration::from_millis(300);
    HttpLimits {
        header_limit: soon,
        body_limit: soon,
        answer_limit: soon,
        write_limit: soon,
        ..HttpLimits::default()
    }
}

#[tokio::test]
async fn slow_clients_are_closed_by_a_limit() {
    // The limits of a body and of an answer would end the same request.
    let hasty = door(impatient());
    let door = door(HttpLimits { answer_limit: LIMIT, ..impatient() });
    // One byte after another, never the end of the headers.
    let mut loris = door.open().await;
    let begin = Instant::now();
    loris.write_all(b"GET /v1/nodes HTTP/1.1\r\n").await.expect("sent");
    while begin.elapsed() < LIMIT && loris.write_all(b"x").await.is_ok() {
        tokio::time::timeout(Duration::from_millis(20), loris.readable()).await.ok();
        if matches!(loris.try_read(&mut [0; 512]), Ok(0)) {
            break;
        }
    }
    assert!(begin.elapsed() < LIMIT, "closed by the limit of headers");
    // Nothing at all, and nothing after an answer.
    let mut silent = door.open().await;
    assert!(rest_of(&mut silent).await.len() < 200);
    let mut idle = door.open().await;
    let request = format!("GET /health/live HTTP/1.1\r\nHost: {}\r\n\r\n", door.address);
    idle.write_all(request.as_bytes()).await.expect("sent");
    assert_eq!(status(&rest_of(&mut idle).await), 200);
    // A body that does not come.
    let mut body = door.open().await;
    let head = format!(
        "POST /v1/tickets HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\nContent-Length: 9\r\n\r\n{{",
        door.address, door.token
    );
    body.write_all(head.as_bytes()).await.expect("sent");
    assert_eq!(status(&rest_of(&mut body).await), 408);
    // An answer that does not come.
    let late = hasty.with_token("GET /v1/groups", "").await;
    assert_eq!(status(&late), 504, "{late}");
}

#[tokio::test]
async fn a_client_who_does_not_read_is_closed() {
    let door = door(impatient());
    let mut stream = door.open().await;
    let request = format!(
        "GET /openapi.json HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\n\r\n",
        door.address, door.token
    );
    // Asks until both sockets' buffers are full of answers; then the door gives up.
    let asking = async { while stream.write_all(request.as_bytes()).await.is_ok() {} };
    tokio::time::timeout(LIMIT, asking).await.expect("the door closes the connection");
}

#[tokio::test]
async fn connections_over_the_limit_are_told_so() {
    let door = door(HttpLimits { max_connections: 2, ..HttpLimits::default() });
    let ask = format!("GET /health/live HTTP/1.1\r\nHost: {}\r\n\r\n", door.address);
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut stream = door.open().await;
        stream.write_all(ask.as_bytes()).await.expect("sent");
        let mut first = [0; 12];
        stream.read_exact(&mut first).await.expect("answered");
        assert_eq!(&first, b"HTTP/1.1 200");
        held.push(stream);
    }
    let mut third = door.open().await;
    let refused = rest_of(&mut third).await;
    assert_eq!(json(&refused)["error"]["kind"], "unavailable", "{refused}");
}

#[tokio::test]
async fn who_asks_nothing_keeps_nobody_out() {
    let door = door(HttpLimits { max_connections: 8, ..HttpLimits::default() });
    let mut silent = Vec::new();
    for _ in 0..64 {
        let mut stream = door.open().await;
        // It may be closed already.
        let _ = stream.write_all(b"GET /v1/nodes HTTP/1.1\r\nHost: ").await;
        silent.push(stream);
    }
    let asked = Instant::now();
    assert_eq!(status(&door.with_token("GET /v1/nodes", "").await), 200);
    assert!(asked.elapsed() < HttpLimits::default().header_limit / 2, "it waited for the silent ones");
}

#[tokio::test]
async fn bytes_without_sense_hurt_nobody() {
    use rand::{Rng, SeedableRng};
    let door = door(impatient());
    let mut random = rand::rngs::StdRng::seed_from_u64(1);
    for round in 0..200 {
        let mut bytes = vec![0; 1 + (round * 37) % 2000];
        random.fill_bytes(&mut bytes);
        if round % 2 == 0 {
            bytes.splice(0..0, b"GET /v1/nodes HTTP/1.1\r\nHost: localhost\r\n".iter().copied());
        }
        let mut stream = door.open().await;
        // It may be closed already.
        let _ = stream.write_all(&bytes).await;
        let _ = stream.shutdown().await;
        let answer = rest_of(&mut stream).await;
        assert!(matches!(status(&answer), 0 | 400 | 401 | 431), "{answer}");
    }
    assert_eq!(status(&door.with_token("GET /v1/nodes", "").await), 200);
}

#[tokio::test]
async fn a_stop_answers_what_was_asked_and_no_more() {
    let door = door(HttpLimits { answer_limit: Duration::from_millis(300), ..HttpLimits::default() });
    let mut asked = door.open().await;
    let request = format!(
        "GET /v1/groups HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\n\r\n",
        door.address, door.token
    );
    asked.write_all(request.as_bytes()).await.expect("sent");
    asked.writable().await.expect("open");
    let mut idle = door.open().await;
    let live = format!("GET /health/live HTTP/1.1\r\nHost: {}\r\n\r\n", door.address);
    idle.write_all(live.as_bytes()).await.expect("sent");
    idle.read_exact(&mut [0; 12]).await.expect("answered, so that both were accepted");
    let address = door.address;
    tokio::time::timeout(LIMIT, door.server.stop()).await.expect("the door stops in time");
    assert_eq!(status(&rest_of(&mut asked).await), 504);
    rest_of(&mut idle).await;
    assert!(TcpStream::connect(address).await.is_err(), "nobody listens any more");
}
