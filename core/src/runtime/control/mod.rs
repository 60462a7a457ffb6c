//! The control thread: signals, HTTP, and what the shards report.
//!
//! A current-thread tokio runtime on the core for housekeeping, if the shards leave one. It decides
//! nothing itself (`node.rs` does) and is never waited for by a shard: hosts report into an
//! unbounded queue, which is safe because reports are few (lifecycle only), and are told things
//! through a ring each.
//!
//! Signals and requests are heard for as long as the node lives: by a `Session` while an attempt
//! runs, by `between.rs` while none does.

pub mod node;

mod between;
mod http;
mod metrics_text;
pub mod restarts;
mod roll;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{Receiver, Sender, UnboundedReceiver, channel};
use tokio::time::Instant;

use crate::checkpoint::coordinator::CheckpointsStatus;
use crate::checkpoint::directory::Files as _;
use crate::checkpoint::names::FileName;
use crate::config::Config;
use crate::data::element::CheckpointId;
use crate::error::Error;
use crate::runtime::checkpoint_directory::SystemFiles;
use crate::runtime::clock::wall_ms;
use crate::runtime::control::between::EndWish;
use crate::runtime::control::http::{Request, StatusRequest};
use crate::runtime::control::node::{Decision, HostReport, Node};
use crate::runtime::control::restarts::{Phase, RestartsStatus};
use crate::runtime::control::roll::Roll;
use crate::runtime::cpu::{self, Core, Placement};
use crate::runtime::node::JobEnd;
use crate::runtime::parking::Waker;
use crate::runtime::refusal::system;
use crate::runtime::spsc::Producer;
use crate::shard::event::{Addressed, Command, Report};
use crate::shard::metrics::ShardStatus;

/// What a host is told.
#[derive(Debug)]
pub enum Order {
    /// Hand this to the shard.
    Command(Command),
    /// End the thread.
    Exit,
}

/// The way to one host.
pub struct HostLink {
    orders: Producer<Order>,
    waker: Waker,
    /// Orders that found no room: the shard is busy with something long.
    backlog: VecDeque<Order>,
}

impl HostLink {
    /// Orders go into `orders`, and `waker` wakes the host.
    pub(super) fn new(orders: Producer<Order>, waker: Waker) -> Self {
        Self { orders, waker, backlog: VecDeque::new() }
    }

    /// Tells the host, as soon as there is room. There are few orders however busy a shard is: at
    /// most one question is unanswered at a time (`roll.rs`), and checkpoints wait for each other.
    pub(super) fn tell(&mut self, order: Order) {
        self.backlog.push_back(order);
        self.flush();
    }

    /// Passes on what found no room.
    fn flush(&mut self) {
        while let Some(order) = self.backlog.pop_front() {
            if let Err(order) = self.orders.push(order) {
                self.backlog.push_front(order);
                break;
            }
        }
        self.waker.wake();
    }
}

/// Somebody who looks at the shards every now and then while the job runs.
pub struct Watch<'a> {
    /// From one look to the next.
    pub every: Duration,
    /// Called on the control thread, which waits for it; the shards do not.
    pub look: &'a mut (dyn FnMut(&[ShardStatus]) + Send),
}

/// Why somebody's wish for a checkpoint is not fulfilled.
const NO_CHECKPOINTS: &str = "no checkpoints are taken: set checkpoint_directory";

/// How long orders without room wait before they are tried again.
const BACKLOG_PAUSE: Duration = Duration::from_millis(1);

/// How long a status question waits for a shard that is busy.
const STATUS_PATIENCE: Duration = Duration::from_millis(250);

/// What the outside may do to a node: signals and HTTP. Ready before any shard has begun, so that
/// no signal is missed and no port is found to be taken when something has been written already.
pub(super) struct Control {
    runtime: Runtime,
    /// Where its thread runs.
    core: Option<Core>,
    reception: Reception,
}

/// Where signals and requests come in, and what is known of the job over its attempts.
struct Reception {
    signals: Option<Signals>,
    requests: Receiver<Request>,
    /// Where savepoints are made.
    savepoints: Option<PathBuf>,
    restarts: RestartsStatus,
    /// How checkpoints stood at the end of the last attempt, and the newest of them.
    checkpoints: Option<CheckpointsStatus>,
    newest: Option<CheckpointId>,
    /// Somebody wants an end while no attempt runs.
    end_wish: Option<EndWish>,
    /// The HTTP server asks as long as there is one; this keeps the queue open if there is none.
    _asker: Sender<Request>,
}

/// What ended an attempt.
pub(super) struct Outcome {
    pub(super) end: Result<JobEnd, Error>,
    /// Somebody had asked for an end.
    pub(super) is_ending: bool,
}

