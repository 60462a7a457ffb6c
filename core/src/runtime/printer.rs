//! Standard output, written by a thread of its own: whoever reads it may be slow, and a shard must
//! not wait for him.
//!
//! ```text
//! shard 0 ──PrinterHandle──┐ lines               ┌──► standard output
//! shard 1 ──PrinterHandle──┴──────► printer ─────┘
//!               ▲                      │
//!               └──── FileDone ────────┘
//! ```
//!
//! Lines of one request are written together. Each request is answered as a write to a file is; a
//! handle sends no more of them than its ring of answers has slots, and keeps the others until an
//! answer comes: so its shard may sleep while whoever reads is slow.
//!
//! Invariant: requests on the way or with the printer ≤ slots of the ring of answers.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};

use millstream_storage::io::{FileAnswer, FileDone, FileFault, OpId};

use super::cpu::{self, Core};
use super::parking::Waker;
use super::spsc::{self, Consumer, Producer};

/// Slots of a shard's ring of answers. A sink has a few requests under way.
const SLOT_COUNT: usize = 64;

/// What a shard holds of standard output.
#[derive(Debug)]
pub(super) struct PrinterHandle {
    shard: usize,
    lines: Sender<Request>,
    dones: Consumer<FileDone>,
    /// Requests that the printer has no room for yet.
    backlog: VecDeque<Request>,
    /// Requests given to the printer and not answered.
    sent_count: usize,
}

#[derive(Debug)]
struct Request {
    shard: usize,
    op: OpId,
    lines: Vec<u8>,
}

/// Starts the printer, which writes to `out` until all handles are gone: a handle per element of
/// `wakers`, each rung when there are answers for its handle. It runs on `core`, if there is one to
/// be had. What is answered has been written: whoever has his answers need not wait for its end.
///
/// # Errors
/// The operating system's, if there can be no thread for it.
pub(super) fn start(
    core: Option<Core>,
    wakers: Vec<Waker>,
    out: impl Write + Send + 'static,
) -> io::Result<(JoinHandle<()>, Vec<PrinterHandle>)> {
    let (lines, requests) = channel();
    let (mut handles, mut askers) = (Vec::new(), Vec::new());
    for (shard, waker) in wakers.into_iter().enumerate() {
        let (dones_in, dones) = spsc::ring(SLOT_COUNT);
        askers.push((dones_in, waker));
        let (lines, backlog) = (lines.clone(), VecDeque::new());
        handles.push(PrinterHandle { shard, lines, dones, backlog, sent_count: 0 });
    }
    let thread = thread::Builder::new().name("stdout".to_owned()).spawn(move || {
        cpu::pin_if_any(core, "stdout");
        run(&requests, askers, out);
    })?;
    Ok((thread, handles))
}

fn run(
    requests: &Receiver<Request>,
    mut askers: Vec<(Producer<FileDone>, Waker)>,
    mut out: impl Write,
) {
    while let Ok(Request { shard, op, lines }) = requests.recv() {
        let result = match out.write_all(&lines).and_then(|()| out.flush()) {
            Ok(()) => Ok(FileAnswer::Written { bytes: lines }),
            Err(source) => {
                Err(FileFault { action: "write to standard output".to_string(), source })
            }
        };
        let (dones, waker) = &mut askers[shard];
        let sent = dones.push(FileDone { op, result });
        assert!(sent.is_ok(), "a ring has room for what may be outstanding");
        waker.wake();
    }
}

impl PrinterHandle {
    /// Asks for `lines` to be written.
    pub(super) fn submit(&mut self, op: OpId, lines: Vec<u8>) {
        self.backlog.push_back(Request { shard: self.shard, op, lines });
        self.flush();
    }

    /// Appends the answers that are there to `dones`.
    pub(super) fn poll(&mut self, dones: &mut Vec<FileDone>) {
        self.sent_count -= self.dones.pop_into(dones, SLOT_COUNT);
        self.flush();
    }

    /// Whether there is nothing to do before an answer comes.
    pub(super) fn is_idle(&mut self) -> bool {
        // What is kept back waits for an answer as well.
        self.dones.is_empty()
    }

    fn flush(&mut self) {
        while self.sent_count < SLOT_COUNT
            && let Some(request) = self.backlog.pop_front()
        {
            assert!(self.lines.send(request).is_ok(), "the printer died");
            self.sent_count += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::parking::Parker;
    use super::*;

    /// Writes what it is allowed to, one write for each permit.
    struct Slow {
        permits: Receiver<()>,
        written: Sender<Vec<u8>>,
    }

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.permits.recv().map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
            self.written.send(bytes.to_vec()).expect("the test listens");
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn await_done(handle: &mut PrinterHandle) -> FileDone {
        let mut dones = Vec::new();
        while dones.is_empty() {
            handle.poll(&mut dones);
            thread::yield_now();
        }
        assert_eq!(dones.len(), 1, "one permit, one answer");
        dones.remove(0)
    }

    #[test]
    fn a_slow_reader_keeps_nobody_waiting_and_gets_everything_in_order() {
        let (permits_in, permits) = channel();
        let (written_in, written) = channel();
        let waker = Parker::with_eventfd().expect("descriptors are left").waker();
        let out = Slow { permits, written: written_in };
        let (_, mut handles) = start(None, vec![waker], out).expect("a thread can be started");
        let mut handle = handles.remove(0);
        // Far more than fits anywhere: `submit` comes back all the same.
        let count = 4 * SLOT_COUNT as u64;
        for op in 0..count {
            handle.submit(OpId(op), format!("{op}\n").into_bytes());
        }
        assert!(handle.is_idle(), "the shard may sleep until an answer comes");
        for op in 0..count {
            permits_in.send(()).expect("the printer lives");
            let done = await_done(&mut handle);
            assert_eq!((done.op, done.result.is_ok()), (OpId(op), true));
            assert_eq!(written.recv().expect("it was written"), format!("{op}\n").into_bytes());
        }
        assert!(handle.is_idle());
    }

    #[test]
    fn a_reader_that_has_gone_is_told() {
        let (_, permits) = channel();
        let (written, _written) = channel();
        let waker = Parker::with_eventfd().expect("descriptors are left").waker();
        let out = Slow { permits, written };
        let (_, mut handles) = start(None, vec![waker], out).expect("a thread can be started");
        let mut handle = handles.remove(0);
        handle.submit(OpId(3), b"lost\n".to_vec());
        let fault = await_done(&mut handle).result.expect_err("nobody reads");
        assert_eq!(fault.to_string(), "could not write to standard output");
        assert_eq!(fault.source.kind(), io::ErrorKind::BrokenPipe);
    }
}
