//! One shard's thread: the loop that runs it to completion, turn by turn.
//!
//! ```text
//! now ──► gather: orders, peers' descriptors, file answers, socket news
//!     ──► Shard::turn
//!     ──► carry out: rings to peers (published once a turn), storage service, sockets, reports
//!     ──► idle: look again, yield, or sleep until woken
//! ```
//!
//! The loop enters the kernel only when sockets have something to submit or nothing is there to do.
//! A descriptor that finds its ring full waits in the peer's [`Overflow`].

use std::sync::Arc;
use std::time::Duration;

use millstream_net::io::SocketDone;
use millstream_storage::io::FileDone;
use tokio::sync::mpsc::UnboundedSender;

use crate::config::Idle;
use crate::error::Error;
use crate::exchange::descriptor::Descriptor;
use crate::runtime::caller::CallerHandle;
use crate::runtime::clock::Steady;
use crate::runtime::control::Order;
use crate::runtime::control::node::HostReport;
use crate::runtime::overflow::Overflow;
use crate::runtime::parking::{Parker, Waker};
use crate::runtime::printer::PrinterHandle;
use crate::runtime::spsc::{Consumer, Producer};
use crate::runtime::storage_service::StorageHandle;
use crate::runtime::uring::Ring;
use crate::shard::event::{Effect, Event};
use crate::shard::metrics::ShardStatus;
use crate::shard::panic::catch;
use crate::shard::{Next, Shard};
use crate::state::snapshot::Snapshot;

/// Traffic is recent for this long: about the time that a wake-up takes, so that sleeping less
/// would not have been worth it.
const SPIN_FOR: Duration = Duration::from_micros(50);

/// How long a shard lets others run before it sleeps.
const YIELD_FOR: Duration = Duration::from_micros(200);

/// As [`YIELD_FOR`], for shards that need not make room for each other: so long that live traffic
/// does not wait for a wake-up, so short that an idle job costs little.
const YIELD_LONG_FOR: Duration = Duration::from_millis(2);

/// Longest sleep: what a lost wake-up could cost at worst.
const PARK_MAX: Duration = Duration::from_millis(1);

/// Descriptors taken from a peer in one turn.
const PEER_BUDGET: usize = 256;

/// The rings to and from another shard.
pub(super) struct Peer {
    pub(super) outbound: Producer<Descriptor>,
    pub(super) inbound: Consumer<Descriptor>,
    pub(super) waker: Waker,
    overflow: Overflow,
    is_dirty: bool,
}

impl Peer {
    pub(super) fn new(
        outbound: Producer<Descriptor>,
        inbound: Consumer<Descriptor>,
        waker: Waker,
    ) -> Self {
        Self { outbound, inbound, waker, overflow: Overflow::default(), is_dirty: false }
    }

    fn send(&mut self, descriptor: Descriptor) {
        self.is_dirty = true;
        if !self.overflow.is_empty() {
            self.overflow.push(descriptor);
        } else if let Err(descriptor) = self.outbound.stage(descriptor) {
            self.overflow.push(descriptor);
        }
    }

    /// Publishes what was sent in this turn.
    fn publish(&mut self) {
        if !self.is_dirty {
            return;
        }
        self.overflow.drain(|descriptor| self.outbound.stage(descriptor));
        self.is_dirty = !self.overflow.is_empty();
        self.outbound.publish();
        self.waker.wake();
    }
}

/// Everything that one shard's thread owns.
pub(super) struct Host {
    pub(super) index: u32,
    pub(super) shard: Shard,
    /// What the job goes on from, until it is opened.
    pub(super) restore: Option<Arc<Snapshot>>,
    pub(super) clock: Steady,
    pub(super) idle: Idle,
    /// By shard; none for the shard itself.
    pub(super) peers: Vec<Option<Peer>>,
    pub(super) orders: Consumer<Order>,
    pub(super) reports: UnboundedSender<(u32, HostReport)>,
    pub(super) storage: StorageHandle,
    pub(super) printer: PrinterHandle,
    pub(super) caller: CallerHandle,
    pub(super) sockets: Ring,
    pub(super) parker: Parker,
}

