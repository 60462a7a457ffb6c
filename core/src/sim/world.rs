//! A whole job in one thread, with a simulated disk, network and clock.
//!
//! ```text
//!        ┌── shard 0 ──┐   ┌── shard 1 ──┐
//! time ──► turn … turn │   │ turn … turn │   the next turn is the one whose time has come first
//!        └──┬───────▲──┘   └──┬───────▲──┘
//!           ▼       │         ▼       │
//!        network, disk: random delays, faults; one seed decides everything
//! ```
//!
//! The shards are the production type; nothing about them is simulated. Time goes from one event
//! to the next: a turn takes a random time, a slow shard takes longer, a stalled one very long.
//! What the node wants (a checkpoint, draining, a crash) is an event as well: it comes when it is
//! due, whether a shard has something to do then or not.
//!
//! Not simulated: the production drivers in `runtime/`, which have conformance tests of their own.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::time::Duration;

use millstream_storage::io::{FileAnswer, FileDone, OpId};

use crate::checkpoint::directory::{self, Files};
use crate::checkpoint::names::{FileName, manifest_name};
use crate::checkpoint::{CheckpointSettings, Coordinator, Order};
use crate::config::Config;
use crate::data::element::CheckpointId;
use crate::data::row::Origin;
use crate::error::Error;
use crate::operator::split_names::SplitNames;
use crate::shard::event::{Addressed, Command, Effect, Event, Report};
use crate::shard::metrics::ShardStatus;
use crate::shard::panic::catch;
use crate::shard::program::Program;
use crate::shard::{Next, Shard};
use crate::sim::calls::Calls;
use crate::sim::disk::{Disk, DiskFaults};
use crate::sim::network::{Network, NetworkFaults};
use crate::sim::rng::Rng;
use crate::sim::sockets::{Peer, SocketFaults, Sockets};
use crate::sim::stores::store_of;
use crate::sim::trace::Trace;
use crate::state::snapshot::Snapshot;

/// Where shards have state that has no room in memory. It goes when the job has ended.
pub const STATE_DIRECTORY: &str = "/simulated/state";

/// Where checkpoints are.
pub const CHECKPOINT_DIRECTORY: &str = "/simulated/checkpoints";

/// Shards with less than this many working bytes let state go to disk now and then.
const SMALL_BYTES: usize = 1 << 20;

/// A turn of such a shard in so many is followed by that.
const SQUEEZE_ONE_IN: u64 = 4;

/// What the node wants comes to a shard after this long at most.
const COMMAND_MAX: Duration = Duration::from_micros(300);

/// Standard output takes at most this long to write a batch of lines.
const PRINT_MAX: Duration = Duration::from_millis(1);

/// What is simulated, and how badly it behaves.
#[derive(Debug, Clone)]
pub struct SimConfig {
    /// Decides everything that is random.
    pub seed: u64,
    /// Processing time at the start, ms since 1970.
    pub start_ms: i64,
    /// Number of key groups; as many as there are shards, if those are more.
    pub key_group_count: u32,
    /// The paths between shards.
    pub network: NetworkFaults,
    /// The disk.
    pub disk: DiskFaults,
    /// Bytes of keyed state that a shard may keep in memory; what has no room is on the disk. With
    /// less than a MiB, a shard now and then lets everything go there that it does not work with.
    pub working_bytes: usize,
    /// The sockets.
    pub sockets: SocketFaults,
    /// Programs outside of the job that its sockets talk to. Without one at its address a call
    /// fails, and a listener has no callers.
    pub peers: Vec<Peer>,
    /// What is on the disk at the start.
    pub files: BTreeMap<PathBuf, Vec<u8>>,
    /// A turn takes up to this long; one shard in four is slower, by a random factor of up to 8.
    pub turn_max: Duration,
    /// One turn in this many is followed by a stall; 0 means none.
    pub stall_one_in: u64,
    /// A stall lasts at most this long.
    pub stall_max: Duration,
    /// Checkpoints are triggered this far apart, while no more than a few are under way; none
    /// without it. They are in [`CHECKPOINT_DIRECTORY`].
    pub checkpoint_interval: Option<Duration>,
    /// How long their barriers wait for the rows before them; for ever without it.
    pub unaligned_after: Option<Duration>,
    /// How many of them are kept.
    pub checkpoints_retained: usize,
    /// The job is told to drain at this time; never without it.
    pub drain_at: Option<Duration>,
    /// The machine loses its power at this time, if the job has not ended by then: the run ends
    /// with [`Error::Crashed`], and the report has the disk as it survived.
    pub crash_at: Option<Duration>,
    /// After more turns than this the run ends with [`Error::Unending`].
    pub turn_count_max: u64,
    /// Whether the text of the trace is kept.
    pub keep_trace: bool,
    /// State to begin with: [`SimReport::checkpoint`] of an earlier run, on whatever number of
    /// shards.
    pub restore: Option<Snapshot>,
}

