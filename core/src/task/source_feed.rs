//! A source as the input of a task.
//!
//! The reader is polled while there is budget; rows go straight into the chain. A barrier goes
//! between two polls: everything before it has been handed on, and the positions in the snapshot
//! are those of the next records. Between two barriers there is a poll: however many checkpoints
//! are triggered, records have their share; but one that does not wait for records
//! (`Feed::can_cut`) goes ahead of the poll.

use std::collections::VecDeque;

use millstream_net::io::SocketDone;
use millstream_storage::io::FileDone;

use crate::data::element::{CheckpointId, Element};
use crate::data::row::{Origin, Row};
use crate::error::Error;
use crate::exchange::channel::Returned;
use crate::graph::plan::ChannelPlan;
use crate::operator::source::{Source, SourceOutput, SourceReader, SourceStatus};
use crate::operator::{Chain, OperatorContext, Output, SplitEvent, TaskEnv};
use crate::state::snapshot::{Snapshot, SnapshotReader, SnapshotWriter};
use crate::task::feed::{Due, Feed, SOURCE_STAGE};

/// Under which a snapshot has, for each task of the source, whether it had ended. Not every reader
/// knows that by its positions: a connection has none.
const ENDED: &str = "ended/";

/// One task's reader of source `S`.
#[expect(clippy::struct_excessive_bools, reason = "facts that do not depend on each other")]
pub struct SourceFeed<S: Source> {
    source: S,
    name: String,
    uid: String,
    source_index: u32,
    reader: Option<S::Reader>,
    status: SourceStatus,
    /// Something arrived since the reader said it was waiting.
    is_woken: bool,
    /// Barriers to send, in order: leaving one out would confuse those who align.
    triggered: VecDeque<CheckpointId>,
    /// A barrier has been sent since the last poll.
    owes_poll: bool,
    has_ended: bool,
    /// The job stops with the next checkpoint: nothing is to be written behind its barrier.
    is_halted: bool,
    has_polled: bool,
    row_limit: u32,
    row_count: u64,
}

impl<S: Source> SourceFeed<S> {
    /// The reader of `source`, number `source_index` of the job, under a name for people and a
    /// `uid` that its positions are found under.
    pub fn new(
        source: S,
        name: impl Into<String>,
        uid: impl Into<String>,
        source_index: u32,
    ) -> Self {
        Self {
            source,
            name: name.into(),
            uid: uid.into(),
            source_index,
            reader: None,
            status: SourceStatus::Ready,
            is_woken: false,
            triggered: VecDeque::new(),
            owes_poll: false,
            has_ended: false,
            is_halted: false,
            has_polled: false,
            row_limit: 0,
            row_count: 0,
        }
    }

    fn context<'a>(name: &'a str, env: &'a TaskEnv) -> OperatorContext<'a> {
        OperatorContext::new(env, name, SOURCE_STAGE, crate::data::row::NO_EVENT_TIME)
    }
}

/// Where the reader's rows go: into the chain.
struct IntoChain<'a, C, O> {
    chain: &'a mut C,
    env: &'a TaskEnv,
    out: &'a mut O,
    source_index: u32,
    row_count: u64,
}

impl<C: Chain, O: Output<C::Out>> SourceOutput<C::In> for IntoChain<'_, C, O> {
    #[inline]
    fn emit(&mut self, split: u32, position: u64, event_time_ms: i64, value: C::In) {
        let row = Row::new(value, event_time_ms, Origin::new(self.source_index, split, position));
        self.row_count += 1;
        self.env.enter_split(split);
        self.env.begin_row(&row);
        self.chain.on_row(row, self.env, self.out);
    }

    fn on_split(&mut self, event: SplitEvent) {
        self.chain.on_split(event, self.env);
    }
}

impl<S: Source> Feed for SourceFeed<S> {
    type Out = S::Out;

    fn open(&mut self, _name: &str, env: &TaskEnv) -> Result<(), Error> {
        let ctx = Self::context(&self.name, env);
        self.reader = Some(ctx.run(|| self.source.open(&ctx))?);
        Ok(())
    }

    fn source_name(&self) -> &str {
        &self.name
    }

    fn begin_round(&mut self, row_limit: u32) {
        self.has_polled = false;
        self.row_limit = row_limit;
    }

