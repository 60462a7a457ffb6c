//! TCP connections as a source of lines, JSON Lines or CSV.
//!
//! ```text
//! connect ──► one connection, tried again when it fails; ends when the peer closes it
//! listen  ──► any number of connections, each a split of its own; has no end
//!
//! Received ──► window ──decoder──► records
//!               │ full: Pause, TCP holds the peer back
//!               └ empty: Resume
//! ```
//!
//! Only the first task reads: a connection cannot be divided. Nothing received is kept, so records
//! that were read before a failure are not read again: at most once. Positions go on counting over
//! connections that are made again. A record that a failing connection cut off is dropped, with a
//! warning in the log. Bytes behind the last line end of a connection that the peer closes are a
//! record. When the job drains, connections are closed and the whole records that have arrived are
//! read: the peer believes that we have them.

mod connection;

use std::io;

use millstream_net::io::{SocketDone, SocketId, SocketOp};
use serde::de::DeserializeOwned;

use self::connection::{Connection, Phase, Stage, Turn};
use crate::connector::format::{CsvFormat, Format, JsonLinesFormat, LinesFormat};
use crate::connector::socket::{Address, Reconnect};
use crate::error::Error;
use crate::graph::SideOutputFact;
use crate::operator::side_output::OnError;
use crate::operator::source::{Source, SourceOutput, SourceReader, SourceStatus};
use crate::operator::{OperatorContext, SplitEvent};

/// Connections that a listener serves at a time; more are closed at once.
const CONNECTION_COUNT_MAX: usize = 1024;

/// Connections whose records are read in the format `F`.
///
/// ```
/// use millstream::prelude::*;
/// let words = SocketSource::lines("127.0.0.1:7000");            // as from `nc -lk 7000`
/// let calls = SocketSource::lines("127.0.0.1:7001").listen();   // as to `nc localhost 7001`
/// ```
#[derive(Debug, Clone)]
pub struct SocketSource<F> {
    address: Address,
    mode: Mode,
    /// How often to connect again, if somebody has said so.
    reconnect: Option<Reconnect>,
    format: F,
    on_error: OnError,
}

/// Who calls whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Connect,
    Listen,
}

impl SocketSource<LinesFormat> {
    /// Connects to `address`; every line is a record.
    pub fn lines(address: impl Into<String>) -> Self {
        Self::of(address, LinesFormat)
    }
}

impl<T: DeserializeOwned + 'static> SocketSource<JsonLinesFormat<T>> {
    /// Connects to `address`; every line is a JSON value.
    pub fn json_lines(address: impl Into<String>) -> Self {
        Self::of(address, JsonLinesFormat::default())
    }
}

impl<T: DeserializeOwned + 'static> SocketSource<CsvFormat<T>> {
    /// Connects to `address`; every connection begins with a CSV header.
    pub fn csv(address: impl Into<String>) -> Self {
        Self::of(address, CsvFormat::default())
    }
}

impl<F: Format> SocketSource<F> {
    /// Connects to `address`, for records in some format.
    pub fn of(address: impl Into<String>, format: F) -> Self {
        let address = Address::new(address);
        let mode = Mode::Connect;
        Self { address, mode, reconnect: None, format, on_error: OnError::Stop }
    }

    /// Listens at the address instead, which must be on loopback.
    pub fn listen(self) -> Self {
        Self { mode: Mode::Listen, ..self }
    }

    /// How often to connect again after a failure.
    pub fn reconnect(self, reconnect: Reconnect) -> Self {
        Self { reconnect: Some(reconnect), ..self }
    }

    /// What to do with a record that cannot be read. By default the job stops.
    pub fn on_error(self, on_error: OnError) -> Self {
        Self { on_error, ..self }
    }
}

impl<F: Format> Source for SocketSource<F> {
    type Out = F::Record;
    type Reader = SocketReader<F>;

    fn cannot_replay(&self) -> Option<&'static str> {
        Some("is a connection, and nobody sends again what came through it")
    }

    fn problems(&self) -> Vec<String> {
        let mut problems = self.format.problems();
        problems.extend(self.address.problem());
        let is_beyond = self.address.parsed.is_some_and(|address| !address.ip().is_loopback());
        if self.mode == Mode::Listen && self.reconnect.is_some() {
            problems.push(
                "a listener calls nobody, so it cannot connect again: leave out .reconnect(..) or \
                 .listen()"
                    .to_string(),
            );
        }
        if self.mode == Mode::Listen && is_beyond {
            problems.push(format!(
                "listening at {} would let anybody in; listen on loopback (127.0.0.1)",
                self.address.text
            ));
        }
        problems
    }

    fn describe(&self) -> String {
        let verb = match self.mode {
            Mode::Connect => "connects to",
            Mode::Listen => "listens at",
        };
        format!("socket, {verb} {} ({})", self.address.text, self.format.describe())
    }

    fn side_outputs(&self) -> Vec<SideOutputFact> {
        match self.on_error {
            OnError::Stop => Vec::new(),
            OnError::SkipTo(tag) => vec![tag.fact()],
        }
    }

    fn is_bounded(&self) -> bool {
        false
    }

    fn open(&self, ctx: &OperatorContext<'_>) -> Result<SocketReader<F>, Error> {
        let reads = ctx.env().task.task_index == 0;
        Ok(SocketReader {
            source: self.clone(),
            link: if reads { Link::Due { at_ms: i64::MIN } } else { Link::Over },
            failed_count: 0,
            connections: Vec::new(),
            split_count: 0,
            position: 0,
            is_idle: false,
            turn: 0,
            is_draining: false,
        })
    }
}

