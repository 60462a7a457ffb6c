//! Whether callers are let in: a pure machine for all listeners of a shard.
//!
//! ```text
//! open ──as many connections as there may be──► full ──one ends───────────────► open
//!   └────no file descriptor for a caller──────► rest ──after a while──► open (── or rest again)
//! ```
//!
//! Callers wait meanwhile, in the listener's backlog. Each kind of pause is said once, when it
//! begins: a rest goes on until a caller was let in.
//!
//! Not here: who accepts (`socket.rs`), how long a rest is (`kernel.rs`).

use std::io;

/// The connections of a shard that called, and what keeps further ones out.
#[derive(Debug)]
pub(super) struct Door {
    connection_count: usize,
    connection_count_max: usize,
    /// No caller is let in before the rest is over.
    rests: bool,
    /// There was no descriptor for the last caller.
    is_short: bool,
    has_said_full: bool,
}

impl Door {
    /// A door for at most so many connections at once.
    pub(super) fn new(connection_count_max: usize) -> Self {
        Self {
            connection_count: 0,
            connection_count_max: connection_count_max.max(1),
            rests: false,
            is_short: false,
            has_said_full: false,
        }
    }

    /// Whether callers are to be accepted.
    pub(super) fn is_open(&self) -> bool {
        !self.rests && self.connection_count < self.connection_count_max
    }

    /// A caller was let in. What is to be said, if anything. More may come than are let in: those
    /// who were accepted before the door was closed.
    pub(super) fn on_entered(&mut self) -> Option<&'static str> {
        self.connection_count += 1;
        self.is_short = false;
        let is_full = self.connection_count_max <= self.connection_count;
        let is_news = is_full && !std::mem::replace(&mut self.has_said_full, is_full);
        is_news.then_some(
            "as many connections are open as the limit of open files allows: callers wait until \
             one ends; raise the limit (ulimit -n) to let in more",
        )
    }

    /// A connection that was let in has ended.
    pub(super) fn on_left(&mut self) {
        self.connection_count -= 1;
        // Half empty: what fills it then is another crowd.
        self.has_said_full &= self.connection_count_max / 2 < self.connection_count;
    }

    /// A caller could not be given a descriptor: a rest begins. What is to be said, if anything.
    pub(super) fn on_shortage(&mut self) -> Option<&'static str> {
        self.rests = true;
        let is_news = !std::mem::replace(&mut self.is_short, true);
        is_news.then_some(
            "no file descriptor is left for a caller, who waits until one is free; raise the \
             limit of open files (ulimit -n, or sysctl fs.file-max for the whole machine)",
        )
    }

    /// The rest is over.
    pub(super) fn on_rested(&mut self) {
        self.rests = false;
    }

    /// Whether a rest is under way.
    pub(super) fn rests(&self) -> bool {
        self.rests
    }
}

/// Whether accepting failed for want of something that may be there a moment later.
pub(super) fn is_shortage(error: &io::Error) -> bool {
    let short = [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM];
    error.raw_os_error().is_some_and(|code| short.contains(&code))
}

/// Connections that a shard may accept, if so many files may be open: three quarters of them. The
/// others are for files, rings and connections to elsewhere. Not divided by the shards, as a job's
/// listeners are those of its first tasks, on one shard; if several do accept that many, callers
/// find no descriptor, and wait as well.
pub(in crate::runtime) fn connection_count_max(open_files: Option<u64>) -> usize {
    let open_files = open_files.and_then(|count| usize::try_from(count).ok()).unwrap_or(usize::MAX);
    (open_files / 4 * 3).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_door_opens_when_one_leaves_and_says_so_once_a_crowd() {
        let mut door = Door::new(2);
        assert_eq!((door.on_entered(), door.is_open()), (None, true));
        assert!(door.on_entered().is_some() && !door.is_open());
        assert_eq!(door.on_entered(), None, "he was accepted before it closed");
        door.on_left();
        assert!(!door.is_open(), "still full");
        door.on_left();
        assert!(door.is_open());
        assert!(door.on_entered().is_some(), "half of them had left");
    }

    #[test]
    fn a_shortage_is_said_once_until_somebody_was_let_in() {
        let mut door = Door::new(9);
        assert!(door.on_shortage().is_some() && !door.is_open());
        door.on_rested();
        assert!(door.is_open());
        assert_eq!(door.on_shortage(), None, "it goes on");
        door.on_rested();
        assert_eq!(door.on_entered(), None);
        assert!(door.on_shortage().is_some(), "another one");
    }

    #[test]
    fn some_of_the_files_that_may_be_open_are_not_for_callers() {
        assert_eq!(connection_count_max(Some(1024)), 768);
        assert_eq!(connection_count_max(Some(3)), 1);
        assert_eq!(connection_count_max(None), usize::MAX / 4 * 3);
    }

    #[test]
    fn what_may_be_there_later_is_a_shortage() {
        let of = |code| is_shortage(&io::Error::from_raw_os_error(code));
        assert!(of(libc::EMFILE) && of(libc::ENFILE) && of(libc::ENOBUFS) && of(libc::ENOMEM));
        assert!(!of(libc::EINVAL) && !of(libc::ECONNABORTED));
    }
}
