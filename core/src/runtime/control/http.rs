//! The node's HTTP interface: health, metrics, shards.
//!
//! | path | answer |
//! |---|---|
//! | `GET /healthz` | `200 ok` while the job runs |
//! | `GET /metrics` | Prometheus text |
//! | `GET /shards` | JSON: every shard with its turns and its tasks |
//! | `GET /threads` | JSON: the threads and the core that each is to be pinned to |
//!
//! It listens on loopback only, which the settings see to: there is no mutual TLS yet to let
//! anybody else in.

use std::net::SocketAddr;

use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::sync::{mpsc, oneshot};

use crate::error::Error;
use crate::runtime::control::metrics_text;
use crate::runtime::cpu::ThreadPlace;
use crate::runtime::refusal::system;
use crate::shard::metrics::ShardStatus;

/// A question that needs fresh numbers of the shards.
pub(super) type StatusRequest = oneshot::Sender<Vec<ShardStatus>>;

type Requests = mpsc::Sender<StatusRequest>;

/// Listens at `address` and serves until the runtime ends. Answers the address with the port that
/// the system chose.
///
/// # Errors
/// [`Error::System`] if the address cannot be had.
///
/// # Panics
/// If the address is beyond the machine itself.
pub(super) async fn serve(
    address: SocketAddr,
    requests: Requests,
    threads: Vec<ThreadPlace>,
) -> Result<SocketAddr, Error> {
    let fail = |source| system(format!("listen at {address}"), source);
    assert!(address.ip().to_canonical().is_loopback(), "the settings have been checked");
    let listener = tokio::net::TcpListener::bind(address).await.map_err(fail)?;
    let bound = listener.local_addr().map_err(fail)?;
    let app = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/metrics", get(metrics))
        .route("/shards", get(shards))
        .route("/threads", get(|| async { axum::Json(threads) }))
        .with_state(requests);
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, app).await {
            tracing::error!(%error, "http server ended");
        }
    });
    Ok(bound)
}

async fn statuses(requests: &Requests) -> Vec<ShardStatus> {
    let (sender, receiver) = oneshot::channel();
    if requests.send(sender).await.is_err() {
        return Vec::new();
    }
    receiver.await.unwrap_or_default()
}

async fn metrics(State(requests): State<Requests>) -> impl IntoResponse {
    let text = metrics_text::render(&statuses(&requests).await);
    ([(CONTENT_TYPE, "text/plain; version=0.0.4")], text)
}

async fn shards(State(requests): State<Requests>) -> impl IntoResponse {
    axum::Json(statuses(&requests).await)
}
