//! A shard is a value: one pinned core's part of the job, and [`Shard::turn`] is the engine.
//!
//! ```text
//! events ──►┌──────────────────────────────────────────────┐──► effects
//!           │ deliver: elements, credits, answers, commands │
//!           │ every task with something to do, upstream     │
//!           │ first: one turn of a bounded number of rows   │
//!           │ local elements go straight to the next task   │
//!           │ the store: what goes to disk, who goes on     │
//!           └──────────────────────────────────────────────┘
//! ```
//!
//! It takes what happened, changes its own state and appends what it wants from the world. It never
//! blocks, reads a clock, or sees a file descriptor; the production host (`runtime/`) and the
//! simulator (`sim/`) drive the very same type.
//!
//! Budget: a task takes at most so many rows from one input before others have their turn, fewer
//! the slower it is (`pace.rs`). The host says how long a turn took ([`Shard::turn_ended`]).

mod alignment;
mod checkpointing;
pub mod event;
pub mod metrics;
mod pace;
pub mod panic;
pub mod program;
mod routes;
mod storing;

use std::time::Duration;

use millstream_storage::arena::Slab;

use crate::data::element::{Batch, Element};
use crate::data::row::Origin;
use crate::error::Error;
use crate::exchange::channel::{Outbox, Returned};
use crate::exchange::descriptor::Descriptor;
use crate::graph::plan::ChannelId;
use crate::limits::{CHANNEL_CREDIT_FRAMES, FRAME_BYTES};
use crate::operator::env::owner_of;
use crate::shard::alignment::SourceAlignment;
use crate::shard::checkpointing::Checkpointing;
use crate::shard::event::{Command, Effect, Event, Report};
use crate::shard::metrics::{ShardStatus, TaskReport, TurnMetrics};
use crate::shard::pace::{Pace, Turn};
use crate::shard::panic::{Culprit, LastWords};
use crate::shard::routes::Routes;
use crate::shard::storing::{Storing, is_durable};
use crate::state::shard_store::STORE_ID_BIT;
use crate::state::snapshot::Snapshot;
use crate::task::feed::SOURCE_STAGE;
use crate::task::{Activity, Task, TaskMail};

/// One core's part of a job.
pub struct Shard {
    index: u32,
    start_ms: i64,
    tasks: Vec<Scheduled>,
    routes: Routes,
    mail: TaskMail,
    alignment: SourceAlignment,
    metrics: TurnMetrics,
    pace: Pace,
    /// Where its tasks put state that they have no room for, if not all of it stays in memory.
    storing: Option<Storing>,
    checkpointing: Checkpointing,
    /// When the turn began.
    now: Duration,
    /// Whether there was anything to do in it.
    is_busy: bool,
    /// Task that has its turn.
    running: Option<usize>,
    /// What its tasks have sent each other, a line each, if somebody wants to know.
    local_trace: Option<Vec<String>>,
    is_over: bool,
}

struct Scheduled {
    task: Box<dyn Task>,
    activity: Activity,
    /// Something was delivered since its last turn.
    is_woken: bool,
    blocked_since: Option<Duration>,
    blocked: Duration,
}

/// What a shard will do if nothing happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Another turn would do something now.
    Busy,
    /// Nothing before this instant, counted as `now` is.
    At(Duration),
    /// Nothing until something happens.
    Wait,
    /// Nothing ever again: it has finished or failed.
    Over,
}

impl Shard {
    /// Shard `index` with its tasks, in the order of their chains (upstream first). Processing time
    /// is `start_ms` (ms since 1970) plus `now`.
    pub fn new(index: u32, start_ms: i64, tasks: Vec<Box<dyn Task>>) -> Self {
        let (routes, remote_count) = Routes::new(index, &tasks);
        // A credit stands for a buffer: with one for each, a sender never lacks one.
        let buffer_count_max = (remote_count * CHANNEL_CREDIT_FRAMES as usize).max(1);
        let slab = Slab::new(FRAME_BYTES, buffer_count_max);
        let outbox = Outbox { local: Vec::new(), remote: Vec::new(), slab };
        let pace = Pace::new(tasks.iter().map(|task| task.plan().channel_count()));
        let checkpointing = Checkpointing::new(index, tasks.len());
        let scheduled = |task| Scheduled {
            task,
            activity: Activity::Busy,
            is_woken: true,
            blocked_since: None,
            blocked: Duration::ZERO,
        };
        Self {
            index,
            start_ms,
            tasks: tasks.into_iter().map(scheduled).collect(),
            routes,
            mail: TaskMail { outbox, returns: Vec::new(), parts: Vec::new() },
            alignment: SourceAlignment::default(),
            metrics: TurnMetrics::default(),
            pace,
            storing: None,
            checkpointing,
            now: Duration::ZERO,
            is_busy: false,
            running: None,
            local_trace: None,
            is_over: false,
        }
    }

