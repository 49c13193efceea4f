//! Calls on real interpreters. Pickles are written by hand, so that the tests
//! need no client; cloudpickle is a file of one line.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use rustix::process::{Pid, test_kill_process};
use trine::seams::OsEntropy;
use trine_compute::launch::group::{Groups, Limits};
use trine_compute::launch::place::Isolation;
use trine_compute::python::interpreter::Launch;
use trine_compute::python::pool::{IDLE_LIMIT, Interpreters};
use trine_compute::python::run::{Blobs, Printed};
use trine_compute::python::{Call, Ended, Place};
use trine_compute::run::{Cells, cells};
use trine_compute::tokens::TaskTokens;
use trine_compute::{JobId, Outcome};

/// How long anything here may take.
const LIMIT: Duration = Duration::from_mins(1);

struct One;

/// The only blob there is: a pickled 7.
const BLOB: [u8; 32] = [9; 32];

fn pickled() -> File {
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(b"I7\n.").expect("written");
    file
}

impl Blobs for One {
    fn blob(&self, hash: [u8; 32]) -> BoxFuture<'_, Result<File, String>> {
        let found = if hash == BLOB { Ok(pickled()) } else { Err("no such blob".to_owned()) };
        Box::pin(std::future::ready(found))
    }
}

/// The minor version of the interpreter in `PATH`.
fn version() -> String {
    let asked = ["-c", "import sys; print('%d.%d' % sys.version_info[:2])"];
    let told = std::process::Command::new("python3").args(asked).output().expect("python3 is installed");
    String::from_utf8(told.stdout).expect("digits").trim().to_owned()
}

fn payload(function: &str, arguments: &[u8]) -> Bytes {
    let mut bytes = b"TRN1\x03\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00".to_vec();
    bytes.extend_from_slice(&u32::try_from(function.len()).expect("a short name").to_le_bytes());
    bytes.extend_from_slice(function.as_bytes());
    bytes.extend_from_slice(arguments);
    bytes.into()
}

/// A call of `module`'s function `name`; arguments as pickle, protocol 0.
fn calls(dir: &Path, module: &str, name: &str, arguments: &str) -> Call {
    let env = vec![("PYTHONPATH".to_owned(), dir.display().to_string())];
    let limits = Limits::default();
    let launch = Launch { program: "python3".into(), env, workdir: Some(dir.into()), limits };
    let arguments = format!("(({arguments}t(dt.");
    Call {
        place: Place { user: "ann".into(), job: None, launch },
        version: version(),
        payload: payload(&format!("c{module}\n{name}\n."), arguments.as_bytes()),
        blobs: Vec::new(),
        limit: None,
    }
}

fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("temporary folder");
    let text = "from pickle import dumps\n__version__ = 'one line'\n";
    std::fs::write(dir.path().join("cloudpickle.py"), text).expect("written");
    dir
}

/// Interpreters that may read what only this user may.
async fn pool(dir: &Path) -> Interpreters {
    limited(dir, None).await
}

async fn limited(dir: &Path, groups: Option<Arc<Groups>>) -> Interpreters {
    let settings = cells::Settings {
        program: env!("CARGO_BIN_EXE_trine").into(),
        arguments: vec!["launcher".into()],
        folder: dir.join("cells"),
        isolation: Isolation::Nothing,
        open: Vec::new(),
        groups,
    };
    let tokens = TaskTokens::new(Arc::new(OsEntropy));
    Interpreters::new("n1", Cells::open(settings).await.expect("cells"), tokens)
}

async fn ended(pool: &Interpreters, call: &Call) -> Ended {
    tokio::time::timeout(LIMIT, pool.call(call, &One)).await.expect("in time")
}

