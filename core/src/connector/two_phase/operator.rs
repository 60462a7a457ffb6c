//! The operator around a [`TwoPhaseSink`]: which call is made when.
//!
//! ```text
//! open, abort_all_but ─► commit what was restored ─► write ... ─► pre_commit ─► write ...
//!                                                                  │ barrier     commit
//! ```
//!
//! Calls are values ([`BlockingCall`]), made in their order. What `pre_commit` answers is *held*
//! until it is committed: it is in every snapshot until then.
//!
//! Invariant: nothing is committed of which no complete checkpoint speaks, unless there are none.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use millstream_storage::io::{FileDone, OpId};

use super::{TwoPhaseSink, Writer};
use crate::connector::file_error;
use crate::data::element::CheckpointId;
use crate::data::row::Row;
use crate::error::Error;
use crate::graph::{Appearance, Facts};
use crate::operator::blocking::BlockingCall;
use crate::operator::{Nothing, Operator, OperatorContext, Output, Progress};
use crate::state::snapshot::{SnapshotReader, SnapshotWriter};

/// Records of one call of `write`. Large enough that what a call costs between two threads (some
/// 10 µs) is small beside it.
const WRITE_RECORDS: usize = 500;

/// Calls under way. With more the sink lets its inputs wait.
const CALLS_MAX: usize = 4;

/// Without checkpoints, records are committed after this time, unless said otherwise.
const COMMIT_INTERVAL: Duration = Duration::from_secs(1);

/// What names of committables in a snapshot begin with; task and number follow.
const COMMITTABLE: &str = "committable/";

/// Makes a [`TwoPhaseSink`] a sink of a stream.
pub struct TwoPhase<S: TwoPhaseSink> {
    commit_interval: Duration,
    /// The sink, and what `pre_commit` has made; also with the thread on which calls are made.
    shared: Arc<Mutex<Shared<S>>>,
    batch: Vec<S::In>,
    /// Records were written that no `pre_commit` has ended.
    has_written: bool,
    /// What a restart found, of all tasks: not to be aborted.
    kept: Vec<S::Committable>,
    held: VecDeque<Held<S::Committable>>,
    next_number: u64,
    /// Calls that are not answered, in their order.
    calls: VecDeque<(OpId, Call)>,
    phase: Phase,
    /// The newest checkpoint that is complete.
    completed: CheckpointId,
    /// Processing time (ms) of the first record that is not sealed, if there are no checkpoints.
    begun_ms: Option<i64>,
    /// At its end, it has asked for a checkpoint.
    has_asked: bool,
}

struct Shared<S: TwoPhaseSink> {
    sink: S,
    /// What calls of `pre_commit` have made that are not known to be answered.
    made: VecDeque<Option<S::Committable>>,
    /// A call has failed or panicked: no other is made.
    has_failed: bool,
}

/// A transaction that is to be committed.
struct Held<C> {
    /// The task that has made it, and which of its own it is.
    id: (u32, u64),
    committable: C,
    /// The first checkpoint that speaks of it.
    spoken: Option<CheckpointId>,
    is_committing: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    Open,
    Write,
    PreCommit,
    Commit((u32, u64)),
    Close,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    New,
    Opening,
    Open,
    Closing,
    Closed,
}

impl<S: TwoPhaseSink> TwoPhase<S> {
    /// Around a sink.
    pub fn new(sink: S) -> Self {
        Self::of(sink, COMMIT_INTERVAL)
    }

    fn of(sink: S, commit_interval: Duration) -> Self {
        Self {
            commit_interval,
            shared: Arc::new(Mutex::new(Shared { sink, made: VecDeque::new(), has_failed: false })),
            batch: Vec::new(),
            has_written: false,
            kept: Vec::new(),
            held: VecDeque::new(),
            next_number: 0,
            calls: VecDeque::new(),
            phase: Phase::New,
            completed: CheckpointId(0),
            begun_ms: None,
            has_asked: false,
        }
    }

    /// Without checkpoints, records are committed `interval` after they came. Default 1 s.
    pub fn commit_interval(self, interval: Duration) -> Self {
        Self { commit_interval: interval, ..self }
    }

    fn shared(&self) -> MutexGuard<'_, Shared<S>> {
        // A call that panicked has stopped the job.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for a call of the sink.
    fn call(
        &mut self,
        (call, action): (Call, &str),
        ctx: &OperatorContext<'_>,
        make: impl FnOnce(&mut Shared<S>) -> io::Result<()> + Send + 'static,
    ) {
        let shared = Arc::clone(&self.shared);
        let call_of = move || {
            let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
            // The job stops; until it has, nothing is to be prepared of what was not written.
            if std::mem::replace(&mut shared.has_failed, true) {
                return Err(io::Error::other("a call before it has failed"));
            }
            make(&mut shared)?;
            shared.has_failed = false;
            Ok(())
        };
        let op = ctx.block(BlockingCall::new(action, call_of));
        self.calls.push_back((op, call));
    }

