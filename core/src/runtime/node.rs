//! A node: one process, its shards' threads and the control thread.
//!
//! The thread that calls [`run`] becomes the control thread; every shard is built on the thread
//! that runs it, pinned to its core, and never leaves it.

use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use crate::config::{Config, Idle, Pin, StorageServiceKind};
use crate::error::Error;
use crate::exchange::descriptor::Descriptor;
use crate::runtime::clock::{Clock, wall_ms};
use crate::runtime::control::node::HostReport;
use crate::runtime::control::{Control, HostLink, Order, Watch};
use crate::runtime::cpu::{self, Core, Placement, Room};
use crate::runtime::host::{Host, Peer};
use crate::runtime::parking::{Parker, Waker};
use crate::runtime::spsc::{self, Consumer};
use crate::runtime::storage_service::{StorageDriver, StorageHandle, StorageService};
use crate::runtime::uring::Ring;
use crate::shard::metrics::ShardStatus;
use crate::shard::program::Program;

/// What came of a run.
#[derive(Debug, Clone)]
pub struct JobReport {
    /// Wall-clock time from start to end.
    pub took: Duration,
    /// How every shard stood at the end.
    pub shards: Vec<ShardStatus>,
}

/// Descriptors between two shards that have been published and not taken.
const RING_SLOTS: usize = 1024;

/// Orders that a host has not taken.
const ORDER_SLOTS: usize = 64;

/// How long a shard may take to end after it was told: user code that blocks is left behind.
const EXIT_PATIENCE: Duration = Duration::from_secs(2);

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
    let placement = place(program.plans.len(), config);
    let idle = idle(config.idle, placement.room);
    let parkers: Result<Vec<_>, _> = program.plans.iter().map(|_| Parker::with_eventfd()).collect();
    let parkers = parkers.map_err(|source| system("make an eventfd", source))?;
    let wakers: Vec<_> = parkers.iter().map(Parker::waker).collect();
    let (_service, storages) = StorageService::start(
        driver(config.storage_service),
        placement.housekeeping,
        wakers.clone(),
    )
    .map_err(|source| system("start the storage service", source))?;
    let (reports, received) = unbounded_channel();
    let (clock, start_ms) = (Clock::start(), wall_ms());
    let mut links = Vec::new();
    let mut threads = Vec::new();
    let parts = parkers.into_iter().zip(storages).zip(rings(&wakers)).zip(&placement.shards);
    for (index, (((parker, storage), peers), core)) in (0_u32..).zip(parts) {
        let (orders_in, orders) = spsc::ring(ORDER_SLOTS);
        links.push(HostLink { orders: orders_in, waker: parker.waker() });
        let reports = reports.clone();
        let core = *core;
        let seat =
            Seat { index, core, idle, clock, start_ms, parker, storage, peers, orders, reports };
        threads.push(seat.start(program)?);
    }
    drop(reports);
    tracing::debug!(job = program.name, shards = threads.len(), ?idle, "threads started");
    let mut control = Control::new(program.source_names.clone(), links, received);
    let outcome = control.run(config.listen, handle_signals, watch);
    let shards = join(threads);
    outcome?;
    Ok(JobReport { took: begun.elapsed(), shards })
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
        Pin::Off => placement.shards.fill(None),
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
        (Idle::Auto, Room::Shared) => Idle::Yield,
        (Idle::Auto, Room::Crowded) => Idle::Park,
        (set, _) => set,
    }
}

/// What a shard's thread is given before it begins.
struct Seat {
    index: u32,
    core: Option<Core>,
    idle: Idle,
    clock: Clock,
    start_ms: i64,
    parker: Parker,
    storage: StorageHandle,
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
            match self.sit(&program) {
                Ok(host) => Some(host.run()),
                Err(error) => {
                    drop(reports.send((index, HostReport::Died(error))));
                    None
                }
            }
        });
        thread.map_err(|source| system("start a shard's thread", source))
    }

    /// On the shard's own thread.
    fn sit(self, program: &Program) -> Result<Host, Error> {
        if let Some(core) = self.core
            && !cpu::pin(core)
        {
            tracing::warn!(shard = self.index, core = core.0, "the system does not pin it there");
        }
        let sockets = Ring::new(self.index).map_err(|source| system("set up io_uring", source))?;
        Ok(Host {
            index: self.index,
            shard: program.shard(self.index, self.start_ms),
            clock: self.clock,
            idle: self.idle,
            peers: self.peers,
            orders: self.orders,
            reports: self.reports,
            storage: self.storage,
            sockets,
            parker: self.parker,
        })
    }
}

fn system(action: &str, source: std::io::Error) -> Error {
    Error::System { action: action.to_string(), source }
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

/// The last word of every shard; a thread whose user code does not return is left behind.
fn join(threads: Vec<JoinHandle<Option<ShardStatus>>>) -> Vec<ShardStatus> {
    let until = Instant::now() + EXIT_PATIENCE;
    let mut statuses = Vec::new();
    for thread in threads {
        while !thread.is_finished() && Instant::now() < until {
            std::thread::sleep(Duration::from_micros(200));
        }
        if !thread.is_finished() {
            tracing::error!(thread = thread.thread().name(), "does not end and is left behind");
            continue;
        }
        if let Ok(Some(status)) = thread.join() {
            statuses.push(status);
        }
    }
    statuses
}
