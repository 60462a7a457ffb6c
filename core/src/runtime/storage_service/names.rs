//! Names on a thread of their own, for the raw ring: it opens, renames, removes and lists while the
//! service's thread goes on with reads and writes.
//!
//! ```text
//! ring.rs ──(ticket, what to do)──► one thing after the other ──(ticket, Named)──► ring.rs
//! ```
//!
//! The kernel's ring has operations for some of this (open, rename, unlink, mkdir), but it gives
//! what may sleep to a thread as well, and has none for listings and locks: so one thread does all
//! of it, in the order in which it was asked for.
//!
//! Not here: what is done with names (`blocking.rs`), making changes durable (`ring.rs`).

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread;

use millstream_storage::io::FileAnswer;
use millstream_storage::listing::SharedListings;

use super::blocking::{self, Lock, Locks, Opened};
use super::queue::Ticket;
use crate::runtime::parking::Waker;

/// What came of it.
#[derive(Debug)]
pub(super) enum Named {
    Opened(Opened),
    Locked(Arc<Lock>),
    /// Names have changed: the answer, once these directories are durable.
    Changed {
        unsynced: Vec<File>,
        answer: FileAnswer,
    },
    Answer(FileAnswer),
}

/// What outlasts a request.
#[derive(Debug, Default)]
pub(super) struct Kept {
    pub(super) listings: SharedListings,
    locks: Locks,
}

impl Kept {
    /// The lock file `path`, if nobody else holds it.
    pub(super) fn lock(&mut self, path: &Path) -> io::Result<Arc<Lock>> {
        match self.locks.held(path) {
            Some(lock) => Ok(lock),
            None => Ok(self.locks.keep(blocking::lock(path)?)),
        }
    }

    /// A requester lets go of `lock`; the last one gives it back.
    pub(super) fn release(&mut self, lock: Arc<Lock>) -> io::Result<()> {
        self.locks.last(lock).map_or(Ok(()), Lock::release)
    }
}

type Request = Box<dyn FnOnce(&mut Kept) -> io::Result<Named> + Send>;

/// The service's side of the thread, which ends when this is dropped.
#[derive(Debug)]
pub(super) struct Names {
    requests: Sender<(Ticket, Request)>,
    results: Receiver<(Ticket, io::Result<Named>)>,
}

impl Names {
    /// Starts the thread; `service` is rung for every result.
    ///
    /// # Errors
    /// The operating system's, if there can be no thread.
    pub(super) fn start(service: Waker) -> io::Result<Self> {
        let (requests, received) = channel::<(Ticket, Request)>();
        let (answers, results) = channel();
        let run = move || {
            let mut kept = Kept::default();
            for (ticket, request) in received {
                // Nobody listens to a service that has died.
                let _ = answers.send((ticket, request(&mut kept)));
                service.kick();
            }
        };
        thread::Builder::new().name("storage-names".to_owned()).spawn(run)?;
        Ok(Self { requests, results })
    }

    /// Has `request` carried out after all earlier ones.
    pub(super) fn run(
        &self,
        ticket: Ticket,
        request: impl FnOnce(&mut Kept) -> io::Result<Named> + Send + 'static,
    ) {
        // A thread that has died is noticed by whoever asks for results.
        let _ = self.requests.send((ticket, Box::new(request)));
    }

    /// A result that nobody has taken.
    ///
    /// # Panics
    /// If the thread has panicked.
    pub(super) fn next_result(&self) -> Option<(Ticket, io::Result<Named>)> {
        match self.results.try_recv() {
            Ok(result) => Some(result),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => panic!("the thread for names died"),
        }
    }
}
