//! One connection: everything that a read brought is routed in one pass, and
//! everything that waits for the client leaves in one write.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::{Instant, Sleep};
use trine_front::login::{LoginRefused, Principal};

use super::io::{Input, Output};
use crate::bus::publisher::Publisher;
use crate::bus::{Attachment, SubId};
use crate::message::Message;
use crate::nats::client::Client;
use crate::nats::encode;
use crate::nats::error::Refusal;
use crate::nats::handle::{News, Phase, Shared};
use crate::nats::info::Security;
use crate::nats::parser::{Bounds, Op, Parsed, parse};
use crate::nats::session::{Granted, Greeting, Held, Publishing, Session};

/// How long, and how much, a connection that ends is read on, so that the last
/// error reaches the client before a reset does.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 64 * 1024 * 1024;

type Login = BoxFuture<'static, Result<Principal, LoginRefused>>;

/// What a subscription is known by: at the bus, and in the client's slots.
type Handle = (SubId, Bytes);

/// One connection.
pub(super) struct Connection<S> {
    shared: Arc<Shared>,
    stream: S,
    client: Arc<Client>,
    attachment: Attachment,
    publisher: Publisher,
    session: Session<Handle>,
    input: Input,
    output: Output,
    greeting: Shown,
    login: Option<Login>,
    /// Ends when those whom this client sends to have room again.
    pressure: Option<BoxFuture<'static, ()>>,
    news: watch::Receiver<News>,
    timer: Pin<Box<Sleep>>,
    state: State,
}

#[derive(Default)]
struct State {
    /// Somebody whom this client sends to is full.
    pressed: bool,
    /// Something came since the last ping.
    heard: bool,
    /// Nothing is read any more; what waits is written.
    closing: bool,
    /// When this client is to leave in lame duck mode.
    leaves_at: Option<Instant>,
}

/// What the INFO of a connection said.
pub(crate) struct Shown {
    /// What the client was asked to sign.
    pub(crate) nonce: String,
    /// What it must show.
    pub(crate) security: Security,
    /// Which version of the door's news it knows.
    pub(crate) version: u64,
}

/// How a connection ended.
enum End {
    /// The client is gone, or does not read: more words make no sense.
    Gone,
    /// We have said our last word.
    Said,
}

enum Event {
    Read(usize),
    /// All that waited was written after the outbox was closed.
    Drained,
    /// Subscriptions have had all their messages.
    Ended,
    /// Publishers waited for this client in vain.
    TooSlow,
    LoggedIn(Result<Principal, LoginRefused>),
    Relieved,
    /// The client's own outbox was full and is not any more.
    Emptied,
    News,
    Tick,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// A connection that has shown its INFO, or has it in its outbox.
    pub(super) fn new(shared: Arc<Shared>, stream: S, client: Arc<Client>, greeting: Shown) -> Self {
        let attachment = shared.bus.attach(client.clone());
        let anonymous = shared.login.anonymous(client.peer.ip());
        let config = &shared.config;
        let first = if anonymous.is_some() { config.ping_interval } else { config.auth_timeout };
        let mut news = shared.news.subscribe();
        news.mark_changed();
        Self {
            publisher: attachment.publisher(),
            session: Session::new(anonymous, config.max_subscriptions),
            timer: Box::pin(tokio::time::sleep(first)),
            news,
            attachment,
            stream,
            client,
            greeting,
            shared,
            input: Input::default(),
            output: Output::default(),
            login: None,
            pressure: None,
            state: State::default(),
        }
    }

    /// Serves until it ends.
    pub(super) async fn run(mut self) {
        match self.serve().await {
            Ok(End::Gone) => {}
            Ok(End::Said) => self.linger().await,
            Err(error) => tracing::debug!(cid = self.client.cid, %error, "connection broke"),
        }
    }

    async fn serve(&mut self) -> io::Result<End> {
        loop {
            if !self.is_held_up() && self.input.is_ready() {
                self.take_operations();
            }
            match self.next().await? {
                Event::Read(0) => return Ok(End::Gone),
                Event::Read(_) => self.state.heard = true,
                Event::Drained => return Ok(End::Said),
                Event::Ended => self.release_ended(),
                Event::TooSlow => {
                    tracing::info!(cid = self.client.cid, "Slow Consumer Detected");
                    return Ok(End::Gone);
                }
                Event::LoggedIn(outcome) => self.logged_in(outcome),
                Event::Relieved => (self.state.pressed, self.pressure) = (false, None),
                Event::News => self.take_news(),
                Event::Tick if !self.tick() => return Ok(End::Gone),
                Event::Tick | Event::Emptied => {}
            }
        }
    }

