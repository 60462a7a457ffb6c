//! The control thread: signals, HTTP, and what the shards report.
//!
//! A current-thread tokio runtime on whatever core the shards leave. It decides nothing itself
//! (`node.rs` does) and is never waited for by a shard: hosts report into an unbounded queue, which
//! is safe because reports are few (lifecycle only), and are told things through a ring each.

pub mod node;

mod http;
mod metrics_text;

use std::net::SocketAddr;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{Receiver, UnboundedReceiver, channel};
use tokio::time::{Instant, Interval, interval_at, timeout_at};

use crate::error::Error;
use crate::runtime::control::http::StatusRequest;
use crate::runtime::control::node::{Decision, HostReport, Node};
use crate::runtime::parking::Waker;
use crate::runtime::spsc::Producer;
use crate::shard::event::{Command, Report};
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
    /// Orders to it.
    pub orders: Producer<Order>,
    /// Wakes it.
    pub waker: Waker,
}

impl HostLink {
    /// Tells the host; a host that does not listen any more is not missed.
    fn tell(&mut self, order: Order) {
        if self.orders.push(order).is_err() {
            tracing::warn!("a shard has not taken its last orders, and misses one");
        }
        self.waker.wake();
    }
}

/// Somebody who looks at the shards every now and then while the job runs.
pub struct Watch<'a> {
    /// From one look to the next.
    pub every: Duration,
    /// Called on the control thread, which waits for it; the shards do not.
    pub look: &'a mut dyn FnMut(&[ShardStatus]),
}

/// How long a status question waits for a shard that is busy.
const STATUS_PATIENCE: Duration = Duration::from_millis(250);

/// Runs the node until its job ends.
pub(super) struct Control {
    node: Node,
    hosts: Vec<HostLink>,
    reports: UnboundedReceiver<(u32, HostReport)>,
}

impl Control {
    pub(super) fn new(
        source_names: Vec<String>,
        hosts: Vec<HostLink>,
        reports: UnboundedReceiver<(u32, HostReport)>,
    ) -> Self {
        let shard_count = u32::try_from(hosts.len()).expect("far fewer shards than 2^32");
        Self { node: Node::new(shard_count, source_names), hosts, reports }
    }

    /// Serves at `listen`, if anywhere, and lets `watch` look, until the job ends; then tells all
    /// hosts to exit.
    ///
    /// # Errors
    /// What ended the job, or made it impossible to serve.
    pub(super) fn run(
        &mut self,
        listen: Option<SocketAddr>,
        handle_signals: bool,
        watch: Option<Watch<'_>>,
    ) -> Result<(), Error> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let fail =
            |source| Error::System { action: "start the control thread".to_string(), source };
        let outcome = match runtime.map_err(fail) {
            Ok(runtime) => runtime.block_on(self.control(listen, handle_signals, watch)),
            Err(error) => Err(error),
        };
        self.hosts.iter_mut().for_each(|host| host.tell(Order::Exit));
        outcome
    }

    async fn control(
        &mut self,
        listen: Option<SocketAddr>,
        handle_signals: bool,
        watch: Option<Watch<'_>>,
    ) -> Result<(), Error> {
        let (requests_in, mut requests) = channel(16);
        if let Some(address) = listen {
            let address = http::serve(address, requests_in.clone()).await?;
            tracing::info!(%address, "http server listens");
        }
        let mut signals = if handle_signals { Some(Signals::new()?) } else { None };
        tracing::info!(shards = self.hosts.len(), "started");
        let mut looks = watch.map(Looks::new);
        while self.node.is_running() {
            let decision = self.wait(&mut requests, signals.as_mut(), looks.as_mut()).await;
            match decision {
                Decision::Nothing | Decision::End => {}
                Decision::Tell(command) => self.tell_all(&command),
            }
        }
        self.node.take_outcome().unwrap_or(Ok(()))
    }

    /// Waits for one thing to happen.
    async fn wait(
        &mut self,
        requests: &mut Receiver<StatusRequest>,
        signals: Option<&mut Signals>,
        mut looks: Option<&mut Looks<'_>>,
    ) -> Decision {
        let signal = async {
            match signals {
                Some(signals) => signals.recv().await,
                None => std::future::pending().await,
            }
        };
        let look_is_due = async {
            match &mut looks {
                Some(looks) => looks.ticks.tick().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            report = self.reports.recv() => match report {
                Some((shard, report)) => self.node.on_report(shard, report),
                None => {
                    let error = Error::bug("node", "every shard is gone without a word");
                    self.node.on_report(0, HostReport::Died(error))
                }
            },
            () = signal => self.node.on_signal(),
            _ = look_is_due => {
                let decision = self.ask().await;
                if let Some(looks) = looks {
                    (looks.watch.look)(&self.statuses());
                }
                decision
            }
            request = requests.recv() => match request {
                Some(request) => self.answer(request).await,
                None => std::future::pending().await,
            },
        }
    }

    /// Asks every shard how it stands, and passes on what is known then.
    async fn answer(&mut self, request: StatusRequest) -> Decision {
        let decision = self.ask().await;
        if decision == Decision::Nothing {
            // The asker may have hung up.
            drop(request.send(self.statuses()));
        }
        decision
    }

    /// Asks every shard how it stands, until the last has answered or patience ends.
    async fn ask(&mut self) -> Decision {
        self.tell_all(&Command::Status);
        let until = Instant::now() + STATUS_PATIENCE;
        let mut missing = self.hosts.len();
        while missing > 0 {
            let Ok(Some((shard, report))) = timeout_at(until, self.reports.recv()).await else {
                break;
            };
            if let HostReport::Shard(report) = &report
                && let Report::Status(_) = **report
            {
                missing -= 1;
            }
            let decision = self.node.on_report(shard, report);
            if decision != Decision::Nothing {
                return decision;
            }
        }
        Decision::Nothing
    }

    fn statuses(&self) -> Vec<ShardStatus> {
        self.node.statuses().cloned().collect()
    }

    fn tell_all(&mut self, command: &Command) {
        self.hosts.iter_mut().for_each(|host| host.tell(Order::Command(command.clone())));
    }
}

/// A [`Watch`] while the job runs.
struct Looks<'a> {
    ticks: Interval,
    watch: Watch<'a>,
}

impl<'a> Looks<'a> {
    fn new(watch: Watch<'a>) -> Self {
        let ticks = interval_at(Instant::now() + watch.every, watch.every);
        Self { ticks, watch }
    }
}

/// SIGINT and SIGTERM.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> Result<Self, Error> {
        let open = |kind| {
            signal(kind).map_err(|source| {
                let action = "listen for signals".to_string();
                Error::System { action, source }
            })
        };
        Ok(Self {
            interrupt: open(SignalKind::interrupt())?,
            terminate: open(SignalKind::terminate())?,
        })
    }

    async fn recv(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
