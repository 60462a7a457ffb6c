//! The one task there is: a feed, a chain, an end.
//!
//! ```text
//! Running ──feed ended──► Closing ──final watermark handled──► Flushing ──► Finished
//!                                   and operators ended
//! ```
//!
//! A turn: finish what ran out of budget, fire what processing time makes due, feed a round of
//! inputs, end the batch, send what credits allow. A task with a full output or a lagging sink
//! does not touch its inputs; their containers stay unreturned, and so the pressure travels on.
//!
//! **Checkpoints behind the end.** An input that has ended brings no more barriers. So a checkpoint
//! that was triggered before the task ended, and whose barrier has not come, gets the task's last
//! state as its part, and so do all later ones. That is a consistent cut: whoever reads from the
//! task awaits its end before it cuts, and restored from that part the task ends without a row, a
//! source that was drained as well: who drains a job is done with it.
//!
//! An operator that ends only when what it wrote is committed needs a checkpoint for that. So a
//! task whose input and event time have ended cuts what it awaits at once, in front of its own end.
//!
//! **Unaligned checkpoints.** A barrier waits for the rows before it, and those for credits; a
//! checkpoint that is not to wait is cut as soon as one barrier of it has come, whether the outputs
//! are full or not. Operators hand on the rows that they hold first, so that a row is in an input,
//! in state, or in an output. Then the barrier overtakes what is in the outputs. The snapshot gets
//! the rows of both ends, and is complete when the barrier has come in all channels.
//!
//! The task is idle when its feed is, and says so behind everything that its operators still owe.
//! Rows that processing time causes meanwhile do not end that.

use std::collections::VecDeque;

use millstream_net::io::SocketDone;
use millstream_storage::io::FileDone;

use crate::data::element::{CheckpointId, Control, Element};
use crate::data::row::{MAX_WATERMARK, NO_EVENT_TIME};
use crate::error::Error;
use crate::exchange::channel::{Load, Outbox, Returned};
use crate::graph::plan::{ChannelId, TaskPlan};
use crate::limits::{FORCED_OUTPUT_BYTES_MAX, INPUT_DIVISOR_MAX, SAVE_STEPS};
use crate::operator::env::TaskPlace;
use crate::operator::{Chain, Progress, TaskEnv};
use crate::state::durable::{DurableStore, Save};
use crate::state::snapshot::Snapshot;
use crate::task::end::{ChainEnd, End, SideEnd};
use crate::task::feed::{Due, Feed, SOURCE_STAGE};
use crate::task::{Activity, Task, TaskMail, TaskPart, TaskStatus};

/// See the module.
pub struct ChainTask<F, C, E> {
    plan: TaskPlan,
    env: TaskEnv,
    feed: F,
    chain: C,
    end: E,
    sides: Vec<Box<dyn SideEnd>>,
    names: Vec<String>,
    phase: Phase,
    watermark_ms: i64,
    /// Watermarks that came while results of an earlier one were due, since all were done; no more
    /// than make a difference.
    lag: u32,
    /// What its outputs were told last.
    is_idle: bool,
    /// Checkpoints triggered and not cut, in order.
    awaited: VecDeque<CheckpointId>,
    /// The checkpoint that is to be cut as soon as the operators can write all of their state.
    gathering: Option<CheckpointId>,
    /// Whether something of the last cut is still to be written.
    saving: Progress,
    /// Parts of checkpoints, in order, until all is durable that they speak of, and no row in
    /// flight is missing.
    parts: VecDeque<TaskPart>,
    last_cut: Option<CheckpointId>,
    /// Checkpoints up to this one wait for no rows.
    unaligned_to: CheckpointId,
    /// When a barrier was first seen that was not carried out, as the shard counts.
    barrier_since_ns: Option<u64>,
    /// Answers that came since the last turn.
    files: Vec<(u16, FileDone)>,
    sockets: Vec<(u16, SocketDone)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Running,
    /// The final watermark has been given to the chain.
    Closing,
    /// The operators have ended; the last elements wait for credits.
    Flushing,
    Finished,
}

