//! The store against a map, on a disk that answers late, out of order, and sometimes not well.

mod cases;
mod contract;
mod faults;
mod leftovers;
mod memory;
mod merges;
mod reads;
mod room;
mod scans;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::task::Poll;

use proptest::prelude::*;

use self::scans::Watch;
use super::*;
use crate::table::{self, HashRange};
use crate::test_disk::{Disk, Fault};

const KEY_GROUP_COUNT: u32 = 8;
const KEYS: u8 = 48;

/// Keys from here on are of a state with a time to live; the first byte of a value is its time.
const FIRST_MORTAL: u8 = 36;
const STATE: u16 = 3;
const MORTAL_STATE: u16 = 4;
const WINDOW: i64 = 77;

const BANDS: [HashRange; 2] =
    [HashRange { first: 0, last: u64::MAX >> 1 }, HashRange { first: 1 << 63, last: u64::MAX }];

type Records = BTreeMap<u8, Vec<u8>>;

#[derive(Debug, Clone)]
enum Deed {
    Put(u8, Vec<u8>),
    Append(u8, Vec<u8>),
    Remove(u8),
    /// Begins to read.
    Get(u8),
    /// Reads to the end.
    Read(u8),
    ReadAll,
    Freeze,
    Step(usize),
    /// Steps until nothing is left to do.
    Flush,
    /// The disk answers so many operations; which ones is by the numbers.
    Answer(Vec<u16>),
    Evict,
    /// Goes on with a merge.
    Merge(usize),
    /// Merges until nothing is left to do.
    MergeAll,
    /// Later than all times so far by so much.
    Expire(u8),
    /// Goes on with a scan for so many entries.
    Scan(u8),
    /// Another manifest names what is there.
    Retain,
    /// It does not any more; every so many of its tables.
    Release(usize),
    Break(Fault),
    Restart,
}

fn deed() -> impl Strategy<Value = Deed> {
    let key = || 0..KEYS;
    let value = || {
        // Some blocks have several pages.
        let len = prop_oneof![9 => 1_usize..300, 1 => 4000_usize..9000];
        (any::<u8>(), len).prop_map(|(byte, len)| vec![byte; len])
    };
    let fault = prop::sample::select(&Fault::ALL[..]);
    prop_oneof![
        16 => (key(), value()).prop_map(|(key, value)| Deed::Put(key, value)),
        8 => (key(), value()).prop_map(|(key, value)| Deed::Append(key, value)),
        6 => key().prop_map(Deed::Remove),
        8 => key().prop_map(Deed::Get),
        8 => key().prop_map(Deed::Read),
        2 => Just(Deed::ReadAll),
        6 => Just(Deed::Freeze),
        6 => (1_usize..20).prop_map(Deed::Step),
        4 => Just(Deed::Flush),
        8 => prop::collection::vec(any::<u16>(), 1..8).prop_map(Deed::Answer),
        6 => Just(Deed::Evict),
        8 => (1_usize..5000).prop_map(Deed::Merge),
        3 => Just(Deed::MergeAll),
        3 => (0_u8..40).prop_map(Deed::Expire),
        8 => (0_u8..20).prop_map(Deed::Scan),
        2 => Just(Deed::Retain),
        2 => (1_usize..4).prop_map(Deed::Release),
        2 => fault.prop_map(Deed::Break),
        2 => Just(Deed::Restart),
    ]
}

/// Of every three keys, two have the same hash.
fn hash64(key: u8) -> u64 {
    let number = u64::from(key) - u64::from(key % 3 == 2);
    number * (u64::MAX / u64::from(KEYS))
}