/// What a shard with nothing to do does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rest {
    Spin,
    Yield,
    Park,
}

impl Rest {
    /// After `quiet_for` without work. It `is_held_up` while descriptors wait for room in a ring:
    /// nobody rings the bell when there is room, so it must not sleep.
    fn of(idle: Idle, quiet_for: Duration, is_held_up: bool) -> Self {
        let yields_until = match idle {
            Idle::Spin => return Self::Spin,
            Idle::Yield => Duration::MAX,
            Idle::Park => YIELD_FOR,
            // With a core to itself, but for housekeeping threads.
            Idle::Auto => YIELD_LONG_FOR,
        };
        if quiet_for < SPIN_FOR {
            Self::Spin
        } else if is_held_up || quiet_for < yields_until {
            Self::Yield
        } else {
            Self::Park
        }
    }
}

/// Buffers of one turn, kept for the next.
#[derive(Default)]
struct Scratch {
    events: Vec<Event>,
    effects: Vec<Effect>,
    descriptors: Vec<Descriptor>,
    files: Vec<FileDone>,
    sockets: Vec<SocketDone>,
}

impl Host {
    /// Runs the shard until the control thread says that it is enough. How it stood then; none if
    /// not even that can be said.
    ///
    /// Whatever goes wrong here, a panic of the host's own included, is reported: a shard that is
    /// silent would keep all others waiting.
    pub(super) fn run(mut self) -> Option<ShardStatus> {
        match catch(|| self.live()) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                self.report(HostReport::Died(error));
                self.await_exit();
            }
            Err(message) => {
                self.on_panic(message);
                self.await_exit();
            }
        }
        catch(|| self.shard.status()).ok()
    }

    fn live(&mut self) -> Result<(), Error> {
        self.shard.open(self.restore.take().as_deref())?;
        let mut scratch = Scratch::default();
        let mut busy_at = Duration::ZERO;
        loop {
            let now = self.clock.now();
            if !self.gather(now, &mut scratch) {
                return Ok(());
            }
            let had_events = !scratch.events.is_empty();
            self.shard.turn(now, &mut scratch.events, &mut scratch.effects);
            self.shard.turn_ended(self.clock.now(), &mut scratch.effects);
            self.carry_out(now, &mut scratch.effects);
            let next = self.shard.next();
            if had_events || next == Next::Busy {
                busy_at = now;
            } else {
                self.idle(now, busy_at, next);
            }
        }
    }

    /// Collects what has happened; `false` if the thread is to end.
    fn gather(&mut self, now: Duration, scratch: &mut Scratch) -> bool {
        let Scratch { events, descriptors, files, sockets, .. } = scratch;
        while let Some(order) = self.orders.pop() {
            match order {
                Order::Command(command) => events.push(Event::Command(command)),
                Order::Exit => return false,
            }
        }
        for (from, peer) in (0..).zip(&mut self.peers) {
            let Some(peer) = peer else { continue };
            peer.inbound.pop_into(descriptors, PEER_BUDGET);
            let received = descriptors.drain(..);
            events.extend(received.map(|descriptor| Event::Peer { from, descriptor }));
        }
        self.storage.poll(now, files);
        self.printer.poll(files);
        self.caller.poll(files);
        events.extend(files.drain(..).map(Event::File));
        self.sockets.poll(sockets);
        events.extend(sockets.drain(..).map(Event::Socket));
        true
    }

    fn carry_out(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        for effect in effects.drain(..) {
            match effect {
                Effect::Send { to, descriptor } => {
                    let peer = self.peers[to as usize].as_mut();
                    peer.expect("a shard does not send to itself").send(descriptor);
                }
                Effect::File(op) => self.storage.submit(op),
                Effect::Socket(op) => self.sockets.submit(op),
                Effect::Print { op, lines } => self.printer.submit(op, lines),
                Effect::Call { op, call } => self.caller.submit(op, call),
                Effect::Report(report) => self.report(HostReport::Shard(report)),
            }
        }
        self.storage.flush(now);
        self.peers.iter_mut().flatten().for_each(Peer::publish);
    }

    /// Nothing is there to do now.
    fn idle(&mut self, now: Duration, busy_at: Duration, next: Next) {
        let is_held_up = self.peers.iter().flatten().any(|peer| !peer.overflow.is_empty());
        match Rest::of(self.idle, now.saturating_sub(busy_at), is_held_up) {
            Rest::Spin => std::hint::spin_loop(),
            Rest::Yield => std::thread::yield_now(),
            Rest::Park => {
                let timeout = match next {
                    Next::At(due) => due.saturating_sub(now).min(PARK_MAX),
                    _ => PARK_MAX,
                };
                self.park(timeout);
            }
        }
    }

    fn park(&mut self, timeout: Duration) {
        let Self { peers, orders, storage, printer, caller, sockets, parker, .. } = self;
        let is_idle = || {
            orders.is_empty()
                && storage.is_idle()
                && printer.is_idle()
                && caller.is_idle()
                && peers.iter_mut().flatten().all(|peer| peer.inbound.is_empty())
        };
        parker.park(is_idle, || sockets.park(timeout, parker.eventfd()));
        parker.drain();
    }

    fn on_panic(&self, message: String) {
        // The panic may have left the task in a state in which it cannot even be asked.
        let last = catch(|| self.shard.last_words()).ok().flatten();
        self.report(match last {
            Some(last) => HostReport::Panicked { last, message },
            None => HostReport::Died(Error::bug(format!("shard {}", self.index), message)),
        });
    }

    /// The control thread is gone only if the whole node is: then nobody needs the report.
    fn report(&self, report: HostReport) {
        drop(self.reports.send((self.index, report)));
    }

    /// Waits for the order to end the thread, without touching the shard again.
    fn await_exit(&mut self) {
        loop {
            match self.orders.pop() {
                Some(Order::Exit) => return,
                Some(Order::Command(_)) => {}
                None => std::thread::sleep(PARK_MAX),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_sleeps_only_when_nothing_is_left_to_send() {
        let check = |idle, quiet_for, is_held_up, expected| {
            assert_eq!(Rest::of(idle, quiet_for, is_held_up), expected, "{idle:?}, {quiet_for:?}");
        };
        let long = Duration::from_secs(1);
        check(Idle::Spin, long, false, Rest::Spin);
        check(Idle::Park, SPIN_FOR / 2, false, Rest::Spin);
        check(Idle::Yield, long, false, Rest::Yield);
        check(Idle::Park, YIELD_FOR / 2, false, Rest::Yield);
        check(Idle::Park, long, false, Rest::Park);
        check(Idle::Park, long, true, Rest::Yield);
        check(Idle::Auto, long, true, Rest::Yield);
        check(Idle::Auto, YIELD_LONG_FOR / 2, false, Rest::Yield);
        check(Idle::Auto, long, false, Rest::Park);
    }

    #[test]
    fn what_finds_its_ring_full_leaves_in_order_once_there_is_room() {
        let (outbound, mut taken) = crate::runtime::spsc::ring(2);
        let (_, inbound) = crate::runtime::spsc::ring(2);
        let parker = Parker::with_eventfd().expect("a descriptor is left");
        let mut peer = Peer::new(outbound, inbound, parker.waker());
        for source in 0..5 {
            peer.send(Descriptor::SourceWatermark { source, watermark_ms: 0 });
        }
        let mut seen = Vec::new();
        for left in [3, 1, 0] {
            peer.publish();
            assert_eq!((peer.overflow.len(), peer.is_dirty), (left, left > 0));
            while let Some(Descriptor::SourceWatermark { source, .. }) = taken.pop() {
                seen.push(source);
            }
        }
        assert_eq!(seen, [0, 1, 2, 3, 4]);
    }
}
