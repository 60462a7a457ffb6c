//! A node: one process, its shards' threads and the control thread.
//!
//! The thread that calls [`run`] waits for the control thread; every shard is built on the thread
//! that runs it, pinned to its core, and never leaves it.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use crate::checkpoint::coordinator::CheckpointsStatus;
use crate::config::{Config, Idle, Pin, StorageServiceKind};
use crate::data::element::CheckpointId;
use crate::error::Error;
use crate::exchange::descriptor::Descriptor;
use crate::runtime::beginning::Beginning;
use crate::runtime::clock::{Clock, Steady, wall_ms};
use crate::runtime::control::node::{HostReport, Node};
use crate::runtime::control::{Control, HostLink, Order, Watch};
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
use crate::state::shard_store::ShardStoreConfig;
use crate::state::snapshot::Snapshot;

/// Why a job is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobEnd {
    /// Its sources had no more.
    InputEnded,
    /// A signal ended its sources; what was under way has been processed.
    Drained,
    /// It was stopped with a checkpoint that another run goes on from.
    Stopped {
        /// Which.
        checkpoint: CheckpointId,
        /// Where a savepoint of it is, if one was asked for.
        savepoint: Option<PathBuf>,
    },
}

/// What came of a run.
#[derive(Debug, Clone)]
pub struct JobReport {
    /// Why it is over.
    pub end: JobEnd,
    /// Wall-clock time from start to end.
    pub took: Duration,
    /// How every shard stood at the end.
    pub shards: Vec<ShardStatus>,
    /// How its checkpoints went, if any were taken.
    pub checkpoints: Option<CheckpointsStatus>,
}

/// Descriptors between two shards that have been published and not taken.
const RING_SLOTS: usize = 1024;

/// Orders that a host has not taken.
const ORDER_SLOTS: usize = 64;

/// How long a shard may take to end after it was told: user code that blocks is left behind.
const EXIT_PATIENCE: Duration = Duration::from_secs(2);

/// As [`EXIT_PATIENCE`], if somebody has asked a second time: he means at once, and a thread that
/// does not block ends within this.
const HASTY_PATIENCE: Duration = Duration::from_millis(200);

/// Runs `program` on this machine until it ends. `handle_signals` says whether SIGINT and SIGTERM
/// drain the job: a program with a life of its own may not want that.
///
/// # Errors
/// What ended it early; see [`Error`].
pub fn run(program: &Program, config: &Config, handle_signals: bool) -> Result<JobReport, Error> {
    run_watched(program, config, handle_signals, None)
}