impl SimConfig {
    /// Everything takes its time, and nothing fails: slow shards and stalls, clogged paths, a disk
    /// whose answers overtake each other. One seed in three has next to no memory. Failures are
    /// asked for in [`SimConfig::disk`] and [`SimConfig::crash_at`].
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            start_ms: 1_700_000_000_000,
            key_group_count: Config::default().key_group_count,
            network: NetworkFaults::default(),
            disk: DiskFaults::default(),
            working_bytes: if seed.is_multiple_of(3) { 4 << 10 } else { 1 << 30 },
            sockets: SocketFaults::default(),
            peers: Vec::new(),
            files: BTreeMap::new(),
            turn_max: Duration::from_micros(20),
            stall_one_in: 500,
            stall_max: Duration::from_millis(20),
            checkpoint_interval: None,
            unaligned_after: None,
            checkpoints_retained: usize::MAX,
            drain_at: None,
            crash_at: None,
            turn_count_max: 20_000_000,
            keep_trace: false,
            restore: None,
        }
    }
}

/// What came of a simulation.
#[derive(Debug)]
pub struct SimReport {
    /// The seed.
    pub seed: u64,
    /// Whether the job ended by itself or by draining.
    pub outcome: Result<(), Error>,
    /// Simulated time that it took.
    pub took: Duration,
    /// Turns of all shards.
    pub turn_count: u64,
    /// Hash of the trace: equal for equal seeds.
    pub trace_hash64: u64,
    /// The trace, if it was kept.
    pub trace: Option<String>,
    /// What was printed.
    pub stdout: Vec<u8>,
    /// How the shards stood at the end.
    pub shards: Vec<ShardStatus>,
    /// The checkpoints that are complete and kept, oldest first.
    pub checkpoints: Vec<CheckpointId>,
    /// The disk as the job left it.
    pub disk: Disk,
    /// What each of [`SimConfig::peers`] has read, by connection in the order in which they were
    /// made.
    pub received: Vec<Vec<Vec<u8>>>,
}

impl SimConfig {
    /// The same with another seed, and with the disk that `report` left: the job goes on from the
    /// newest checkpoint there, if there is one.
    ///
    /// # Errors
    /// If there are checkpoints and none of them is whole.
    pub fn after(self, report: &SimReport, seed: u64) -> Result<Self, Error> {
        let found = directory::look(&report.disk, Path::new(CHECKPOINT_DIRECTORY))?;
        let left = report.disk.files().filter(|(path, _)| !path.starts_with(STATE_DIRECTORY));
        Ok(Self {
            seed,
            files: left.map(|(path, bytes)| (path.to_path_buf(), bytes.to_vec())).collect(),
            restore: found.newest.map(|restored| restored.snapshot),
            ..self
        })
    }
}

impl SimReport {
    /// The state of a checkpoint: what [`SimConfig::restore`] takes.
    ///
    /// # Errors
    /// If it is not there or damaged.
    pub fn checkpoint(&self, checkpoint: CheckpointId) -> Result<Snapshot, Error> {
        let path = Path::new(CHECKPOINT_DIRECTORY).join(manifest_name(checkpoint));
        directory::open(&self.disk, &path).map(|restored| restored.snapshot)
    }
}

/// Runs `program` under `config` to its end.
///
/// # Panics
/// If the engine breaks one of its promises; the message names the seed.
pub fn run(program: &Program, config: &SimConfig) -> SimReport {
    let mut world = World::new(program, config);
    world.open();
    while world.failure.is_none() && world.step() {}
    world.report()
}

