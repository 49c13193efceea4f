//! The handle of the database: takes a command of a connection and either
//! answers at once, says which partitions must execute what, or gives a
//! future for what walks over partitions.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::{BoxFuture, join_all};
use tokio::sync::watch;
use tokio::time::Instant;
use trine_front::{Login, Principal};
use trine_types::{Clock, Entropy};

use crate::acl::Accounts;
use crate::args::{integer_arg, is, quoted};
use crate::clients::{Clients, Connected};
use crate::config::Config;
use crate::describe;
use crate::error::{Outcome, Refusal, reply};
use crate::groups::{Groups, PartitionReply, Timing};
use crate::info;
use crate::logins::Doorkeeper;
use crate::measure::Measures;
use crate::plan::{self, Access, Part, Plan, Reply, Wrap};
use crate::resp::Value;
use crate::rules::once;
use crate::session::{self, ConnectionState};
use crate::settings::Settings;
use crate::slots::{self, Partitions, SLOTS};
use crate::table::{self, Action, Spec, flag};
use crate::topology::Topology;
use crate::transactions::{self, Verdict};
use crate::walks::{self, Ground};

/// What the database of a node is made of.
pub struct Parts {
    /// The partitions.
    pub groups: Arc<dyn Groups>,
    /// Who is there.
    pub topology: Arc<dyn Topology>,
    /// Wall clock, for what people are shown and for finding due keys.
    pub clock: Arc<dyn Clock>,
    /// For RANDOMKEY.
    pub entropy: Arc<dyn Entropy>,
    /// Whether this node's disk is so full that growing writes are refused.
    pub disk_low: Arc<dyn Fn() -> bool + Send + Sync>,
    /// Resident memory of this process, for INFO.
    pub resident_bytes: fn() -> u64,
    /// Who may log in.
    pub login: Arc<dyn Login>,
    /// The users, as ACL changes them.
    pub accounts: Arc<dyn Accounts>,
    /// The settings.
    pub config: Config,
}

struct Shared {
    parts: Parts,
    partitions: Partitions,
    settings: Settings,
    clients: Arc<Clients>,
    measures: Measures,
    started: Instant,
    shutdown: watch::Sender<bool>,
}

/// The database of a node. Cloning it is cheap.
#[derive(Clone)]
pub struct Database {
    shared: Arc<Shared>,
}

/// What becomes of a command.
pub(crate) enum Begun {
    /// It is answered.
    Done(Reply),
    /// Partitions must execute it.
    Partitions(Plan, Finish),
    /// To be run after everything before it on the connection.
    Later(BoxFuture<'static, Value>),
}

/// What is to be done with the reply of the partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Finish {
    access: Access,
    /// `TRINE.TIMING`: the parts of the time go into the reply.
    show_timing: bool,
}

impl Database {
    /// Puts the database together. Spawns nothing; see [`Database::serve`]
    /// and [`Database::sweep`].
    pub fn new(parts: Parts) -> Self {
        let shared = Shared {
            partitions: Partitions::new(parts.config.partitions),
            settings: Settings::new(parts.config.port, parts.config.max_clients),
            clients: Arc::default(),
            measures: Measures::default(),
            started: Instant::now(),
            shutdown: watch::Sender::new(false),
            parts,
        };
        Self { shared: Arc::new(shared) }
    }

    /// A connection that is not a socket: for [`Database::execute`].
    pub fn connect(&self, name: &str) -> ConnectionState {
        let local = "in-process".to_owned();
        self.accept(name.to_owned(), local, Some(Principal::open()))
    }

    pub(crate) fn accept(
        &self,
        address: String,
        local: String,
        principal: Option<Principal>,
    ) -> ConnectionState {
        let connected: Connected = self.shared.clients.connect(address, local, self.now_ms());
        ConnectionState::new(connected, principal)
    }

    /// Executes one command and waits for its reply.
    pub async fn execute(&self, state: &mut ConnectionState, argv: Vec<Bytes>) -> Value {
        self.shared.measures.took(1);
        match self.begin(state, &argv) {
            Begun::Done(reply) => reply.into_value(),
            Begun::Later(future) => future.await,
            Begun::Partitions(plan, finish) => {
                let running: Vec<_> = plan.parts.into_iter().map(|part| self.start(part)).collect();
                let replies = join_all(running).await;
                self.finish(&plan.join, finish, replies).into_value()
            }
        }
    }

