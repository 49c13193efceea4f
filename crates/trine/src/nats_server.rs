//! The binary called as `nats-server`: that program's flags, configuration,
//! log lines and monitoring reports around the same front door as in a node,
//! so that suites and scripts of NATS clients start it as they start theirs.
//!
//! It is one process without a disk and without other nodes: messages only,
//! as nats-server without JetStream. Where nats-server listens on all
//! interfaces unless told otherwise, this listens on loopback: what is open to
//! everybody is said in so many words.
//!
//! | file | what |
//! |---|---|
//! | `flags` | the command line |
//! | `conf`, `options` | the configuration file |
//! | `users` | who may come in |
//! | `log` | log lines |
//! | `reports` | `/varz`, `/connz`, `/subsz`, `/healthz` |
//! | `run` | opening, serving, signals |

mod conf;
mod flags;
mod log;
mod options;
mod reports;
mod run;
mod users;

use std::process::ExitCode;

use flags::Asked;

/// The name that the binary is called by.
pub const NAME: &str = "nats-server";

const HELP: &str = "\
Usage: nats-server [options]          (this is trine, called by that name)

Server options:
    -a, --addr, --net HOST     address to listen on (default: 127.0.0.1)
    -p, --port PORT            port for clients (default: 4222; -1: any free one)
    -n, --name NAME            name of the server
    -P, --pid FILE             file for the process id
    -m, --http_port PORT       port for /varz, /connz, /subsz, /healthz
    -c, --config FILE          configuration file
    -sl, --signal SIGNAL=PID   send ldm, quit, stop or reload to a running server

Logging options:
    -l, --log FILE             log to a file
    -D, -V, -DV                log more

Authorization and TLS options:
    --user NAME --pass WORD    one user
    --auth TOKEN               one token
    --tls --tlscert FILE --tlskey FILE [--tlsverify --tlscacert FILE]

JetStream is not offered; -js and --store_dir have no effect. Several nodes:
start them with `trine start` or `trine dev`, and use their NATS doors.
";

/// Does what the command line asks for.
pub fn main() -> ExitCode {
    let outcome = match flags::read(std::env::args().skip(1)) {
        Ok(Asked::Help) => {
            print!("{HELP}");
            Ok(())
        }
        Ok(Asked::Version) => {
            println!("nats-server: v{} (trine {})", trine_mesh::nats::PROTOCOL_OF, env!("CARGO_PKG_VERSION"));
            Ok(())
        }
        Ok(Asked::Signal(kind, pid)) => run::signal(kind, pid),
        Ok(Asked::Serve(flags)) => run::serve(*flags),
        Err(error) => Err(error),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("nats-server: {error}");
            ExitCode::FAILURE
        }
    }
}