struct World<'a> {
    program: &'a Program,
    config: &'a SimConfig,
    rng: Rng,
    now: Duration,
    shards: Vec<SimShard>,
    network: Network,
    disk: Disk,
    /// Operations under way on the disk: whose, and when they are due.
    disk_waits: BTreeMap<OpId, (u32, Duration)>,
    sockets: Sockets,
    trace: Trace,
    stdout: Vec<u8>,
    print_rng: Rng,
    calls: Vec<Calls>,
    command_rng: Rng,
    failure: Option<Error>,
    finished_count: usize,
    turn_count: u64,
    coordinator: Option<Coordinator>,
    has_drained: bool,
    split_names: SplitNames,
}

struct SimShard {
    shard: Shard,
    rng: Rng,
    /// Decides when it lets state go.
    squeeze_rng: Rng,
    slowness: u64,
    /// Not before this time: the last turn lasts until then.
    free_at: Duration,
    inbox: Vec<Event>,
    /// What the node wants, and when that comes: in its order, and not to all shards at once.
    commands: VecDeque<(Duration, Command)>,
    /// Answers of standard output, and when they come.
    printed: VecDeque<(Duration, FileDone)>,
}

/// Checkpoints that may be under way at a time.
const CHECKPOINTS_IN_FLIGHT_MAX: usize = 4;

/// Who triggers the checkpoints of `program`, if there are to be any; those that are on the disk
/// already have lower numbers.
fn coordinator(
    program: &Program,
    config: &SimConfig,
    disk: &Disk,
) -> Result<Option<Coordinator>, Error> {
    let Some(interval) = config.checkpoint_interval else { return Ok(None) };
    let found = directory::look(disk, Path::new(CHECKPOINT_DIRECTORY))?;
    let settings = CheckpointSettings {
        interval,
        in_flight_max: CHECKPOINTS_IN_FLIGHT_MAX,
        retained: config.checkpoints_retained,
        unaligned_after: config.unaligned_after,
        ..CheckpointSettings::default()
    };
    let size = (program.shard_count(), config.key_group_count);
    let directory = CHECKPOINT_DIRECTORY.into();
    let job = program.name.clone();
    Ok(Some(Coordinator::new(settings, job, size, directory, found.last, found.kept)))
}

impl<'a> World<'a> {
    fn new(program: &'a Program, config: &'a SimConfig) -> Self {
        let rng = Rng::new(config.seed);
        let mut disk = Disk::new(rng.fork(2), config.disk.clone());
        for (path, bytes) in &config.files {
            disk.write_file(path, bytes.clone());
        }
        let (coordinator, unusable) = match coordinator(program, config, &disk) {
            Ok(coordinator) => (coordinator, None),
            Err(error) => (None, Some(error)),
        };
        let first = coordinator.as_ref().map_or(CheckpointId::default(), Coordinator::next);
        let shard = |index: u32| {
            let mut rng = rng.fork(1_000 + u64::from(index));
            let slowness = if rng.chance(1, 4) { 1 + rng.below(8) } else { 1 };
            let mut shard =
                program.shard(index, config.start_ms, store_of(program, config, first, index))?;
            if config.checkpoint_interval.is_some() {
                shard = shard.with_checkpoints();
            }
            shard.trace_local();
            let (free_at, inbox, printed) = (Duration::ZERO, Vec::new(), VecDeque::new());
            let commands = VecDeque::new();
            let squeeze_rng = Rng::new(config.seed).fork(2_000 + u64::from(index));
            Ok(SimShard { shard, rng, squeeze_rng, slowness, free_at, inbox, commands, printed })
        };
        let shards: Result<Vec<_>, Error> = (0..program.shard_count()).map(shard).collect();
        let (shards, failure) = match shards {
            Ok(shards) => (shards, unusable),
            Err(error) => (Vec::new(), Some(error)),
        };
        Self {
            program,
            config,
            shards,
            network: Network::new(rng.fork(1), config.network.clone()),
            disk,
            rng,
            now: Duration::ZERO,
            disk_waits: BTreeMap::new(),
            sockets: Sockets::new(
                Rng::new(config.seed).fork(4),
                config.sockets.clone(),
                config.peers.clone(),
            ),
            trace: Trace::new(config.keep_trace),
            stdout: Vec::new(),
            print_rng: Rng::new(config.seed).fork(3),
            calls: (0..program.shard_count()).map(|it| Calls::new(config.seed, it)).collect(),
            command_rng: Rng::new(config.seed).fork(5),
            failure,
            finished_count: 0,
            turn_count: 0,
            coordinator,
            has_drained: false,
            split_names: SplitNames::default(),
        }
    }