    /// Ends all connections once what is in flight is answered, and the
    /// listeners and the sweep. Cannot be taken back.
    pub fn shut_down(&self) {
        self.shared.shutdown.send_replace(true);
    }

    pub(crate) fn shutdown(&self) -> watch::Receiver<bool> {
        self.shared.shutdown.subscribe()
    }

    /// Clients that are connected now.
    pub fn clients(&self) -> usize {
        self.shared.clients.count()
    }

    /// Who knows the users.
    pub(crate) fn doorkeeper(&self) -> Doorkeeper {
        let parts = &self.shared.parts;
        Doorkeeper { login: parts.login.clone(), accounts: parts.accounts.clone() }
    }

    /// Users or tokens have changed.
    pub(crate) fn recheck_clients(&self) {
        self.doorkeeper().recheck(&self.shared.clients);
    }

    /// The measurements of this node.
    pub fn measures(&self) -> &Measures {
        &self.shared.measures
    }

    pub(crate) fn groups(&self) -> &Arc<dyn Groups> {
        &self.shared.parts.groups
    }

    pub(crate) fn config(&self) -> &Config {
        &self.shared.parts.config
    }

    /// This node's wall clock.
    pub(crate) fn now_ms(&self) -> u64 {
        self.shared.parts.clock.wall_ms()
    }

