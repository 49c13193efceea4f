//! Log lines as nats-server writes them, since tools and suites read them:
//! `[PID] 2026/11/23 10:45:47.123456 [INF] Server is ready`.

use std::fmt;
use std::fs::OpenOptions;
use std::io;
use std::sync::Mutex;

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;
use trine_mesh::nats::monitor::date;
use trine_types::Clock;

use super::options::Log;
use crate::seams::SystemClock;

struct Line {
    pid: u32,
}

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let level = match *event.metadata().level() {
            Level::ERROR => "ERR",
            Level::WARN => "WRN",
            Level::INFO => "INF",
            Level::DEBUG => "DBG",
            Level::TRACE => "TRC",
        };
        let date = date(SystemClock.wall_ms());
        let (day, time) = date.trim_end_matches('Z').split_once('T').unwrap_or_default();
        write!(writer, "[{}] {} {time}000 [{level}] ", self.pid, day.replace('-', "/"))?;
        context.field_format().format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}

/// Logs from now on, to a file or to standard error.
pub(super) fn start(log: &Log) -> io::Result<()> {
    let level = match (log.debug, log.trace) {
        (_, true) => "trace",
        (true, false) => "debug",
        (false, false) => "info",
    };
    let filter = EnvFilter::new(format!("warn,trine={level},trine_mesh={level},trine_front={level}"));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false);
    let lines = lines.event_format(Line { pid: std::process::id() });
    // A second logger can only be a test's: it stays.
    let _ = match &log.file {
        Some(path) => {
            let file = OpenOptions::new().create(true).append(true).open(path)?;
            lines.with_writer(Mutex::new(file)).try_init()
        }
        None => lines.with_writer(io::stderr).try_init(),
    };
    Ok(())
}
