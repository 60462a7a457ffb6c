//! One attempt to run a job: the threads of its shards, and the services that they use.
//!
//! ```text
//! Ground ──start──► Attempt: shards, printer, a shift of the storage service ──end──► nothing
//!   ▲                                                                           │ after a failure
//!   └───────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! Every shard is built on the thread that runs it, pinned to its core, and never leaves it. An
//! attempt begins as a new process would: nothing but the ground is handed on, so a restart within
//! the process is no second way to start.
//!
//! Invariant: when [`Attempt::end`] has left no thread behind, all that the attempt had is closed,
//! and nothing of it will be written any more.
//!
//! Not here: whether there is another attempt (`node.rs`).

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::checkpoint::names::state_name;
use crate::config::{Config, Idle, Pin, StorageServiceKind};
use crate::data::element::CheckpointId;
use crate::error::Error;
use crate::exchange::descriptor::Descriptor;
use crate::runtime::caller::{self, CallerHandle};
use crate::runtime::clock::{Clock, Steady, wall_ms};
use crate::runtime::control::node::HostReport;
use crate::runtime::control::{HostLink, Order};
use crate::runtime::cpu::{self, Core, Placement, Room};
use crate::runtime::host::{Host, Peer};
use crate::runtime::memory::memory_bytes;
use crate::runtime::parking::{Parker, Waker};
use crate::runtime::printer::{self, PrinterHandle};
use crate::runtime::process_limits::open_files;
use crate::runtime::refusal::system;
use crate::runtime::spsc::{self, Consumer};
use crate::runtime::state_directory::StateDirectory;
use crate::runtime::storage_service::{StorageDriver, StorageHandle, StorageService};
use crate::runtime::thread_end::await_end;
use crate::runtime::uring::{Ring, connection_count_max};
use crate::shard::metrics::ShardStatus;
use crate::shard::panic::catch;
use crate::shard::program::Program;
use crate::state::durable::DurableConfig;
use crate::state::shard_store::ShardStoreConfig;
use crate::state::snapshot::Snapshot;

/// Descriptors between two shards that have been published and not taken.
const RING_SLOTS: usize = 1024;

/// Orders that a host has not taken.
const ORDER_SLOTS: usize = 64;

/// How long the threads of an attempt may take to end if it could not be started.
const START_PATIENCE: Duration = Duration::from_secs(2);

/// What all attempts have in common.
pub(super) struct Ground<'a> {
    program: &'a Program,
    pub(super) placement: Placement,
    idle: Idle,
    driver: StorageDriver,
    memory_bytes: usize,
    checkpoint_directory: Option<PathBuf>,
    state: Option<StateDirectory>,
    /// It rests between attempts.
    service: Option<StorageService>,
}

impl<'a> Ground<'a> {
    /// For `program` as `config` says.
    ///
    /// # Errors
    /// If the state directory cannot be had.
    pub(super) fn claim(program: &'a Program, config: &Config) -> Result<Self, Error> {
        let has_state = (0..program.shard_count()).any(|it| program.key_groups(it).is_some());
        let state = has_state.then(|| StateDirectory::claim(config, &program.name)).transpose()?;
        let memory = config.clone().with_memory(memory_bytes()).memory_per_shard;
        let placement = place(program.plans.len(), config);
        Ok(Self {
            program,
            idle: idle(config.idle, placement.room),
            placement,
            driver: driver(config.storage_service),
            memory_bytes: memory.map_or(0, |it| usize::try_from(it.0).unwrap_or(usize::MAX)),
            checkpoint_directory: config.checkpoint_directory.clone(),
            state,
            service: None,
        })
    }

    /// A handle of the storage service for each of `wakers`.
    fn storages(&mut self, wakers: Vec<Waker>) -> io::Result<Vec<StorageHandle>> {
        let (service, handles) = match self.service.take() {
            Some(mut service) => {
                let handles = service.begin(wakers)?;
                (service, handles)
            }
            None => StorageService::start(self.driver, self.placement.housekeeping, wakers)?,
        };
        self.service = Some(service);
        Ok(handles)
    }

