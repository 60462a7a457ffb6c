//! Where requesters and the service meet: a ring of operations and a ring of answers each.
//!
//! ```text
//! shard                                     service thread
//! StorageHandle ──FileOp──► ring ─────────► Desk
//!   backlog                                   │
//!               ◄────────── ring ◄─FileDone───┘
//! ```
//!
//! A handle sends no more operations than its ring of answers has slots, and keeps the others: so
//! there is always room for an answer, and the service never waits for a shard.
//!
//! Invariant: operations on the way or in the service ≤ slots of a ring.
//! Not here: what is done with an operation (`queue.rs`), who sleeps how (`parking.rs`).

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use millstream_storage::io::{FileDone, FileOp};

use super::super::parking::Waker;
use super::super::spsc::{self, Consumer, Producer};
use super::queue::Files;

/// Slots of each ring.
const SLOT_COUNT: usize = 256;

/// With operations outstanding and no answer for this long, the service is woken once more.
/// glommio 0.9 can go to sleep with work at hand; a call from outside ends that sleep.
const KICK_AFTER: Duration = Duration::from_millis(10);

/// What a shard holds of the storage service.
#[derive(Debug)]
pub struct StorageHandle {
    ops: Producer<FileOp>,
    dones: Consumer<FileDone>,
    /// Operations that the service has no room for yet.
    backlog: VecDeque<FileOp>,
    /// Operations given to the service and not answered.
    sent_count: usize,
    /// When the last answer came, or the first operation after there were none.
    progress_at: Duration,
    service: Waker,
    health: Arc<Health>,
}

/// How the service stands.
#[derive(Debug, Default)]
pub(super) struct Health {
    /// It is to end once everything accepted is answered.
    pub(super) stops: AtomicBool,
    /// Its thread has panicked.
    pub(super) has_failed: AtomicBool,
}

/// The service's side of all rings.
#[derive(Debug)]
pub(super) struct Desk {
    requesters: Vec<Requester>,
    received: Vec<FileOp>,
    health: Arc<Health>,
}

#[derive(Debug)]
struct Requester {
    ops: Consumer<FileOp>,
    dones: Producer<FileDone>,
    waker: Waker,
    has_answers: bool,
}

/// A desk for one requester per waker, which is rung when there are answers. `service` wakes the
/// desk's thread.
pub(super) fn desk(
    wakers: Vec<Waker>,
    service: &Waker,
    health: &Arc<Health>,
) -> (Desk, Vec<StorageHandle>) {
    let mut requesters = Vec::new();
    let mut handles = Vec::new();
    for waker in wakers {
        let (ops_in, ops) = spsc::ring(SLOT_COUNT);
        let (dones, dones_out) = spsc::ring(SLOT_COUNT);
        requesters.push(Requester { ops, dones, waker, has_answers: false });
        handles.push(StorageHandle {
            ops: ops_in,
            dones: dones_out,
            backlog: VecDeque::new(),
            sent_count: 0,
            progress_at: Duration::ZERO,
            service: service.clone(),
            health: Arc::clone(health),
        });
    }
    (Desk { requesters, received: Vec::new(), health: Arc::clone(health) }, handles)
}

impl StorageHandle {
    /// Asks for `op`. The service hears of it at the next [`StorageHandle::poll`] or
    /// [`StorageHandle::flush`].
    pub fn submit(&mut self, op: FileOp) {
        self.backlog.push_back(op);
    }

    /// Sends what was submitted. `now` counts from the host's start.
    pub fn flush(&mut self, now: Duration) {
        let room = SLOT_COUNT - self.sent_count;
        if room == 0 || self.backlog.is_empty() {
            return;
        }
        if self.sent_count == 0 {
            self.progress_at = now;
        }
        for op in self.backlog.drain(..room.min(self.backlog.len())) {
            let sent = self.ops.stage(op);
            assert!(sent.is_ok(), "a ring has room for what may be outstanding");
            self.sent_count += 1;
        }
        self.ops.publish();
        self.service.wake();
    }

    /// Sends what was submitted and appends the answers that are there to `dones`. Returns how
    /// many. `now` counts from the host's start.
    ///
    /// # Panics
    /// If the service has panicked: files cannot be trusted any more.
    pub fn poll(&mut self, now: Duration, dones: &mut Vec<FileDone>) -> usize {
        let count = self.dones.pop_into(dones, SLOT_COUNT);
        self.sent_count -= count;
        self.flush(now);
        if count > 0 {
            self.progress_at = now;
        } else if self.sent_count > 0 && now.saturating_sub(self.progress_at) >= KICK_AFTER {
            assert!(!self.health.has_failed.load(Ordering::Acquire), "the storage service died");
            self.progress_at = now;
            self.service.kick();
        }
        count
    }

    /// True if no answer is there that was not polled.
    pub fn is_idle(&mut self) -> bool {
        self.dones.is_empty()
    }

    /// Operations submitted and not answered.
    pub fn outstanding_count(&self) -> usize {
        self.backlog.len() + self.sent_count
    }
}

impl Desk {
    /// Whether the service, with `pending_count` operations accepted and not answered, can do
    /// nothing but wait.
    pub(super) fn is_idle(&mut self, pending_count: usize) -> bool {
        self.requesters.iter_mut().all(|requester| requester.ops.is_empty())
            && (pending_count > 0 || !self.health.stops.load(Ordering::Acquire))
    }

    /// Whether the service is told to end, and has answered everything.
    pub(super) fn has_ended(&mut self, pending_count: usize) -> bool {
        // The flag first: an operation sent before it was set is seen after it.
        self.health.stops.load(Ordering::Acquire)
            && pending_count == 0
            && self.requesters.iter_mut().all(|requester| requester.ops.is_empty())
    }

    /// Takes in what requesters have sent. Returns whether there was anything.
    pub(super) fn receive<F: Clone>(&mut self, files: &mut Files<F>) -> bool {
        let mut has_received = false;
        for (index, requester) in self.requesters.iter_mut().enumerate() {
            has_received |= requester.ops.pop_into(&mut self.received, SLOT_COUNT) > 0;
            for op in self.received.drain(..) {
                files.on_op(index, op);
            }
        }
        has_received
    }

    /// Gives out the answers that are ready. Returns whether there were any.
    pub(super) fn answer<F: Clone>(&mut self, files: &mut Files<F>) -> bool {
        let mut has_answered = false;
        while let Some(answer) = files.next_answer() {
            let requester = &mut self.requesters[answer.requester];
            let sent = requester.dones.stage(answer.done);
            assert!(sent.is_ok(), "a ring has room for what may be outstanding");
            requester.has_answers = true;
            has_answered = true;
        }
        for requester in self.requesters.iter_mut().filter(|requester| requester.has_answers) {
            requester.has_answers = false;
            requester.dones.publish();
            requester.waker.wake();
        }
        has_answered
    }
}
