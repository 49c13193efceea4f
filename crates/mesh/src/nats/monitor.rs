//! What nats-server serves to monitoring tools, `/varz`, `/connz` and
//! `/subsz`, with the fields that have a meaning here. Served by the binary.

use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

use super::client::{Client, Traffic};
use super::config::ValidConfig;
use super::info::ServerInfo;

/// `/varz`: the server.
#[derive(Debug, Clone, Serialize)]
pub struct Varz {
    /// Who it is.
    #[serde(flatten)]
    pub server: ServerInfo,
    /// Credentials are asked for.
    pub auth_required: bool,
    /// Limits that hold.
    #[serde(flatten)]
    pub limits: LimitsReport,
    /// Connections and messages.
    #[serde(flatten)]
    pub load: LoadReport,
    /// When it started.
    pub start: String,
    /// When this was asked.
    pub now: String,
    /// How long it runs.
    pub uptime: String,
    /// Bytes of memory; the process fills it in.
    pub mem: u64,
    /// Cores; the process fills it in.
    pub cores: usize,
}

/// Limits that hold.
#[derive(Debug, Clone, Serialize)]
pub struct LimitsReport {
    /// Bytes of a line.
    pub max_control_line: usize,
    /// Bytes that may wait for one client.
    pub max_pending: usize,
    /// Nanoseconds of silence before a ping.
    pub ping_interval: u128,
    /// Unanswered pings.
    pub ping_max: u32,
    /// Seconds for credentials.
    pub auth_timeout: f64,
}

/// Connections and messages.
#[derive(Debug, Clone, Default, Serialize)]
pub struct LoadReport {
    /// Connected now.
    pub connections: usize,
    /// Since the start.
    pub total_connections: u64,
    /// Links to other servers.
    pub routes: usize,
    /// Subscriptions, those of other nodes included.
    pub subscriptions: usize,
    /// Clients that were cut off.
    pub slow_consumers: u64,
    /// Messages from clients.
    pub in_msgs: u64,
    /// Bytes of them.
    pub in_bytes: u64,
    /// Messages to clients.
    pub out_msgs: u64,
    /// Bytes of them.
    pub out_bytes: u64,
}

/// `/connz`: the connections.
#[derive(Debug, Clone, Serialize)]
pub struct Connz {
    /// Who answers.
    pub server_id: String,
    /// When this was asked.
    pub now: String,
    /// How many are shown.
    pub num_connections: usize,
    /// How many there are.
    pub total: usize,
    /// The first that is shown.
    pub offset: usize,
    /// Most that are shown.
    pub limit: usize,
    /// They.
    pub connections: Vec<ConnReport>,
}

/// One connection.
#[derive(Debug, Clone, Serialize)]
pub struct ConnReport {
    /// Its number.
    pub cid: u64,
    /// Kind of connection.
    pub kind: &'static str,
    /// Where it comes from.
    pub ip: String,
    /// From which port.
    pub port: u16,
    /// When it came.
    pub start: String,
    /// How long ago.
    pub uptime: String,
    /// Bytes that wait for it.
    pub pending_bytes: usize,
    /// What went to and fro.
    #[serde(flatten)]
    pub traffic: TrafficReport,
    /// Its subscriptions.
    pub subscriptions: usize,
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Language of its library.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lang: Option<String>,
    /// Version of its library.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Who it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authorized_user: Option<String>,
}

/// What went to and fro.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct TrafficReport {
    /// Messages from it.
    pub in_msgs: u64,
    /// Bytes of them.
    pub in_bytes: u64,
    /// Messages to it.
    pub out_msgs: u64,
    /// Bytes of them.
    pub out_bytes: u64,
}

/// `/subsz`: the subscriptions.
#[derive(Debug, Clone, Serialize)]
pub struct Subsz {
    /// Who answers.
    pub server_id: String,
    /// When this was asked.
    pub now: String,
    /// Subscriptions, those of other nodes included.
    pub num_subscriptions: usize,
}

impl Traffic {
    /// Adds another one's.
    pub fn add(&mut self, other: Self) {
        self.in_msgs += other.in_msgs;
        self.in_bytes += other.in_bytes;
        self.out_msgs += other.out_msgs;
        self.out_bytes += other.out_bytes;
    }
}

