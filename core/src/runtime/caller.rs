//! Calls that block, on threads of their own: one for each operator of each task that makes any.
//!
//! ```text
//! shard 0 ──CallerHandle──┐ call              ┌──► thread of sink "orders", task 0 ──┐
//! shard 1 ──CallerHandle──┴──────► caller ────┴──► thread of sink "orders", task 1 ──┤
//!               ▲                                                                   │
//!               └───────────────────────── FileDone, and the shard is woken ────────┘
//! ```
//!
//! The caller's thread starts the others: a thread inherits the cores that its starter may use, and
//! a shard's thread may use one. All threads end with the last handle, each behind the call that it
//! is making; calls that wait then are not made any more. Whoever begins again waits for that: a
//! call of an earlier attempt must not meet those of the next.
//!
//! Not here: how many calls are under way ([`crate::operator::blocking`]).

use std::collections::VecDeque;
use std::collections::btree_map::{BTreeMap, Entry};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};

use millstream_storage::io::{FileDone, OpId};

use super::cpu::{self, Core};
use super::parking::Waker;
use crate::operator::blocking::BlockingCall;
use crate::operator::env::lane_of;
use crate::shard::panic::catch;

/// What a shard holds of the caller.
#[derive(Debug)]
pub(super) struct CallerHandle {
    shard: usize,
    requests: Sender<Request>,
    dones: Receiver<FileDone>,
    /// Answers that were seen and not taken.
    seen: VecDeque<FileDone>,
}

#[derive(Debug)]
struct Request {
    shard: usize,
    op: OpId,
    call: BlockingCall,
}

/// Where a shard's answers go.
#[derive(Debug, Clone)]
struct Asker {
    dones: Sender<FileDone>,
    waker: Waker,
}

/// Starts the caller, on `core` if there is one to be had: a handle per element of `wakers`, each
/// rung when there are answers for its handle. Its thread ends behind all others.
///
/// # Errors
/// The operating system's, if there can be no thread for it.
pub(super) fn start(
    core: Option<Core>,
    wakers: Vec<Waker>,
) -> io::Result<(JoinHandle<()>, Vec<CallerHandle>)> {
    let (requests, received) = channel();
    let (mut handles, mut askers) = (Vec::new(), Vec::new());
    for (shard, waker) in wakers.into_iter().enumerate() {
        let (dones_in, dones) = channel();
        askers.push(Asker { dones: dones_in, waker });
        let (requests, seen) = (requests.clone(), VecDeque::new());
        handles.push(CallerHandle { shard, requests, dones, seen });
    }
    let thread = thread::Builder::new().name("caller".to_owned()).spawn(move || {
        cpu::pin_if_any(core, "caller");
        run(&received, &askers);
    })?;
    Ok((thread, handles))
}

/// The thread of one operator of one task.
struct Lane {
    calls: Sender<(OpId, BlockingCall)>,
    thread: JoinHandle<()>,
}

fn run(requests: &Receiver<Request>, askers: &[Asker]) {
    let mut lanes: BTreeMap<u64, Lane> = BTreeMap::new();
    let is_over = Arc::new(AtomicBool::new(false));
    while let Ok(Request { shard, op, call }) = requests.recv() {
        let lane = lane_of(op);
        let lane = match lanes.entry(lane) {
            Entry::Occupied(lane) => lane.into_mut(),
            Entry::Vacant(place) => match start_lane(lane, askers[shard].clone(), &is_over) {
                Ok(lane) => place.insert(lane),
                Err(error) => {
                    let action = "start a thread for calls that block";
                    let failed = BlockingCall::new(action, move || Err(error));
                    askers[shard].answer(failed.make(op, |call| Ok(call())));
                    continue;
                }
            },
        };
        let sent = lane.calls.send((op, call));
        assert!(sent.is_ok(), "a lane ends after its caller");
    }
    is_over.store(true, Ordering::Release);
    for (_, Lane { calls, thread }) in lanes {
        drop(calls);
        // Calls catch panics.
        drop(thread.join());
    }
}

/// Starts the thread of one operator of one task.
fn start_lane(lane: u64, asker: Asker, is_over: &Arc<AtomicBool>) -> io::Result<Lane> {
    let (calls, received) = channel::<(OpId, BlockingCall)>();
    let is_over = Arc::clone(is_over);
    let thread = thread::Builder::new().name(format!("calls-{lane:x}")).spawn(move || {
        while let Ok((op, call)) = received.recv() {
            if is_over.load(Ordering::Acquire) {
                return;
            }
            asker.answer(call.make(op, catch));
        }
    })?;
    Ok(Lane { calls, thread })
}

