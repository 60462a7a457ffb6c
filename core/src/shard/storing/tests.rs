//! Tasks that keep what the test says, a store, and a disk with its faults.

use std::cell::{Cell, RefCell};

use millstream_storage::arena::CHUNK_BYTES;
use millstream_storage::write_buffer::{RecordKey, SpaceId};

use super::*;
use crate::data::key_group::KeyGroupCount;
use crate::error::Error;
use crate::operator::TaskEnv;
use crate::shard::Next;
use crate::shard::event::{Event, Report};
use crate::shard::tests::Bench;
use crate::sim::disk::{Disk, DiskFaults};
use crate::sim::rng::{Chance, Rng};
use crate::state::shard_store::{Put, STORE_CHUNKS_MIN, STORE_ID_BIT, Waiter};
use crate::task::Activity;

const US: Duration = Duration::from_micros(1);

const VALUE_BYTES: usize = 4 << 10;

/// More than the store keeps without writing.
const KEY_COUNT: u64 = 3 * STORE_BYTES as u64 / 2 / VALUE_BYTES as u64;

const STORE_BYTES: usize = STORE_CHUNKS_MIN * CHUNK_BYTES;

/// Bytes that the tasks may keep.
const WORKING_BYTES: usize = 64 * VALUE_BYTES;

/// A shard whose only task fills its memory, and its disk.
struct World {
    bench: Bench,
    disk: Disk,
    reports: Vec<Report>,
}

/// Keys and values of a task: first it makes them all, then it asks for them all.
#[derive(Default)]
struct Keys {
    made_count: Cell<u64>,
    /// What it was to give back found no room.
    is_full: Cell<bool>,
    /// Those that it has not given to the store.
    held: RefCell<Vec<u64>>,
    /// Those that it has seen again.
    seen_count: Cell<u64>,
    /// Those that it waits for.
    awaited: RefCell<Vec<u64>>,
    space: Cell<Option<SpaceId>>,
    working_bytes_max: Cell<usize>,
}