/// One task's half of a [`SocketSource`].
#[derive(Debug)]
pub struct SocketReader<F: Format> {
    source: SocketSource<F>,
    link: Link,
    /// Failures since bytes were received.
    failed_count: u32,
    connections: Vec<Connection<F::Decoder>>,
    split_count: u32,
    /// Where a connection that is made again goes on counting.
    position: u64,
    /// The output has been told that nobody calls for now.
    is_idle: bool,
    /// Which connection is read next.
    turn: usize,
    /// What has arrived is read, and nothing more is let in.
    is_draining: bool,
}

/// Where connections come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    /// To be opened at this processing time, ms since 1970.
    Due { at_ms: i64 },
    /// A connection is being made.
    Connecting(SocketId),
    /// Connections are accepted.
    Listening(SocketId),
    /// The connection that was made is among the connections, or is none any more.
    Over,
}

impl<F: Format> SocketReader<F> {
    /// Connects or listens, when it is time.
    fn open_link(&mut self, ctx: &OperatorContext<'_>) {
        let Link::Due { at_ms } = self.link else { return };
        if ctx.processing_time_ms() < at_ms {
            return;
        }
        let address = self.source.address.parsed.expect("the plan was checked");
        let socket = SocketId(ctx.next_id());
        if self.source.mode == Mode::Connect {
            self.link = Link::Connecting(socket);
            ctx.socket(SocketOp::Connect { socket, address });
        } else {
            self.link = Link::Listening(socket);
            ctx.socket(SocketOp::Listen { socket, address });
        }
    }

    /// A connection is open. The one that this source made keeps its split over failures.
    fn add(&mut self, socket: SocketId, peer: String) {
        let split = if self.source.mode == Mode::Connect { 0 } else { self.split_count };
        let decoder = self.source.format.decoder();
        let stage = if split < self.split_count { Stage::Start } else { Stage::Unannounced };
        self.split_count = self.split_count.max(split + 1);
        self.is_idle = false;
        let connection = Connection::new(socket, split, peer, decoder, stage, self.position);
        self.connections.push(connection);
    }

    /// Everything that has arrived on connection `index` has been read, and nothing will follow.
    fn end(
        &mut self,
        index: usize,
        ctx: &OperatorContext<'_>,
        out: &mut impl SourceOutput<F::Record>,
    ) {
        let connection = self.connections.remove(index);
        let dropped_bytes = connection.window.rest().len();
        match (connection.phase, self.source.mode) {
            (Phase::Failed { action, source }, Mode::Connect) if !self.is_draining => {
                self.position = connection.window.position() + dropped_bytes as u64;
                warn_of_failure(ctx, &action, &source, dropped_bytes);
                self.try_again(action, &source, ctx);
            }
            (Phase::Failed { action, source }, _) => {
                warn_of_failure(ctx, &action, &source, dropped_bytes);
                out.on_split(SplitEvent::Finished(connection.split));
            }
            (Phase::Open | Phase::Closed | Phase::Left, _) => {
                out.on_split(SplitEvent::Finished(connection.split));
            }
        }
    }

    /// Connects again after a pause, or gives up.
    fn try_again(&mut self, action: String, source: &io::Error, ctx: &OperatorContext<'_>) {
        let reconnect = self.source.reconnect.unwrap_or_default();
        match reconnect.pause_ms(self.failed_count) {
            Some(pause_ms) => {
                self.failed_count += 1;
                self.link = Link::Due { at_ms: ctx.processing_time_ms() + pause_ms };
            }
            None => ctx.fail(socket_error(ctx, action, source, self.failed_count)),
        }
    }

    fn connection(&mut self, socket: SocketId) -> Option<&mut Connection<F::Decoder>> {
        self.connections.iter_mut().find(|connection| connection.socket == socket)
    }
}

fn warn_of_failure(
    ctx: &OperatorContext<'_>,
    action: &str,
    source: &io::Error,
    dropped_bytes: usize,
) {
    let operator = ctx.name();
    tracing::warn!(operator, action, %source, dropped_bytes, "connection failed");
}