    /// Connects; the transactions of an earlier run are ended or committed.
    fn begin(&mut self, ctx: &OperatorContext<'_>) {
        self.phase = Phase::Opening;
        let place = ctx.env().task;
        let (task_index, parallelism) = (place.task_index, place.parallelism);
        let (sink, begun_ms) = (ctx.name().to_string(), ctx.processing_time_ms());
        let writer = Writer { sink, task_index, parallelism, begun_ms };
        let kept = std::mem::take(&mut self.kept);
        self.call((Call::Open, "open it"), ctx, move |shared| {
            shared.sink.open(writer)?;
            shared.sink.abort_all_but(&kept)
        });
        self.commit(ctx);
    }

    fn flush(&mut self, ctx: &OperatorContext<'_>) {
        if !self.batch.is_empty() {
            self.has_written = true;
            let records = std::mem::take(&mut self.batch);
            let write = move |shared: &mut Shared<S>| shared.sink.write(records);
            self.call((Call::Write, "write records"), ctx, write);
        }
    }

    /// Ends the transaction, if something was written.
    fn seal(&mut self, ctx: &OperatorContext<'_>) {
        self.flush(ctx);
        self.begun_ms = None;
        if std::mem::take(&mut self.has_written) {
            self.call((Call::PreCommit, "prepare a transaction"), ctx, |shared| {
                let made = shared.sink.pre_commit()?;
                shared.made.push_back(made);
                Ok(())
            });
        }
    }

    /// Commits what is due.
    fn commit(&mut self, ctx: &OperatorContext<'_>) {
        let completed = ctx.has_checkpoints().then_some(self.completed);
        let is_due = |held: &Held<S::Committable>| {
            let is_complete =
                completed.is_none_or(|completed| held.spoken.is_some_and(|by| by <= completed));
            !held.is_committing && is_complete
        };
        while let Some(held) = self.held.iter_mut().find(|held| is_due(held)) {
            held.is_committing = true;
            let (id, committable) = (held.id, held.committable.clone());
            self.call((Call::Commit(id), "commit a transaction"), ctx, move |shared| {
                shared.sink.commit(&committable)
            });
        }
    }

    fn on_answered(&mut self, call: Call, ctx: &OperatorContext<'_>) {
        match call {
            Call::Open => self.phase = Phase::Open,
            Call::Write => {}
            Call::PreCommit => {
                let made = self.shared().made.pop_front();
                if let Some(committable) = made.expect("it was just made") {
                    let id = (ctx.env().task.task_index, self.next_number);
                    self.next_number += 1;
                    let (spoken, is_committing) = (None, false);
                    self.held.push_back(Held { id, committable, spoken, is_committing });
                }
                if !ctx.has_checkpoints() {
                    self.commit(ctx);
                }
            }
            Call::Commit(id) => self.held.retain(|held| held.id != id),
            Call::Close => self.phase = Phase::Closed,
        }
    }

    fn is_pre_committing(&self) -> bool {
        self.calls.iter().any(|(_, call)| *call == Call::PreCommit)
    }
}

/// What to do about a sink that fails.
fn advice(_: io::ErrorKind) -> &'static str {
    "see that it can be reached and takes what is written, then start the job again"
}

impl<S: TwoPhaseSink> Clone for TwoPhase<S> {
    fn clone(&self) -> Self {
        Self::of(self.shared().sink.clone(), self.commit_interval)
    }
}

impl<S: TwoPhaseSink> fmt::Debug for TwoPhase<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TwoPhase")
            .field("phase", &self.phase)
            .field("calls", &self.calls)
            .field("held_count", &self.held.len())
            .finish_non_exhaustive()
    }
}

impl<S: TwoPhaseSink> Operator for TwoPhase<S> {
    type In = S::In;
    type Out = Nothing;

    const ENTERS_ROWS: bool = false;

    fn facts(&self) -> Facts {
        let shared = self.shared();
        Facts {
            is_stateful: true,
            appearance: Appearance::WithCheckpoints,
            problems: shared.sink.problems(),
            ..Facts::stateless().detailed(shared.sink.describe())
        }
    }

    fn on_row(
        &mut self,
        row: Row<S::In>,
        ctx: &OperatorContext<'_>,
        _out: &mut impl Output<Nothing>,
    ) {
        self.batch.push(row.value);
        if self.batch.len() == WRITE_RECORDS {
            self.flush(ctx);
        }
        if self.begun_ms.is_none() && !ctx.has_checkpoints() {
            self.begun_ms = Some(ctx.processing_time_ms());
        }
    }