impl Varz {
    /// A server without clients.
    pub fn new(server: &ServerInfo, config: &ValidConfig, now_ms: u64, start_ms: u64) -> Self {
        Self {
            server: server.clone(),
            auth_required: false,
            limits: LimitsReport {
                max_control_line: config.max_control_line,
                max_pending: crate::bus::outbox::OUTBOX_MAX_BYTES,
                ping_interval: config.ping_interval.as_nanos(),
                ping_max: config.pings_out,
                auth_timeout: config.auth_timeout.as_secs_f64(),
            },
            load: LoadReport::default(),
            start: date(start_ms),
            now: date(now_ms),
            uptime: lasted(start_ms, now_ms),
            mem: 0,
            cores: 0,
        }
    }

    /// Adds its clients.
    #[must_use]
    pub fn with_clients(mut self, open: usize, total: u64, slow: u64, subscriptions: usize) -> Self {
        self.load.connections = open;
        self.load.total_connections = total;
        self.load.slow_consumers = slow;
        self.load.subscriptions = subscriptions;
        self
    }

    /// Adds what went to and fro.
    #[must_use]
    pub fn with_traffic(mut self, traffic: Traffic) -> Self {
        let Traffic { in_msgs, in_bytes, out_msgs, out_bytes } = traffic;
        self.load = LoadReport { in_msgs, in_bytes, out_msgs, out_bytes, ..self.load };
        self
    }

    /// Says whether credentials are asked for.
    #[must_use]
    pub fn with_auth(mut self, required: bool) -> Self {
        self.auth_required = required;
        self
    }
}

impl Connz {
    /// These connections of `total`.
    pub fn new(
        server_id: &str,
        now_ms: u64,
        connections: Vec<ConnReport>,
        total: usize,
        offset: usize,
        limit: usize,
    ) -> Self {
        let (server_id, now) = (server_id.to_owned(), date(now_ms));
        Self { server_id, now, num_connections: connections.len(), total, offset, limit, connections }
    }
}

impl ConnReport {
    /// One client now.
    pub fn new(client: &Client, now_ms: u64) -> Self {
        let (options, user) = client.about.get().cloned().unzip();
        let (name, lang, version) =
            options.map_or((None, None, None), |options| (options.name, options.lang, options.version));
        let Traffic { in_msgs, in_bytes, out_msgs, out_bytes } = client.traffic();
        Self {
            cid: client.cid,
            kind: "Client",
            ip: client.peer.ip().to_string(),
            port: client.peer.port(),
            start: date(client.start_ms),
            uptime: lasted(client.start_ms, now_ms),
            pending_bytes: client.outbox.waiting_bytes(),
            traffic: TrafficReport { in_msgs, in_bytes, out_msgs, out_bytes },
            subscriptions: client.subscriptions(),
            name,
            lang,
            version,
            authorized_user: user.map(|user| user.to_string()),
        }
    }
}

impl Subsz {
    /// So many subscriptions.
    pub fn new(server_id: &str, now_ms: u64, num_subscriptions: usize) -> Self {
        Self { server_id: server_id.to_owned(), now: date(now_ms), num_subscriptions }
    }
}

/// `1d2h3m4s`, as nats-server writes it.
fn lasted(start_ms: u64, now_ms: u64) -> String {
    let seconds = Duration::from_millis(now_ms.saturating_sub(start_ms)).as_secs();
    let parts = [(86_400, 'd'), (3_600, 'h'), (60, 'm'), (1, 's')];
    let mut text = String::new();
    let mut left = seconds;
    for (unit, letter) in parts {
        if seconds >= unit || unit == 1 {
            // Writing to a string cannot fail.
            let _ = write!(text, "{}{letter}", left / unit);
        }
        left %= unit;
    }
    text
}

/// RFC 3339 in UTC, from milliseconds since 1970.
pub fn date(ms: u64) -> String {
    let (days, second) = (ms / 86_400_000, ms / 1000 % 86_400);
    // Days since 0000-03-01, so that a leap day is a year's last (Hinnant).
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute) = (second / 3600, second / 60 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{:02}.{:03}Z", second % 60, ms % 1000)
}

#[cfg(test)]
mod tests {
    use super::{date, lasted};

    #[test]
    fn dates_over_leap_years() {
        assert_eq!(date(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(date(951_782_399_999), "2000-02-28T23:59:59.999Z");
        assert_eq!(date(951_782_400_000), "2000-02-29T00:00:00.000Z");
        assert_eq!(date(1_795_430_747_123), "2026-11-23T10:45:47.123Z");
    }

    #[test]
    fn times_as_nats_server_writes_them() {
        assert_eq!(lasted(0, 0), "0s");
        assert_eq!(lasted(0, 61_000), "1m1s");
        assert_eq!(lasted(5, 90_061_005), "1d1h1m1s");
    }
}