/// What a failure means for whoever runs the job.
pub(super) fn socket_error(
    ctx: &OperatorContext<'_>,
    action: String,
    source: &io::Error,
    attempt_count: u32,
) -> Error {
    let advice = match source.kind() {
        io::ErrorKind::ConnectionRefused => "start the program that listens there first",
        io::ErrorKind::AddrInUse => "stop the program that listens there, or take another port",
        io::ErrorKind::PermissionDenied => "take a port above 1023",
        _ => "check the program on the other side and the address",
    };
    let tried = match attempt_count {
        0 => String::new(),
        count => format!(" (tried again {count} times)"),
    };
    let source = io::Error::new(source.kind(), format!("{source}{tried}"));
    Error::Socket { operator: ctx.name().to_string(), action, advice, source }
}

impl<F: Format> SourceReader for SocketReader<F> {
    type Out = F::Record;

    fn poll(
        &mut self,
        ctx: &OperatorContext<'_>,
        out: &mut impl SourceOutput<F::Record>,
    ) -> SourceStatus {
        if ctx.env().has_failed() {
            return SourceStatus::Waiting(None);
        }
        self.open_link(ctx);
        let mut rested = 0;
        while rested < self.connections.len() {
            let index = self.turn % self.connections.len();
            self.turn = index + 1;
            let connection = &mut self.connections[index];
            connection.announce(ctx, out);
            if ctx.env().paused_splits.borrow().contains(&connection.split) {
                connection.control_flow(ctx);
                rested += 1;
                continue;
            }
            let turn = connection.read(self.source.on_error, ctx, out);
            connection.control_flow(ctx);
            match turn {
                Turn::BudgetSpent => return SourceStatus::Ready,
                Turn::Waits => rested += 1,
                Turn::Over => {
                    self.end(index, ctx, out);
                    self.turn = index;
                    rested = 0;
                }
                Turn::JobFailed => return SourceStatus::Waiting(None),
            }
        }
        if matches!(self.link, Link::Listening(_)) && self.connections.is_empty() && !self.is_idle {
            // Nobody calls: nothing can come until somebody does.
            self.is_idle = true;
            out.on_split(SplitEvent::Idle(self.split_count));
        }
        match self.link {
            Link::Due { at_ms } => SourceStatus::Waiting(Some(at_ms)),
            Link::Over if self.connections.is_empty() => SourceStatus::Ended,
            _ => SourceStatus::Waiting(None),
        }
    }

    fn drain(&mut self, ctx: &OperatorContext<'_>) -> bool {
        self.is_draining = true;
        if let Link::Connecting(socket) | Link::Listening(socket) = self.link {
            ctx.socket(SocketOp::Close { socket });
        }
        self.link = Link::Over;
        self.connections.iter_mut().for_each(|connection| connection.leave(ctx));
        !self.connections.is_empty()
    }

    fn on_socket_done(&mut self, done: SocketDone, ctx: &OperatorContext<'_>) {
        match done {
            SocketDone::Listening { .. } | SocketDone::Sent { .. } => {}
            SocketDone::Connected { socket } | SocketDone::Accepted { socket, .. }
                if self.is_draining =>
            {
                ctx.socket(SocketOp::Close { socket });
            }
            SocketDone::Connected { socket } => {
                self.link = Link::Over;
                self.add(socket, self.source.address.text.clone());
            }
            SocketDone::Accepted { socket, .. }
                if self.connections.len() == CONNECTION_COUNT_MAX =>
            {
                tracing::warn!(operator = ctx.name(), "too many connections: one more was closed");
                ctx.socket(SocketOp::Close { socket });
            }
            SocketDone::Accepted { socket, peer, .. } => self.add(socket, peer.to_string()),
            SocketDone::Received { socket, bytes } => {
                self.failed_count = 0;
                // A connection that was closed at once may still deliver what was on its way.
                if let Some(connection) = self.connection(socket) {
                    connection.window.end().extend_from_slice(&bytes);
                    connection.is_starved = false;
                }
            }
            SocketDone::Closed { socket } => {
                if let Some(connection) = self.connection(socket)
                    && matches!(connection.phase, Phase::Open)
                {
                    connection.phase = Phase::Closed;
                    connection.is_starved = false;
                }
            }
            SocketDone::Failed { socket, action, source } => {
                if let Some(connection) = self.connection(socket) {
                    if !matches!(connection.phase, Phase::Left) {
                        connection.phase = Phase::Failed { action, source };
                    }
                } else if self.link == Link::Connecting(socket) {
                    self.try_again(action, &source, ctx);
                } else if self.link == Link::Listening(socket) {
                    ctx.fail(socket_error(ctx, action, &source, 0));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