    /// Lets the storage service rest; it is left behind if it does not within `patience`.
    fn rest(&mut self, patience: Duration) -> bool {
        let Some(mut service) = self.service.take() else { return true };
        let rests = service.rest(patience);
        if rests {
            self.service = Some(service);
        } else {
            service.leave();
        }
        rests
    }

    /// Removes the state that an attempt has left on disk, once it has ended.
    pub(super) fn clear(&self) {
        self.state.iter().for_each(StateDirectory::clear);
    }

    /// Where the state of shard `index` goes that has no room in memory; nowhere without keys.
    /// What checkpoints get of it goes into tables that are called by `first`, the checkpoint that
    /// is taken next.
    fn store(&self, index: u32, first: Option<CheckpointId>) -> Option<ShardStoreConfig> {
        let (range, count) = self.program.key_groups(index)?;
        let directory = self.state.as_ref()?.shard(index);
        let store = ShardStoreConfig::new(directory, range, count, self.memory_bytes);
        Some(match self.checkpoint_directory.clone().zip(first) {
            Some((directory, first)) => {
                let name = state_name(first, index);
                store.with_durable(DurableConfig::new(directory, name, self.memory_bytes))
            }
            None => store,
        })
    }
}

/// Threads that run a job.
pub(super) struct Attempt {
    /// The way to each shard's host.
    pub(super) links: Vec<HostLink>,
    /// What they say.
    pub(super) reports: UnboundedReceiver<(u32, HostReport)>,
    threads: Vec<JoinHandle<Option<ShardStatus>>>,
    printer: JoinHandle<()>,
    caller: JoinHandle<()>,
}

/// What an attempt has left.
pub(super) struct Ended {
    /// How its shards stood.
    pub(super) shards: Result<Vec<ShardStatus>, Error>,
    /// Threads that did not end: user code, calls that block, the disk, or whoever reads standard
    /// output.
    pub(super) left_behind: Vec<String>,
}

impl Attempt {
    /// Starts all threads; its shards go on from `restore`, and `first` is the checkpoint that is
    /// taken next, if any are.
    ///
    /// # Errors
    /// What the system refuses. Then no thread is left.
    pub(super) fn start(
        ground: &mut Ground<'_>,
        restore: Option<Arc<Snapshot>>,
        first: Option<CheckpointId>,
    ) -> Result<Self, Error> {
        let started = Self::start_threads(ground, restore, first);
        if started.is_err() {
            ground.rest(START_PATIENCE);
        }
        started
    }

    fn start_threads(
        ground: &mut Ground<'_>,
        restore: Option<Arc<Snapshot>>,
        first: Option<CheckpointId>,
    ) -> Result<Self, Error> {
        let program = ground.program;
        let parkers: Result<Vec<_>, _> =
            program.plans.iter().map(|_| Parker::with_eventfd()).collect();
        let parkers = parkers.map_err(|source| system("make an eventfd", source))?;
        let wakers: Vec<_> = parkers.iter().map(Parker::waker).collect();
        let storages = ground
            .storages(wakers.clone())
            .map_err(|source| system("start the storage service", source))?;
        let placement = &ground.placement;
        let (printer, printers) =
            printer::start(placement.housekeeping, wakers.clone(), std::io::stdout())
                .map_err(|source| system("start the thread of standard output", source))?;
        let (caller, callers) = caller::start(placement.housekeeping, wakers.clone())
            .map_err(|source| system("start the thread of calls that block", source))?;
        let (reports, received) = unbounded_channel();
        let (clock, start_ms) = (Clock::start(), wall_ms());
        let connection_count_max = connection_count_max(open_files());
        let mut links = Vec::new();
        let mut seats = Vec::new();
        let handles = parkers.into_iter().zip(storages).zip(printers.into_iter().zip(callers));
        let parts = handles.zip(rings(&wakers)).zip(&placement.shards);
        for (index, ((handles, peers), core)) in (0_u32..).zip(parts) {
            let ((parker, storage), (printer, caller)) = handles;
            let (orders_in, orders) = spsc::ring(ORDER_SLOTS);
            links.push(HostLink::new(orders_in, parker.waker()));
            seats.push(Seat {
                index,
                core: *core,
                connection_count_max,
                idle: ground.idle,
                clock,
                start_ms,
                store: ground.store(index, first),
                has_checkpoints: first.is_some(),
                restore: restore.clone(),
                parker,
                storage,
                printer,
                caller,
                peers,
                orders,
                reports: reports.clone(),
            });
        }
        drop(reports);
        // Shards have it until they are opened.
        drop(restore);
        let give_up = || links.iter_mut().for_each(|link| link.tell(Order::Exit));
        let threads = start_all(seats, |seat| seat.start(program), give_up)?;
        let (shards, idle) = (threads.len(), ground.idle);
        tracing::debug!(job = program.name, shards, ?idle, "threads started");
        Ok(Self { links, reports: received, threads, printer, caller })
    }