impl Control {
    /// Listens for signals, if it is to, and where `config` says, if anywhere: who asks there is
    /// told where threads are placed.
    ///
    /// # Errors
    /// [`Error::System`] if the system refuses one of them.
    pub(super) fn new(
        config: &Config,
        handle_signals: bool,
        placement: &Placement,
    ) -> Result<Self, Error> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|source| system("start the control thread", source))?;
        let (asker, requests) = channel(16);
        let signals = runtime.block_on(async {
            let signals = if handle_signals { Some(Signals::new()?) } else { None };
            if let Some(address) = config.listen {
                let address = http::serve(address, asker.clone(), placement.threads()).await?;
                tracing::info!(%address, "http server listens");
            }
            Ok(signals)
        })?;
        let reception = Reception {
            signals,
            requests,
            savepoints: config.savepoints(),
            restarts: RestartsStatus::new(wall_ms()),
            checkpoints: None,
            newest: None,
            end_wish: None,
            _asker: asker,
        };
        Ok(Self { runtime, core: placement.housekeeping, reception })
    }

    /// Runs `node` and lets `watch` look, until its attempt ends; then tells all hosts to exit.
    pub(super) fn run(
        &mut self,
        node: Node,
        hosts: &mut [HostLink],
        reports: &mut UnboundedReceiver<(u32, HostReport)>,
        watch: Option<&mut Watch<'_>>,
    ) -> Outcome {
        let Self { runtime, core, reception } = self;
        let node = node.after(reception.checkpoints.take());
        reception.restarts.on_phase(Phase::Running, wall_ms());
        let run = || runtime.block_on(reception.attend(node, hosts, reports, watch));
        let ended = on_control_thread(*core, run);
        for host in hosts {
            host.tell(Order::Exit);
        }
        ended.unwrap_or_else(|error| Outcome { end: Err(error), is_ending: false })
    }

    /// How checkpoints went, if any were taken.
    pub(super) fn into_checkpoints(self) -> Option<CheckpointsStatus> {
        self.reception.checkpoints
    }
}

impl Reception {
    /// Lets signals and requests come to `node` until its attempt ends.
    async fn attend(
        &mut self,
        node: Node,
        hosts: &mut [HostLink],
        reports: &mut UnboundedReceiver<(u32, HostReport)>,
        watch: Option<&mut Watch<'_>>,
    ) -> Outcome {
        tracing::info!(shards = hosts.len(), "started");
        let Self { signals, requests, savepoints, restarts, .. } = self;
        let savepoints = savepoints.as_deref();
        let roll = Roll::new(hosts.len());
        let looks = watch.map(|watch| Looks { due: Instant::now() + watch.every, watch });
        let (round, next, start) = (None, Round::default(), Instant::now());
        let mut session =
            Session { start, node, savepoints, restarts, hosts, reports, roll, round, next, looks };
        while session.node.is_running() {
            session.step(requests, signals.as_mut()).await;
        }
        let mut node = session.node;
        self.checkpoints = node.checkpoints();
        self.newest = node.newest_checkpoint().or(self.newest);
        let end = node.take_outcome().expect("it runs until there is one");
        Outcome { end, is_ending: node.is_ending() }
    }
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

/// A node while it runs.
struct Session<'a, 'w> {
    start: Instant,
    node: Node,
    savepoints: Option<&'a Path>,
    restarts: &'a RestartsStatus,
    hosts: &'a mut [HostLink],
    reports: &'a mut UnboundedReceiver<(u32, HostReport)>,
    roll: Roll,
    /// Who waits for the shards' answers, and until when.
    round: Option<(Round, Instant)>,
    /// Who came after the shards were asked, and will be served by the next round.
    next: Round,
    looks: Option<Looks<'a, 'w>>,
}

/// Who wants to know how the shards stand.
#[derive(Default)]
struct Round {
    requests: Vec<StatusRequest>,
    is_look: bool,
}

impl Session<'_, '_> {
    /// Waits for one thing to happen.
    async fn step(&mut self, requests: &mut Receiver<Request>, signals: Option<&mut Signals>) {
        let until = self.round.as_ref().map(|(_, until)| *until);
        let look_due = self.looks.as_ref().map(|looks| looks.due);
        let checkpoint_due = self.node.next_due().map(|due| self.start + due);
        let has_backlog = self.hosts.iter().any(|host| !host.backlog.is_empty());
        let backlog_due = has_backlog.then(|| Instant::now() + BACKLOG_PAUSE);
        tokio::select! {
            () = Signals::recv(signals) => {
                let decision = self.node.on_signal();
                self.carry_out(decision);
            }
            () = sleep_until(checkpoint_due) => {
                let decision = self.node.on_time(self.start.elapsed(), wall_ms());
                self.carry_out(decision);
            }
            () = sleep_until(backlog_due) => {
                self.hosts.iter_mut().for_each(HostLink::flush);
            }
            report = self.reports.recv() => self.on_report(report),
            () = sleep_until(until) => self.end_round(),
            () = sleep_until(look_due) => {
                if let Some(looks) = &mut self.looks {
                    looks.due = Instant::now() + looks.watch.every;
                }
                self.next.is_look = true;
                self.begin_round();
            }
            Some(request) = requests.recv() => self.on_request(request),
        }
    }