/// As of a map's entries.
fn spread(key: u8) -> u64 {
    u64::from(key % 2).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn rest(key: u8) -> Vec<u8> {
    let (key, namespace, map_key) = (&[key][..], &[][..], &[][..]);
    let fixed = (0, 0, 0, 0);
    let (key_group, state_id, window_bucket, hash64) = fixed;
    let stored =
        StoredKey { key_group, state_id, window_bucket, hash64, key, namespace, map_key }.encode();
    stored[20..].to_vec()
}

fn time_of(value: &[u8]) -> i64 {
    value[0].into()
}

struct World {
    disk: Disk,
    store: Store,
    spaces: [SpaceId; 2],
    alive_from: u8,
    model: Records,
    /// What was frozen and is not installed, in order.
    frozen: VecDeque<Records>,
    /// What tables say.
    installed: Records,
    installed_count: u64,
    /// Pseudo-random choices of what is answered next.
    choice: u16,
    /// What other manifests name, and is there.
    retained: BTreeSet<TableId>,
    /// Files that are none of the store's.
    foreign: BTreeSet<PathBuf>,
    watch: Option<Watch>,
}

fn config(next_table_id: u64) -> StoreConfig {
    StoreConfig {
        directory: PathBuf::from("state"),
        retained: BTreeSet::new(),
        key_groups: 0..KEY_GROUP_COUNT,
        key_group_count: KEY_GROUP_COUNT,
        bands: BANDS.to_vec(),
        memory_bytes: 16 << 20,
        table_bytes: 8 << 20,
        cache_chunks_max: 1,
        next_table_id,
        times: BTreeMap::from([(MORTAL_STATE, time_of as TimeOf)]),
    }
}

impl World {
    fn new() -> Self {
        let mut store = Store::new(config(1), Vec::new());
        let spaces = [STATE, MORTAL_STATE].map(|id| store.open_space(id, WINDOW, Origin::New));
        let mut world = Self {
            disk: Disk::default(),
            store,
            spaces,
            alive_from: 0,
            model: Records::new(),
            frozen: VecDeque::new(),
            installed: Records::new(),
            installed_count: 0,
            choice: 0,
            retained: BTreeSet::new(),
            foreign: BTreeSet::new(),
            watch: None,
        };
        world.open();
        world
    }

    /// Answers one operation, if one is left. A store that has failed is restarted.
    fn answer(&mut self, choice: u16) -> bool {
        while let Some(op) = self.store.next_op() {
            self.disk.ask(op);
        }
        let Some(done) = self.disk.answer(choice) else { return false };
        let result = self.store.on_done(done);
        self.note_installed();
        if let Err(error) = result {
            assert!(!matches!(error, Error::Full(_)), "{error}");
            self.restart();
        }
        true
    }

    fn answer_any(&mut self) -> bool {
        self.choice = self.choice.wrapping_mul(25_173).wrapping_add(13_849);
        self.answer(self.choice >> 4)
    }

    /// Answers all there is.
    fn settle(&mut self) {
        while self.answer_any() {}
    }

    fn note_installed(&mut self) {
        while self.installed_count < self.store.installed_count {
            self.installed = self.frozen.pop_front().expect("what is installed was frozen");
            self.installed_count += 1;
        }
    }

    /// The tables that are installed.
    fn rows(&self) -> Vec<TableRow> {
        TableRow::all_of(self.store.version())
    }

    /// Begins anew from the tables that are installed, as after the process has died.
    fn restart(&mut self) {
        self.restart_from(self.rows());
    }

    fn restart_from(&mut self, rows: Vec<TableRow>) {
        self.begin_to_open(rows);
        self.open();
        self.model = self.installed.clone();
        self.frozen.clear();
        self.installed_count = 0;
    }

    /// Waits until the store is open: what is there is what is named.
    fn open(&mut self) {
        while !self.store.is_open().expect("the tables are sound") {
            while let Some(op) = self.store.next_op() {
                self.disk.ask(op);
            }
            let done = self.disk.answer(0).expect("what is not open is being opened");
            self.store.on_done(done).expect("the tables are sound");
        }
        self.settle();
        assert_eq!(self.disk.paths(), self.named_paths());
    }

    /// What has to be there when nothing is under way.
    fn named_paths(&self) -> BTreeSet<PathBuf> {
        let ids = self.rows().into_iter().map(|row| row.id).chain(self.retained.iter().copied());
        let paths = ids.map(|id| self.store.config.path(id));
        paths.chain(self.foreign.iter().cloned()).collect()
    }

    /// A store that is to open these tables.
    fn begin_to_open(&mut self, rows: Vec<TableRow>) {
        self.disk.crash();
        self.watch = None;
        let mut config = config(self.store.config.next_table_id);
        config.retained.clone_from(&self.retained);
        self.store = Store::new(config, rows);
        self.spaces = [STATE, MORTAL_STATE]
            .map(|state_id| self.store.open_space(state_id, WINDOW, Origin::Restored));
        self.store.expire(MORTAL_STATE, self.alive_from.into());
    }

    fn space(&self, key: u8) -> SpaceId {
        self.spaces[usize::from(FIRST_MORTAL <= key)]
    }

    /// What a reader should see.
    fn expected(&self, key: u8) -> Option<&Vec<u8>> {
        let is_alive = |value: &&Vec<u8>| key < FIRST_MORTAL || self.alive_from <= value[0];
        self.model.get(&key).filter(is_alive)
    }

    fn got(&mut self, key: u8) -> Result<Poll<Option<Vec<u8>>>, Error> {
        let rest = rest(key);
        let name = RecordKey { hash64: hash64(key), spread: spread(key), bytes: &rest };
        Ok(match self.store.get(self.space(key), name)? {
            Got::Ready(value) => Poll::Ready(value.map(<[u8]>::to_vec)),
            Got::Wait(_) => Poll::Pending,
        })
    }

    /// Reads, as often as reading fails, and the disk may fail twice.
    fn read(&mut self, key: u8) -> Option<Vec<u8>> {
        let mut failed = 0;
        loop {
            match self.got(key) {
                Ok(Poll::Ready(value)) => return value,
                Ok(Poll::Pending) => assert!(self.answer_any(), "a read that waits is answered"),
                Err(Error::Read(_) | Error::Table { .. }) if failed < 2 => failed += 1,
                Err(error) => panic!("a sound disk is read: {error}"),
            }
        }
    }

    fn flush(&mut self) {
        loop {
            let is_busy = self.store.step(1000).expect("failed stores are restarted");
            if !self.answer_any() && !is_busy {
                if self.store.is_flushed() {
                    return;
                }
                assert_eq!(self.store.pressure(), Pressure::Stop);
                if self.store.backlog() == Pressure::Stop {
                    self.merge();
                }
                self.disk.make_room();
                self.store.retry();
            }
        }
    }

    /// Carries out all merges that are due.
    fn merge(&mut self) {
        while self.store.merge_step(1000).expect("a merge does not fail the store")
            || self.answer_any()
        {}
    }

    fn run(&mut self, deed: &Deed) {
        let of = |key: &u8| (hash64(*key), rest(*key));
        match deed {
            Deed::Put(key, value) => {
                let (hash64, bytes) = of(key);
                let name = RecordKey { hash64, spread: spread(*key), bytes: &bytes };
                self.store.put(self.space(*key), name, value).expect("there is memory enough");
                self.model.insert(*key, value.clone());
            }
            Deed::Append(key, _) if FIRST_MORTAL <= *key => {}
            Deed::Append(key, value) => {
                let (hash64, bytes) = of(key);
                let name = RecordKey { hash64, spread: spread(*key), bytes: &bytes };
                self.store.append(self.space(*key), name, value).expect("there is memory enough");
                self.model.entry(*key).or_default().extend(value);
            }
            Deed::Remove(key) => {
                let (hash64, bytes) = of(key);
                let name = RecordKey { hash64, spread: spread(*key), bytes: &bytes };
                self.store.remove(self.space(*key), name).expect("there is memory enough");
                self.model.remove(key);
            }
            Deed::Get(key) => {
                if let Ok(Poll::Ready(value)) = self.got(*key) {
                    assert_eq!(value.as_ref(), self.expected(*key));
                }
            }
            Deed::Read(key) => {
                let value = self.read(*key);
                assert_eq!(value.as_ref(), self.expected(*key), "key {key}");
            }
            Deed::ReadAll => (0..KEYS).for_each(|key| self.run(&Deed::Read(key))),
            Deed::Freeze => {
                if self.store.freeze() {
                    self.frozen.push_back(self.model.clone());
                }
            }
            Deed::Step(steps) => {
                self.store.step(*steps).expect("failed stores are restarted");
            }
            Deed::Flush => self.flush(),
            Deed::Answer(choices) => {
                for choice in choices {
                    self.answer(*choice);
                }
            }
            Deed::Evict => {
                self.store.evict(1 << 20, 10_000);
            }
            Deed::Merge(bytes) => {
                self.store.merge_step(*bytes).expect("a merge does not fail the store");
            }
            Deed::MergeAll => self.merge(),
            Deed::Expire(by) => {
                self.alive_from = self.alive_from.saturating_add(*by);
                self.store.expire(MORTAL_STATE, self.alive_from.into());
            }
            Deed::Scan(count) => {
                (0..*count).take_while(|_| self.scan_on()).count();
            }
            Deed::Retain => {
                let ids: Vec<TableId> = self.rows().into_iter().map(|row| row.id).collect();
                self.store.retain(ids.iter().copied());
                self.retained.extend(ids);
            }
            Deed::Release(every) => {
                let ids: Vec<TableId> = self.retained.iter().step_by(*every).copied().collect();
                self.store.release(ids.iter().copied());
                self.retained.retain(|id| !ids.contains(id));
            }
            Deed::Break(fault) => self.disk.fault = Some(*fault),
            Deed::Restart => self.restart(),
        }
        self.note_changes();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Whatever is done in whatever order, reads are right, and a restart finds what was installed
    /// last, and no file too many.
    #[test]
    fn it_is_a_map(deeds in prop::collection::vec(deed(), 0..150)) {
        let mut world = World::new();
        for deed in deeds {
            world.run(&deed);
        }
        world.disk.fault = None;
        world.scan_all();
        world.run(&Deed::ReadAll);
        world.flush();
        world.run(&Deed::Freeze);
        world.flush();
        while world.store.version().pick(|_| true).is_some() {
            world.merge();
            // A merge that failed is tried again after some deltas.
            if !world.store.merging.backoffs.is_empty() {
                world.run(&Deed::Put(0, vec![0; 10]));
                world.run(&Deed::Freeze);
                world.flush();
            }
        }
        world.flush();
        prop_assert_eq!(world.disk.paths(), world.named_paths());
        world.restart();
        world.scan_all();
        world.run(&Deed::ReadAll);
    }
}
