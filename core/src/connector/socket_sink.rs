//! A TCP connection as a sink of lines.
//!
//! ```text
//! rows ──encoder──► encoded bytes ──Send, one at a time──► peer
//!                     │ many: not ready, the inputs wait
//! ```
//!
//! Every task makes a connection of its own. What has gathered is sent when a batch ends, if
//! nothing is on its way; otherwise when that has been accepted: small sends when there is little
//! to do, large ones when there is much.
//!
//! What the peer has not accepted is in snapshots: a peer that does not read holds no checkpoint
//! up, and a job that goes on from one sends that first.
//!
//! The first connection is tried again as [`Reconnect`] says. A connection that breaks or that the
//! peer ends later stops the job: nobody knows what the peer has received, and going on could lose
//! or repeat records. What the peer sends is dropped, but it is received, so that its end is seen
//! at once.
//!
//! At the end of the input the sink ends its side and waits for the peer to end the other, which
//! says that the peer has read everything; but not longer than five seconds, with a warning.

use std::io;

use millstream_net::io::{SocketDone, SocketId, SocketOp};
use serde::Serialize;

use crate::connector::fail_to_encode;
use crate::connector::format::{Encode, JsonLinesEncoder, TextEncoder};
use crate::connector::socket::{Address, Reconnect};
use crate::connector::socket_source::socket_error;
use crate::connector::unwritten::Unwritten;
use crate::data::row::Row;
use crate::error::Error;
use crate::graph::Facts;
use crate::operator::{Nothing, Operator, OperatorContext, Output, Progress};
use crate::state::snapshot::{SnapshotReader, SnapshotWriter};

/// With more bytes waiting the inputs wait. As much again may be on its way.
const WAITING_BYTES_MAX: usize = 256 << 10;

/// How long the peer's end is waited for. Longer than a peer needs that reads what it is sent.
const FINISH_WAIT_MS: i64 = 5_000;

/// A sink to a TCP connection, in the format of its encoder.
///
/// ```
/// use millstream::prelude::*;
/// let sink = SocketSink::text("127.0.0.1:7000");
/// # fn takes(_: impl Operator<In = u64>) {}
/// # takes(sink);
/// ```
#[derive(Debug)]
pub struct SocketSink<E> {
    address: Address,
    reconnect: Reconnect,
    encoder: E,
    link: Link,
    failed_count: u32,
    unwritten: Unwritten,
    /// Memory of the last send.
    spare: Vec<u8>,
    task_index: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    /// To be made at this processing time, ms since 1970.
    Due {
        at_ms: i64,
    },
    Connecting(SocketId),
    Open {
        socket: SocketId,
        is_sending: bool,
    },
    /// Everything has been accepted and this side has ended: the peer's end is waited for until
    /// this processing time, ms since 1970.
    Finishing {
        socket: SocketId,
        until_ms: i64,
    },
    /// The peer has had its time; the connection is being closed.
    Closing(SocketId),
    Closed,
}

impl<T: Serialize + 'static> SocketSink<JsonLinesEncoder<T>> {
    /// Connects to `address`; every record is a line of JSON.
    pub fn json_lines(address: impl Into<String>) -> Self {
        Self::of(address, JsonLinesEncoder::default())
    }
}

impl<T: std::fmt::Display + 'static> SocketSink<TextEncoder<T>> {
    /// Connects to `address`; every record is a line, as its `Display` says.
    pub fn text(address: impl Into<String>) -> Self {
        Self::of(address, TextEncoder::default())
    }
}

impl<E: Encode> SocketSink<E> {
    /// Connects to `address`, for records in some format.
    pub fn of(address: impl Into<String>, encoder: E) -> Self {
        Self {
            address: Address::new(address),
            reconnect: Reconnect::default(),
            encoder,
            link: Link::Due { at_ms: i64::MIN },
            failed_count: 0,
            unwritten: Unwritten::default(),
            spare: Vec::new(),
            task_index: 0,
        }
    }

    /// How often to try to connect.
    pub fn reconnect(self, reconnect: Reconnect) -> Self {
        Self { reconnect, ..self }
    }

    fn connect(&mut self, ctx: &OperatorContext<'_>) {
        let address = self.address.parsed.expect("the plan was checked");
        let socket = SocketId(ctx.next_id());
        self.link = Link::Connecting(socket);
        ctx.socket(SocketOp::Connect { socket, address });
    }

    /// Sends what has gathered, if nothing is on its way.
    fn send(&mut self, ctx: &OperatorContext<'_>) {
        let Link::Open { socket, is_sending: false } = self.link else { return };
        let waiting = self.unwritten.pop();
        let bytes = waiting.unwrap_or_else(|| self.encoder.take(std::mem::take(&mut self.spare)));
        if bytes.is_empty() {
            self.spare = bytes;
            return;
        }
        self.unwritten.begin(&bytes, ctx);
        self.link = Link::Open { socket, is_sending: true };
        ctx.socket(SocketOp::Send { socket, bytes });
    }
}

impl<E: Encode> Clone for SocketSink<E> {
    fn clone(&self) -> Self {
        let reconnect = self.reconnect;
        Self { reconnect, ..Self::of(self.address.text.clone(), self.encoder.clone()) }
    }
}