impl<F, C, E> ChainTask<F, C, E>
where
    F: Feed,
    C: Chain<In = F::Out>,
    E: End<C::Out>,
{
    /// The task of `plan`. `sides` builds the ends of its side outputs.
    pub fn new(
        plan: TaskPlan,
        feed: F,
        mut chain: C,
        end: E,
        sides: impl FnOnce(&TaskPlan, &TaskEnv) -> Vec<Box<dyn SideEnd>>,
    ) -> Self {
        let env = TaskEnv::new(TaskPlace {
            chain_index: plan.chain_index,
            task_index: plan.task_index,
            parallelism: plan.parallelism,
            key_group_count: plan.key_group_count,
        });
        let mut names = Vec::new();
        chain.number(&mut names);
        let sides = sides(&plan, &env);
        Self {
            plan,
            env,
            feed,
            chain,
            end,
            sides,
            names,
            phase: Phase::Running,
            watermark_ms: NO_EVENT_TIME,
            lag: 0,
            is_idle: false,
            awaited: VecDeque::new(),
            gathering: None,
            saving: Progress::Done,
            parts: VecDeque::new(),
            last_cut: None,
            unaligned_to: CheckpointId::default(),
            barrier_since_ns: None,
            files: Vec::new(),
            sockets: Vec::new(),
        }
    }

    fn is_writable(&self) -> bool {
        !self.end.is_full() && !self.sides.iter().any(|side| side.is_full())
    }

    fn control(&mut self, control: Control) {
        self.drain_sides();
        self.sides.iter_mut().for_each(|side| side.control(control));
        self.end.control(control);
    }

    /// Twice, because a row that a side output refuses becomes a dead letter, which is none.
    fn drain_sides(&mut self) {
        for _ in 0..2 {
            self.sides.iter_mut().for_each(|side| side.drain(&self.env));
        }
    }

    /// A watermark has left the chain.
    fn release(&mut self, released: Option<i64>) {
        if let Some(watermark_ms) = released
            && self.watermark_ms < watermark_ms
        {
            self.watermark_ms = watermark_ms;
            self.control(Control::Watermark(watermark_ms));
        }
    }

    /// Whether what is being cut waits for no rows, and operators have to hand on what they hold.
    fn is_forced(&self) -> bool {
        self.gathering.is_some_and(|checkpoint| checkpoint <= self.unaligned_to)
            && self.chain.has_waiting_rows()
            && self.load().bytes < FORCED_OUTPUT_BYTES_MAX
    }

    /// What the outputs keep in memory.
    fn load(&self) -> Load {
        let sides = self.sides.iter().map(|side| side.load());
        sides.fold(self.end.load(), Load::and)
    }

    fn deliver_answers(&mut self, row_limit: u32) {
        let is_forced = self.is_forced();
        let mut end = ChainEnd { end: &mut self.end, env: &self.env, is_forced };
        if let Some(store) = self.env.store.get() {
            self.env.set_budget(row_limit);
            for (stage_index, hash64) in store.take_read(self.plan.chain_index) {
                self.chain.on_state_read(stage_index, hash64, &self.env, &mut end);
            }
        }
        for (stage_index, done) in self.files.drain(..) {
            match stage_index {
                SOURCE_STAGE => self.feed.on_file_done(done, &self.env),
                _ => self.chain.on_file_done(stage_index, done, &self.env, &mut end),
            }
        }
        for (stage_index, done) in self.sockets.drain(..) {
            match stage_index {
                SOURCE_STAGE => self.feed.on_socket_done(done, &self.env),
                _ => self.chain.on_socket_done(stage_index, done, &self.env, &mut end),
            }
        }
    }

    /// Finishes what an earlier turn left, and what processing time makes due.
    fn catch_up(&mut self, row_limit: u32) -> Progress {
        // As much as all inputs together may give.
        let channels = self.plan.inputs.iter().map(|input| input.channels.len() as u32);
        self.env.set_budget(row_limit.saturating_mul(channels.sum::<u32>().max(1)));
        let is_forced = self.is_forced();
        if self.chain.is_pending() {
            let mut end = ChainEnd { end: &mut self.end, env: &self.env, is_forced };
            let released = self.chain.resume(&self.env, &mut end);
            self.release(released);
        }
        self.env.set_budget(row_limit);
        let mut end = ChainEnd { end: &mut self.end, env: &self.env, is_forced };
        self.chain.on_time(&self.env, &mut end)
    }

    /// Whether more may be put into the chain.
    fn can_take(&self) -> bool {
        self.phase == Phase::Running
            && self.gathering.is_none()
            && self.is_writable()
            && self.chain.is_ready()
            && !self.env.has_failed()
    }

    /// One round: every input gives at most `row_limit` rows, and watermarks make at most as many
    /// results as that; the rest is pending.
    fn feed_round(&mut self, row_limit: u32, mail: &mut TaskMail) {
        self.feed.begin_round(row_limit);
        let mut left_results = row_limit;
        loop {
            self.carry_out_due(&mut left_results, mail);
            if !self.can_take() {
                return;
            }
            let mut end = ChainEnd { end: &mut self.end, env: &self.env, is_forced: false };
            if !self.feed.feed(&mut self.chain, &self.env, &mut end, &mut mail.returns) {
                return;
            }
        }
    }

    fn carry_out_due(&mut self, left_results: &mut u32, mail: &mut TaskMail) {
        while self.can_take()
            && let Some(due) = self.feed.pop_due()
        {
            self.env.set_budget(*left_results);
            match due {
                Due::Watermark(watermark_ms) => self.raise(watermark_ms),
                Due::Barrier(checkpoint) => {
                    self.gathering = Some(checkpoint);
                    self.gather(mail);
                }
                Due::End => {
                    self.phase = Phase::Closing;
                    self.raise(MAX_WATERMARK);
                }
            }
            *left_results = self.env.budget();
        }
    }

    fn raise(&mut self, watermark_ms: i64) {
        if self.chain.is_pending() {
            self.fall_behind();
        }
        let mut end = ChainEnd { end: &mut self.end, env: &self.env, is_forced: false };
        let released = self.chain.on_watermark(watermark_ms, &self.env, &mut end);
        self.release(released);
    }

    /// Event time has gone on while results were due.
    fn fall_behind(&mut self) {
        self.lag = (self.lag + 1).min(INPUT_DIVISOR_MAX - 1);
    }

    /// Cuts, once the operators can write all of their state. Until then no row is taken.
    fn gather(&mut self, mail: &mut TaskMail) {
        if let Some(checkpoint) = self.gathering
            && !self.chain.has_waiting_rows()
            && self.chain.gather(&self.env) == Progress::Done
        {
            self.gathering = None;
            self.cut(checkpoint);
        }
        self.send_parts(mail);
    }

    /// Writes some of what checkpoints get of the keys.
    fn save(&mut self, is_last: bool) -> Progress {
        self.chain.save(Save { steps: SAVE_STEPS, is_last }, &self.env)
    }

    /// Whether there is something that can be written now.
    fn can_save(&self) -> bool {
        let durable = self.env.store.get().and_then(|store| store.durable());
        self.saving == Progress::Pending && durable.is_some_and(DurableStore::has_room)
    }

    /// Cuts what waits for no rows, as far as its barriers are known.
    fn cut_unaligned(&mut self, mail: &mut TaskMail) {
        if Phase::Running < self.phase && self.gathering.is_some() {
            self.gather(mail);
        }
        while self.phase < Phase::Finished
            && self.gathering.is_none()
            && let Some(checkpoint) = self.awaited.front().copied()
            && checkpoint <= self.unaligned_to
            && (Phase::Running < self.phase
                || self.feed.can_cut(checkpoint) && self.is_last_cut_over())
        {
            self.gathering = Some(checkpoint);
            self.gather(mail);
        }
    }

    /// Whether operators may cut again. Until then rows are taken: the last checkpoint may need
    /// what they make somewhere else.
    fn is_last_cut_over(&self) -> bool {
        let durable = self.env.store.get().and_then(|store| store.durable());
        durable.zip(self.last_cut).is_none_or(|(durable, cut)| durable.is_over(cut))
    }

    /// What is durable and whole of the parts of checkpoints goes to the shard.
    fn send_parts(&mut self, mail: &mut TaskMail) {
        while let Some(TaskPart { checkpoint, .. }) = self.parts.front()
            && self.is_whole(*checkpoint)
            && let Some(mut part) = self.parts.pop_front()
        {
            self.feed.take_recorded(part.checkpoint, &mut part.snapshot);
            mail.parts.push(part);
        }
    }

    /// Whether everything is known of the part of `checkpoint`, and durable.
    fn is_whole(&self, checkpoint: CheckpointId) -> bool {
        self.chain.is_settled(checkpoint)
            && self.feed.is_recorded(checkpoint)
            && !self.end.holds_barrier(checkpoint)
            && !self.sides.iter().any(|side| side.holds_barrier(checkpoint))
    }

    /// Barriers that wait for no rows overtake those that have not left.
    fn overtake(&mut self) {
        for TaskPart { checkpoint, snapshot, .. } in &mut self.parts {
            if *checkpoint <= self.unaligned_to {
                self.end.overtake(*checkpoint, snapshot);
                self.sides.iter_mut().for_each(|side| side.overtake(*checkpoint, snapshot));
            }
        }
    }

    /// The epoch ends here: everything before is in the snapshot, everything after is not.
    fn cut(&mut self, checkpoint: CheckpointId) {
        self.last_cut = Some(checkpoint);
        // A barrier may be here before the command that caused it.
        self.awaited.retain(|awaited| checkpoint < *awaited);
        let mut snapshot = self.snapshot();
        self.feed.cut(checkpoint, &mut snapshot);
        let since_ns = self.barrier_since_ns.take();
        let alignment_ns = since_ns.map_or(0, |since_ns| self.env.now_ns.get() - since_ns);
        self.parts.push_back(TaskPart { checkpoint, snapshot, alignment_ns });
        self.chain.on_cut(checkpoint, &self.env);
        // A task that is blocked, or has nothing else to do, has another turn for that.
        self.saving = Progress::Pending;
        self.control(Control::Barrier(checkpoint));
        self.overtake();
    }

    /// The task's state.
    fn snapshot(&self) -> Snapshot {
        let mut snapshot = Snapshot::default();
        self.feed.snapshot(&mut snapshot, &self.env);
        self.chain.snapshot(&mut snapshot);
        snapshot
    }

    /// The part in `checkpoint` of a task that has ended.
    fn last_part(&self, checkpoint: CheckpointId) -> TaskPart {
        TaskPart { checkpoint, snapshot: self.snapshot(), alignment_ns: 0 }
    }

    fn end_batch(&mut self, row_limit: u32) {
        // Watermarks that no input brings are made within the chain, when a batch ends.
        if self.chain.is_pending() && self.feed.watermark_ms() == NO_EVENT_TIME {
            self.fall_behind();
        }
        self.env.set_budget(row_limit);
        let mut end = ChainEnd { end: &mut self.end, env: &self.env, is_forced: false };
        let released = self.chain.on_batch_end(&self.env, &mut end);
        self.release(released);
    }

    /// Tells the outputs whether the task expects anything for now.
    fn tell_idleness(&mut self) {
        let is_idle = self.feed.is_idle(&self.env);
        let owes = self.chain.is_pending() || self.chain.has_waiting_rows() || self.feed.has_due();
        if is_idle != self.is_idle && !(is_idle && owes) {
            self.is_idle = is_idle;
            self.control(if is_idle { Control::Idle } else { Control::Active });
        }
    }

    fn close(&mut self, row_limit: u32, mail: &mut TaskMail) {
        if self.phase == Phase::Closing && !self.chain.is_pending() && self.is_writable() {
            self.env.set_budget(row_limit);
            let mut end = ChainEnd { end: &mut self.end, env: &self.env, is_forced: false };
            if self.chain.on_end(&self.env, &mut end) == Progress::Done {
                self.phase = Phase::Flushing;
                self.control(Control::EndOfStream);
            } else if let Some(checkpoint) = self.awaited.front().copied() {
                self.gathering = Some(checkpoint);
                self.gather(mail);
            }
        }
    }

    fn flush(&mut self, mail: &mut TaskMail) {
        self.drain_sides();
        self.sides.iter_mut().for_each(|side| side.flush(&mut mail.outbox));
        self.end.flush(&mut mail.outbox);
        let is_empty = self.end.is_empty() && self.sides.iter().all(|side| side.is_empty());
        if self.phase == Phase::Flushing && is_empty && self.has_last_state() {
            self.phase = Phase::Finished;
            for checkpoint in std::mem::take(&mut self.awaited) {
                self.parts.push_back(self.last_part(checkpoint));
            }
        }
        self.send_parts(mail);
    }

    /// Whether its last state can be reported, if anybody may ask for it.
    fn has_last_state(&mut self) -> bool {
        let may_be_asked =
            self.env.has_checkpoints.get() || !self.awaited.is_empty() || self.last_cut.is_some();
        if may_be_asked && self.chain.gather(&self.env) == Progress::Done {
            self.saving = self.save(true);
        }
        !may_be_asked
            || self.chain.gather(&self.env) == Progress::Done && self.saving == Progress::Done
    }

    fn activity(&self, time: Progress) -> Activity {
        if self.phase == Phase::Finished {
            return Activity::Finished;
        }
        if self.can_save() {
            return Activity::Busy;
        }
        if self.phase == Phase::Flushing {
            return Activity::Idle(None);
        }
        let chain_ms = self.chain.next_time_ms();
        if self.is_forced() {
            let is_pending = time == Progress::Pending || self.chain.is_pending();
            return if is_pending { Activity::Busy } else { self.waiting(chain_ms) };
        }
        if !self.is_writable() {
            return self.waiting(None);
        }
        let ran_out = time == Progress::Pending || self.chain.is_pending();
        // The operators end: they wait for their files, unless the budget was too small.
        let is_closing = self.phase == Phase::Closing;
        if ran_out || is_closing && self.env.budget() == 0 {
            return Activity::Busy;
        }
        if is_closing {
            return Activity::Idle(chain_ms);
        }
        if self.gathering.is_some() || !self.chain.is_ready() {
            return self.waiting(chain_ms);
        }
        if self.env.wants_turn.get() || self.has_input() {
            return Activity::Busy;
        }
        Activity::Idle(self.feed.next_time_ms().into_iter().chain(chain_ms).min())
    }

    fn has_input(&self) -> bool {
        self.phase == Phase::Running && self.feed.is_ready(self.env.processing_time_ms.get())
    }

    /// It cannot take rows: that is backpressure only if there are any.
    fn waiting(&self, due_ms: Option<i64>) -> Activity {
        if self.has_input() { Activity::Blocked(due_ms) } else { Activity::Idle(due_ms) }
    }
}