    fn on_request(&mut self, request: Request) {
        match request {
            Request::Status(answer) => {
                self.next.requests.push(answer);
                self.begin_round();
            }
            // Who has asked may have hung up.
            Request::Checkpoints(answer) => drop(answer.send(self.node.checkpoints())),
            Request::Restarts(answer) => drop(answer.send(self.restarts.clone())),
            Request::Checkpoint(answer) => {
                drop(answer.send(self.node.want_checkpoint(None).ok_or(NO_CHECKPOINTS.into())));
            }
            Request::Savepoint(name, answer) => {
                let wanted = savepoint(self.savepoints, &name).and_then(|directory| {
                    self.node.want_checkpoint(Some(directory)).ok_or(NO_CHECKPOINTS.into())
                });
                drop(answer.send(wanted));
            }
            Request::Stop(name, answer) => {
                let savepoint = name.map(|name| savepoint(self.savepoints, &name)).transpose();
                let stops = savepoint.and_then(|savepoint| {
                    let refusal = || "no checkpoints are taken, or it stops already".to_string();
                    self.node.stop(savepoint).ok_or_else(refusal)
                });
                let stops = stops.map(|(checkpoint, decision)| {
                    self.carry_out(decision);
                    checkpoint
                });
                drop(answer.send(stops));
            }
            Request::Drain(answer) => {
                let drains = self.node.drain().ok_or("it is about to end already".to_string());
                drop(answer.send(drains.map(|decision| self.carry_out(decision))));
            }
        }
    }

    fn on_report(&mut self, report: Option<(u32, HostReport)>) {
        let Some((shard, report)) = report else {
            let error = Error::bug("node", "every shard is gone without a word");
            // What ends the job is noticed by whoever asks whether it runs.
            let _ = self.node.on_report(0, HostReport::Died(error), self.start.elapsed());
            return;
        };
        let is_status = matches!(
            &report,
            HostReport::Shard(report) if matches!(**report, Report::Status(_))
        );
        let decision = self.node.on_report(shard, report, self.start.elapsed());
        self.carry_out(decision);
        if is_status && self.roll.on_answer(shard as usize) {
            self.hosts[shard as usize].tell(Order::Command(Command::Status));
        }
        if self.round.is_some() && self.roll.is_complete() {
            self.end_round();
        }
    }

    /// Asks every shard how it stands for those who wait, unless others wait already.
    fn begin_round(&mut self) {
        if self.round.is_some() || !self.next.is_wanted() {
            return;
        }
        self.round = Some((std::mem::take(&mut self.next), Instant::now() + STATUS_PATIENCE));
        for host in self.roll.begin() {
            self.hosts[host].tell(Order::Command(Command::Status));
        }
    }

    /// Passes on what is known.
    fn end_round(&mut self) {
        let Some((round, _)) = self.round.take() else { return };
        self.roll.end();
        let statuses: Vec<ShardStatus> = self.node.statuses().cloned().collect();
        if let Some(looks) = self.looks.as_mut().filter(|_| round.is_look) {
            (looks.watch.look)(&statuses);
        }
        for request in round.requests {
            // The asker may have hung up.
            drop(request.send(statuses.clone()));
        }
        self.begin_round();
    }

    fn carry_out(&mut self, decision: Decision) {
        let Decision::Tell(commands) = decision else { return };
        for command in commands {
            match command {
                Addressed::All(command) => self.tell_all(|| Order::Command(command.clone())),
                Addressed::First(command) => self.hosts[0].tell(Order::Command(command)),
            }
        }
    }

    fn tell_all(&mut self, order: impl Fn() -> Order) {
        self.hosts.iter_mut().for_each(|host| host.tell(order()));
    }
}

impl Round {
    fn is_wanted(&self) -> bool {
        self.is_look || !self.requests.is_empty()
    }
}

/// Where the savepoint of this name is to be, if there are any in `directory`.
fn savepoint(directory: Option<&Path>, name: &str) -> Result<PathBuf, String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.starts_with('.') || !name.chars().all(is_plain) {
        return Err(format!("{name:?} is no name of letters, digits, -, _ and ."));
    }
    let directory = directory.ok_or(NO_CHECKPOINTS)?.join(name);
    let names = SystemFiles.names(&directory).unwrap_or_default();
    if names.iter().any(|name| matches!(FileName::of(name), Some(FileName::Manifest(_)))) {
        return Err(format!("{} is there already", directory.display()));
    }
    Ok(directory)
}

/// Never, without a time.
async fn sleep_until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// A [`Watch`] while the job runs.
struct Looks<'a, 'w> {
    due: Instant,
    watch: &'a mut Watch<'w>,
}

/// SIGINT and SIGTERM.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> Result<Self, Error> {
        let open = |kind| signal(kind).map_err(|source| system("listen for signals", source));
        Ok(Self {
            interrupt: open(SignalKind::interrupt())?,
            terminate: open(SignalKind::terminate())?,
        })
    }

    /// Never, without signals.
    async fn recv(signals: Option<&mut Self>) {
        let Some(signals) = signals else { return std::future::pending().await };
        tokio::select! {
            _ = signals.interrupt.recv() => {}
            _ = signals.terminate.recv() => {}
        }
    }
}
