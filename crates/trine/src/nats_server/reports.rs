//! What nats-server serves to monitoring tools.

use futures::future::BoxFuture;
use hyper::StatusCode;
use trine_mesh::nats::Nats;

use crate::http::site::{Asked, Reply, Site};
use crate::start::resident_bytes;

/// Connections that `/connz` shows unless asked for more, and at most.
const SHOWN: usize = 1024;
const MOST_SHOWN: usize = 10_000;

/// The reports of one door.
pub(super) struct Reports {
    nats: Nats,
}

impl Reports {
    pub(super) fn new(nats: Nats) -> Self {
        Self { nats }
    }

    fn of(&self, path: &str, query: &str) -> Reply {
        let number = |name: &str, default: usize| {
            let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs.filter(|(key, _)| *key == name).find_map(|(_, value)| value.parse().ok()).unwrap_or(default)
        };
        match path {
            "/varz" => {
                let mut varz = self.nats.varz();
                varz.mem = resident_bytes();
                varz.cores = std::thread::available_parallelism().map_or(1, usize::from);
                Reply::json(StatusCode::OK, &varz)
            }
            "/connz" => {
                let limit = number("limit", SHOWN).min(MOST_SHOWN);
                Reply::json(StatusCode::OK, &self.nats.connz(number("offset", 0), limit))
            }
            "/subsz" | "/subscriptionsz" => Reply::json(StatusCode::OK, &self.nats.subsz()),
            "/healthz" => Reply::json(StatusCode::OK, &serde_json::json!({"status": "ok"})),
            "/" => Reply::new(StatusCode::OK, "text/plain", "/varz /connz /subsz /healthz\n"),
            _ => Reply::new(StatusCode::NOT_FOUND, "text/plain", "try /varz, /connz, /subsz or /healthz\n"),
        }
    }
}

impl Site for Reports {
    fn answer(&self, asked: Asked) -> BoxFuture<'_, Reply> {
        let reply = self.of(asked.path(), asked.head.uri.query().unwrap_or_default());
        Box::pin(std::future::ready(reply))
    }
}