    fn feed<C: Chain<In = S::Out>>(
        &mut self,
        chain: &mut C,
        env: &TaskEnv,
        out: &mut impl Output<C::Out>,
        _returns: &mut Vec<(ChannelPlan, Returned)>,
    ) -> bool {
        if self.has_ended || self.is_halted || std::mem::replace(&mut self.has_polled, true) {
            return false;
        }
        let ctx = Self::context(&self.name, env);
        let reader = self.reader.as_mut().expect("opened before it is fed");
        let source_index = self.source_index;
        let mut into = IntoChain { chain, env, out, source_index, row_count: 0 };
        self.is_woken = false;
        self.owes_poll = false;
        env.wants_turn.set(false);
        env.set_budget(self.row_limit);
        self.status = ctx.run(|| reader.poll(&ctx, &mut into));
        self.row_count += into.row_count;
        self.has_ended = self.status == SourceStatus::Ended;
        true
    }

    fn pop_due(&mut self) -> Option<Due> {
        let may_cut = self.has_ended || self.is_halted || !self.owes_poll;
        match self.triggered.pop_front_if(|_| may_cut) {
            Some(checkpoint) => Some(Due::Barrier(checkpoint)),
            None => self.has_ended.then_some(Due::End),
        }
    }

    fn has_due(&self) -> bool {
        self.has_ended || !self.triggered.is_empty()
    }

    /// Says the operator that makes watermarks.
    fn is_idle(&self, env: &TaskEnv) -> bool {
        env.is_idle.get()
    }

    fn is_ready(&self, now_ms: i64) -> bool {
        if (self.is_woken && !self.is_halted) || self.has_due() {
            return true;
        }
        match self.status {
            _ if self.is_halted => false,
            SourceStatus::Ready | SourceStatus::Ended => true,
            SourceStatus::Waiting(due_ms) => due_ms.is_some_and(|due_ms| due_ms <= now_ms),
        }
    }

    fn next_time_ms(&self) -> Option<i64> {
        match self.status {
            SourceStatus::Waiting(due_ms) if !self.is_halted => due_ms,
            _ => None,
        }
    }

    fn on_element(&mut self, _slot: usize, element: Element) {
        panic!("a source has no input channel, and {element:?} arrived");
    }

    fn on_file_done(&mut self, done: FileDone, env: &TaskEnv) {
        self.is_woken = true;
        let ctx = Self::context(&self.name, env);
        let reader = self.reader.as_mut().expect("opened before it asked for anything");
        ctx.run(|| reader.on_file_done(done, &ctx));
    }

    fn on_socket_done(&mut self, done: SocketDone, env: &TaskEnv) {
        self.is_woken = true;
        let ctx = Self::context(&self.name, env);
        let reader = self.reader.as_mut().expect("opened before it asked for anything");
        ctx.run(|| reader.on_socket_done(done, &ctx));
    }

    fn drain(&mut self, env: &TaskEnv) {
        self.is_woken = true;
        let ctx = Self::context(&self.name, env);
        let holds_more = self.reader.as_mut().is_some_and(|reader| ctx.run(|| reader.drain(&ctx)));
        self.has_ended |= !holds_more;
    }

    fn halt(&mut self) {
        self.is_halted = true;
    }

    fn trigger(&mut self, checkpoint: CheckpointId) {
        self.triggered.push_back(checkpoint);
    }

    fn row_count(&self) -> u64 {
        self.row_count
    }

    fn queued_count(&self) -> u64 {
        0
    }

    fn watermark_ms(&self) -> i64 {
        crate::data::row::NO_EVENT_TIME
    }

    fn snapshot(&self, snapshot: &mut Snapshot, env: &TaskEnv) {
        let mut writer = SnapshotWriter::new(snapshot, &self.uid);
        writer.operator_state(&format!("{ENDED}{:010}", env.task.task_index), &self.has_ended);
        if let Some(reader) = &self.reader {
            reader.snapshot(&mut writer);
        }
    }

    fn restore(&mut self, snapshot: &Snapshot, env: &TaskEnv) -> Result<(), Error> {
        let ctx = Self::context(&self.name, env);
        let from = SnapshotReader::new(snapshot, &self.uid);
        let ended = from.operator_state::<bool>(ENDED)?;
        // While any task had more to read, splits are dealt out anew: the reader knows which.
        self.has_ended = !ended.is_empty() && ended.iter().all(|(_, ended)| *ended);
        let reader = self.reader.as_mut().expect("opened before it is restored");
        reader.restore(&from, &ctx)
    }

    fn has_barrier(&self) -> bool {
        !self.triggered.is_empty()
    }

    fn can_cut(&self, checkpoint: CheckpointId) -> bool {
        self.has_ended || self.triggered.contains(&checkpoint)
    }

    fn cut(&mut self, checkpoint: CheckpointId, _snapshot: &mut Snapshot) {
        self.triggered.retain(|triggered| checkpoint < *triggered);
        self.owes_poll = true;
    }

    fn is_recorded(&self, _checkpoint: CheckpointId) -> bool {
        true
    }

    fn take_recorded(&mut self, _checkpoint: CheckpointId, _snapshot: &mut Snapshot) {}
}