    /// Whether nothing more of this client may be worked on for now.
    fn is_held_up(&self) -> bool {
        self.state.pressed
            || self.state.closing
            || self.login.is_some()
            // Its own answers wait: it sends and does not read.
            || self.client.outbox.brake().is_pulled()
    }

    /// Waits for something to do; writes meanwhile. Cancel safe.
    async fn next(&mut self) -> io::Result<Event> {
        let reads = !self.is_held_up();
        let Self { stream, client, input, output, login, pressure, news, timer, state, .. } = self;
        tokio::select! {
            biased;
            changed = news.changed(), if !state.closing => match changed {
                Ok(()) => Ok(Event::News),
                // The door is gone.
                Err(_) => Ok(Event::Drained),
            },
            outcome = logged_in(login) => Ok(Event::LoggedIn(outcome)),
            () = relieved(pressure) => Ok(Event::Relieved),
            moved = std::future::poll_fn(|cx| poll_io(stream, client, input, output, reads, cx)) => moved,
            () = timer.as_mut() => Ok(Event::Tick),
        }
    }

    /// Works on all operations that have come, as far as that goes.
    fn take_operations(&mut self) {
        let bounds = Bounds {
            control_line: self.shared.config.max_control_line,
            payload: self.shared.config.max_payload,
        };
        let mut input = std::mem::take(&mut self.input);
        let (mut taken, mut wanted) = (0, 1);
        let mut came = (0, 0);
        while !self.is_held_up() && taken < input.bytes().len() {
            match parse(&input.bytes()[taken..], bounds) {
                Ok(Parsed::Op(op, length)) => {
                    taken += length;
                    if let Op::Publish(message) = &op {
                        came = (came.0 + 1, came.1 + message.body_bytes() as u64);
                        self.publish(message);
                    } else {
                        self.operate(op);
                    }
                }
                Ok(Parsed::More(more)) => {
                    wanted = more;
                    break;
                }
                Err(error) => {
                    self.refuse(&Refusal::Parse(error));
                    break;
                }
            }
        }
        input.took(taken, wanted);
        if self.state.closing {
            input.clear();
        }
        self.input = input;
        self.publisher.flush();
        if self.state.pressed && self.pressure.is_none() {
            // Kept over wake-ups for other reasons, so that the limit of the
            // wait holds.
            self.pressure = Some(Box::pin(self.publisher.take_pressure().relieved()));
        }
        if came.0 > 0 {
            self.client.came(came.0, came.1);
        }
    }

    fn operate(&mut self, op: Op<'_>) {
        if !self.session.is_let_in() && !matches!(op, Op::Connect(_)) {
            return self.refuse(&Refusal::Authorization);
        }
        match op {
            Op::Connect(json) => self.connect(json),
            Op::Subscribe { filter, queue, sid } => self.subscribe(filter, queue, sid),
            Op::Unsubscribe { sid, max } => {
                self.unsubscribe(sid, max);
                self.acknowledge();
            }
            Op::Ping => self.send(encode::PONG),
            Op::Pong => self.session.is_alive(),
            Op::Complaint(_) => self.close(),
            Op::Nothing | Op::Publish(_) => {}
        }
    }

    fn publish(&mut self, message: &Message<'_>) {
        match self.session.publish(message.subject) {
            Publishing::Yes => {
                self.acknowledge();
                let published = self.publisher.publish(message);
                self.state.pressed |= published.pressed;
                if published.receivers == 0 {
                    self.nobody(message);
                }
                if self.client.has_ended() {
                    self.release_ended();
                }
            }
            Publishing::Nowhere => {
                self.acknowledge();
                self.nobody(message);
            }
            Publishing::No(refusal) => self.refuse(&refusal),
        }
    }

    /// Tells the sender of a request that nobody will answer.
    fn nobody(&mut self, message: &Message<'_>) {
        if !self.session.options().no_responders {
            return;
        }
        let Some((reply, sid)) = message.reply.and_then(|reply| Some((reply, self.session.sid_for(reply)?)))
        else {
            return;
        };
        let subject = String::from_utf8_lossy(message.subject);
        let headers = format!("NATS/1.0 503\r\nNats-Subject: {subject}\r\n\r\n");
        let answer =
            encode::Delivery { subject: reply, sid, reply: None, headers: headers.as_bytes(), payload: &[] };
        let _ = self.client.outbox.append(|out| encode::message(out, &answer, true));
    }

