//! One connection of a socket source: what has arrived, and what has been read of it.
//!
//! Invariant: at most [`WAITING_BYTES_MAX`] and what was on its way wait, unless they are the
//! beginning of one record; and no record is larger than a line may be.

use std::io;

use millstream_net::io::{SocketId, SocketOp};

use crate::connector::byte_window::{BYTE_ORDER_MARK, ByteWindow};
use crate::connector::format::fault::report;
use crate::connector::format::{Decode, Decoded, Header, Place, Taken};
use crate::data::row::NO_EVENT_TIME;
use crate::error::Error;
use crate::operator::side_output::OnError;
use crate::operator::source::SourceOutput;
use crate::operator::{OperatorContext, SplitEvent};

/// With more bytes waiting, and a record among them, the peer is held back. About 1 ms of parsing.
pub(super) const WAITING_BYTES_MAX: usize = 256 << 10;

/// With fewer bytes waiting the peer may go on.
const WAITING_BYTES_LOW: usize = WAITING_BYTES_MAX / 4;

/// One connection.
#[derive(Debug)]
pub(super) struct Connection<D> {
    pub(super) socket: SocketId,
    pub(super) split: u32,
    /// The peer's address.
    pub(super) peer: String,
    decoder: D,
    stage: Stage,
    pub(super) window: ByteWindow,
    /// Line of the next record, from 1.
    line: u64,
    pub(super) phase: Phase,
    is_receiving: bool,
    /// The decoder needs more bytes than have arrived.
    pub(super) is_starved: bool,
}

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// The output must be told of the split.
    Unannounced,
    /// A byte order mark, if there is one.
    Start,
    /// What stands before the first record.
    Header,
    /// Records.
    Records,
}

/// Whether more bytes will come.
#[derive(Debug)]
pub(super) enum Phase {
    Open,
    /// The peer has closed: what has arrived is all, and it is whole.
    Closed,
    /// This side has closed: what has arrived is all, and its last record may be cut off.
    Left,
    /// What has arrived is all, and it may be cut off.
    Failed {
        action: String,
        source: io::Error,
    },
}

/// What came of reading a connection.
pub(super) enum Turn {
    /// There may be more to read at once.
    BudgetSpent,
    /// More bytes must arrive.
    Waits,
    /// Everything has been read, and nothing will follow.
    Over,
    /// A record or the header stopped the job.
    JobFailed,
}

impl<D: Decode> Connection<D> {
    /// A connection to `peer`. `stage` says whether the output knows of its split, and `position`
    /// is that of its first byte.
    pub(super) fn new(
        socket: SocketId,
        split: u32,
        peer: String,
        decoder: D,
        stage: Stage,
        position: u64,
    ) -> Self {
        Self {
            socket,
            split,
            peer,
            decoder,
            stage,
            window: ByteWindow::at(position),
            line: 1,
            phase: Phase::Open,
            is_receiving: false,
            is_starved: false,
        }
    }

    /// Hands on records until the budget is spent or bytes are missing.
    pub(super) fn read(
        &mut self,
        on_error: OnError,
        ctx: &OperatorContext<'_>,
        out: &mut impl SourceOutput<D::Record>,
    ) -> Turn {
        let is_end = matches!(self.phase, Phase::Closed);
        loop {
            if !ctx.env().spend() {
                return Turn::BudgetSpent;
            }
            let rest = self.window.rest();
            if self.is_starved && !is_end || rest.is_empty() && self.stage == Stage::Records {
                return if matches!(self.phase, Phase::Open) { Turn::Waits } else { Turn::Over };
            }
            if self.stage == Stage::Start {
                if rest.len() < BYTE_ORDER_MARK.len()
                    && BYTE_ORDER_MARK.starts_with(rest)
                    && !is_end
                {
                    self.is_starved = true;
                } else {
                    let has_mark = rest.starts_with(BYTE_ORDER_MARK);
                    self.window.consume(if has_mark { BYTE_ORDER_MARK.len() } else { 0 });
                    self.stage = Stage::Header;
                }
                continue;
            }
            if self.stage != Stage::Records {
                match self.decoder.header(rest, is_end) {
                    Header::Read(taken) => {
                        self.pass(taken);
                        self.stage = Stage::Records;
                    }
                    Header::More => self.is_starved = true,
                    Header::Wrong(fault, before) => {
                        let line = self.line + before.lines;
                        let place = Place::Socket { peer: &self.peer, line };
                        let place = format!("{place}{}", fault.spot);
                        ctx.fail(Error::Input { place, reason: fault.reason });
                        return Turn::JobFailed;
                    }
                }
                continue;
            }
            match self.decoder.decode(rest, is_end) {
                Decoded::Record(value, taken) => {
                    out.emit(self.split, self.window.position(), NO_EVENT_TIME, value);
                    self.pass(taken);
                }
                Decoded::Nothing(taken) => self.pass(taken),
                Decoded::Bad(fault, taken) => {
                    let place = Place::Socket { peer: &self.peer, line: self.line };
                    report(ctx, on_error, place, &fault, &rest[..taken.bytes]);
                    self.pass(taken);
                    if ctx.env().has_failed() {
                        return Turn::JobFailed;
                    }
                }
                Decoded::More => self.is_starved = true,
            }
        }
    }

    /// Tells the output of the split, if it does not know of it.
    pub(super) fn announce(
        &mut self,
        ctx: &OperatorContext<'_>,
        out: &mut impl SourceOutput<D::Record>,
    ) {
        if self.stage == Stage::Unannounced {
            self.stage = Stage::Start;
            ctx.name_split(self.split, format!("socket {}", self.peer), "byte");
            out.on_split(SplitEvent::Active(self.split));
        }
    }

    /// Lets nothing more come in.
    pub(super) fn leave(&mut self, ctx: &OperatorContext<'_>) {
        if matches!(self.phase, Phase::Open) {
            self.phase = Phase::Left;
            ctx.socket(SocketOp::Close { socket: self.socket });
        }
    }

    fn pass(&mut self, taken: Taken) {
        self.window.consume(taken.bytes);
        self.line += taken.lines;
    }

    /// Receives while few bytes wait, or while those that wait are no whole record.
    pub(super) fn control_flow(&mut self, ctx: &OperatorContext<'_>) {
        if !matches!(self.phase, Phase::Open) {
            return;
        }
        let socket = self.socket;
        let waiting = self.window.rest().len();
        if self.is_receiving && waiting > WAITING_BYTES_MAX && !self.is_starved {
            self.is_receiving = false;
            ctx.socket(SocketOp::Pause { socket });
        } else if !self.is_receiving && (waiting < WAITING_BYTES_LOW || self.is_starved) {
            self.is_receiving = true;
            ctx.socket(SocketOp::Resume { socket });
        }
    }
}