#[tokio::test]
async fn calls_return_on_the_same_warm_interpreter() {
    let dir = folder();
    let pool = pool(dir.path()).await;
    let first = ended(&pool, &calls(dir.path(), "os", "getpid", "")).await;
    let sum = ended(&pool, &calls(dir.path(), "builtins", "pow", "I2\nI8\n")).await;
    assert_eq!((sum.outcome, &sum.value[sum.value.len() - 4..]), (Outcome::Value, &b"M\x00\x01."[..]));
    let last = ended(&pool, &calls(dir.path(), "os", "getpid", "")).await;
    assert_eq!((first, pool.idle()), (last, 1));
    pool.sweep(IDLE_LIMIT);
    assert_eq!(pool.idle(), 1);
    pool.sweep(Duration::ZERO);
    assert_eq!(pool.idle(), 0);
}

#[tokio::test]
async fn what_a_function_raises_and_prints_comes_back() {
    let dir = folder();
    let pool = pool(dir.path()).await;
    let raised = ended(&pool, &calls(dir.path(), "builtins", "divmod", "I1\nI0\n")).await;
    assert_eq!((raised.outcome, raised.value[0]), (Outcome::Raised, b'X'));
    assert!(String::from_utf8_lossy(&raised.value).contains("ZeroDivisionError"));
    let printed = ended(&pool, &calls(dir.path(), "builtins", "print", "S'hello'\n")).await;
    assert_eq!(printed.stdout, Printed { bytes: "hello\n".into(), cut: false });
    let long = ended(&pool, &calls(dir.path(), "os", "system", "S'yes | head -c 3000000'\n")).await;
    assert_eq!((long.outcome, long.stdout.bytes.len(), long.stdout.cut), (Outcome::Value, 1024 * 1024, true));
    let unknown = ended(&pool, &calls(dir.path(), "no_such_module", "f", "")).await;
    assert_eq!((unknown.outcome, unknown.value[0]), (Outcome::Raised, b'U'));
    assert_eq!(pool.idle(), 1);
}

#[tokio::test]
async fn a_function_that_ends_its_interpreter_tells_how() {
    let dir = folder();
    let pool = pool(dir.path()).await;
    let exited = ended(&pool, &calls(dir.path(), "os", "_exit", "I3\n")).await;
    assert_eq!((exited.outcome, pool.idle()), (Outcome::Exited { code: 3 }, 0));
    let aborted = ended(&pool, &calls(dir.path(), "os", "abort", "")).await;
    assert_eq!(aborted.outcome, Outcome::Signaled { signal: 6 });
    let fresh = ended(&pool, &calls(dir.path(), "builtins", "pow", "I2\nI8\n")).await;
    assert_eq!(fresh.outcome, Outcome::Value);
}