fn hash64(key: u64) -> u64 {
    key.wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

fn value(key: u64) -> Vec<u8> {
    [key.to_be_bytes(); VALUE_BYTES / 8].concat()
}

/// Calls `then` with a key as the store has it.
fn with_key<R>(key: u64, then: impl FnOnce(RecordKey<'_>) -> R) -> R {
    // Length of the key, the key, no namespace, no map key.
    let stored = [&8_u32.to_be_bytes()[..], &key.to_be_bytes(), &0_u32.to_be_bytes()].concat();
    then(RecordKey { hash64: hash64(key), spread: 0, bytes: &stored })
}

impl Keys {
    fn space(&self, store: &ShardStore) -> SpaceId {
        let space = self.space.get().unwrap_or_else(|| store.open_state());
        self.space.set(Some(space));
        space
    }

    /// What the task does in its turn. Whether it has more to do at once.
    fn turn(&self, env: &TaskEnv) -> Activity {
        let store = env.store.get().expect("the shard has one");
        if self.made_count.get() < KEY_COUNT {
            if self.is_full.get() {
                return Activity::Blocked(None);
            }
            for _ in 0..16 {
                self.held.borrow_mut().push(self.made_count.get());
                self.made_count.set(self.made_count.get() + 1);
                store.charge(0, VALUE_BYTES);
            }
            let working_bytes = store.working_bytes().max(self.working_bytes_max.get());
            self.working_bytes_max.set(working_bytes);
            return Activity::Busy;
        }
        let read = store.take_read(0);
        let (ready, mut awaited): (Vec<u64>, Vec<u64>) =
            self.awaited.take().into_iter().partition(|key| read.contains(&(7, hash64(*key))));
        let next = self.seen_count.get() + awaited.len() as u64 + ready.len() as u64;
        let new = next..KEY_COUNT.min(next + 16 - (awaited.len() as u64).min(16));
        let has_more = !new.is_empty();
        for key in ready.into_iter().chain(new) {
            let waiter = Waiter { chain_index: 0, stage_index: 7, hash64: hash64(key) };
            let is_held = self.held.borrow().contains(&key);
            let check = |found: Option<&[u8]>| assert_eq!(found, Some(&value(key)[..]), "{key}");
            let got = with_key(key, |k| store.get(self.space(store), k, waiter, check));
            match got {
                _ if is_held => self.seen_count.set(self.seen_count.get() + 1),
                Ok(Some(())) => self.seen_count.set(self.seen_count.get() + 1),
                Ok(None) => awaited.push(key),
                Err(error) => env.fail(error),
            }
        }
        *self.awaited.borrow_mut() = awaited;
        match self.seen_count.get() {
            KEY_COUNT => Activity::Finished,
            _ if has_more => Activity::Busy,
            _ => Activity::Idle(None),
        }
    }

    /// Gives back.
    fn relieve(&self, env: &TaskEnv, steps: u32) {
        let store = env.store.get().expect("the shard has one");
        let space = self.space(store);
        for _ in 0..steps {
            let Some(key) = self.held.borrow().last().copied() else { return };
            if store.excess_bytes() == 0 {
                return;
            }
            match with_key(key, |k| store.put(space, k, &value(key))) {
                Ok(put) => self.is_full.set(put == Put::NoRoom),
                Err(error) => return env.fail(error),
            }
            if self.is_full.get() {
                return;
            }
            self.held.borrow_mut().pop();
            store.charge(VALUE_BYTES, 0);
        }
    }
}

impl World {
    fn new(activities: &[Activity], faults: DiskFaults) -> Self {
        let mut bench = Bench::new(activities);
        let key_group_count = KeyGroupCount::new(16).expect("in range");
        bench.shard = bench.shard.with_store(ShardStoreConfig {
            directory: "state".into(),
            key_groups: 0..16,
            key_group_count,
            working_bytes: WORKING_BYTES,
            table_bytes: 0,
            store_bytes: STORE_BYTES,
            durable: None,
        });
        Self { bench, disk: Disk::new(Rng::new(1), faults), reports: Vec::new() }
    }

    /// With a task that makes keys and asks for them again.
    fn of_keys(faults: DiskFaults) -> (Self, Rc<Keys>) {
        let world = Self::new(&[Activity::Busy], faults);
        let (keys, log) = (Rc::<Keys>::default(), &world.bench.logs[0]);
        let (made, given, answer) = (Rc::clone(&keys), Rc::clone(&keys), Rc::downgrade(log));
        *log.in_turn.borrow_mut() = Box::new(move |env| {
            let activity = made.turn(env);
            answer.upgrade().expect("the test has it").activity.set(activity);
        });
        *log.in_relief.borrow_mut() = Box::new(move |env, steps| given.relieve(env, steps));
        (world, keys)
    }

    fn store(&self) -> &ShardStore {
        &self.bench.shard.storing.as_ref().expect("it has one").store
    }

    fn turn(&mut self) {
        let (mut dones, mut effects) = (Vec::new(), Vec::new());
        self.disk.poll(self.bench.now, &mut dones);
        let mut events: Vec<Event> = dones.into_iter().map(Event::File).collect();
        self.bench.shard.turn(self.bench.now, &mut events, &mut effects);
        self.bench.now += 10 * US;
        self.bench.shard.turn_ended(self.bench.now, &mut effects);
        for effect in effects {
            match effect {
                Effect::File(op) => {
                    assert_ne!(op.id().0 & STORE_ID_BIT, 0, "nobody else asks for anything");
                    self.disk.submit(self.bench.now, op);
                }
                Effect::Report(report) => self.reports.push(*report),
                other => panic!("nobody wants {other:?}"),
            }
        }
    }

    /// Turns until nothing happens by itself, or it is `until`. Whether something would.
    fn run(&mut self, until: Duration) -> bool {
        while self.bench.now < until {
            let own = match self.bench.shard.next() {
                Next::Busy => Some(self.bench.now),
                Next::At(at) => Some(at),
                Next::Wait | Next::Over => None,
            };
            let Some(next) = own.into_iter().chain(self.disk.next_due()).min() else {
                return false;
            };
            self.bench.now = self.bench.now.max(next.min(until));
            self.turn();
        }
        true
    }

    fn failure(&self) -> Option<&Error> {
        self.reports.iter().find_map(|report| match report {
            Report::Failed { error, .. } => Some(error),
            _ => None,
        })
    }
}

#[test]
fn what_has_no_room_goes_to_disk_and_comes_back() {
    let (mut world, keys) = World::of_keys(DiskFaults::default());
    assert!(!world.run(Duration::MAX), "it ends");
    assert!(matches!(world.reports[..], [Report::Finished]), "{:?}", world.reports);
    assert_eq!(keys.seen_count.get(), KEY_COUNT);
    assert!(world.disk.files().any(|(path, bytes)| path.starts_with("state") && !bytes.is_empty()));
    let limit = WORKING_BYTES + WORKING_BYTES / EXCESS_DIVISOR + 32 * VALUE_BYTES;
    assert!(keys.working_bytes_max.get() <= limit, "{} bytes", keys.working_bytes_max.get());
}

#[test]
fn a_task_that_cannot_give_back_waits_while_the_disk_is_full() {
    let faults = DiskFaults { capacity_bytes: Some(4 << 20), ..DiskFaults::default() };
    let (mut world, keys) = World::of_keys(faults);
    world.run(Duration::from_secs(20));
    let made_count = keys.made_count.get();
    assert!(made_count < KEY_COUNT, "it takes in without end");
    assert!(keys.is_full.get() && world.reports.is_empty(), "{:?}", world.reports);
    world.bench.runs();
    world.run(Duration::from_secs(30));
    assert_eq!(keys.made_count.get(), made_count);
    assert!(world.bench.runs()[0] < 100, "waiting costs next to nothing");
    world.disk.faults.capacity_bytes = None;
    assert!(!world.run(Duration::MAX), "it ends");
    assert!(matches!(world.reports[..], [Report::Finished]), "{:?}", world.reports);
    assert_eq!(keys.seen_count.get(), KEY_COUNT);
}

#[test]
fn what_cannot_be_made_durable_stops_the_shard_and_is_named() {
    let faults = DiskFaults { sync_error: Chance::one_in(1), ..DiskFaults::default() };
    let (mut world, _) = World::of_keys(faults);
    assert!(!world.run(Duration::MAX), "it ends");
    assert_eq!(world.reports.len(), 1);
    let message = world.failure().expect("it cannot go on").chain();
    assert!(message.contains("sync state/0000000000000001.part"), "{message}");
    assert_eq!(world.bench.shard.next(), Next::Over);
}

#[test]
fn what_cannot_be_read_stops_the_shard_and_is_named() {
    let (mut world, keys) = World::of_keys(DiskFaults::default());
    while keys.made_count.get() < KEY_COUNT {
        world.turn();
    }
    world.disk.faults.read_error = Chance::one_in(1);
    assert!(!world.run(Duration::MAX), "it ends");
    assert_eq!(world.reports.len(), 1);
    let message = world.failure().expect("it cannot go on").chain();
    assert!(message.contains("read state/") && message.contains(".table"), "{message}");
}

#[test]
fn giving_back_and_working_have_turns_of_their_own() {
    let mut world = World::new(&[Activity::Busy; 2], DiskFaults::NONE);
    let asked = Rc::new(Cell::new(0));
    let count = Rc::clone(&asked);
    let give = move |env: &TaskEnv, _| {
        count.set(count.get() + 1);
        env.store.get().expect("there is one").charge(WORKING_BYTES, WORKING_BYTES - 1);
    };
    *world.bench.logs[0].in_relief.borrow_mut() = Box::new(give);
    world.turn();
    world.store().charge(0, WORKING_BYTES + 10);
    world.bench.runs();
    for _ in 0..10 {
        world.turn();
    }
    assert_eq!((world.bench.runs(), asked.take()), (vec![5, 5], 5), "little: every other turn");
    world.store().charge(0, WORKING_BYTES);
    for _ in 0..10 {
        world.turn();
    }
    assert_eq!((world.bench.runs(), asked.take()), (vec![0, 0], 10), "much: nothing else");
    assert_eq!(world.bench.shard.status().turns.stalls, 0);
}

#[test]
fn who_cannot_give_back_is_not_asked_for_ever() {
    let mut world = World::new(&[Activity::Idle(None); 2], DiskFaults::NONE);
    let asked = Rc::new(Cell::new(0));
    for log in &world.bench.logs {
        let count = Rc::clone(&asked);
        *log.in_relief.borrow_mut() = Box::new(move |_, _| count.set(count.get() + 1));
    }
    world.turn();
    world.store().charge(0, 2 * WORKING_BYTES);
    assert_eq!(world.bench.shard.next(), Next::Busy);
    assert!(!world.run(Duration::from_secs(1)), "nothing happens any more");
    assert_eq!(asked.get(), 2, "each of them once");
}

#[test]
fn an_answer_that_comes_when_all_is_over_is_of_no_interest() {
    let mut world = World::new(&[Activity::Finished], DiskFaults::default());
    world.turn();
    assert!(matches!(world.reports[..], [Report::Finished]), "{:?}", world.reports);
    let listed = world.disk.next_due().expect("the directory is being listed");
    assert!(!world.run(Duration::MAX), "nothing else happens");
    assert!(listed <= world.bench.now);
    assert_eq!((world.bench.shard.next(), world.reports.len()), (Next::Over, 1));
}