    /// Starts a part; in the order of the calls per partition.
    pub(crate) fn start(&self, part: Part) -> BoxFuture<'static, PartitionReply> {
        match part.access {
            Access::Read => self.groups().query(part.partition, part.body),
            Access::Write => self.groups().propose(part.partition, part.body),
        }
    }

    /// Puts the replies of a command's parts together.
    pub(crate) fn finish(&self, join: &plan::Join, finish: Finish, replies: Vec<PartitionReply>) -> Reply {
        let (reply, timing) = plan::join(join, replies);
        if reply.is_error() {
            self.shared.measures.refused();
        } else {
            self.shared.measures.record(finish.access, timing);
        }
        if finish.show_timing { Reply::Value(with_timing(reply.into_value(), timing)) } else { reply }
    }

    /// Begins a command.
    pub(crate) fn begin(&self, state: &mut ConnectionState, argv: &[Bytes]) -> Begun {
        let begun = self.begin_wrapped(state, argv, Wrap::Plain).unwrap_or_else(|refusal| {
            state.transaction.refused();
            Begun::Done(Reply::Value(refusal.into()))
        });
        if let Begun::Done(reply) = &begun
            && reply.is_error()
        {
            self.shared.measures.refused();
        }
        begun
    }

    fn begin_wrapped(
        &self,
        state: &mut ConnectionState,
        argv: &[Bytes],
        wrap: Wrap<'_>,
    ) -> Result<Begun, Refusal> {
        state.settle();
        let spec = table::resolve(argv)?;
        state.may_run(spec, argv)?;
        state.client().note(spec.name, state.db, state.protocol);
        if spec.has(flag::DENYOOM) && (self.shared.parts.disk_low)() {
            return Err(Refusal::DiskLow);
        }
        if wrap == Wrap::Plain {
            if spec.name == "exec" {
                state.may_execute()?;
            }
            match state.transaction.consider(self.shared.partitions, spec, state.db, argv)? {
                Verdict::Usual => {}
                Verdict::Answered(value) => return Ok(Begun::Done(Reply::Value(value))),
                Verdict::Execute(plan) => {
                    let finish = Finish { access: Access::Write, show_timing: false };
                    return Ok(Begun::Partitions(plan, finish));
                }
            }
        }
        match (spec.action, wrap) {
            (Action::Read(_) | Action::Write(_), _) => {
                let plan = plan::plan(self.shared.partitions, spec, state.db, argv, wrap)?;
                let access = plan.parts[0].access;
                Ok(Begun::Partitions(plan, Finish { access, show_timing: false }))
            }
            (_, Wrap::Once { .. }) => Err(Refusal::CannotWrap("TRINE.ONCE", "reads or writes keys")),
            (Action::Walk, Wrap::Plain) => self.begin_walk(state, spec, argv),
            (Action::Session, Wrap::Plain) => self.begin_session(state, spec, argv),
        }
    }

    fn begin_session(
        &self,
        state: &mut ConnectionState,
        spec: &'static Spec,
        argv: &[Bytes],
    ) -> Result<Begun, Refusal> {
        let done = |outcome: Outcome| Begun::Done(Reply::Value(reply(outcome)));
        Ok(match spec.name {
            "trine.timing" => with_timing_shown(self.begin_wrapped(state, &argv[1..], Wrap::Plain)?),
            "trine.once" => {
                let (id, sequence) = once_arguments(argv)?;
                self.begin_wrapped(state, &argv[3..], Wrap::Once { id, sequence })?
            }
            "auth" => self.doorkeeper().auth(state, argv)?,
            "hello" => self.doorkeeper().hello(state, argv)?,
            "acl" => self.doorkeeper().acl(state, argv)?,
            "reset" => {
                self.doorkeeper().forget(state);
                done(session::run(state, &self.shared.clients, self.now_ms(), "reset", argv))
            }
            "command" => done(describe::command(argv)),
            "config" => done(self.shared.settings.config(argv)),
            name => done(session::run(state, &self.shared.clients, self.now_ms(), name, argv)),
        })
    }

    fn begin_walk(
        &self,
        state: &ConnectionState,
        spec: &'static Spec,
        argv: &[Bytes],
    ) -> Result<Begun, Refusal> {
        let (database, db, argv) = (self.clone(), state.db, argv.to_vec());
        Ok(match spec.name {
            "info" => Begun::Later(Box::pin(async move { database.info(&argv).await })),
            "cluster" => self.begin_cluster(db, &argv)?,
            "watch" => {
                let watches = state.transaction.watches();
                Begun::Later(Box::pin(async move {
                    reply(transactions::watch(database.ground(db), watches, &argv).await)
                }))
            }
            "wait" => {
                integer_arg(&argv[1])?;
                let timeout = integer_arg(&argv[2]);
                if timeout.map_err(|_| Refusal::Text("ERR timeout is not an integer or out of range"))? < 0 {
                    return Err(Refusal::Text("ERR timeout is negative"));
                }
                let others = self.shared.parts.topology.snapshot().majority_beside_leader();
                Begun::Later(Box::pin(async move { Value::count(others) }))
            }
            name => {
                let random = self.shared.parts.entropy.next_u64();
                Begun::Later(Box::pin(async move {
                    let ground = database.ground(db);
                    reply(match name {
                        "scan" => walks::scan(ground, &argv).await,
                        "keys" => walks::keys(ground, &argv).await,
                        _ => walks::random_key(ground, random).await,
                    })
                }))
            }
        })
    }

    fn ground(&self, db: u8) -> Ground<'_> {
        Ground { groups: &**self.groups(), partitions: self.shared.partitions, db }
    }

    /// `CLUSTER SLOTS|SHARDS|NODES|INFO|MYID|KEYSLOT|COUNTKEYSINSLOT|GETKEYSINSLOT|HELP`
    fn begin_cluster(&self, db: u8, argv: &[Bytes]) -> Result<Begun, Refusal> {
        let done = |value: Value| Ok(Begun::Done(Reply::Value(value)));
        let view = || self.shared.parts.topology.snapshot();
        let upper = argv[1].to_ascii_uppercase();
        let arity = |count: usize, name: &'static str| describe::exactly(argv, count, name);
        match &upper[..] {
            b"SLOTS" => arity(2, "cluster|slots").and_then(|()| done(view().slots())),
            b"SHARDS" => arity(2, "cluster|shards").and_then(|()| done(view().shards())),
            b"NODES" => {
                arity(2, "cluster|nodes")?;
                done(Value::Verbatim(*b"txt", view().nodes_text().into()))
            }
            b"INFO" => {
                arity(2, "cluster|info")?;
                done(Value::Verbatim(*b"txt", view().info_text().into()))
            }
            b"MYID" => arity(2, "cluster|myid").and_then(|()| done(Value::bulk(view().my_id()))),
            b"KEYSLOT" => {
                arity(3, "cluster|keyslot")?;
                done(Value::Integer(slots::slot(&argv[2]).into()))
            }
            b"COUNTKEYSINSLOT" => {
                arity(3, "cluster|countkeysinslot")?;
                let slot = slot_number(&argv[2])?;
                Ok(self.slot_walk(db, slot, usize::MAX, |keys| Value::count(keys.len())))
            }
            b"GETKEYSINSLOT" => {
                arity(4, "cluster|getkeysinslot")?;
                let slot = slot_number(&argv[2])?;
                let limit = usize::try_from(integer_arg(&argv[3])?);
                let limit = limit.map_err(|_| Refusal::Text("ERR Invalid number of keys"))?;
                Ok(self.slot_walk(db, slot, limit, Value::Array))
            }
            b"HELP" => done(describe::help("CLUSTER", CLUSTER_HELP)),
            _ => Err(Refusal::UnknownSubcommand(quoted(&argv[1], 64), "CLUSTER")),
        }
    }

    fn slot_walk(&self, db: u8, slot: u16, limit: usize, shown: fn(Vec<Value>) -> Value) -> Begun {
        let database = self.clone();
        Begun::Later(Box::pin(async move {
            let keys = walks::keys_in_slot(database.ground(db), slot, limit).await;
            reply(keys.map(shown))
        }))
    }

    async fn info(&self, argv: &[Bytes]) -> Value {
        let sections = info::sections(argv);
        let shared = &self.shared;
        let keyspace = if sections.contains(&"keyspace") {
            walks::counts(&**self.groups(), shared.partitions).await.ok()
        } else {
            None
        };
        let view = shared.parts.topology.snapshot();
        let measures = &shared.measures;
        let facts = info::Facts {
            port: shared.parts.config.port,
            uptime_s: shared.started.elapsed().as_secs(),
            run_id: view.my_id(),
            process_id: std::process::id(),
            clients: (shared.clients.count(), shared.clients.ever(), shared.parts.config.max_clients),
            memory_bytes: (shared.parts.resident_bytes)(),
            commands: (measures.commands(), measures.refusals(), measures.forwards()),
            other_nodes: view.nodes.len().saturating_sub(1),
            partitions: (shared.partitions.count(), self.groups().led().len()),
            keyspace,
            figures: measures.figures(),
        };
        Value::Verbatim(*b"txt", info::text(&sections, &facts).into())
    }
}