    fn connect(&mut self, json: &[u8]) {
        match self.session.connect(json, &self.greeting.nonce) {
            Err(refusal) => self.refuse(&refusal),
            Ok(Greeting::Anonymous) => match self.shared.login.anonymous(self.client.peer.ip()) {
                Some(principal) => self.let_in(principal),
                None => self.refuse(&Refusal::Authorization),
            },
            Ok(Greeting::Login(credential)) => {
                let (login, source) = (self.shared.login.clone(), self.client.peer.ip());
                self.login = Some(Box::pin(async move { login.login(source, credential).await }));
            }
        }
    }

    fn logged_in(&mut self, outcome: Result<Principal, LoginRefused>) {
        self.login = None;
        match outcome {
            Ok(principal) => self.let_in(principal),
            Err(error) => {
                let user = self.session.options().user.as_deref().unwrap_or_default();
                tracing::info!(cid = self.client.cid, user, %error, "authentication error");
                self.refuse(&Refusal::Authorization);
            }
        }
    }

    fn let_in(&mut self, principal: Principal) {
        let options = self.session.options();
        self.client.knows_headers(options.headers);
        self.publisher.set_echo(options.echo);
        // A second CONNECT changes what holds, not what is shown to people.
        let _ = self.client.about.set((options.clone(), principal.name.clone()));
        self.session.let_in(principal);
        self.timer.as_mut().reset(Instant::now() + self.shared.config.ping_interval);
        self.acknowledge();
        self.tell_news();
    }

    fn subscribe(&mut self, filter: &[u8], queue: Option<&[u8]>, sid: &[u8]) {
        let granted = match self.session.subscribe(filter, queue, sid) {
            Ok(Granted::Again) => return self.acknowledge(),
            Ok(granted) => granted,
            Err(refusal) => return self.refuse(&refusal),
        };
        let (filter, queue) = (Bytes::copy_from_slice(filter), queue.map(Bytes::copy_from_slice));
        let rights = self.session.principal().map(|principal| principal.rights.clone());
        let check = rights.filter(|_| granted == Granted::Filtered).map(|rights| (rights, queue.clone()));
        let key = self.client.open(sid, check);
        match self.attachment.subscribe(filter.clone(), queue.clone(), key.clone()) {
            Ok(id) => {
                self.session.hold(Bytes::copy_from_slice(sid), Held { filter, queue, id: (id, key) });
                self.acknowledge();
            }
            Err(error) => {
                self.client.close(&key);
                tracing::warn!(cid = self.client.cid, %error, "subscription refused");
                self.refuse(&Refusal::of_bus(error));
            }
        }
    }

    fn unsubscribe(&mut self, sid: &[u8], max: Option<u64>) {
        let Some(held) = self.session.subscriptions().get(sid) else { return };
        let stays = max.is_some_and(|max| max > 0 && !self.client.limit(&held.id.1, max));
        if !stays && let Some(held) = self.session.release(sid) {
            self.end(&held.id);
        }
    }

    fn end(&mut self, (id, key): &Handle) {
        self.attachment.unsubscribe(*id);
        self.client.close(key);
    }

    fn release_ended(&mut self) {
        for key in self.client.take_ended() {
            let name = Client::name_in(&key);
            let is_it = self.session.subscriptions().get(name).is_some_and(|held| held.id.1 == key);
            if is_it && let Some(held) = self.session.release(name) {
                self.end(&held.id);
            }
        }
    }

    fn take_news(&mut self) {
        let news = self.news.borrow_and_update().clone();
        self.renew_rights();
        if self.state.closing {
            return;
        }
        match news.phase {
            Phase::Closing => self.refuse(&Refusal::Shutdown),
            Phase::LameDuck(since) if self.state.leaves_at.is_none() => {
                let leaves_at = self.shared.leaves_at(self.client.cid, since);
                self.state.leaves_at = Some(leaves_at);
                if leaves_at < self.timer.deadline() {
                    self.timer.as_mut().reset(leaves_at);
                }
            }
            _ => {}
        }
        self.tell_news();
    }

    /// Sends INFO again if it says something else by now.
    fn tell_news(&mut self) {
        let knows = self.session.is_connected() && self.session.options().protocol >= 1;
        if knows && self.greeting.version != self.news.borrow().version {
            let json = self.shared.info_json(&self.client, &mut self.greeting);
            let _ = self.client.outbox.append(|out| encode::info(out, &json));
        }
    }

