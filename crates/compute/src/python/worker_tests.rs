//! What `worker.py` does when its node dies, without a node.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Stdio};
use std::time::Duration;

use tokio::time::Instant;

use super::frame;

/// How long anything here may take.
const LIMIT: Duration = Duration::from_secs(30);

/// Looks until it holds.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}: not within {LIMIT:?}");
        std::thread::yield_now();
    }
}

fn runs(pid: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).is_ok_and(|stat| !stat.contains(") Z"))
}

/// The C library's `system` waits for its child whatever signal comes, so that
/// no handler of Python's runs meanwhile.
#[test]
fn a_call_that_nothing_interrupts_ends_with_the_node_and_with_its_children() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let (mut near, far) = UnixStream::pair().expect("a pair of sockets");
    let mut command = Command::new("python3");
    command.args(["-B", "-c", include_str!("worker.py")]).current_dir(dir.path());
    command.stdin(Stdio::from(OwnedFd::from(far))).stdout(Stdio::null()).process_group(0);
    let mut interpreter = command.spawn().expect("python3 is installed");
    drop(command);
    let (function, arguments) = ("cos\nsystem\n.", "((S'sleep 1000 & echo $! > child; wait'\nt(dt.");
    let mut payload = b"TRN1\x03\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00".to_vec();
    payload.extend_from_slice(&u32::try_from(function.len()).expect("short").to_le_bytes());
    payload.extend_from_slice(&[function.as_bytes(), arguments.as_bytes()].concat());
    near.write_all(&frame::task(&[], payload.len())).expect("sent");
    near.write_all(&payload).expect("sent");
    let mut first = [0; frame::HEAD_BYTES];
    near.read_exact(&mut first).expect("it says what it is");
    let path = dir.path().join("child");
    let child = || std::fs::read_to_string(&path).unwrap_or_default();
    until("the call runs", || child().ends_with('\n'));
    assert!(runs(&child()));
    drop(near);
    until("the child of the call is gone", || !runs(&child()));
    assert_eq!(interpreter.wait().expect("it was started").signal(), Some(9));
}
