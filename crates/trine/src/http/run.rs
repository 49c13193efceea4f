//! The tasks of an HTTP door: one that accepts, one per connection.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use trine_front::tls::Stream;
use trine_front::{Accepted, Listener, TlsAcceptor};

use super::crowd::{Asked as Heard, Crowd};
use super::limits::{HttpLimits, TOO_MANY_CONNECTIONS};
use super::site::{Asked, Reply, Site};
use super::stall::Stalling;
use crate::admin::protocol::Refusal;

/// A door that serves until it is stopped or dropped.
#[derive(Debug)]
pub struct HttpServer {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl HttpServer {
    /// Serves `site` on `runtime`, encrypted if `tls` is there.
    #[must_use]
    pub fn start(
        listener: Arc<Listener>,
        tls: Option<TlsAcceptor>,
        site: Arc<dyn Site>,
        limits: HttpLimits,
        runtime: &Handle,
    ) -> Self {
        let (stop, stopping) = watch::channel(false);
        let task = runtime.spawn(accept_all((listener, tls), site, Arc::new(limits), stopping));
        Self { stop, task }
    }

    /// Takes no more requests, and waits until those under way are answered
    /// or have used up [`HttpLimits::stop_limit`].
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        // It ends by itself; a panic in it was told of already.
        let _ = (&mut self.task).await;
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept_all(
    (listener, tls): (Arc<Listener>, Option<TlsAcceptor>),
    site: Arc<dyn Site>,
    limits: Arc<HttpLimits>,
    mut stopping: watch::Receiver<bool>,
) {
    let (mut connections, mut crowd) = (JoinSet::new(), Crowd::default());
    let told = stopping.clone();
    loop {
        tokio::select! {
            biased;
            _ = stopping.wait_for(|stop| *stop) => break,
            Some(ended) = connections.join_next() => {
                // Whoever was ended for another was forgotten then.
                if let Ok(number) = ended {
                    crowd.leave(number);
                }
            }
            accepted = listener.accept() => {
                if !crowd.make_room(limits.max_connections) {
                    // Best effort, as the listener does it.
                    let _ = accepted.stream.try_write(TOO_MANY_CONNECTIONS);
                    continue;
                }
                let (number, heard) = (crowd.number(), Heard::default());
                let noted = heard.clone();
                let (site, limits, stopping) = (site.clone(), limits.clone(), told.clone());
                let tls = tls.clone();
                let end = connections.spawn(async move {
                    let Accepted { stream, peer, permit, .. } = accepted;
                    let stream = match &tls {
                        None => Ok(Stream::Plain(stream)),
                        Some(tls) => tls.accept(stream).await,
                    };
                    match stream {
                        Ok(stream) => serve((stream, noted), peer, site, &limits, stopping).await,
                        Err(error) => tracing::debug!(%peer, %error, "no TLS on the HTTP port"),
                    }
                    drop(permit);
                    number
                });
                crowd.enter(number, heard, end);
            }
        }
    }
    let ending = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(limits.stop_limit, ending).await.is_err() {
        tracing::debug!(local = %listener.local_addr(), "requests were cut off by the stop");
    }
}

/// Serves one connection until it ends, breaks a limit, or is told to stop
/// (then what it asked already is still answered).
async fn serve(
    (stream, heard): (impl AsyncRead + AsyncWrite + Unpin + Send, Heard),
    peer: SocketAddr,
    site: Arc<dyn Site>,
    limits: &HttpLimits,
    mut stopping: watch::Receiver<bool>,
) {
    let answering = service_fn(|request| {
        heard.note();
        let (site, asked) = (site.clone(), Asked::new(request, peer, limits));
        async move { Ok::<Response<_>, Infallible>(answer(&*site, asked, limits).await.into_response()) }
    });
    let stream = TokioIo::new(Stalling::new(stream, limits.write_limit));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_limit)
        .max_header_size(limits.max_header_bytes)
        .max_buf_size(limits.max_header_bytes.max(8 * 1024))
        .max_headers(limits.max_headers)
        .serve_connection(stream, answering);
    let mut connection = pin!(connection);
    let told = async {
        // An error is a door that is gone: the same.
        let _ = stopping.wait_for(|stop| *stop).await;
    };
    let ended = tokio::select! {
        biased;
        ended = connection.as_mut() => ended,
        () = told => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "HTTP connection ended");
    }
}

async fn answer(site: &dyn Site, asked: Asked, limits: &HttpLimits) -> Reply {
    if let Ok(reply) = tokio::time::timeout(limits.answer_limit, site.answer(asked)).await {
        return reply;
    }
    let what = format!("no answer within {} s", limits.answer_limit.as_secs());
    let refusal = Refusal::new(what).hint("what was asked may still happen: look before asking again");
    Reply::refusal(StatusCode::GATEWAY_TIMEOUT, &refusal).closing()
}