impl<F, C, E> Task for ChainTask<F, C, E>
where
    F: Feed,
    C: Chain<In = F::Out>,
    E: End<C::Out>,
{
    fn plan(&self) -> &TaskPlan {
        &self.plan
    }

    fn env(&self) -> &TaskEnv {
        &self.env
    }

    fn source_name(&self) -> &str {
        self.feed.source_name()
    }

    fn operator_names(&self) -> &[String] {
        &self.names
    }

    fn open(&mut self) -> Result<(), Error> {
        self.chain.open(&self.env)?;
        self.feed.open(&self.plan.name, &self.env)
    }

    fn on_element(&mut self, slot: usize, element: Element) {
        self.feed.on_element(slot, element);
    }

    fn on_returned(&mut self, channel: ChannelId, returned: Returned, outbox: &mut Outbox) {
        let mut result = self.end.on_returned(channel, returned, outbox);
        for side in &mut self.sides {
            match result {
                Ok(()) => return,
                Err(returned) => result = side.on_returned(channel, returned, outbox),
            }
        }
        assert!(result.is_ok(), "channel {channel:?} is not an output of {}", self.plan.name);
    }

    fn on_file_done(&mut self, stage_index: u16, done: FileDone) {
        self.files.push((stage_index, done));
    }

    fn on_socket_done(&mut self, stage_index: u16, done: SocketDone) {
        self.sockets.push((stage_index, done));
    }

    fn drain(&mut self) {
        self.feed.drain(&self.env);
    }

    fn halt(&mut self) {
        self.feed.halt();
    }

    fn relieve(&mut self, steps: u32) -> bool {
        self.phase < Phase::Flushing && self.chain.evict(steps, &self.env)
    }

    fn trigger(&mut self, checkpoint: CheckpointId, mail: &mut TaskMail) {
        if Some(checkpoint) <= self.last_cut {
            return;
        }
        if self.phase == Phase::Finished {
            // What it had was gathered, or written, before it finished.
            mail.parts.push(self.last_part(checkpoint));
            return;
        }
        self.awaited.push_back(checkpoint);
        if self.phase == Phase::Running {
            self.feed.trigger(checkpoint);
        }
    }

    fn unalign(&mut self, checkpoint: CheckpointId) {
        self.unaligned_to = self.unaligned_to.max(checkpoint);
        self.overtake();
    }

    fn on_completed(&mut self, checkpoint: CheckpointId) {
        self.chain.on_completed(checkpoint, &self.env);
    }

    fn owes_commit(&self) -> bool {
        self.chain.owes_commit()
    }

    fn turn(&mut self, row_limit: u32, mail: &mut TaskMail) -> Activity {
        if self.barrier_since_ns.is_none() && self.feed.has_barrier() {
            self.barrier_since_ns = Some(self.env.now_ns.get());
        }
        self.deliver_answers(row_limit);
        self.saving = self.save(false);
        self.cut_unaligned(mail);
        let mut time = Progress::Done;
        if self.phase < Phase::Flushing && (self.is_writable() || self.is_forced()) {
            time = self.catch_up(row_limit);
        }
        if self.phase == Phase::Running {
            if !self.chain.is_pending() {
                self.lag = 0;
            }
            self.gather(mail);
            self.cut_unaligned(mail);
            self.feed_round(row_limit.div_ceil(1 + self.lag), mail);
            self.end_batch(row_limit);
            self.tell_idleness();
        }
        self.close(row_limit, mail);
        self.flush(mail);
        self.activity(time)
    }

    fn status(&self) -> TaskStatus {
        let side_rows: u64 = self.sides.iter().map(|side| side.row_count()).sum();
        let load = self.load();
        TaskStatus {
            records_in: self.feed.row_count(),
            records_out: self.end.row_count() + side_rows,
            late_records: self.env.late_records.get(),
            dead_letters: self.env.dead_letters.get(),
            watermark_ms: self.watermark_ms.max(self.feed.watermark_ms()),
            queued_elements: self.feed.queued_count(),
            output_bytes: load.bytes,
            waiting_batches_max: load.waiting_batches_max,
            is_finished: self.phase == Phase::Finished,
        }
    }

    fn restore(&mut self, snapshot: &Snapshot) -> Result<(), Error> {
        self.chain.restore(snapshot, &self.env)?;
        self.feed.restore(snapshot, &self.env)
    }
}
