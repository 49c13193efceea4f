//! What can be asked, in one table: the door finds requests in it, and the
//! `OpenAPI` document is made of it. A route that is not here is neither served
//! nor described.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::site::ErrorReport;
use crate::admin::logins::{AuditReport, TokenReport, UserReport};
use crate::admin::protocol::{
    GroupReport, NodeReport, PeerReport, RemovedReport, StatusReport, TicketReport,
};

/// The path on which the document is served.
pub const DOCUMENT_PATH: &str = "/openapi.json";
/// What Prometheus scrapes is of this type.
pub const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What a request wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// Whether the process answers.
    Live,
    /// Whether the node serves.
    Ready,
    /// The `OpenAPI` document.
    Document,
    /// Figures for Prometheus.
    Metrics,
    /// What the node is.
    Status,
    /// The nodes.
    Nodes,
    /// Remove a node.
    RemoveNode,
    /// The members.
    Peers,
    /// The groups.
    Groups,
    /// A join ticket.
    Ticket,
    /// The users.
    Users,
    /// The tokens.
    Tokens,
    /// The audit log.
    Audit,
    /// Something about jobs.
    Jobs(OfJobs),
}

/// What a request about jobs wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OfJobs {
    /// What of a job runs.
    Running,
    /// Some tasks shall not be done.
    Drop,
    /// The jobs.
    List,
    /// One job.
    Show,
    /// A new job.
    Create,
    /// More tasks for it.
    Add,
    /// Its tasks, as they were submitted.
    Tasks,
    /// Its last task was sent.
    Close,
    /// What is not done shall not be done.
    Cancel,
    /// It and its results may go.
    Forget,
    /// The results, as they are committed.
    Results,
    /// The workers and their slots.
    Workers,
    /// A blob for tasks.
    Put,
    /// A blob, or kept output.
    Get,
}

/// How a type is described.
type Describe = fn(&mut SchemaGenerator) -> Schema;

/// What a route answers when it did what was asked.
#[derive(Debug, Clone, Copy)]
enum Gives {
    Json(Describe),
    Text(&'static str),
}

/// One line of the table.
#[derive(Debug, Clone, Copy)]
pub struct Route {
    /// The method.
    pub method: &'static str,
    /// The path; `{name}` stands for one segment.
    pub path: &'static str,
    /// What is wanted.
    pub what: What,
    /// Whether everybody may ask, without a credential.
    pub open: bool,
    summary: &'static str,
    takes: Option<Describe>,
    gives: Gives,
}

impl Route {
    const fn get(path: &'static str, what: What, summary: &'static str, gives: Gives) -> Self {
        Self { method: "GET", path, what, open: false, summary, takes: None, gives }
    }

    /// A route about jobs. `takes` and `gives` are described in `docs/jobs.md`.
    const fn job(method: &'static str, path: &'static str, what: OfJobs, summary: &'static str) -> Self {
        let gives = match what {
            OfJobs::Tasks | OfJobs::Results | OfJobs::Get => Gives::Text("application/octet-stream"),
            _ => Gives::Json(anything),
        };
        Self { method, path, what: What::Jobs(what), open: false, summary, takes: None, gives }
    }

    const fn open(self) -> Self {
        Self { open: true, ..self }
    }
}

/// Whether the process answers.
#[derive(Debug, Serialize, JsonSchema)]
pub struct LiveReport {
    /// Always true: a process that is not live does not answer.
    pub live: bool,
}

/// Whether the node serves.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ReadyReport {
    /// Whether every group that this node knows of has a leader.
    pub ready: bool,
}

/// What a ticket is asked with.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TicketRequest {
    /// How long the ticket is good for, in seconds: 1 to 31,622,400 (366 days).
    #[serde(default = "an_hour")]
    pub valid_s: u64,
}

fn an_hour() -> u64 {
    3600
}

