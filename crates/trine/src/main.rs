//! The process: allocator, arguments, exit code. Everything else is in the
//! library, where tests and the simulator reach it.

use std::process::ExitCode;

use clap::Parser;
use trine::nats_server;

/// Many small, short-lived buffers on several threads: measurably faster and
/// smaller than the C library's allocator there.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let name = std::env::args_os().next().map(std::path::PathBuf::from);
    if name.as_deref().and_then(std::path::Path::file_name) == Some(nats_server::NAME.as_ref()) {
        return nats_server::main();
    }
    trine::commands::run(trine::cli::Cli::parse())
}
