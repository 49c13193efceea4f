//! The flags of nats-server, in the forms that Go's flag package takes:
//! `-p 4222`, `--port=4222`, switches without a value.

use std::path::PathBuf;

use super::options::{Cluster, Listen, Options, Tls, User, address, port};

/// What the command line asks for.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Asked {
    /// Serve, with this file below the flags.
    Serve(Box<Flags>),
    /// Send a signal to a running server.
    Signal(SignalKind, i32),
    /// Say what flags there are.
    Help,
    /// Say the version.
    Version,
}

/// A signal by its name on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SignalKind {
    /// No more clients; those here are asked to leave.
    LameDuck,
    /// Ends at once.
    Stop,
    /// Ends in order.
    Quit,
    /// Reads the configuration again.
    Reload,
    /// Opens the log file again.
    Reopen,
}

/// Flags of a server.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Flags {
    config: Option<PathBuf>,
    host: Option<String>,
    port: Option<u16>,
    http_port: Option<u16>,
    name: Option<String>,
    log: super::options::Log,
    user: Option<String>,
    password: Option<String>,
    token: Option<String>,
    tls: Option<Tls>,
    cluster: Option<Cluster>,
    jetstream: bool,
}

/// Flags that stand alone.
const SWITCHES: &[&str] = &[
    "D",
    "debug",
    "V",
    "trace",
    "DV",
    "DVV",
    "VV",
    "T",
    "logtime",
    "js",
    "jetstream",
    "tls",
    "tlsverify",
    "h",
    "help",
    "v",
    "version",
    "t",
    "s",
    "syslog",
    "no_advertise",
];

/// Reads the command line.
///
/// # Errors
/// What is not understood, for a person.
pub(super) fn read(arguments: impl Iterator<Item = String>) -> Result<Asked, String> {
    let mut flags = Flags::default();
    let mut arguments = arguments.peekable();
    while let Some(argument) = arguments.next() {
        let Some(name) = argument.strip_prefix("--").or_else(|| argument.strip_prefix('-')) else {
            return Err(format!("unrecognized command: {argument:?}"));
        };
        let (name, inline) = match name.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (name, None),
        };
        if SWITCHES.contains(&name) {
            match name {
                "h" | "help" => return Ok(Asked::Help),
                "v" | "version" => return Ok(Asked::Version),
                _ => flags.switch(name, inline.as_deref() != Some("false")),
            }
            continue;
        }
        let value = inline.or_else(|| arguments.next()).ok_or(format!("flag needs an argument: -{name}"))?;
        if matches!(name, "sl" | "signal") {
            return signal(&value);
        }
        flags.take(name, value)?;
    }
    Ok(Asked::Serve(Box::new(flags)))
}

fn signal(value: &str) -> Result<Asked, String> {
    let (name, pid) = value.split_once('=').ok_or("say which process: --signal ldm=PID")?;
    let kind = match name {
        "ldm" => SignalKind::LameDuck,
        "stop" => SignalKind::Stop,
        "quit" | "term" => SignalKind::Quit,
        "reload" => SignalKind::Reload,
        "reopen" => SignalKind::Reopen,
        other => return Err(format!("unknown signal {other:?}: ldm, stop, quit, reload or reopen")),
    };
    let pid = match pid.parse() {
        Ok(pid) => pid,
        Err(_) => std::fs::read_to_string(pid)
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .ok_or(format!("{pid:?} is neither a process id nor a file with one"))?,
    };
    Ok(Asked::Signal(kind, pid))
}

impl Flags {
    fn switch(&mut self, name: &str, on: bool) {
        match name {
            "D" | "debug" => self.log.debug = on,
            "V" | "trace" | "VV" => self.log.trace = on,
            "DV" | "DVV" => (self.log.debug, self.log.trace) = (on, on),
            "js" | "jetstream" => self.jetstream = on,
            "tlsverify" => self.tls.get_or_insert_default().verify = on,
            "tls" if on => {
                self.tls.get_or_insert_default();
            }
            // Times are always told, and there is no system log.
            _ => {}
        }
    }

    fn take(&mut self, name: &str, value: String) -> Result<(), String> {
        let as_port = || {
            let port = value.parse().ok().and_then(port);
            port.ok_or_else(|| format!("invalid value {value:?} for flag -{name}: not a port"))
        };
        match name {
            "p" | "port" => self.port = Some(as_port()?),
            "m" | "http_port" => self.http_port = Some(as_port()?),
            "a" | "addr" | "net" => self.host = Some(value),
            "n" | "name" | "server_name" => self.name = Some(value),
            "c" | "config" => self.config = Some(value.into()),
            "l" | "log" => self.log.file = Some(value.into()),
            "P" | "pid" => self.log.pid_file = Some(value.into()),
            "user" => self.user = Some(value),
            "pass" => self.password = Some(value),
            "auth" => self.token = Some(value),
            "tlscert" => self.tls.get_or_insert_default().cert_file = value.into(),
            "tlskey" => self.tls.get_or_insert_default().key_file = value.into(),
            "tlscacert" => self.tls.get_or_insert_default().ca_file = Some(value.into()),
            "cluster" | "cluster_listen" => {
                let listen = address(&value).ok_or(format!("{value:?} is no address"))?;
                self.cluster.get_or_insert_default().listen = Some(listen);
            }
            "cluster_name" => self.cluster.get_or_insert_default().name = Some(value),
            "routes" => {
                let routes = value.split(',').map(|route| route.trim().to_owned());
                self.cluster.get_or_insert_default().routes = routes.collect();
            }
            // Where JetStream would keep things, and tuning of what we do not have.
            "sd" | "store_dir" | "connect_retries" | "ports_file_dir" | "profile" | "r" | "remote_syslog" => {
            }
            other => return Err(format!("flag provided but not defined: -{other}")),
        }
        Ok(())
    }

    /// The configuration file, if one was named.
    pub(super) fn config(&self) -> Option<&PathBuf> {
        self.config.as_ref()
    }

    /// Lays the flags over what the file said.
    pub(super) fn over(self, mut options: Options) -> Result<Options, String> {
        if let Some(host) = self.host {
            options.listen.host = host;
        }
        if let Some(port) = self.port {
            options.listen.port = port;
        }
        if let Some(port) = self.http_port {
            options.http = Some(Listen { host: options.listen.host.clone(), port });
        }
        options.name = self.name.or(options.name);
        options.log.debug |= self.log.debug;
        options.log.trace |= self.log.trace;
        options.log.file = self.log.file.or(options.log.file);
        options.log.pid_file = self.log.pid_file.or(options.log.pid_file);
        if let Some(name) = self.user {
            let password = self.password.unwrap_or_default();
            options.auth.users = vec![User { name, password, ..User::default() }];
        }
        options.auth.token = self.token.or(options.auth.token);
        if let Some(tls) = self.tls {
            if tls.cert_file.as_os_str().is_empty() || tls.key_file.as_os_str().is_empty() {
                return Err("TLS needs --tlscert and --tlskey".into());
            }
            options.tls = Some(tls);
        }
        if let Some(given) = self.cluster {
            let cluster = options.cluster.get_or_insert_default();
            cluster.name = given.name.or(cluster.name.take());
            cluster.listen = given.listen.or(cluster.listen.take());
            if !given.routes.is_empty() {
                cluster.routes = given.routes;
            }
        }
        options.jetstream |= self.jetstream;
        Ok(options)
    }
}

#[cfg(test)]
mod tests;