    fn open(&mut self) {
        for index in 0..self.shards.len() {
            let shard = &mut self.shards[index].shard;
            match catch(|| shard.open(self.config.restore.as_ref())) {
                Ok(Ok(())) => {}
                Ok(Err(error)) => self.fail(error),
                Err(message) => self.on_panic(index, message),
            }
        }
    }

    fn fail(&mut self, error: Error) {
        self.failure.get_or_insert(error);
    }

    /// One command of the node, or one turn of one shard; `false` when the job is over.
    fn step(&mut self) -> bool {
        if self.turn_count == self.config.turn_count_max {
            let turns = self.turn_count;
            self.fail(Error::Unending {
                what: format!(
                    "{turns} turns were not enough; drain a job whose sources have no end \
                     (simulate --drain-after, SimConfig::drain_at)"
                ),
            });
            return false;
        }
        let turn = self.next_turn();
        if turn.is_none() && self.is_finished() {
            return false;
        }
        let turn_at = turn.map(|(at, _)| at);
        if let Some(due) = self.next_command(turn_at.is_some())
            && turn_at.is_none_or(|at| due <= at)
        {
            self.now = self.now.max(due);
            self.command();
            return true;
        }
        let Some((at, index)) = turn else {
            self.fail(Error::Unending { what: self.waiting() });
            return false;
        };
        self.now = self.now.max(at);
        self.carry(index);
        self.turn(index);
        true
    }

    fn is_finished(&self) -> bool {
        self.finished_count == self.shards.len()
    }

    /// Which tasks wait, in the words of an error.
    fn waiting(&self) -> String {
        let tasks = self.shards.iter().flat_map(|sim| sim.shard.status().tasks);
        let waiting = tasks.filter(|task| !task.status.is_finished);
        let names: Vec<_> = waiting.map(|t| format!("{} {}", t.name, t.task_index)).collect();
        format!("nothing will ever happen again, and these tasks wait: {}", names.join(", "))
    }

    /// The shard whose next turn comes first, and when; shards whose turns come at the same time
    /// take turns at random.
    fn next_turn(&mut self) -> Option<(Duration, usize)> {
        let mut next: Option<(Duration, usize)> = None;
        let mut tied = 0;
        for (index, sim) in self.shards.iter().enumerate() {
            let arrival = self.network.next_due(index as u32);
            let own = match sim.shard.next() {
                Next::Busy => Some(self.now),
                Next::At(due) => Some(due),
                Next::Wait | Next::Over => None,
            };
            let inbox = (!sim.inbox.is_empty()).then_some(self.now);
            let printed = sim.printed.front().map(|(due, _)| *due);
            let commanded = sim.commands.front().map(|(due, _)| *due);
            let earliest = arrival
                .into_iter()
                .chain(printed)
                .chain(self.calls[index].next_due())
                .chain(commanded)
                .chain(own)
                .chain(inbox)
                .chain(self.answer_due(index))
                .chain(self.sockets.next_due(index as u32));
            let Some(earliest) = earliest.min() else { continue };
            let at = earliest.max(sim.free_at);
            match next {
                Some((best, _)) if best < at => {}
                Some((best, _)) if best == at => {
                    tied += 1;
                    if self.rng.below(tied + 1) == 0 {
                        next = Some((at, index));
                    }
                }
                _ => {
                    tied = 0;
                    next = Some((at, index));
                }
            }
        }
        next
    }

    /// When the disk answers shard `index` next.
    fn answer_due(&self, index: usize) -> Option<Duration> {
        let own = self.disk_waits.values().filter(|(owner, _)| *owner as usize == index);
        own.map(|(_, due)| *due).min()
    }

    /// When the node wants something next. A checkpoint that nobody waits for is no reason to go
    /// on: where nothing else is going to happen (no turn, no draining, no crash) it would change
    /// nothing.
    fn next_command(&self, has_turn: bool) -> Option<Duration> {
        if self.is_finished() {
            return None;
        }
        let drain_at = self.config.drain_at.filter(|_| !self.has_drained);
        let last = drain_at.into_iter().chain(self.config.crash_at).min();
        let goes_on = has_turn || last.is_some();
        let coordinator = self.coordinator.as_ref().filter(|it| goes_on || it.is_wanted());
        coordinator.map(Coordinator::next_due).into_iter().chain(last).min()
    }

