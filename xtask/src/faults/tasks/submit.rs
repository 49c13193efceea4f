//! Jobs over HTTP, from the host of a node.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::command::Trouble;
use crate::faults::cluster::Cluster;
use crate::hosts::enter;

/// Where a client on the host of a node finds its admin API.
const DOOR: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 7070);
/// How long an answer may take.
const LIMIT: Duration = Duration::from_secs(40);

/// Asks node `n`; the body of its answer.
pub(super) fn post(cluster: &Cluster, n: usize, path: &str, body: &[u8]) -> Result<Vec<u8>, Trouble> {
    let token = cluster.data(n).join("admin.token");
    let token = std::fs::read_to_string(&token).map_err(Trouble::at(token.display().to_string()))?;
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: 127.0.0.1:7070\r\nauthorization: Bearer {}\r\nconnection: close\r\n\
         content-length: {}\r\n\r\n",
        token.trim(),
        body.len()
    );
    let host = cluster.hosts().swap_remove(n - 1).1;
    let answer = std::thread::scope(|scope| {
        // A thread of its own: it stays on that host.
        let asked = scope.spawn(|| -> Result<Vec<u8>, Trouble> {
            enter(&host)?;
            let mut stream = TcpStream::connect(DOOR).map_err(Trouble::at(DOOR.to_string()))?;
            stream.set_read_timeout(Some(LIMIT)).map_err(Trouble::at(DOOR.to_string()))?;
            stream.write_all(head.as_bytes()).map_err(Trouble::at(path))?;
            stream.write_all(body).map_err(Trouble::at(path))?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).map_err(Trouble::at(path))?;
            Ok(answer)
        });
        asked.join().unwrap_or_else(|_| Err(Trouble::Unexpected(format!("{path}: the asker panicked"))))
    })?;
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap_or(answer.len());
    let (head, body) = answer.split_at(end);
    if !head.starts_with(b"HTTP/1.1 2") {
        let text = String::from_utf8_lossy(&answer);
        return Err(Trouble::Unexpected(format!("{path}: {text}")));
    }
    Ok(body.get(4..).unwrap_or_default().to_vec())
}

fn field(answer: &[u8], name: &str) -> Result<serde_json::Value, Trouble> {
    let json: Result<serde_json::Value, _> = serde_json::from_slice(answer);
    let found = json.ok().and_then(|json| json.get(name).cloned());
    found.ok_or_else(|| Trouble::Unexpected(format!("no {name} in {:?}", String::from_utf8_lossy(answer))))
}

/// Puts bytes on node `n`; their name.
pub(super) fn blob(cluster: &Cluster, n: usize, bytes: &[u8]) -> Result<String, Trouble> {
    let hash = field(&post(cluster, n, "/v1/blobs", bytes)?, "hash")?;
    Ok(hash.as_str().unwrap_or_default().to_owned())
}

/// Submits `count` tasks that run `script`, through node `n`; the job's number.
pub(super) fn job(
    cluster: &Cluster,
    n: usize,
    (script, blob, mark): (&str, Option<&str>, &str),
    count: usize,
) -> Result<u64, Trouble> {
    let spec = serde_json::json!({
        "name": mark, "backups": false, "env": [[super::processes::MARK, mark]],
    });
    let job = field(&post(cluster, n, "/v1/jobs", spec.to_string().as_bytes())?, "id")?;
    let job = job.as_u64().ok_or_else(|| Trouble::Unexpected(format!("{job} is no job")))?;
    let stdin = blob.map(|hash| serde_json::json!({ "blob": hash }));
    let head = serde_json::json!({"process": {"argv": ["sh", "-c", script], "stdin": stdin}}).to_string();
    let mut records = Vec::new();
    for _ in 0..count {
        let length = u32::try_from(head.len()).unwrap_or(u32::MAX);
        records.extend_from_slice(&length.to_le_bytes());
        records.extend_from_slice(head.as_bytes());
        records.extend_from_slice(&0_u32.to_le_bytes());
    }
    post(cluster, n, &format!("/v1/jobs/{job}/tasks?after=0"), &records)?;
    post(cluster, n, &format!("/v1/jobs/{job}/close"), &[])?;
    Ok(job)
}