const CLUSTER_HELP: &[&str] = &[
    "COUNTKEYSINSLOT <slot>",
    "    Answer the number of keys in a slot.",
    "GETKEYSINSLOT <slot> <count>",
    "    Answer keys of a slot.",
    "INFO",
    "    Describe the cluster.",
    "KEYSLOT <key>",
    "    Answer the slot of a key.",
    "MYID",
    "    Answer the id of this node.",
    "NODES",
    "    Describe the nodes.",
    "SHARDS",
    "    Describe which node leads which slots.",
    "SLOTS",
    "    Describe which nodes serve which slots.",
];

fn slot_number(argument: &[u8]) -> Result<u16, Refusal> {
    let slot = u16::try_from(integer_arg(argument)?).ok().filter(|slot| *slot < SLOTS);
    slot.ok_or(Refusal::Text("ERR Invalid slot"))
}

/// Id and sequence number of `TRINE.ONCE id sequence COMMAND …`.
fn once_arguments(argv: &[Bytes]) -> Result<(&[u8], u64), Refusal> {
    if argv[1].is_empty() || argv[1].len() > once::MAX_ID_BYTES {
        return Err(Refusal::OnceArgument("the id must have 1 to 128 bytes"));
    }
    let sequence = integer_arg(&argv[2]).ok().and_then(|sequence| u64::try_from(sequence).ok());
    let sequence = sequence.ok_or(Refusal::OnceArgument("the sequence number must be an integer from 0"))?;
    if argv.get(3).is_some_and(|name| is(name, "TRINE.ONCE")) {
        return Err(Refusal::CannotWrap("TRINE.ONCE", "reads or writes keys"));
    }
    Ok((&argv[1], sequence))
}

/// `[reply, processing µs, passing µs, forwarded 0|1]`
fn with_timing(reply: Value, timing: Timing) -> Value {
    let micros =
        |time: std::time::Duration| Value::unsigned(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
    let (processing, passing) = (micros(timing.processing), micros(timing.passing()));
    Value::Array(vec![reply, processing, passing, Value::flag(timing.forwarded)])
}

fn with_timing_shown(begun: Begun) -> Begun {
    match begun {
        Begun::Done(reply) => Begun::Done(Reply::Value(with_timing(reply.into_value(), Timing::default()))),
        Begun::Partitions(plan, finish) => Begun::Partitions(plan, Finish { show_timing: true, ..finish }),
        Begun::Later(future) => Begun::Later(Box::pin(async move {
            let started = Instant::now();
            let reply = future.await;
            let total = started.elapsed();
            with_timing(reply, Timing { total, processing: total, forwarded: false })
        })),
    }
}