    /// Takes what the client may do now, and what it has no right to any more.
    fn renew_rights(&mut self) {
        let Some(old) = self.session.principal() else { return };
        let Some(new) = self.shared.login.renew(old) else { return self.refuse(&Refusal::Authorization) };
        if new.rights == old.rights {
            return;
        }
        let rights = new.rights.clone();
        self.session.let_in(new);
        for (sid, held) in self.session.subscriptions().clone() {
            match self.session.granted(&held.filter, held.queue.as_deref()) {
                Ok(granted) => {
                    let filtered =
                        (granted == Granted::Filtered).then(|| (rights.clone(), held.queue.clone()));
                    self.client.check(&held.id.1, filtered);
                }
                Err(refusal) => {
                    self.session.release(&sid);
                    self.end(&held.id);
                    self.refuse(&refusal);
                }
            }
        }
    }

    /// The timer went off; `false`: that was too long.
    fn tick(&mut self) -> bool {
        let config = &self.shared.config;
        let (interval, allowed) = (config.ping_interval, config.pings_out);
        let now = Instant::now();
        self.timer.as_mut().reset(now + interval);
        if self.state.closing {
            return false;
        }
        if !self.session.is_let_in() {
            self.refuse(&Refusal::AuthTimeout);
        } else if self.state.leaves_at.is_some_and(|at| at <= now) {
            self.close();
        } else if std::mem::take(&mut self.state.heard) {
            self.session.is_alive();
        } else if self.session.ask_for_life(allowed) {
            self.send(encode::PING);
        } else {
            self.refuse(&Refusal::Stale);
        }
        if let Some(at) = self.state.leaves_at.filter(|at| !self.state.closing && *at < now + interval) {
            self.timer.as_mut().reset(at);
        }
        true
    }

    /// What a verbose client hears after each operation.
    fn acknowledge(&mut self) {
        if self.session.options().verbose {
            self.send(encode::OK);
        }
    }

    /// A client that does not take it is closed by its full outbox.
    fn send(&mut self, text: &[u8]) {
        let _ = self.client.outbox.append(|out| out.extend_from_slice(text));
    }

    fn refuse(&mut self, refusal: &Refusal) {
        if let Some(text) = refusal.text() {
            tracing::debug!(cid = self.client.cid, error = text, "refused");
            let _ = self.client.outbox.append(|out| encode::error(out, &text));
        }
        if refusal.closes() {
            self.close();
        }
    }

    /// Reads nothing more, and ends once everything is written or too much
    /// time has passed.
    fn close(&mut self) {
        if !self.state.closing {
            self.state.closing = true;
            self.client.outbox.close();
            self.timer.as_mut().reset(Instant::now() + LINGER);
        }
    }

    /// Says that nothing more comes, and reads what the client still sends.
    async fn linger(mut self) {
        let stream = &mut self.stream;
        let drain = async {
            stream.shutdown().await?;
            let mut rest = vec![0; 16 * 1024];
            let mut left = LINGER_BYTES;
            while left > 0 {
                match stream.read(&mut rest).await? {
                    0 => break,
                    read => left = left.saturating_sub(read),
                }
            }
            io::Result::Ok(())
        };
        // Whether it ends by the limit, by the time or by itself is the same.
        let _ = tokio::time::timeout(LINGER, drain).await;
    }
}

async fn logged_in(login: &mut Option<Login>) -> Result<Principal, LoginRefused> {
    match login {
        Some(login) => login.await,
        None => std::future::pending().await,
    }
}

async fn relieved(pressure: &mut Option<BoxFuture<'static, ()>>) {
    match pressure {
        Some(pressure) => pressure.await,
        None => std::future::pending().await,
    }
}

fn poll_io<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    client: &Client,
    input: &mut Input,
    output: &mut Output,
    reads: bool,
    cx: &mut Context<'_>,
) -> Poll<io::Result<Event>> {
    let was_full = client.outbox.brake().is_pulled();
    if client.was_too_slow() {
        return Poll::Ready(Ok(Event::TooSlow));
    }
    if output.poll_write(stream, client, cx)?.is_ready() {
        return Poll::Ready(Ok(Event::Drained));
    }
    if client.has_ended() {
        return Poll::Ready(Ok(Event::Ended));
    }
    if was_full && !client.outbox.brake().is_pulled() {
        return Poll::Ready(Ok(Event::Emptied));
    }
    if reads {
        return input.poll_read(stream, cx).map_ok(Event::Read);
    }
    Poll::Pending
}