    /// Notes from now on what its tasks send each other: no host sees it otherwise.
    pub fn trace_local(&mut self) {
        self.local_trace = Some(Vec::new());
    }

    /// What its tasks have sent each other since the last call, a line each.
    pub fn take_local_trace(&mut self) -> Vec<String> {
        self.local_trace.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// The same shard, of a job of which checkpoints are taken. Before it is opened.
    #[must_use]
    pub fn with_checkpoints(self) -> Self {
        self.tasks.iter().for_each(|scheduled| scheduled.task.env().has_checkpoints.set(true));
        self
    }

    /// Prepares all operators, and gives them their state back if they go on from a `snapshot`.
    ///
    /// # Errors
    /// The first operator's that cannot run.
    pub fn open(&mut self, snapshot: Option<&Snapshot>) -> Result<(), Error> {
        for number in (0..self.tasks.len()).rev() {
            self.running = Some(number);
            let task = &mut self.tasks[number].task;
            task.env().processing_time_ms.set(self.start_ms);
            task.open()?;
            if let Some(snapshot) = snapshot {
                task.restore(snapshot)?;
            }
        }
        self.running = None;
        Ok(())
    }

    /// Handles `events` (and empties it), gives every task with something to do one turn, and
    /// appends what is wanted to `effects`. `now` counts from the host's start and never decreases.
    /// To be followed by [`Shard::turn_ended`].
    pub fn turn(&mut self, now: Duration, events: &mut Vec<Event>, effects: &mut Vec<Effect>) {
        assert!(self.now <= now, "time went back");
        self.now = now;
        self.is_busy = !events.is_empty() && !self.is_over;
        if self.is_over {
            // Buffers go home even now, so that it can be said that none is lost; whoever asks how
            // it stands is answered; and checkpoints go on elsewhere, with a part of every task.
            let concerns = |event: &Event| match event {
                Event::Peer { descriptor: Descriptor::Credit { .. }, .. } => true,
                Event::Command(command) => !matches!(command, Command::Drain | Command::Halt),
                Event::File(done) => Checkpointing::owns(done.op) || is_durable(done.op),
                _ => false,
            };
            events.retain(concerns);
            events.drain(..).for_each(|event| self.deliver(event, effects));
            self.turn_durable(effects);
            return;
        }
        for event in events.drain(..) {
            self.deliver(event, effects);
        }
        self.unalign();
        if !self.is_over && !self.relieve(effects) {
            self.run_tasks(effects);
        }
        self.tell_source_watermarks(effects);
        self.turn_store(effects);
        self.turn_durable(effects);
        self.settle(effects);
        let mut activities = self.tasks.iter().map(|scheduled| scheduled.activity);
        if !self.is_over && activities.all(|activity| activity == Activity::Finished) {
            assert_eq!(self.alignment.next_due(), None, "what is over owes nothing");
            self.is_over = true;
            effects.push(Effect::report(Report::Finished));
        }
    }

    /// The turn has ended, at `at` by the clock of its `now`: for the numbers, and for who may take
    /// how much in the next one.
    pub fn turn_ended(&mut self, at: Duration, effects: &mut Vec<Effect>) {
        if !self.is_busy {
            self.metrics.idle_turns += 1;
            return;
        }
        let took = at.checked_sub(self.now).expect("a turn ends after it began");
        self.metrics.on_turn(took);
        let stall = self.pace.end(at, took);
        self.metrics.stalls = self.pace.stall_count();
        if let Some(stall) = stall {
            let name = |number: usize| self.tasks[number].task.plan().name.clone();
            effects.push(Effect::report(Report::Stalled {
                turn_ns: stall.turn_ns,
                task: stall.task.map(name),
                stall_count: self.metrics.stalls,
            }));
        }
    }

    /// What will happen without another event.
    pub fn next(&self) -> Next {
        if self.is_over {
            return Next::Over;
        }
        let mut earliest_ms: Option<i64> = None;
        for scheduled in &self.tasks {
            match scheduled.activity {
                _ if scheduled.is_woken => return Next::Busy,
                Activity::Busy => return Next::Busy,
                Activity::Idle(Some(due_ms)) | Activity::Blocked(Some(due_ms)) => {
                    earliest_ms = Some(earliest_ms.map_or(due_ms, |earliest| earliest.min(due_ms)));
                }
                Activity::Blocked(None) | Activity::Idle(None) | Activity::Finished => {}
            }
        }
        let after_start = |due_ms: i64| {
            let after_start_ms = due_ms.saturating_sub(self.start_ms).max(0);
            Duration::from_millis(after_start_ms.unsigned_abs())
        };
        let store_due = self.storing.as_ref().and_then(|storing| storing.next(self.now));
        if store_due.is_some_and(|due| due <= self.now) {
            return Next::Busy;
        }
        let own = earliest_ms.map(after_start).into_iter().chain(store_due);
        let own = own.chain(self.alignment.next_due()).chain(self.checkpointing.next_due());
        own.min().map_or(Next::Wait, Next::At)
    }

    /// Whose code was running, and on which record: for the host, after a panic. None if it was no
    /// task's.
    pub fn last_words(&self) -> Option<LastWords> {
        let task = &self.tasks[self.running?].task;
        let (plan, env) = (task.plan(), task.env());
        let named = env.requests.borrow_mut().split_names.split_off(0);
        let source = plan.source_index.unwrap_or_default();
        let culprit = match env.panicked_stage() {
            None => Culprit::Engine(plan.name.clone()),
            Some(SOURCE_STAGE) => Culprit::Source(task.source_name().to_string()),
            Some(stage) => Culprit::Operator(task.operator_names()[usize::from(stage)].clone()),
        };
        let named = named.into_iter().map(|split| (source, split)).collect();
        Some(LastWords { culprit, origin: env.origin(), named })
    }

    /// How it stands.
    pub fn status(&self) -> ShardStatus {
        let report = |scheduled: &Scheduled| {
            let plan = scheduled.task.plan();
            let blocking = scheduled
                .blocked_since
                .map_or(Duration::ZERO, |since| self.now.saturating_sub(since));
            TaskReport {
                chain_index: plan.chain_index,
                task_index: plan.task_index,
                name: plan.name.clone(),
                status: scheduled.task.status(),
                backpressured_ms: (scheduled.blocked + blocking).as_millis() as u64,
            }
        };
        ShardStatus {
            shard: self.index,
            turns: self.metrics.clone(),
            tasks: self.tasks.iter().map(report).collect(),
            frame_bytes: self.mail.outbox.slab.allocated_bytes() as u64,
            frames_outstanding: self.mail.outbox.slab.outstanding() as u64,
            store: self.storing.as_ref().map(Storing::status),
        }
    }

    /// Gives the tasks whose turn it is theirs, upstream first.
    fn run_tasks(&mut self, effects: &mut Vec<Effect>) {
        let (tasks, now_ms) = (&self.tasks, self.processing_time_ms());
        match self.pace.begin(|number| tasks[number].is_due(now_ms)) {
            Turn::Alone(number) => self.run(number, effects),
            Turn::Together => {
                for number in 0..self.tasks.len() {
                    let is_due = self.tasks[number].is_due(now_ms) && !self.pace.is_lone(number);
                    if is_due && !self.is_over {
                        self.run(number, effects);
                    }
                }
            }
        }
    }

    fn processing_time_ms(&self) -> i64 {
        self.start_ms + self.now.as_millis() as i64
    }

    fn run(&mut self, number: usize, effects: &mut Vec<Effect>) {
        let now_ms = self.processing_time_ms();
        let scheduled = &mut self.tasks[number];
        scheduled.is_woken = false;
        self.is_busy = true;
        let env = scheduled.task.env();
        env.processing_time_ms.set(now_ms);
        env.now_ns.set(self.now.as_nanos() as u64);
        self.running = Some(number);
        scheduled.activity = scheduled.task.turn(self.pace.run(number), &mut self.mail);
        self.running = None;
        self.on_ran();
        let scheduled = &mut self.tasks[number];
        match (scheduled.activity, scheduled.blocked_since) {
            (Activity::Blocked(_), None) => scheduled.blocked_since = Some(self.now),
            (Activity::Blocked(_), Some(_)) | (_, None) => {}
            (_, Some(since)) => {
                scheduled.blocked += self.now.saturating_sub(since);
                scheduled.blocked_since = None;
            }
        }
        self.carry_mail(effects);
        self.carry_requests(number, effects);
    }

    /// Tells the other shards how far the sources have come here.
    fn tell_source_watermarks(&mut self, effects: &mut Vec<Effect>) {
        for Scheduled { task, activity, .. } in &self.tasks {
            let plan = task.plan();
            let Some(source) = plan.source_index else { continue };
            let is_over = *activity == Activity::Finished;
            let own_ms = task.env().source_watermark_ms.get();
            let watermark_ms = if is_over { i64::MAX } else { own_ms };
            if self.alignment.on_own(source, watermark_ms, self.now) {
                let others = (0..plan.parallelism).filter(|other| *other != self.index);
                effects.extend(others.map(|to| {
                    let descriptor = Descriptor::SourceWatermark { source, watermark_ms };
                    Effect::Send { to, descriptor }
                }));
            }
        }
    }

    fn on_source_watermark(&mut self, from: u32, source: u32, watermark_ms: i64) {
        let slowest_ms = self.alignment.on_other(source, from, watermark_ms);
        for scheduled in &mut self.tasks {
            if scheduled.task.plan().source_index == Some(source) {
                scheduled.is_woken = true;
                scheduled.task.env().source_group_watermark_ms.set(slowest_ms);
            }
        }
    }

    /// Brings what a task sent to the other tasks of this shard, or to `effects`.
    fn carry_mail(&mut self, effects: &mut Vec<Effect>) {
        let mut local = std::mem::take(&mut self.mail.outbox.local);
        for (channel, element) in local.drain(..) {
            if let Some(trace) = &mut self.local_trace {
                trace.push(format!("{channel:?} {element:?}"));
            }
            self.deliver_element(channel, element);
        }
        self.mail.outbox.local = local;
        let mut returns = std::mem::take(&mut self.mail.returns);
        for (plan, returned) in returns.drain(..) {
            match returned {
                Returned::Buffer(buffer) => {
                    let descriptor = Descriptor::Credit { channel: plan.channel, buffer };
                    effects.push(Effect::Send { to: plan.peer_shard, descriptor });
                }
                Returned::Rows(_) => self.deliver_returned(plan.channel, returned),
            }
        }
        self.mail.returns = returns;
        let remote = self.mail.outbox.remote.drain(..);
        effects.extend(remote.map(|(to, descriptor)| Effect::Send { to, descriptor }));
    }

    /// Brings a task's parts of checkpoints to `effects`.
    fn carry_parts(&mut self, number: usize, effects: &mut Vec<Effect>) {
        let chain_index = self.tasks[number].task.plan().chain_index;
        for part in self.mail.parts.drain(..) {
            self.checkpointing.collect(chain_index, part, effects);
        }
    }

    /// Brings what a task wants of the world to `effects`.
    fn carry_requests(&mut self, number: usize, effects: &mut Vec<Effect>) {
        self.carry_parts(number, effects);
        let task = &self.tasks[number].task;
        let plan = task.plan();
        let mut requests = task.env().requests.borrow_mut();
        effects.extend(requests.files.drain(..).map(Effect::File));
        effects.extend(requests.sockets.drain(..).map(Effect::Socket));
        effects.extend(requests.prints.drain(..).map(|(op, lines)| Effect::Print { op, lines }));
        effects.extend(requests.calls.drain(..).map(|(op, call)| Effect::Call { op, call }));
        let source = plan.source_index.unwrap_or_default();
        let named = requests.split_names.drain(..);
        effects.extend(named.map(|split| Effect::report(Report::SplitNamed { source, split })));
        if std::mem::take(&mut requests.checkpoint) {
            effects.push(Effect::report(Report::CheckpointWanted));
        }
        drop(requests);
        if let Some((error, origin)) = task.env().take_failure_at() {
            self.fail(error, origin, effects);
        }
    }

    /// The job must stop.
    fn fail(&mut self, error: Error, origin: Origin, effects: &mut Vec<Effect>) {
        self.is_over = true;
        effects.push(Effect::report(Report::Failed { error, origin }));
    }

    fn deliver(&mut self, event: Event, effects: &mut Vec<Effect>) {
        match event {
            Event::Peer { from, descriptor } => self.deliver_descriptor(from, descriptor),
            Event::File(done) if Checkpointing::owns(done.op) => {
                self.checkpointing.on_done(done, effects);
            }
            Event::File(done) if done.op.0 & STORE_ID_BIT != 0 => {
                if !self.is_over || is_durable(done.op) {
                    self.on_store_done(done, effects);
                }
            }
            Event::File(done) => {
                let (chain, stage) = owner_of(done.op.0);
                self.wake(self.routes.chain(chain)).on_file_done(stage, done);
            }
            Event::Socket(done) => {
                let (chain, stage) = owner_of(self.routes.owner(&done).0);
                self.wake(self.routes.chain(chain)).on_socket_done(stage, done);
            }
            Event::Command(command) => self.obey(command, effects),
        }
    }

    fn obey(&mut self, command: Command, effects: &mut Vec<Effect>) {
        match command {
            Command::Drain => {
                (0..self.tasks.len()).for_each(|number| self.wake(number).drain());
            }
            Command::Halt => (0..self.tasks.len()).for_each(|number| self.wake(number).halt()),
            Command::Trigger(checkpoint, directory, unaligned_after) => {
                let unaligned_at = unaligned_after.map(|after| self.now + after);
                self.checkpointing.begin(checkpoint, directory, unaligned_at, effects);
                for number in 0..self.tasks.len() {
                    let scheduled = &mut self.tasks[number];
                    scheduled.is_woken = true;
                    scheduled.task.trigger(checkpoint, &mut self.mail);
                    self.carry_parts(number, effects);
                }
            }
            Command::Commit(checkpoint, path, bytes) => {
                self.checkpointing.commit(checkpoint, path, bytes, effects);
            }
            Command::Completed(checkpoint) => self.complete(checkpoint, effects),
            Command::GiveUp(checkpoint) => self.checkpointing.give_up(checkpoint),
            Command::Remove(checkpoint, paths) => {
                self.checkpointing.remove(checkpoint, paths, effects);
            }
            Command::Release(checkpoint) => self.checkpointing.release(checkpoint),
            Command::Status => effects.push(Effect::report(Report::Status(self.status()))),
        }
    }

    fn deliver_descriptor(&mut self, from: u32, descriptor: Descriptor) {
        match descriptor {
            Descriptor::Frame { channel, frame } => {
                self.deliver_element(channel, Element::Batch(Batch::Frame(frame)));
            }
            Descriptor::Control { channel, control } => {
                self.deliver_element(channel, Element::Control(control));
            }
            Descriptor::Credit { channel, buffer } => {
                self.deliver_returned(channel, Returned::Buffer(buffer));
            }
            Descriptor::SourceWatermark { source, watermark_ms } => {
                self.on_source_watermark(from, source, watermark_ms);
            }
        }
    }

    fn deliver_element(&mut self, channel: ChannelId, element: Element) {
        let (number, slot) = self.routes.reader(channel);
        self.wake(number).on_element(slot, element);
    }

    fn deliver_returned(&mut self, channel: ChannelId, returned: Returned) {
        let scheduled = &mut self.tasks[self.routes.writer(channel)];
        scheduled.is_woken = true;
        scheduled.task.on_returned(channel, returned, &mut self.mail.outbox);
    }

    fn wake(&mut self, number: usize) -> &mut dyn Task {
        let scheduled = &mut self.tasks[number];
        scheduled.is_woken = true;
        &mut *scheduled.task
    }
}

impl Scheduled {
    fn is_due(&self, now_ms: i64) -> bool {
        match self.activity {
            _ if self.is_woken => true,
            Activity::Busy => true,
            Activity::Idle(Some(due_ms)) | Activity::Blocked(Some(due_ms)) => due_ms <= now_ms,
            Activity::Blocked(None) | Activity::Idle(None) | Activity::Finished => false,
        }
    }
}

#[cfg(test)]
mod tests;
