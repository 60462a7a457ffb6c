//! The node's HTTP interface: health, metrics, shards, checkpoints.
//!
//! | path | answer |
//! |---|---|
//! | `GET /healthz` | `200 ok` while the job runs, `200` and the failure before it begins again |
//! | `GET /metrics` | Prometheus text |
//! | `GET /shards` | JSON: every shard with its turns and its tasks |
//! | `GET /threads` | JSON: the threads and the core that each is to be pinned to |
//! | `GET /restarts` | JSON: what the job does, how often it has begun again, the last failure |
//! | `GET /checkpoints` | JSON: how many were completed, the last ones with their times and sizes |
//! | `POST /checkpoints` | has one taken: `202 {"checkpoint": 42}` |
//! | `POST /savepoints` `{"name": "before-upgrade"}` | has a savepoint made |
//! | `POST /stop` `{}` or `{"savepoint": "name"}` | stops with a checkpoint, as a signal does |
//! | `POST /stop` `{"drain": true}` | sources end, windows give their results, the job has ended |
//!
//! What is not possible is `409` with the reason as text.
//!
//! It listens on loopback only, which the settings see to: there is no mutual TLS yet to let
//! anybody else in. Pages in a browser of the machine are kept out as well: a request has to name
//! the machine itself as its host, and what changes something has to be JSON, which a browser does
//! not send to another origin without asking first.

use std::net::{IpAddr, SocketAddr};

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, HOST};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use tokio::sync::{mpsc, oneshot};

use crate::checkpoint::coordinator::CheckpointsStatus;
use crate::data::element::CheckpointId;
use crate::error::Error;
use crate::runtime::control::metrics_text;
use crate::runtime::control::restarts::RestartsStatus;
use crate::runtime::cpu::ThreadPlace;
use crate::runtime::refusal::system;
use crate::shard::metrics::ShardStatus;

/// A question that needs fresh numbers of the shards.
pub(super) type StatusRequest = oneshot::Sender<Vec<ShardStatus>>;

/// A wish, and where the number of the checkpoint goes, or why there is none.
type Wish = oneshot::Sender<Result<CheckpointId, String>>;

/// Something that somebody wants of the node.
#[derive(Debug)]
pub(super) enum Request {
    /// To know how the shards stand.
    Status(StatusRequest),
    /// To know how checkpoints stand; none if none are taken.
    Checkpoints(oneshot::Sender<Option<CheckpointsStatus>>),
    /// To know how it stands over its attempts.
    Restarts(oneshot::Sender<RestartsStatus>),
    /// A checkpoint.
    Checkpoint(Wish),
    /// A savepoint of this name.
    Savepoint(String, Wish),
    /// That it stops with a checkpoint, and with a savepoint of a name.
    Stop(Option<String>, Wish),
    /// That it drains, and so comes to its end; answered with why not, if so.
    Drain(oneshot::Sender<Result<(), String>>),
}

/// Why a wish that came late is not granted.
const HAS_ENDED: &str = "the job has ended";

type Requests = mpsc::Sender<Request>;

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
        .route("/healthz", get(healthz))
        .route("/metrics", get(metrics))
        .route("/shards", get(shards))
        .route("/threads", get(|| async { Json(threads) }))
        .route("/restarts", get(restarts))
        .route("/checkpoints", get(checkpoints).post(checkpoint))
        .route("/savepoints", post(savepoint))
        .route("/stop", post(stop))
        .layer(middleware::from_fn(own_host))
        .with_state(requests);
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, app).await {
            tracing::error!(%error, "http server ended");
        }
    });
    Ok(bound)
}

/// Lets only requests through that name the machine itself as their host.
async fn own_host(request: axum::extract::Request, next: Next) -> Response {
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, port)| {
        if port.bytes().all(|byte| byte.is_ascii_digit()) { name } else { host }
    });
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    let is_own = name == "localhost" || address.is_ok_and(|it| it.to_canonical().is_loopback());
    if is_own {
        return next.run(request).await;
    }
    (StatusCode::FORBIDDEN, "the host has to be the machine itself\n").into_response()
}

/// The answer to what `make` asks; none if the node has ended.
async fn ask<T>(
    requests: &Requests,
    make: impl FnOnce(oneshot::Sender<T>) -> Request,
) -> Option<T> {
    let (sender, receiver) = oneshot::channel();
    requests.send(make(sender)).await.ok()?;
    receiver.await.ok()
}

/// The process lives and looks after itself, also while its job is about to begin again.
async fn healthz(State(requests): State<Requests>) -> String {
    let restarts = ask(&requests, Request::Restarts).await;
    restarts.map_or_else(|| format!("{HAS_ENDED}\n"), |restarts| restarts.summary())
}

async fn metrics(State(requests): State<Requests>) -> impl IntoResponse {
    let shards = ask(&requests, Request::Status).await.unwrap_or_default();
    let checkpoints = ask(&requests, Request::Checkpoints).await.flatten();
    let restarts = ask(&requests, Request::Restarts).await;
    let text = metrics_text::render(&shards, checkpoints.as_ref(), restarts.as_ref());
    ([(CONTENT_TYPE, "text/plain; version=0.0.4")], text)
}

async fn shards(State(requests): State<Requests>) -> impl IntoResponse {
    Json(ask(&requests, Request::Status).await.unwrap_or_default())
}

async fn restarts(State(requests): State<Requests>) -> impl IntoResponse {
    Json(ask(&requests, Request::Restarts).await)
}

async fn checkpoints(State(requests): State<Requests>) -> impl IntoResponse {
    Json(ask(&requests, Request::Checkpoints).await.flatten())
}

async fn checkpoint(State(requests): State<Requests>, Json(Nothing {}): Json<Nothing>) -> Response {
    granted(ask(&requests, Request::Checkpoint).await)
}

async fn savepoint(State(requests): State<Requests>, Json(wish): Json<SavepointWish>) -> Response {
    granted(ask(&requests, |answer| Request::Savepoint(wish.name, answer)).await)
}

async fn stop(State(requests): State<Requests>, Json(wish): Json<StopWish>) -> Response {
    match wish {
        StopWish { drain: false, savepoint } => {
            granted(ask(&requests, |answer| Request::Stop(savepoint, answer)).await)
        }
        StopWish { drain: true, savepoint: Some(_) } => refused(
            "a job that is drained comes to its end, and leaves nothing to go on from: leave \
             savepoint out, or drain",
        ),
        StopWish { drain: true, savepoint: None } => match ask(&requests, Request::Drain).await {
            Some(Ok(())) => (StatusCode::ACCEPTED, Json(serde_json::json!({}))).into_response(),
            Some(Err(reason)) => refused(&reason),
            None => refused(HAS_ENDED),
        },
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SavepointWish {
    name: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StopWish {
    #[serde(default)]
    savepoint: Option<String>,
    #[serde(default)]
    drain: bool,
}

/// What is said of a wish.
fn granted(answer: Option<Result<CheckpointId, String>>) -> Response {
    match answer {
        Some(Ok(checkpoint)) => {
            let body = Json(serde_json::json!({ "checkpoint": checkpoint }));
            (StatusCode::ACCEPTED, body).into_response()
        }
        Some(Err(reason)) => refused(&reason),
        None => refused(HAS_ENDED),
    }
}

/// Why a wish is not granted.
fn refused(reason: &str) -> Response {
    (StatusCode::CONFLICT, format!("{reason}\n")).into_response()
}