    /// Waits for all threads, which have been told to end; not longer than about `patience`.
    pub(super) fn end(self, ground: &mut Ground<'_>, patience: Duration) -> Ended {
        let Self { links, reports, threads, printer, caller } = self;
        let (shards, mut left_behind) = join(threads, patience);
        drop((links, reports));
        if !ground.rest(patience) {
            left_behind.push("storage".to_string());
        }
        // A call that is being made may be a commit: it must not meet those of the next attempt.
        if await_end(caller, Instant::now() + patience).is_none() {
            left_behind.push("calls".to_string());
        }
        // It ends with the handles that shards had. Who has his answers does not need it any more.
        if await_end(printer, Instant::now() + patience).is_none() {
            left_behind.push("stdout".to_string());
        }
        Ended { shards, left_behind }
    }
}

/// Starts a thread for every seat; all of them or, after `give_up` has told the others, none.
fn start_all<S, T>(
    seats: Vec<S>,
    start: impl Fn(S) -> Result<JoinHandle<Option<T>>, Error>,
    give_up: impl FnOnce(),
) -> Result<Vec<JoinHandle<Option<T>>>, Error> {
    let mut threads = Vec::new();
    for seat in seats {
        match start(seat) {
            Ok(thread) => threads.push(thread),
            Err(error) => {
                give_up();
                drop(join(threads, START_PATIENCE));
                return Err(error);
            }
        }
    }
    Ok(threads)
}

fn driver(setting: StorageServiceKind) -> StorageDriver {
    match setting {
        StorageServiceKind::Glommio => StorageDriver::Glommio,
        StorageServiceKind::Ring => StorageDriver::Ring,
    }
}

/// Which shard is pinned where.
fn place(shard_count: usize, config: &Config) -> Placement {
    let cores = match &config.cores[..] {
        [] => cpu::cores(),
        named => named.iter().copied().map(Core).collect(),
    };
    let mut placement = cpu::place(&cores, cpu::parallelism(), shard_count);
    match config.pin {
        Pin::Auto => {}
        Pin::Off => {
            placement.shards.fill(None);
            placement.housekeeping = None;
        }
        Pin::On => {
            let cores = cores.into_iter().cycle().map(Some);
            placement.shards.iter_mut().zip(cores).for_each(|(shard, core)| *shard = core);
        }
    }
    placement
}

/// The idle strategy, chosen by who shares the cores unless it is set.
fn idle(setting: Idle, room: Room) -> Idle {
    match (setting, room) {
        (Idle::Auto, Room::Dedicated) => Idle::Spin,
        (Idle::Auto, Room::Shared) => Idle::Auto,
        (Idle::Auto, Room::Crowded) => Idle::Park,
        (set, _) => set,
    }
}

/// What a shard's thread is given before it begins.
struct Seat {
    index: u32,
    core: Option<Core>,
    /// Callers that its listeners may let in.
    connection_count_max: usize,
    idle: Idle,
    clock: Clock,
    start_ms: i64,
    /// Where state goes that has no room in memory; none if there are no keys.
    store: Option<ShardStoreConfig>,
    has_checkpoints: bool,
    /// What the job goes on from.
    restore: Option<Arc<Snapshot>>,
    parker: Parker,
    storage: StorageHandle,
    printer: PrinterHandle,
    caller: CallerHandle,
    peers: Vec<Option<Peer>>,
    orders: Consumer<Order>,
    reports: UnboundedSender<(u32, HostReport)>,
}