    /// Triggers checkpoints, drains and crashes, when it is time.
    fn command(&mut self) {
        if self.config.crash_at.is_some_and(|at| at <= self.now) {
            self.disk.crash();
            self.fail(Error::Crashed { after: self.now });
            return;
        }
        let now_ms = self.config.start_ms + self.now.as_millis() as i64;
        if let Some(coordinator) = &mut self.coordinator {
            let orders = coordinator.on_time(self.now, now_ms);
            self.give(orders);
        }
        if !self.has_drained && self.config.drain_at.is_some_and(|at| at <= self.now) {
            self.has_drained = true;
            self.tell_all(&Command::Drain);
        }
    }

    /// Hands the coordinator's orders to the shards.
    fn give(&mut self, orders: Vec<Order>) {
        for order in orders {
            match Command::of(order) {
                Addressed::All(command) => self.tell_all(&command),
                Addressed::First(command) => self.tell(0, command),
            }
        }
    }

    fn tell(&mut self, shard: usize, command: Command) {
        let sim = &mut self.shards[shard];
        let due = self.now + self.command_rng.duration(&(Duration::ZERO..COMMAND_MAX));
        let due = sim.commands.back().map_or(due, |(before, _)| due.max(*before));
        sim.commands.push_back((due, command));
    }

    fn tell_all(&mut self, command: &Command) {
        (0..self.shards.len()).for_each(|shard| self.tell(shard, command.clone()));
    }

    /// Brings what is due: answers of the disk and of sockets to their shards, descriptors to shard
    /// `index`.
    fn carry(&mut self, index: usize) {
        let mut answers = Vec::new();
        self.disk.poll(self.now, &mut answers);
        for done in answers {
            let wait = self.disk_waits.remove(&done.op);
            let (owner, _) = wait.expect("the disk answers what was asked");
            self.shards[owner as usize].inbox.push(Event::File(done));
        }
        let mut dones = Vec::new();
        self.sockets.poll(self.now, &mut dones);
        for (owner, done) in dones {
            self.shards[owner as usize].inbox.push(Event::Socket(done));
        }
        let sim = &mut self.shards[index];
        while let Some((_, command)) = sim.commands.pop_front_if(|(due, _)| *due <= self.now) {
            sim.inbox.push(Event::Command(command));
        }
        while let Some((_, done)) = sim.printed.pop_front_if(|(due, _)| *due <= self.now) {
            sim.inbox.push(Event::File(done));
        }
        while let Some(done) = self.calls[index].make_due(self.now) {
            sim.inbox.push(Event::File(done));
        }
        let mut received = Vec::new();
        self.network.receive(self.now, index as u32, &mut received);
        let inbox = &mut self.shards[index].inbox;
        inbox.extend(
            received.into_iter().map(|(from, descriptor)| Event::Peer { from, descriptor }),
        );
    }

    fn turn(&mut self, index: usize) {
        self.turn_count += 1;
        let sim = &mut self.shards[index];
        for event in &sim.inbox {
            self.trace.event(self.now, index as u32, event);
        }
        let mut effects = Vec::new();
        let (shard, inbox, now) = (&mut sim.shard, &mut sim.inbox, self.now);
        if let Err(message) = catch(|| shard.turn(now, inbox, &mut effects)) {
            self.on_panic(index, message);
            return;
        }
        let is_small = self.config.working_bytes < SMALL_BYTES;
        if is_small && sim.squeeze_rng.chance(1, SQUEEZE_ONE_IN) {
            sim.shard.squeeze();
        }
        for element in sim.shard.take_local_trace() {
            self.trace.local(self.now, index as u32, &element);
        }
        let mut took = sim.rng.duration(&(Duration::from_nanos(100)..self.config.turn_max));
        took *= sim.slowness as u32;
        if self.config.stall_one_in > 0 && sim.rng.below(self.config.stall_one_in) == 0 {
            took += sim.rng.duration(&(Duration::ZERO..self.config.stall_max));
        }
        sim.free_at = self.now + took;
        sim.shard.turn_ended(sim.free_at, &mut effects);
        for effect in effects {
            self.trace.effect(self.now, index as u32, &effect);
            self.apply(index as u32, effect);
        }
    }