/// Everything that can be asked.
pub const ROUTES: &[Route] = &[
    Route::get(
        "/health/live",
        What::Live,
        "Whether the process answers",
        Gives::Json(SchemaGenerator::subschema_for::<LiveReport>),
    )
    .open(),
    Route::get(
        "/health/ready",
        What::Ready,
        "Whether every group that this node knows of has a leader; 503 if not",
        Gives::Json(SchemaGenerator::subschema_for::<ReadyReport>),
    )
    .open(),
    Route::get(DOCUMENT_PATH, What::Document, "This document", Gives::Json(anything)),
    Route::get("/metrics", What::Metrics, "Figures for Prometheus", Gives::Text(METRICS_TYPE)),
    Route::get(
        "/v1/status",
        What::Status,
        "What this node is, whether it serves, and what failures the cluster survives",
        Gives::Json(SchemaGenerator::subschema_for::<StatusReport>),
    ),
    Route::get(
        "/v1/nodes",
        What::Nodes,
        "The nodes of the cluster and which of them are reachable",
        Gives::Json(SchemaGenerator::subschema_for::<Vec<NodeReport>>),
    ),
    Route {
        method: "DELETE",
        path: "/v1/nodes/{node}",
        what: What::RemoveNode,
        open: false,
        summary: "Remove a node for good: its key is revoked, its replicas move elsewhere",
        takes: None,
        gives: Gives::Json(SchemaGenerator::subschema_for::<RemovedReport>),
    },
    Route::get(
        "/v1/peers",
        What::Peers,
        "The members as this node sees them: state, address, round trip, load, version, incarnation, tags",
        Gives::Json(SchemaGenerator::subschema_for::<Vec<PeerReport>>),
    ),
    Route::get(
        "/v1/groups",
        What::Groups,
        "The groups of this node: leader, voters, learners, log and applied index, digest",
        Gives::Json(SchemaGenerator::subschema_for::<Vec<GroupReport>>),
    ),
    Route {
        method: "POST",
        path: "/v1/tickets",
        what: What::Ticket,
        open: false,
        summary: "A one-time ticket with which one machine may join",
        takes: Some(SchemaGenerator::subschema_for::<TicketRequest>),
        gives: Gives::Json(SchemaGenerator::subschema_for::<TicketReport>),
    },
    Route::get(
        "/v1/users",
        What::Users,
        "The users and what they may do, without secrets",
        Gives::Json(SchemaGenerator::subschema_for::<Vec<UserReport>>),
    ),
    Route::get(
        "/v1/tokens",
        What::Tokens,
        "The tokens and what they may do, without secrets",
        Gives::Json(SchemaGenerator::subschema_for::<Vec<TokenReport>>),
    ),
    Route::get(
        "/v1/audit",
        What::Audit,
        "Who changed what, the last actions first",
        Gives::Json(SchemaGenerator::subschema_for::<Vec<AuditReport>>),
    ),
    Route::job("GET", "/v1/jobs", OfJobs::List, "The jobs, the newest first"),
    Route::job("POST", "/v1/jobs", OfJobs::Create, "A new job, durable when this answers"),
    Route::job("GET", "/v1/jobs/{job}", OfJobs::Show, "A job: what it is and how far it is"),
    Route::job("DELETE", "/v1/jobs/{job}", OfJobs::Forget, "Forget a job that is over, and its results"),
    Route::job("POST", "/v1/jobs/{job}/tasks", OfJobs::Add, "More tasks, durable when this answers"),
    Route::job(
        "GET",
        "/v1/jobs/{job}/tasks",
        OfJobs::Tasks,
        "Some tasks from one on, as they were submitted",
    ),
    Route::job("POST", "/v1/jobs/{job}/tasks/cancel", OfJobs::Drop, "Some tasks shall not be done"),
    Route::job("GET", "/v1/jobs/{job}/running", OfJobs::Running, "What of a job runs where now"),
    Route::job("POST", "/v1/jobs/{job}/close", OfJobs::Close, "No more tasks come"),
    Route::job("POST", "/v1/jobs/{job}/cancel", OfJobs::Cancel, "What is not done shall not be done"),
    Route::job(
        "GET",
        "/v1/jobs/{job}/results",
        OfJobs::Results,
        "Results as they are committed, until the end",
    ),
    Route::job("GET", "/v1/workers", OfJobs::Workers, "The workers and what they have to give"),
    Route::job("POST", "/v1/blobs", OfJobs::Put, "A large argument; answers its BLAKE3"),
    Route::job("PUT", "/v1/blobs/{hash}", OfJobs::Put, "The same, by its BLAKE3"),
    Route::job("GET", "/v1/blobs/{hash}", OfJobs::Get, "A blob, or output that was kept at a node"),
];

fn anything(_: &mut SchemaGenerator) -> Schema {
    Schema::from(Map::from_iter([("type".to_owned(), json!("object"))]))
}

/// What became of looking a request up.
#[derive(Debug)]
pub enum Found {
    /// A route, and what stands for its `{name}`, nothing where it has none.
    Route(&'static Route, String),
    /// The path exists with these methods.
    OtherMethods(String),
    /// There is no such path.
    Nothing,
}

/// Looks a request up in the table.
#[must_use]
pub fn find(method: &str, path: &str) -> Found {
    let mut methods = Vec::new();
    for route in ROUTES {
        if let Some(argument) = matches(route.path, path) {
            if route.method == method {
                return Found::Route(route, argument.to_owned());
            }
            methods.push(route.method);
        }
    }
    if methods.is_empty() { Found::Nothing } else { Found::OtherMethods(methods.join(", ")) }
}

/// If `path` fits `pattern`: what stands for its `{name}`, nothing where it
/// has none.
fn matches<'a>(pattern: &str, path: &'a str) -> Option<&'a str> {
    match pattern.split_once('{') {
        None => (pattern == path).then_some(""),
        Some((before, after)) => {
            let (_, after) = after.split_once('}')?;
            let found = path.strip_prefix(before)?.strip_suffix(after)?;
            (!found.is_empty() && !found.contains('/')).then_some(found)
        }
    }
}

