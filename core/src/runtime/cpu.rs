//! Which thread runs on which core.
//!
//! ```text
//! cores       0   1   2   3
//! 2 shards    s0  s1  h   ·       a core for each shard, the next for housekeeping: Dedicated
//! 4 shards    s0  s1  s2  s3      housekeeping squeezes in: Shared
//! 5 shards    (not pinned)        the system's scheduler decides: Crowded
//! ```
//!
//! Housekeeping is what is not the data path: the threads of the storage service, of standard
//! output and of control share one core, if one is left. Whether a shard
//! may spin while it has nothing to do depends on who else wants its core, so [`Room`] is what the
//! automatic choice of the idle strategy looks at.
//!
//! Not here: sibling hyper-threads and memory nodes are not told apart.

use core_affinity::CoreId;

/// A core that this process may run on, by the system's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Core(pub usize);

/// Who shares the cores of the shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// Every shard has a core to itself: it may spin.
    Dedicated,
    /// Every shard has a core that housekeeping threads use as well: it should yield.
    Shared,
    /// More shards than cores, or than the processor time that the process is granted: it should
    /// park.
    Crowded,
}

/// Where the threads of a node run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// The core of each shard, in order; `None` is wherever the system likes.
    pub shards: Vec<Option<Core>>,
    /// The core of the housekeeping threads; `None` is wherever the system likes.
    pub housekeeping: Option<Core>,
    /// Who shares the shards' cores.
    pub room: Room,
}

/// A thread of a node, and where it runs.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ThreadPlace {
    /// The thread's name, as the system shows it too.
    pub thread: String,
    /// The core that it is pinned to; none if it runs wherever the system likes.
    pub core: Option<usize>,
}

impl Placement {
    /// The threads and their places; those that a service starts for itself are left out.
    pub fn threads(&self) -> Vec<ThreadPlace> {
        let place = |thread: String, core: Option<Core>| {
            let core = core.map(|core| core.0);
            ThreadPlace { thread, core }
        };
        let shards = self.shards.iter().enumerate();
        let shards = shards.map(|(index, core)| place(format!("shard-{index}"), *core));
        let others = ["storage", "stdout", "control"].into_iter();
        shards.chain(others.map(|name| place(name.to_string(), self.housekeeping))).collect()
    }
}

/// The cores that this process may run on, in ascending order; none if the system does not tell.
pub fn cores() -> Vec<Core> {
    let mut cores: Vec<Core> = core_affinity::get_core_ids()
        .unwrap_or_default()
        .into_iter()
        .map(|core| Core(core.id))
        .collect();
    cores.sort_unstable();
    cores
}

/// How many threads may run at once: the cores, or less if a control group grants less time.
pub fn parallelism() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Binds the calling thread, and threads that it starts later, to `core`. Returns whether the
/// system agreed.
pub fn pin(core: Core) -> bool {
    core_affinity::set_for_current(CoreId { id: core.0 })
}

/// Binds the calling thread, which is called `thread`, to `core`, if any. If the system refuses,
/// the thread runs wherever the system likes, and that is said.
pub(super) fn pin_if_any(core: Option<Core>, thread: &str) {
    if let Some(core) = core
        && !pin(core)
    {
        tracing::warn!(thread, core = core.0, "the system does not pin it there");
    }
}

/// Distributes `shard_count` shards over `cores`, of which `parallelism` may be busy at once.
pub fn place(cores: &[Core], parallelism: usize, shard_count: usize) -> Placement {
    let usable = cores.len().min(parallelism);
    if usable < shard_count {
        let shards = vec![None; shard_count];
        return Placement { shards, housekeeping: None, room: Room::Crowded };
    }
    let shards = cores[..shard_count].iter().copied().map(Some).collect();
    let room = if shard_count < usable { Room::Dedicated } else { Room::Shared };
    Placement { shards, housekeeping: cores.get(shard_count).copied(), room }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(core_count: usize, parallelism: usize, shard_count: usize, expected: &str) {
        let cores: Vec<Core> = (0..core_count).map(Core).collect();
        let placement = place(&cores, parallelism, shard_count);
        let name = |core: &Option<Core>| core.map_or("-".to_owned(), |core| core.0.to_string());
        let shards: Vec<String> = placement.shards.iter().map(name).collect();
        let housekeeping = name(&placement.housekeeping);
        let found = format!("{} | {housekeeping} | {:?}", shards.join(" "), placement.room);
        assert_eq!(found, expected);
    }

    #[test]
    fn spare_cores_are_for_housekeeping() {
        check(4, 4, 2, "0 1 | 2 | Dedicated");
        check(4, 4, 3, "0 1 2 | 3 | Dedicated");
    }

    #[test]
    fn every_thread_has_its_place() {
        let placement = place(&[Core(4), Core(6)], 2, 1);
        let threads = placement.threads();
        let places: Vec<_> = threads.iter().map(|place| (&*place.thread, place.core)).collect();
        let others = ["storage", "stdout", "control"].map(|name| (name, Some(6)));
        assert_eq!(places[0], ("shard-0", Some(4)));
        assert_eq!(places[1..], others);
    }

    #[test]
    fn without_a_spare_core_housekeeping_squeezes_in() {
        check(2, 2, 2, "0 1 | - | Shared");
        check(1, 1, 1, "0 | - | Shared");
    }

    #[test]
    fn more_shards_than_cores_are_not_pinned() {
        check(2, 2, 3, "- - - | - | Crowded");
        check(0, 1, 1, "- | - | Crowded");
    }

    #[test]
    fn granted_time_counts_like_cores() {
        check(8, 2, 1, "0 | 1 | Dedicated");
        check(8, 2, 2, "0 1 | 2 | Shared");
        check(8, 2, 4, "- - - - | - | Crowded");
    }

    #[test]
    fn a_thread_can_be_pinned_to_each_core() {
        let cores = cores();
        assert!(!cores.is_empty() && parallelism() > 0);
        let thread = std::thread::spawn(move || cores.into_iter().all(pin));
        assert!(thread.join().expect("pinning does not panic"));
    }
}