impl Seat {
    fn start(self, program: &Program) -> Result<JoinHandle<Option<ShardStatus>>, Error> {
        let program = program.clone();
        let builder = std::thread::Builder::new().name(format!("shard-{}", self.index));
        let thread = builder.spawn(move || {
            let (index, reports) = (self.index, self.reports.clone());
            // Tasks are made here: by factories that copy the user's operators.
            let error = match catch(|| self.sit(&program)) {
                Ok(Ok(host)) => return host.run(),
                Ok(Err(error)) => error,
                Err(message) => Error::bug(format!("shard {index}"), message),
            };
            drop(reports.send((index, HostReport::Died(error))));
            None
        });
        thread.map_err(|source| system("start a shard's thread", source))
    }

    /// On the shard's own thread.
    fn sit(self, program: &Program) -> Result<Host, Error> {
        cpu::pin_if_any(self.core, &format!("shard-{}", self.index));
        let sockets = Ring::new(self.index, self.connection_count_max)
            .map_err(|source| system("set up io_uring", source))?;
        let shard = program.shard(self.index, self.start_ms, self.store)?;
        Ok(Host {
            index: self.index,
            shard: if self.has_checkpoints { shard.with_checkpoints() } else { shard },
            restore: self.restore,
            clock: Steady::new(self.clock, self.start_ms),
            idle: self.idle,
            peers: self.peers,
            orders: self.orders,
            reports: self.reports,
            storage: self.storage,
            printer: self.printer,
            caller: self.caller,
            sockets,
            parker: self.parker,
        })
    }
}

/// A ring for every ordered pair of shards, as each shard sees them.
fn rings(wakers: &[Waker]) -> Vec<Vec<Option<Peer>>> {
    let count = wakers.len();
    let mut producers: Vec<Vec<Option<_>>> = Vec::new();
    let mut consumers: Vec<Vec<Option<_>>> = (0..count).map(|_| Vec::new()).collect();
    for from in 0..count {
        let mut row = Vec::new();
        for (to, incoming) in consumers.iter_mut().enumerate() {
            if from == to {
                row.push(None);
                incoming.push(None);
                continue;
            }
            let (producer, consumer) = spsc::ring::<Descriptor>(RING_SLOTS);
            row.push(Some(producer));
            incoming.push(Some(consumer));
        }
        producers.push(row);
    }
    let of_shard = |(row, incoming): (Vec<Option<_>>, Vec<Option<_>>)| {
        let ends = row.into_iter().zip(incoming).zip(wakers);
        ends.map(|((outbound, inbound), waker)| Some(Peer::new(outbound?, inbound?, waker.clone())))
            .collect()
    };
    producers.into_iter().zip(consumers).map(of_shard).collect()
}

/// The last word of every shard, or [`Error::Bug`] if a thread panicked where nothing could report
/// it; and the threads that do not end within `patience`, because user code does not return: they
/// are left behind.
fn join<T>(
    threads: Vec<JoinHandle<Option<T>>>,
    patience: Duration,
) -> (Result<Vec<T>, Error>, Vec<String>) {
    let until = Instant::now() + patience;
    let (mut words, mut left_behind) = (Vec::new(), Vec::new());
    let mut outcome = Ok(());
    for thread in threads {
        let name = thread.thread().name().unwrap_or_default().to_string();
        match await_end(thread, until) {
            Some(Ok(word)) => words.extend(word),
            Some(Err(_)) => outcome = Err(Error::bug(name, "its thread panicked at its end")),
            None => {
                tracing::warn!(thread = name, "does not end and is left behind");
                left_behind.push(name);
            }
        }
    }
    (outcome.map(|()| words), left_behind)
}

#[cfg(test)]
mod tests;
