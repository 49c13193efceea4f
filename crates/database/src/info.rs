//! INFO: the fields that exist, in the text form of Redis. Pure.

use std::fmt::Write as _;

use bytes::Bytes;

use crate::args::is;
use crate::measure::Figures;
use crate::session::REDIS_VERSION;

/// All sections in their order.
const SECTIONS: [&str; 9] =
    ["server", "clients", "memory", "persistence", "stats", "replication", "cluster", "keyspace", "trine"];

/// Everything that INFO shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// Port that clients connect to.
    pub port: u16,
    /// Seconds since the start.
    pub uptime_s: u64,
    /// This node's id in 40 hexadecimal digits.
    pub run_id: String,
    /// Process id.
    pub process_id: u32,
    /// Connections now, since the start, and at most.
    pub clients: (usize, u64, usize),
    /// Resident memory.
    pub memory_bytes: u64,
    /// Commands taken, refused, forwarded.
    pub commands: (u64, u64, u64),
    /// Other nodes that hold replicas.
    pub other_nodes: usize,
    /// Partitions, and how many of them this node leads.
    pub partitions: (u16, usize),
    /// Database, keys, expiring keys; `None` when a partition did not answer.
    pub keyspace: Option<Vec<(u8, u64, u64)>>,
    /// `T = T_r + T_c`.
    pub figures: Vec<Figures>,
}

/// Which sections an `INFO …` asks for.
pub fn sections(argv: &[Bytes]) -> Vec<&'static str> {
    let asked = &argv[1..];
    let all = |name: &Bytes| is(name, "ALL") || is(name, "EVERYTHING") || is(name, "DEFAULT");
    if asked.is_empty() || asked.iter().any(all) {
        return SECTIONS.to_vec();
    }
    let wanted = |section: &&str| asked.iter().any(|name| name.eq_ignore_ascii_case(section.as_bytes()));
    SECTIONS.into_iter().filter(wanted).collect()
}

/// The text of the sections.
pub fn text(sections: &[&'static str], facts: &Facts) -> String {
    let mut out = String::new();
    for section in sections {
        if !out.is_empty() {
            out.push_str("\r\n");
        }
        let mut title = (*section).to_owned();
        title[..1].make_ascii_uppercase();
        let _ = write!(out, "# {title}\r\n");
        for (name, value) in fields(section, facts) {
            let _ = write!(out, "{name}:{value}\r\n");
        }
    }
    out
}

fn fields(section: &str, facts: &Facts) -> Vec<(String, String)> {
    let field = |name: &str, value: &dyn ToString| (name.to_owned(), value.to_string());
    match section {
        "server" => vec![
            field("redis_version", &REDIS_VERSION),
            field("redis_mode", &"cluster"),
            field("trine_version", &env!("CARGO_PKG_VERSION")),
            field("os", &std::env::consts::OS),
            field("arch_bits", &usize::BITS),
            field("process_id", &facts.process_id),
            field("run_id", &facts.run_id),
            field("tcp_port", &facts.port),
            field("uptime_in_seconds", &facts.uptime_s),
            field("uptime_in_days", &(facts.uptime_s / 86_400)),
        ],
        "clients" => vec![
            field("connected_clients", &facts.clients.0),
            field("maxclients", &facts.clients.2),
            field("blocked_clients", &0),
        ],
        "memory" => vec![
            field("used_memory", &facts.memory_bytes),
            field("used_memory_rss", &facts.memory_bytes),
            field("maxmemory", &0),
            field("maxmemory_policy", &"noeviction"),
        ],
        "persistence" => {
            vec![field("loading", &0), field("aof_enabled", &1), field("aof_last_write_status", &"ok")]
        }
        "stats" => vec![
            field("total_connections_received", &facts.clients.1),
            field("total_commands_processed", &facts.commands.0),
            field("total_error_replies", &facts.commands.1),
        ],
        "replication" => vec![field("role", &"master"), field("connected_slaves", &facts.other_nodes)],
        "cluster" => vec![field("cluster_enabled", &1)],
        "keyspace" => keyspace(facts),
        _ => trine(facts),
    }
}

fn keyspace(facts: &Facts) -> Vec<(String, String)> {
    match &facts.keyspace {
        None => vec![("trine_keyspace".to_owned(), "a partition did not answer".to_owned())],
        Some(databases) => databases
            .iter()
            .map(|(db, keys, expiring)| {
                (format!("db{db}"), format!("keys={keys},expires={expiring},avg_ttl=0"))
            })
            .collect(),
    }
}

fn trine(facts: &Facts) -> Vec<(String, String)> {
    let mut fields = vec![
        ("trine_partitions".to_owned(), facts.partitions.0.to_string()),
        ("trine_partitions_led".to_owned(), facts.partitions.1.to_string()),
        ("trine_commands_forwarded".to_owned(), facts.commands.2.to_string()),
    ];
    for figures in &facts.figures {
        let value = format!(
            "count={},median_us={},p99_us={},max_us={}",
            figures.count, figures.median_us, figures.p99_us, figures.max_us
        );
        fields.push((format!("trine_{}", figures.name), value));
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::stories::split;

    #[test]
    fn sections_are_chosen_by_name() {
        assert_eq!(sections(&split("INFO")), SECTIONS);
        assert_eq!(sections(&split("INFO all")), SECTIONS);
        assert_eq!(sections(&split("INFO Keyspace server")), ["server", "keyspace"]);
        assert!(sections(&split("INFO nonsense")).is_empty());
    }

    #[test]
    fn text_is_as_clients_parse_it() {
        let facts = Facts { keyspace: Some(vec![(0, 3, 1)]), ..Facts::default() };
        assert_eq!(text(&["keyspace"], &facts), "# Keyspace\r\ndb0:keys=3,expires=1,avg_ttl=0\r\n");
        assert!(text(&SECTIONS, &facts).contains("\r\n\r\n# Cluster\r\ncluster_enabled:1\r\n"));
    }
}