    fn apply(&mut self, shard: u32, effect: Effect) {
        match effect {
            Effect::File(op) => {
                let id = op.id();
                let due = self.disk.submit(self.now, op);
                self.disk_waits.insert(id, (shard, due));
            }
            Effect::Socket(op) => self.sockets.submit(self.now, shard, op),
            Effect::Print { op, lines } => self.print(shard, op, lines),
            Effect::Call { op, call } => self.calls[shard as usize].submit(self.now, op, call),
            Effect::Send { to, descriptor } => self.network.send(self.now, shard, to, descriptor),
            Effect::Report(report) => self.on_report(shard, *report),
        }
    }

    /// Somebody reads standard output, now faster, now slower.
    fn print(&mut self, shard: u32, op: OpId, bytes: Vec<u8>) {
        self.stdout.extend_from_slice(&bytes);
        let sim = &mut self.shards[shard as usize];
        let due = self.now + self.print_rng.duration(&(Duration::ZERO..PRINT_MAX));
        let due = sim.printed.back().map_or(due, |(before, _)| due.max(*before));
        let done = FileDone { op, result: Ok(FileAnswer::Written { bytes }) };
        sim.printed.push_back((due, done));
    }

    fn on_report(&mut self, shard: u32, report: Report) {
        let now = self.now;
        let mut coordinate = |on: &dyn Fn(&mut Coordinator) -> Vec<Order>| {
            let coordinator = self.coordinator.as_mut();
            on(coordinator.expect("nobody else has triggered a checkpoint"))
        };
        match report {
            Report::Finished => self.finished_count += 1,
            Report::Failed { error, origin } => {
                let place = self.describe(origin);
                self.fail(error.at(place));
            }
            Report::SplitNamed { source, split } => {
                self.split_names.insert(source, &split);
            }
            Report::Part { checkpoint, part } => {
                let orders = coordinate(&|it| it.on_part(shard, checkpoint, part.clone()));
                self.give(orders);
            }
            Report::Removed(checkpoint) => {
                let orders = coordinate(&|it| it.on_removed(checkpoint));
                self.give(orders);
            }
            Report::ManifestWritten(checkpoint) => {
                let orders = coordinate(&|it| it.on_committed(checkpoint, now));
                self.give(orders);
            }
            Report::CheckpointFailed { checkpoint, reason } => {
                let orders = coordinate(&|it| it.on_failed(checkpoint, reason.clone(), now));
                self.give(orders);
            }
            Report::CheckpointWanted => {
                self.coordinator.as_mut().map(Coordinator::want);
            }
            Report::Settled(_) | Report::Stalled { .. } | Report::Status(_) => {}
        }
    }

    /// The record at `origin`, as people call it.
    fn describe(&self, origin: Origin) -> String {
        let name = |source, split| self.split_names.get(source, split).map(ToString::to_string);
        origin.describe(&self.program.source_names, name)
    }

    fn on_panic(&mut self, index: usize, message: String) {
        let Some(mut last) = self.shards[index].shard.last_words() else {
            panic!("seed {}: the engine panicked: {message}", self.config.seed);
        };
        for (source, split) in last.named.drain(..) {
            self.split_names.insert(source, &split);
        }
        let record = self.describe(last.origin);
        self.fail(last.into_error(message, record));
    }

    fn report(mut self) -> SimReport {
        let shards: Vec<_> = self.shards.iter().map(|sim| sim.shard.status()).collect();
        if self.failure.is_none() {
            let outstanding: u64 = shards.iter().map(|shard| shard.frames_outstanding).sum();
            let seed = self.config.seed;
            assert_eq!(outstanding, 0, "seed {seed}: frame buffers were lost");
            assert_eq!(self.network.in_flight_count(), 0, "seed {seed}: credits were lost");
        }
        if self.failure.is_none() {
            self.disk.remove_directory(STATE_DIRECTORY);
        }
        let names = self.disk.names(Path::new(CHECKPOINT_DIRECTORY)).unwrap_or_default();
        let complete = names.iter().filter_map(|name| match FileName::of(name) {
            Some(FileName::Manifest(checkpoint)) => Some(checkpoint),
            _ => None,
        });
        let mut checkpoints: Vec<_> = complete.collect();
        checkpoints.sort_unstable();
        SimReport {
            seed: self.config.seed,
            outcome: self.failure.map_or(Ok(()), Err),
            took: self.now,
            turn_count: self.turn_count,
            trace_hash64: self.trace.hash64(),
            trace: self.trace.into_text(),
            stdout: self.stdout,
            shards,
            checkpoints,
            disk: self.disk,
            received: self.sockets.into_received(),
        }
    }
}

#[cfg(test)]
mod tests;