#[tokio::test]
async fn a_call_that_is_dropped_takes_its_process_group_with_it() {
    let dir = folder();
    let pool = pool(dir.path()).await;
    let child = "S'sleep 1000 & echo $! > child; wait'\n";
    let call = calls(dir.path(), "os", "system", child);
    let mut running = Box::pin(pool.call(&call, &One));
    let path = dir.path().join("child");
    let started = std::future::poll_fn(|cx| {
        assert!(running.as_mut().poll(cx).is_pending());
        cx.waker().wake_by_ref();
        match std::fs::read_to_string(&path) {
            Ok(text) if text.ends_with('\n') => std::task::Poll::Ready(text),
            _ => std::task::Poll::Pending,
        }
    });
    let started = tokio::time::timeout(LIMIT, started).await.expect("in time");
    let child = started.trim().parse().ok().and_then(Pid::from_raw).expect("a process id");
    assert_eq!(test_kill_process(child), Ok(()));
    drop(running);
    let gone = async {
        while std::fs::read_to_string(format!("/proc/{}/stat", child.as_raw_nonzero()))
            .is_ok_and(|stat| !stat.contains(") Z"))
        {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LIMIT, gone).await.expect("the child's child is killed, too");
    assert_eq!(pool.idle(), 0);
}

#[tokio::test]
async fn blobs_come_when_asked_for_and_are_missed_by_name() {
    let dir = folder();
    let pool = pool(dir.path()).await;
    let mut call = calls(dir.path(), "_trine_worker", "blob", "");
    let arguments = [b"((C\x20", &BLOB[..], b"t(dt."].concat();
    call.payload = payload("c_trine_worker\nblob\n.", &arguments);
    call.blobs = vec![BLOB];
    let seven = ended(&pool, &call).await;
    assert_eq!((seven.outcome, &seven.value[seven.value.len() - 3..]), (Outcome::Value, &b"K\x07."[..]));
    call.blobs = vec![BLOB, [1; 32]];
    let why = "no such blob".to_owned();
    assert_eq!(ended(&pool, &call).await.outcome, Outcome::NotStarted { why });
    call.blobs.pop();
    assert_eq!(ended(&pool, &call).await.outcome, Outcome::Value);
}

#[tokio::test]
async fn an_interpreter_that_cannot_be_used_says_why() {
    let dir = folder();
    let pool = pool(dir.path()).await;
    let why = async |call: &Call| match ended(&pool, call).await.outcome {
        Outcome::NotStarted { why } => why,
        other => panic!("{other:?}"),
    };
    let mut call = calls(dir.path(), "builtins", "pow", "I2\nI8\n");
    call.place.launch.env.clear();
    std::fs::write(dir.path().join("cloudpickle.py"), "raise ImportError\n").expect("written");
    call.place.launch.env.push(("PYTHONPATH".into(), dir.path().display().to_string()));
    assert!(why(&call).await.contains("pip install cloudpickle"));
    call.version = "3.1".into();
    assert!(why(&call).await.contains("pickled by Python 3.1 and"));
    call.place.launch.program = "no-such-python".into();
    assert!(why(&call).await.contains("TRINE_PYTHON"));
    call.place.launch.program = "false".into();
    assert!(why(&call).await.contains("ended at once"));
    call.payload = Bytes::from_static(b"nonsense");
    assert!(why(&call).await.contains("no pickled call"));
}

#[tokio::test]
async fn jobs_with_interpreters_of_their_own_share_none() {
    let dir = folder();
    let pool = pool(dir.path()).await;
    let mut call = calls(dir.path(), "os", "getpid", "");
    call.place.job = Some(JobId(1));
    let first = ended(&pool, &call).await;
    call.place.job = Some(JobId(2));
    let second = ended(&pool, &call).await;
    assert_ne!(first.value, second.value);
    assert_eq!(pool.idle(), 2);
    call.place.job = Some(JobId(1));
    assert_eq!(ended(&pool, &call).await.value, first.value);
}

#[tokio::test]
async fn a_pickle_that_explodes_ends_its_interpreter_alone() {
    let dir = folder();
    let groups = Groups::open(0).map(Arc::new).ok();
    println!("limits: {}", if groups.is_some() { "control groups" } else { "each process by itself" });
    let pool = limited(dir.path(), groups.clone()).await;
    let mut call = calls(dir.path(), "builtins", "len", "");
    // Small as it travels: bytearray(1 << 30), made while it is unpickled.
    call.payload = payload("cbuiltins\nlen\n.", b"((cbuiltins\nbytearray\n(I1073741824\ntRt(dt.");
    call.place.launch.limits.memory = Some(128 << 20);
    let exploded = ended(&pool, &call).await;
    match exploded.outcome {
        Outcome::Killed { reason } => assert!(reason.contains("may use 128.0 MiB"), "{reason}"),
        Outcome::Raised if groups.is_none() => {
            assert!(String::from_utf8_lossy(&exploded.value).contains("MemoryError"));
        }
        other => panic!("{other:?}"),
    }
    let other = ended(&pool, &calls(dir.path(), "builtins", "pow", "I2\nI8\n")).await;
    assert_eq!(other.outcome, Outcome::Value);
}