/// The `OpenAPI` document of the table.
#[must_use]
pub fn document() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let mut generator = settings.for_serialize().into_generator();
    let error = generator.subschema_for::<ErrorReport>();
    let refused = json!({
        "description": "Refused; the error says why and what to do",
        "content": {"application/json": {"schema": error}},
    });
    let mut paths = Map::new();
    for route in ROUTES {
        let operations = paths.entry(route.path).or_insert_with(|| json!({}));
        operations[route.method.to_ascii_lowercase()] = operation(route, &refused, &mut generator);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Trine admin API",
            "version": env!("CARGO_PKG_VERSION"),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": generator.take_definitions(true),
            "securitySchemes": {"token": {
                "type": "http",
                "scheme": "bearer",
                "description": "The node's token, in DATA/admin.token",
            }},
        },
        "security": [{"token": []}],
    })
}

fn operation_id(route: &Route) -> String {
    match route.what {
        What::Jobs(what) => format!("{}Jobs{what:?}", route.method.to_ascii_lowercase()),
        what => format!("{what:?}"),
    }
}

fn operation(route: &Route, refused: &Value, generator: &mut SchemaGenerator) -> Value {
    let content = match route.gives {
        Gives::Json(describe) => json!({"application/json": {"schema": describe(generator)}}),
        Gives::Text(kind) => json!({kind: {"schema": {"type": "string"}}}),
    };
    let mut operation = json!({
        "summary": route.summary,
        "operationId": operation_id(route),
        "responses": {"200": {"description": "Done", "content": content}, "default": refused},
    });
    if let Some(describe) = route.takes {
        operation["requestBody"] =
            json!({"content": {"application/json": {"schema": describe(generator)}}, "required": false});
    }
    if let Some((_, name)) = route.path.split_once('{') {
        let name = name.split('}').next().unwrap_or_default();
        let what = match name {
            "job" => "The job's number",
            "hash" => "64 hexadecimal digits",
            _ => "Number (n3 or 3), name, or the first characters of the id",
        };
        operation["parameters"] = json!([{
            "name": name,
            "in": "path",
            "required": true,
            "description": what,
            "schema": {"type": "string"},
        }]);
    }
    if route.open {
        operation["security"] = json!([]);
    }
    operation
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn what(method: &str, path: &str) -> Option<What> {
        match find(method, path) {
            Found::Route(route, _) => Some(route.what),
            _ => None,
        }
    }

    #[test]
    fn requests_find_their_route() {
        assert_eq!(what("GET", "/v1/nodes"), Some(What::Nodes));
        assert!(matches!(find("DELETE", "/v1/nodes/n2"), Found::Route(_, node) if node == "n2"));
        assert_eq!(what("POST", "/v1/jobs/7/close"), Some(What::Jobs(OfJobs::Close)));
        assert!(matches!(find("GET", "/v1/jobs/7/results"), Found::Route(_, job) if job == "7"));
        assert!(matches!(find("GET", "/v1/jobs//results"), Found::Nothing));
        assert!(matches!(find("POST", "/v1/nodes"), Found::OtherMethods(allowed) if allowed == "GET"));
        for nothing in ["", "/", "/v1", "/v1/", "/v1/nodes/", "/v1/nodes/a/b", "/v1/status/", "//v1/status"] {
            assert!(matches!(find("GET", nothing), Found::Nothing), "{nothing}");
        }
    }

    #[test]
    fn only_health_is_open() {
        let open: Vec<_> = ROUTES.iter().filter(|route| route.open).map(|route| route.path).collect();
        assert_eq!(open, ["/health/live", "/health/ready"]);
    }

    /// Every `$ref` in `value`.
    fn references(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(map) => {
                if let Some(Value::String(to)) = map.get("$ref") {
                    found.insert(to.clone());
                }
                map.values().for_each(|value| references(value, found));
            }
            Value::Array(list) => list.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }

    #[test]
    fn the_document_has_every_route_and_every_type() {
        let document = document();
        for route in ROUTES {
            let operation = &document["paths"][route.path][route.method.to_ascii_lowercase()];
            assert_eq!(operation["summary"], route.summary);
        }
        let mut found = BTreeSet::new();
        references(&document, &mut found);
        for to in &found {
            let pointer = to.strip_prefix('#').expect("in this document");
            assert!(document.pointer(pointer).is_some(), "{to} is not in the document");
        }
        for name in
            ["StatusReport", "NodeReport", "GroupReport", "TicketReport", "RemovedReport", "ErrorReport"]
        {
            assert!(found.contains(&format!("#/components/schemas/{name}")), "{name} in {found:?}");
        }
        let status = &document["components"]["schemas"]["StatusReport"]["properties"];
        assert_eq!(status["uptime_ms"]["description"], "Milliseconds since the start.");
    }
}