/// As [`run`]; somebody looks at the shards meanwhile.
///
/// # Errors
/// As [`run`].
pub fn run_watched(
    program: &Program,
    config: &Config,
    handle_signals: bool,
    watch: Option<Watch<'_>>,
) -> Result<JobReport, Error> {
    let begun = Instant::now();
    config.check()?;
    let Beginning { directory, restore, coordinator } = Beginning::of(program, config)?;
    let has_state = (0..program.shard_count()).any(|shard| program.key_groups(shard).is_some());
    let state = has_state.then(|| StateDirectory::claim(config, &program.name)).transpose()?;
    let memory = config.clone().with_memory(memory_bytes()).memory_per_shard;
    let memory_bytes = memory.map_or(0, |memory| usize::try_from(memory.0).unwrap_or(usize::MAX));
    // Before anything is started: a signal drains from now on, and a port that is taken is found
    // before a sink has written anything.
    let placement = place(program.plans.len(), config);
    let control = Control::new(config.listen, handle_signals, placement.threads())?;
    let idle = idle(config.idle, placement.room);
    let parkers: Result<Vec<_>, _> = program.plans.iter().map(|_| Parker::with_eventfd()).collect();
    let parkers = parkers.map_err(|source| system("make an eventfd", source))?;
    let wakers: Vec<_> = parkers.iter().map(Parker::waker).collect();
    let (service, storages) = StorageService::start(
        driver(config.storage_service),
        placement.housekeeping,
        wakers.clone(),
    )
    .map_err(|source| system("start the storage service", source))?;
    let printers = printer::start(placement.housekeeping, wakers.clone(), std::io::stdout())
        .map_err(|source| system("start the thread of standard output", source))?;
    let (reports, received) = unbounded_channel();
    let (clock, start_ms) = (Clock::start(), wall_ms());
    let connection_count_max = connection_count_max(open_files());
    let mut links = Vec::new();
    let mut seats = Vec::new();
    let handles = parkers.into_iter().zip(storages).zip(printers);
    let parts = handles.zip(rings(&wakers)).zip(&placement.shards);
    for (index, ((((parker, storage), printer), peers), core)) in (0_u32..).zip(parts) {
        let (orders_in, orders) = spsc::ring(ORDER_SLOTS);
        links.push(HostLink::new(orders_in, parker.waker()));
        let (reports, core) = (reports.clone(), *core);
        let store = program.key_groups(index).zip(state.as_ref()).map(|((range, count), state)| {
            ShardStoreConfig::new(state.shard(index), range, count, memory_bytes)
        });
        seats.push(Seat {
            index,
            core,
            connection_count_max,
            idle,
            clock,
            start_ms,
            store,
            has_checkpoints: directory.is_some(),
            restore: restore.clone(),
            parker,
            storage,
            printer,
            peers,
            orders,
            reports,
        });
    }
    drop(reports);
    // Shards have it until they are opened.
    drop(restore);
    let give_up = || links.iter_mut().for_each(|link| link.tell(Order::Exit));
    let threads = start_all(seats, |seat| seat.start(program), give_up)?;
    tracing::debug!(job = program.name, shards = threads.len(), ?idle, "threads started");
    let node = Node::new(program.shard_count(), program.source_names.clone(), coordinator);
    let savepoints = config.savepoints();
    let core = placement.housekeeping;
    let outcome = {
        let run = || control.run(node, &mut links, received, watch, savepoints);
        on_control_thread(core, run)
    };
    let outcome = outcome.unwrap_or_else(|error| {
        for link in &mut links {
            link.tell(Order::Exit);
        }
        Err(error)
    });
    let is_hasty = matches!(outcome, Err(Error::Interrupted));
    let patience = if is_hasty { HASTY_PATIENCE } else { EXIT_PATIENCE };
    let shards = join(threads, patience);
    service.leave(patience);
    drop(state);
    let (end, checkpoints) = outcome?;
    if let Some(directory) = &directory {
        match &end {
            JobEnd::InputEnded | JobEnd::Drained => directory.clear(),
            JobEnd::Stopped { checkpoint, savepoint: Some(savepoint) } => {
                directory.copy(*checkpoint, savepoint)?;
            }
            JobEnd::Stopped { .. } => {}
        }
    }
    Ok(JobReport { end, took: begun.elapsed(), shards: shards?, checkpoints })
}

/// Runs `control` on a thread of its own, so that pinning it leaves the caller's as it was.
fn on_control_thread<T: Send>(
    core: Option<Core>,
    control: impl FnOnce() -> T + Send,
) -> Result<T, Error> {
    std::thread::scope(|scope| {
        let pinned = || {
            cpu::pin_if_any(core, "control");
            control()
        };
        let thread = std::thread::Builder::new().name("control".to_string());
        let thread = thread.spawn_scoped(scope, pinned);
        let thread = thread.map_err(|source| system("start the control thread", source))?;
        Ok(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
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
                drop(join(threads, EXIT_PATIENCE));
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

/// The last word of every shard; a thread that does not end within `patience`, because user code
/// does not return, is left behind.
///
/// # Errors
/// [`Error::Bug`] if a thread panicked where nothing could report it.
fn join<T>(threads: Vec<JoinHandle<Option<T>>>, patience: Duration) -> Result<Vec<T>, Error> {
    let until = Instant::now() + patience;
    let mut words = Vec::new();
    let mut outcome = Ok(());
    for thread in threads {
        let name = thread.thread().name().unwrap_or_default().to_string();
        match await_end(thread, until) {
            Some(Ok(word)) => words.extend(word),
            Some(Err(_)) => outcome = Err(Error::bug(name, "its thread panicked at its end")),
            None => tracing::warn!(thread = name, "does not end and is left behind"),
        }
    }
    outcome.map(|()| words)
}

#[cfg(test)]
mod tests;