impl<E: Encode> Operator for SocketSink<E> {
    type In = E::Record;
    type Out = Nothing;

    const ENTERS_ROWS: bool = false;

    fn facts(&self) -> Facts {
        let problems = self.address.problem().into_iter().chain(self.encoder.problems()).collect();
        let detail = format!("socket {} ({})", self.address.text, self.encoder.describe());
        Facts { problems, ..Facts::stateless().detailed(detail) }
    }

    fn open(&mut self, ctx: &OperatorContext<'_>) -> Result<(), Error> {
        self.task_index = ctx.env().task.task_index;
        self.connect(ctx);
        Ok(())
    }

    fn on_row(
        &mut self,
        row: Row<E::Record>,
        ctx: &OperatorContext<'_>,
        _out: &mut impl Output<Nothing>,
    ) {
        if let Err(reason) = self.encoder.encode(&row.value) {
            fail_to_encode(ctx, &reason);
        }
    }

    fn on_batch_end(
        &mut self,
        ctx: &OperatorContext<'_>,
        _out: &mut impl Output<Nothing>,
    ) -> Option<i64> {
        self.send(ctx);
        None
    }

    fn next_time_ms(&self) -> Option<i64> {
        match self.link {
            Link::Due { at_ms } | Link::Finishing { until_ms: at_ms, .. } => Some(at_ms),
            _ => None,
        }
    }

    fn on_time(&mut self, ctx: &OperatorContext<'_>, _out: &mut impl Output<Nothing>) -> Progress {
        if let Link::Finishing { socket, .. } = self.link {
            let (operator, peer) = (ctx.name(), &self.address.text);
            tracing::warn!(
                operator,
                peer,
                "the peer does not end the connection: it may not have read everything"
            );
            self.link = Link::Closing(socket);
            ctx.socket(SocketOp::Close { socket });
        } else {
            self.connect(ctx);
        }
        Progress::Done
    }

    fn is_ready(&self) -> bool {
        let waiting_bytes = self.encoder.encoded_bytes() + self.unwritten.waiting_bytes();
        matches!(self.link, Link::Open { .. }) && waiting_bytes < WAITING_BYTES_MAX
    }

    fn on_socket_done(
        &mut self,
        done: SocketDone,
        ctx: &OperatorContext<'_>,
        _out: &mut impl Output<Nothing>,
    ) {
        match (done, self.link) {
            (SocketDone::Connected { socket }, _) => {
                self.link = Link::Open { socket, is_sending: false };
                ctx.socket(SocketOp::Resume { socket });
                self.send(ctx);
            }
            (SocketDone::Sent { socket, bytes }, _) => {
                self.spare = bytes;
                self.unwritten.end();
                self.link = Link::Open { socket, is_sending: false };
                self.send(ctx);
            }
            (SocketDone::Closed { .. }, Link::Finishing { .. } | Link::Closing(_)) => {
                self.link = Link::Closed;
            }
            (SocketDone::Failed { action, source, .. }, Link::Connecting(_)) => {
                match self.reconnect.pause_ms(self.failed_count) {
                    Some(pause_ms) => {
                        self.failed_count += 1;
                        self.link = Link::Due { at_ms: ctx.processing_time_ms() + pause_ms };
                    }
                    None => ctx.fail(socket_error(ctx, action, &source, self.failed_count)),
                }
            }
            (SocketDone::Failed { action, source, .. }, _) => {
                ctx.fail(socket_error(ctx, action, &source, 0));
            }
            (SocketDone::Closed { .. }, _) => {
                let action = format!("send to {}", self.address.text);
                let reason = "the peer ended its side of the connection before the end of the \
                              input (one that only reads must keep it open until then)";
                let source = io::Error::new(io::ErrorKind::ConnectionAborted, reason);
                ctx.fail(socket_error(ctx, action, &source, 0));
            }
            (SocketDone::Received { .. } | SocketDone::Listening { .. }, _) => {}
            (done @ SocketDone::Accepted { .. }, _) => {
                ctx.fail(Error::bug(ctx.name(), format!("unexpected answer {done:?}")));
            }
        }
    }

    fn on_end(&mut self, ctx: &OperatorContext<'_>, _out: &mut impl Output<Nothing>) -> Progress {
        self.send(ctx);
        if let Link::Open { socket, is_sending: false } = self.link {
            let until_ms = ctx.processing_time_ms() + FINISH_WAIT_MS;
            self.link = Link::Finishing { socket, until_ms };
            ctx.socket(SocketOp::Finish { socket });
        }
        if self.link == Link::Closed { Progress::Done } else { Progress::Pending }
    }

    fn gather(&mut self, ctx: &OperatorContext<'_>) -> Progress {
        if ctx.has_checkpoints() {
            let encoded = self.encoder.take(std::mem::take(&mut self.spare));
            self.unwritten.push(encoded);
        }
        Progress::Done
    }

    fn snapshot(&self, writer: &mut SnapshotWriter<'_>) {
        self.unwritten.snapshot(self.task_index, writer);
    }

    fn restore(
        &mut self,
        reader: &SnapshotReader<'_>,
        ctx: &OperatorContext<'_>,
    ) -> Result<(), Error> {
        self.unwritten.restore(reader, ctx)
    }
}

#[cfg(test)]
mod tests;
