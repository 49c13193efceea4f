//! The other side of joining: any node judges a machine's attempt by asking
//! `meta`, burns the ticket in its log and has a voter sign the certificate.

use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use trine_transport::{JoinAttempt, JoinHandler, JoinRefused};

use crate::codec;
use crate::command::{Answer, Command, Query};
use crate::context::Context;
use crate::error::ClusterError;
use crate::membership::{JoinReply, encode_reply, known};
use crate::nodes::Applicant;
use crate::tickets::{TicketId, TicketRefused};

/// Lets machines join through this node.
pub(crate) struct JoinDoor(pub(crate) Arc<Context>);

impl JoinHandler for JoinDoor {
    fn join(&self, attempt: JoinAttempt) -> BoxFuture<'static, Result<Bytes, JoinRefused>> {
        let context = self.0.clone();
        async move {
            let joined = judge(&context, &attempt).await;
            joined.map(|reply| encode_reply(&reply)).map_err(|error| {
                tracing::info!(joiner = %attempt.joiner.short(), source = %attempt.source, %error, "not admitted");
                JoinRefused { reason: error.to_string() }
            })
        }
        .boxed()
    }
}

async fn judge(context: &Context, attempt: &JoinAttempt) -> Result<JoinReply, ClusterError> {
    let ticket = TicketId(attempt.ticket);
    let verifier: Option<[u8; 32]> = context.query(&Query::Verifier { ticket }).await?;
    // Someone without the secret learns nothing: no such ticket, either way.
    if !verifier.is_some_and(|verifier| attempt.proves(&verifier)) {
        return Err(crate::command::Refusal::Ticket(TicketRefused::Unknown).into());
    }
    let mut applicant: Applicant = codec::decode(&attempt.request, "application")?;
    applicant.id = attempt.joiner;
    let answer = context.propose(&Command::Admit { ticket, applicant }).await?;
    let Answer::Admitted { number, name } = answer else {
        return Err(crate::command::Refusal::Bad("meta gave another answer".to_owned()).into());
    };
    // Not this node's replica: it may have joined a moment ago itself.
    let meta = context.meta_now().await?;
    let certificate = context.certificate_for(&meta, attempt.joiner).await?;
    tracing::info!(%number, name, joiner = %attempt.joiner.short(), source = %attempt.source, "admitted");
    Ok(JoinReply { number, name, certificate, known: known(&meta) })
}
