//! The process: allocator, arguments, exit code. Everything else is in the
//! library, where tests and the simulator reach it.

use std::process::ExitCode;

use clap::Parser;

/// Many small, short-lived buffers on several threads: measurably faster and
/// smaller than the C library's allocator there.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    trine::commands::run(trine::cli::Cli::parse())
}
