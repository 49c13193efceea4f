//! What the command line asks of a node about messages, and its answers. Field
//! names are an interface: add, never rename.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What can be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "kebab-case", deny_unknown_fields)]
pub enum TalkRequest {
    /// Let a node send bytes back.
    Ping {
        /// Number, name or start of the id.
        node: String,
        /// How many bytes.
        bytes: u32,
        /// How often.
        count: u32,
        /// Over a lane that is not kept open, so that connecting is seen.
        cold: bool,
    },
    /// Give a message to the subscribers at one node.
    Send {
        /// Number, name or start of the id.
        node: String,
        /// Subject.
        subject: String,
        /// Text.
        payload: String,
    },
    /// Ask subscribers and wait for a reply.
    Request {
        /// At this node; on all nodes if there is none.
        node: Option<String>,
        /// Subject.
        subject: String,
        /// Text.
        payload: String,
        /// How long to wait for each reply.
        patience_ms: u64,
        /// How often.
        count: u32,
    },
    /// Publish on all nodes.
    Publish {
        /// Subject.
        subject: String,
        /// Text.
        payload: String,
    },
    /// Subscribe; what comes is kept until it is taken.
    Subscribe {
        /// Filter.
        filter: String,
        /// Queue group.
        queue: Option<String>,
    },
    /// Take what came.
    Take {
        /// From [`TalkAnswer::Subscribed`].
        inbox: u64,
        /// How long to wait if there is nothing.
        wait_ms: u64,
    },
    /// Send a file of this machine to another node's inbox folder, for some
    /// seconds; asking again goes on.
    Copy {
        /// Absolute path here.
        file: String,
        /// Number, name or start of the id.
        node: String,
        /// Path below the inbox folder there.
        path: String,
        /// BLAKE3 of the content, as hexadecimal.
        hash: String,
        /// Its size.
        bytes: u64,
    },
}

/// What a node answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TalkAnswer {
    /// To [`TalkRequest::Ping`].
    Pinged(TimingReport),
    /// To [`TalkRequest::Send`] and [`TalkRequest::Publish`].
    Taken(TakenReport),
    /// To [`TalkRequest::Request`].
    Replied(ReplyReport),
    /// To [`TalkRequest::Subscribe`].
    Subscribed {
        /// To take messages from.
        inbox: u64,
    },
    /// To [`TalkRequest::Take`].
    Messages(Vec<MessageReport>),
    /// To [`TalkRequest::Copy`].
    Copied(CopyReport),
}

/// The time of an exchange: `T = T_c + T_m`, in nanoseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TimingReport {
    /// `T_c`: connecting; 0 if there was a connection.
    pub connection_ns: u64,
    /// Exchanges measured.
    pub count: u32,
    /// `T_m`: message and answer, the fastest.
    pub fastest_ns: u64,
    /// `T_m`: the median.
    pub median_ns: u64,
    /// `T_m`: 99 of 100 are faster.
    pub p99_ns: u64,
    /// `T_m`: the slowest.
    pub slowest_ns: u64,
}

/// Who took a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TakenReport {
    /// Subscriptions at the node that delivered, and other nodes.
    pub receivers: u32,
    /// How long that took.
    pub timing: TimingReport,
}

/// A reply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReplyReport {
    /// The last reply.
    pub reply: MessageReport,
    /// How long that took.
    pub timing: TimingReport,
}

/// A message. What is not UTF-8 is shown with replacement characters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MessageReport {
    /// Subject.
    pub subject: String,
    /// Where the sender wants replies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply: Option<String>,
    /// Text.
    pub payload: String,
}

/// How far a copy is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CopyReport {
    /// Bytes that the other node has.
    pub there: u64,
    /// Whether the whole content is there and verified.
    pub done: bool,
}