impl Asker {
    fn answer(&self, done: FileDone) {
        // A shard that is gone needs no answer.
        if self.dones.send(done).is_ok() {
            self.waker.wake();
        }
    }
}

impl CallerHandle {
    /// Asks for `call` to be made.
    pub(super) fn submit(&self, op: OpId, call: BlockingCall) {
        let sent = self.requests.send(Request { shard: self.shard, op, call });
        assert!(sent.is_ok(), "the caller died");
    }

    /// Appends the answers that are there to `dones`.
    pub(super) fn poll(&mut self, dones: &mut Vec<FileDone>) {
        dones.extend(self.seen.drain(..));
        dones.extend(self.dones.try_iter());
    }

    /// Whether no answer is there.
    pub(super) fn is_idle(&mut self) -> bool {
        self.seen.extend(self.dones.try_iter());
        self.seen.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::super::parking::Parker;
    use super::*;

    fn handle() -> CallerHandle {
        let waker = Parker::with_eventfd().expect("descriptors are left").waker();
        start(None, vec![waker]).expect("a thread can be started").1.remove(0)
    }

    #[test]
    fn the_caller_ends_behind_the_call_that_is_made() {
        let waker = Parker::with_eventfd().expect("descriptors are left").waker();
        let (caller, mut handles) = start(None, vec![waker]).expect("a thread can be started");
        let handle = handles.remove(0);
        let (permit, wait) = channel::<()>();
        let (began_in, began) = channel::<()>();
        let has_ended = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&has_ended);
        let blocked = move || {
            began_in.send(()).map_err(io::Error::other)?;
            wait.recv().map_err(io::Error::other)?;
            ends.store(true, Ordering::Release);
            Ok(())
        };
        handle.submit(OpId(1), BlockingCall::new("wait", blocked));
        began.recv().expect("it is made");
        drop(handle);
        assert!(!caller.is_finished(), "the call has not ended");
        permit.send(()).expect("it waits");
        caller.join().expect("it does not panic");
        assert!(has_ended.load(Ordering::Acquire));
    }

    fn await_dones(handle: &mut CallerHandle, count: usize) -> Vec<FileDone> {
        let mut dones = Vec::new();
        while dones.len() < count {
            handle.poll(&mut dones);
            thread::yield_now();
        }
        dones
    }

    #[test]
    fn calls_of_an_operator_are_made_in_order_and_those_of_another_do_not_wait() {
        let mut handle = handle();
        let (permit, wait) = channel::<()>();
        let order = Arc::new(Mutex::new(Vec::new()));
        let note = |number: u64| {
            let order = Arc::clone(&order);
            move || {
                order.lock().expect("nobody panics with it").push(number);
                Ok(())
            }
        };
        let first = note(1);
        let blocked = move || wait.recv().map_err(io::Error::other).and_then(|()| first());
        handle.submit(OpId(1), BlockingCall::new("wait", blocked));
        handle.submit(OpId(2), BlockingCall::new("go on", note(2)));
        // Of another stage.
        handle.submit(OpId(1 << 31), BlockingCall::new("go by", note(3)));
        assert_eq!(await_dones(&mut handle, 1)[0].op, OpId(1 << 31));
        assert!(handle.is_idle(), "the shard may sleep until an answer comes");
        permit.send(()).expect("it waits");
        let ops = await_dones(&mut handle, 2).into_iter().map(|done| done.op);
        assert_eq!(ops.collect::<Vec<_>>(), [OpId(1), OpId(2)]);
        assert_eq!(*order.lock().expect("nobody panics with it"), [3, 1, 2]);
    }

    #[test]
    fn what_fails_or_panics_is_told_and_the_next_call_is_made() {
        let mut handle = handle();
        handle
            .submit(OpId(1), BlockingCall::new("connect", || Err(io::ErrorKind::TimedOut.into())));
        handle.submit(OpId(2), BlockingCall::new("think", || panic!("no idea")));
        handle.submit(OpId(3), BlockingCall::new("rest", || Ok(())));
        let dones = await_dones(&mut handle, 3);
        let fault = dones[0].result.as_ref().expect_err("it timed out");
        assert_eq!(fault.to_string(), "could not connect");
        let fault = dones[1].result.as_ref().expect_err("it panicked");
        assert!(fault.source.to_string().contains("no idea"), "{}", fault.source);
        assert!(dones[2].result.is_ok());
    }
}