    /// It connects as soon as it may, which is when what there is to restore was restored.
    fn next_time_ms(&self) -> Option<i64> {
        let interval_ms = i64::try_from(self.commit_interval.as_millis()).unwrap_or(i64::MAX);
        match self.phase {
            Phase::New => Some(i64::MIN),
            _ => self.begun_ms.map(|begun_ms| begun_ms.saturating_add(interval_ms)),
        }
    }

    fn on_time(&mut self, ctx: &OperatorContext<'_>, _out: &mut impl Output<Nothing>) -> Progress {
        if self.phase == Phase::New {
            self.begin(ctx);
        } else {
            self.seal(ctx);
        }
        Progress::Done
    }

    fn is_ready(&self) -> bool {
        self.phase == Phase::Open && self.calls.len() < CALLS_MAX
    }

    fn on_file_done(
        &mut self,
        done: FileDone,
        ctx: &OperatorContext<'_>,
        _out: &mut impl Output<Nothing>,
    ) {
        let Some((_, call)) = self.calls.pop_front_if(|(op, _)| *op == done.op) else {
            return ctx.fail(Error::bug(ctx.name(), format!("unexpected answer {done:?}")));
        };
        match done.result {
            Ok(_) => self.on_answered(call, ctx),
            Err(fault) => ctx.fail(file_error(ctx, fault, advice)),
        }
    }

    fn on_end(&mut self, ctx: &OperatorContext<'_>, _out: &mut impl Output<Nothing>) -> Progress {
        if self.phase == Phase::Open {
            self.seal(ctx);
            if self.calls.is_empty() && self.held.is_empty() {
                self.phase = Phase::Closing;
                self.call((Call::Close, "close it"), ctx, |shared| shared.sink.close());
            } else if ctx.has_checkpoints() && !std::mem::replace(&mut self.has_asked, true) {
                ctx.want_checkpoint();
            }
        }
        if self.phase == Phase::Closed { Progress::Done } else { Progress::Pending }
    }

    /// A checkpoint has what it takes to commit.
    fn gather(&mut self, ctx: &OperatorContext<'_>) -> Progress {
        if ctx.has_checkpoints() {
            match self.phase {
                // No snapshot has them, and there is no transaction to have them yet.
                Phase::New | Phase::Opening if !self.batch.is_empty() || self.has_written => {
                    return Progress::Pending;
                }
                Phase::Open => self.seal(ctx),
                _ => {}
            }
        }
        if self.is_pre_committing() { Progress::Pending } else { Progress::Done }
    }

    fn on_cut(&mut self, checkpoint: CheckpointId, _ctx: &OperatorContext<'_>) {
        self.held.iter_mut().for_each(|held| held.spoken = held.spoken.or(Some(checkpoint)));
    }

    fn on_completed(&mut self, checkpoint: CheckpointId, ctx: &OperatorContext<'_>) {
        self.completed = self.completed.max(checkpoint);
        if matches!(self.phase, Phase::Opening | Phase::Open) {
            self.commit(ctx);
        }
    }

    fn owes_commit(&self) -> bool {
        let completed = self.completed;
        self.held.iter().any(|held| held.spoken.is_some_and(|by| by <= completed))
    }

    fn snapshot(&self, writer: &mut SnapshotWriter<'_>) {
        for Held { id: (task, number), committable, .. } in &self.held {
            writer.operator_state(&format!("{COMMITTABLE}{task:05}/{number:012}"), committable);
        }
    }

    fn restore(
        &mut self,
        reader: &SnapshotReader<'_>,
        ctx: &OperatorContext<'_>,
    ) -> Result<(), Error> {
        let place = ctx.env().task;
        for (name, committable) in reader.operator_state::<S::Committable>(COMMITTABLE)? {
            let id = name.trim_start_matches(COMMITTABLE).split_once('/');
            let id = id.and_then(|(task, number)| Some((task.parse().ok()?, number.parse().ok()?)));
            let Some((task, number)) = id else {
                let what = format!("the state of operator {}", ctx.name());
                let reason = format!("{name:?} is no name of a committable");
                return Err(Error::Corrupt { what, offset: 0, reason });
            };
            self.kept.push(committable.clone());
            if task % place.parallelism == place.task_index {
                // Of the checkpoint that the job goes on from, or an earlier one.
                let (spoken, is_committing) = (Some(CheckpointId(0)), false);
                self.held.push_back(Held {
                    id: (task, number),
                    committable,
                    spoken,
                    is_committing,
                });
            }
            if task == place.task_index {
                self.next_number = self.next_number.max(number + 1);
            }
        }
        Ok(())
    }
}
