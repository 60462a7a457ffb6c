//! The write buffer against maps: whatever is done in whatever order, reads, frozen epochs and
//! memory are what they should be.

mod sizes;

use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;

use super::pages::Part;
use super::*;
use crate::arena::CHUNK_BYTES;
use crate::key::StoredKey;
use crate::table::Change;

const KEY_GROUPS: Range<u32> = 2..6;
const KEY_GROUP_COUNT: u32 = 8;

/// State ids, window buckets and origins of the spaces. The tables of the restored one are empty at
/// first, but the write buffer does not know.
const SPACES: [(u16, i64, Origin); 5] = [
    (1, 0, Origin::New),
    (2, 0, Origin::Restored),
    (3, -1000, Origin::New),
    (3, 1000, Origin::New),
    (0, 2000, Origin::Restored),
];

/// More steps than any one operation may take: a segment is moved, and then its half.
const STEPS_MAX: u64 = 2500;

/// By stored key.
type Records = BTreeMap<Vec<u8>, Vec<u8>>;

#[derive(Debug, Clone)]
enum Delta {
    Value(Vec<u8>),
    Tombstone,
    Operand(Vec<u8>),
}

impl Delta {
    fn len(&self) -> usize {
        match self {
            Self::Value(bytes) | Self::Operand(bytes) => bytes.len(),
            Self::Tombstone => 0,
        }
    }
}

/// A frozen epoch and what is expected of it.
struct Epoch {
    frozen: Option<Frozen>,
    number: u32,
    /// The records at the freeze.
    snapshot: Records,
    /// Spaces that were dropped in the epoch.
    dropped: Vec<usize>,
    emitted: Vec<(Vec<u8>, Delta)>,
    is_drained: bool,
}

struct World {
    budget: Budget,
    buffer: WriteBuffer,
    spaces: [SpaceId; SPACES.len()],
    /// What a reader should see.
    model: Records,
    /// What tables say that can be read.
    tables: Records,
    /// What a checkpoint restores: all tables up to its epoch.
    checkpoint: Records,
    epochs: VecDeque<Epoch>,
    /// Spaces dropped in the current epoch, and ever, with the epoch.
    dropped: Vec<usize>,
    all_dropped: Vec<(usize, u32)>,
    full_count: usize,
    /// Keys whose index lines were asked for last.
    far: Vec<u32>,
}

/// A record of the model.
#[derive(Debug, Clone, Copy)]
struct Name {
    space: usize,
    key: u32,
}

impl Name {
    /// Some keys share their hash, some their tag.
    fn hash64(self) -> u64 {
        let mixed = (u64::from(self.key) / 3).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let (first, last) = (u64::from(KEY_GROUPS.start), u64::from(KEY_GROUPS.end));
        let width = (1_u64 << 61) * (last - first);
        (1_u64 << 61) * first + mixed % width
    }

    fn record_key(self, stored: &[u8]) -> RecordKey<'_> {
        let spread = u64::from(self.key % 2 * self.key.wrapping_mul(0x85eb_ca6b));
        RecordKey { hash64: self.hash64(), spread, bytes: &stored[20..] }
    }

    fn stored(self) -> Vec<u8> {
        let (state_id, window_bucket, _) = SPACES[self.space];
        let hash64 = self.hash64();
        let key_group = (hash64 >> 61) as u16;
        let key = &self.key.to_be_bytes()[..];
        let namespace = &key[..self.key as usize % 5];
        let map_key = &[];
        StoredKey { key_group, state_id, window_bucket, hash64, key, namespace, map_key }.encode()
    }
}

fn apply(records: &mut Records, key: &[u8], delta: &Delta) {
    match delta {
        Delta::Value(value) => {
            records.insert(key.to_vec(), value.clone());
        }
        Delta::Tombstone => {
            records.remove(key);
        }
        Delta::Operand(bytes) => records.entry(key.to_vec()).or_default().extend(bytes),
    }
}

fn flip(bytes: &mut [u8], mask: u8) {
    for byte in bytes {
        *byte ^= mask;
    }
}

/// The index in [`SPACES`] of a stored key.
fn space_of(key: &[u8]) -> usize {
    let key = StoredKey::decode(key).expect("a stored key");
    let is_it =
        |space: &(u16, i64, Origin)| (space.0, space.1) == (key.state_id, key.window_bucket);
    SPACES.iter().position(is_it).expect("a space of the test")
}

impl World {
    fn new(budget_bytes: usize) -> Self {
        let mut buffer = WriteBuffer::new(KEY_GROUPS, KEY_GROUP_COUNT);
        let spaces = SPACES.map(|(state, bucket, origin)| buffer.open(state, bucket, origin));
        Self {
            budget: Budget::new(budget_bytes),
            buffer,
            spaces,
            model: Records::new(),
            tables: Records::new(),
            checkpoint: Records::new(),
            epochs: VecDeque::new(),
            dropped: Vec::new(),
            all_dropped: Vec::new(),
            full_count: 0,
            far: Vec::new(),
        }
    }

    /// Does something with the buffer and the model's value of the record, and nothing with the
    /// latter if memory ran out.
    fn change(
        &mut self,
        name: Name,
        on_buffer: impl FnOnce(
            &mut WriteBuffer,
            &mut Budget,
            SpaceId,
            RecordKey<'_>,
        ) -> Result<(), Refused>,
        on_model: impl FnOnce(&mut Records, Vec<u8>),
    ) {
        let stored = name.stored();
        let key = name.record_key(&stored);
        let space = self.spaces[name.space];
        let steps = self.buffer.step_count();
        match on_buffer(&mut self.buffer, &mut self.budget, space, key) {
            Ok(()) => on_model(&mut self.model, stored),
            Err(Refused::Full(Full)) => self.full_count += 1,
            Err(Refused::TooLarge) => panic!("{name:?} is small"),
        }
        assert!(self.buffer.step_count() - steps <= STEPS_MAX);
        assert_eq!(self.buffer.chunk_bytes(), self.budget.taken_bytes());
        assert!(self.buffer.used_bytes() <= self.buffer.chunk_bytes());
        self.check(name);
    }

    fn put(&mut self, name: Name, value: &[u8]) {
        self.change(
            name,
            |buffer, budget, space, key| buffer.put(budget, space, key, value),
            |model, stored| {
                model.insert(stored, value.to_vec());
            },
        );
    }

    fn append(&mut self, name: Name, bytes: &[u8]) {
        self.change(
            name,
            |buffer, budget, space, key| buffer.append(budget, space, key, bytes),
            |model, stored| model.entry(stored).or_default().extend(bytes),
        );
    }

    fn remove(&mut self, name: Name) {
        self.change(name, WriteBuffer::remove, |model, stored| {
            model.remove(&stored);
        });
    }

    /// Changes the value in place, if it is there.
    fn update(&mut self, name: Name, byte: u8) {
        let expected = self.model.get(&name.stored()).cloned();
        let is_found = Cell::new(false);
        self.change(
            name,
            |buffer, budget, space, key| {
                if let Lookup::Found(value) = buffer.get_mut(budget, space, key)? {
                    assert_eq!(Some(&*value), expected.as_deref());
                    assert!(value.as_ptr().addr().is_multiple_of(16));
                    flip(value, byte);
                    is_found.set(true);
                }
                Ok(())
            },
            |model, stored| {
                if is_found.get() {
                    flip(model.get_mut(&stored).expect("it was found"), byte);
                }
            },
        );
    }

    /// Reads through: what the buffer does not know comes from the tables, and stays.
    fn read(&mut self, name: Name) {
        let value = self.tables.get(&name.stored()).cloned();
        self.change(
            name,
            |buffer, budget, space, key| {
                let is_unknown = buffer.get(space, key) == Lookup::Unknown;
                buffer.load(budget, space, key, value.as_deref())?;
                let after = buffer.get(space, key);
                assert!(
                    !is_unknown || after == value.as_deref().map_or(Lookup::Absent, Lookup::Found)
                );
                Ok(())
            },
            |_, _| {},
        );
    }

    /// Asks for records of a space; those that were far before are near now.
    fn prefetch(&mut self, space: usize, far: Vec<u32>) {
        let near = std::mem::replace(&mut self.far, far);
        let named = |keys: &[u32]| -> Vec<(Name, Vec<u8>)> {
            let names = keys.iter().map(|key| Name { space, key: *key });
            names.map(|name| (name, name.stored())).collect()
        };
        let groups = [named(&near), named(&self.far)];
        let [near, far] = groups.each_ref().map(|group| -> Vec<RecordKey<'_>> {
            group.iter().map(|(name, stored)| name.record_key(stored)).collect()
        });
        self.buffer.prefetch(self.spaces[space], near, far);
    }

    /// Checks that a reader sees the model's value.
    fn check(&mut self, name: Name) {
        let stored = name.stored();
        let key = name.record_key(&stored);
        let space = self.spaces[name.space];
        let expected = self.model.get(&stored).map(Vec::as_slice);
        let in_tables = self.tables.get(&stored).map(Vec::as_slice);
        match self.buffer.get(space, key) {
            Lookup::Found(value) => assert_eq!(Some(value), expected),
            Lookup::Absent => assert_eq!(None, expected),
            Lookup::Unknown => assert_eq!(in_tables, expected),
            Lookup::Operands => {
                let mut value = in_tables.unwrap_or_default().to_vec();
                self.buffer.operands(space, key).iter().for_each(|bytes| value.extend(*bytes));
                assert_eq!(Some(value.as_slice()), expected);
            }
        }
    }

    fn freeze(&mut self) {
        let number = self.buffer.epoch;
        let steps = self.buffer.step_count();
        let Some(frozen) = self.buffer.freeze() else {
            assert_eq!(self.epochs.len(), FROZEN_COUNT_MAX);
            return;
        };
        assert_eq!(self.buffer.step_count(), steps);
        self.epochs.push_back(Epoch {
            frozen: Some(frozen),
            number,
            snapshot: self.model.clone(),
            dropped: std::mem::take(&mut self.dropped),
            emitted: Vec::new(),
            is_drained: false,
        });
    }

    /// Drains a slice of one of the epochs.
    fn drain(&mut self, which: usize, steps: usize) {
        if self.epochs.is_empty() {
            return;
        }
        let index = which % self.epochs.len();
        let epoch = &mut self.epochs[index];
        let Some(frozen) = epoch.frozen.as_mut().filter(|_| !epoch.is_drained) else { return };
        let before = self.buffer.step_count();
        let emitted = &mut epoch.emitted;
        let more = frozen.next(&mut self.buffer, &mut self.budget, steps, |key, change| {
            let delta = match change {
                Change::Value(value) => Delta::Value(value.to_vec()),
                Change::Tombstone => Delta::Tombstone,
                Change::Operand(bytes) => Delta::Operand(bytes.to_vec()),
            };
            emitted.push((key.to_vec(), delta));
        });
        epoch.is_drained = !more;
        let long = epoch.emitted.iter().map(|(_, delta)| delta.len() as u64 / 256).max();
        let most = steps as u64 + STEPS_MAX + long.unwrap_or(0);
        assert!(self.buffer.step_count() - before <= most);
        assert!(epoch.emitted.is_sorted_by(|a, b| a.0 < b.0), "emitted in ascending order");
    }

    /// The table of an epoch that was drained can be read.
    fn write(&mut self, which: usize) {
        if self.epochs.is_empty() {
            return;
        }
        let index = which % self.epochs.len();
        let epoch = &mut self.epochs[index];
        if !epoch.is_drained {
            return;
        }
        if let Some(frozen) = epoch.frozen.take() {
            self.buffer.on_written(frozen);
        }
        while let Some(epoch) = self.epochs.pop_front_if(|epoch| epoch.frozen.is_none()) {
            self.checkpoint.retain(|key, _| !epoch.dropped.contains(&space_of(key)));
            for (key, delta) in &epoch.emitted {
                apply(&mut self.checkpoint, key, delta);
                let is_gone = |(space, dropped_in): &(usize, u32)| {
                    *space == space_of(key) && epoch.number < *dropped_in
                };
                if !self.all_dropped.iter().any(is_gone) {
                    apply(&mut self.tables, key, delta);
                }
            }
            assert_eq!(self.checkpoint, epoch.snapshot, "epoch {}", epoch.number);
        }
    }

    fn drop_space(&mut self, space: usize) {
        self.buffer.drop_space(self.spaces[space]);
        self.model.retain(|key, _| space_of(key) != space);
        self.tables.retain(|key, _| space_of(key) != space);
        self.dropped.push(space);
        self.all_dropped.push((space, self.buffer.epoch));
        let (state_id, window_bucket, _) = SPACES[space];
        self.spaces[space] = self.buffer.open(state_id, window_bucket, Origin::New);
    }

    fn evict(&mut self, bytes: usize, steps: usize) {
        let (used_bytes, before) = (self.buffer.used_bytes(), self.buffer.step_count());
        let freed = self.buffer.evict(&mut self.budget, bytes, steps);
        assert_eq!(used_bytes - freed, self.buffer.used_bytes());
        assert!(self.buffer.step_count() - before <= steps as u64 + 8);
        assert_eq!(self.buffer.chunk_bytes(), self.budget.taken_bytes());
    }

    /// Evicts for what was refused last. What is dirty stays, unless its space was dropped.
    fn make_room(&mut self) {
        let dirty_bytes = self.buffer.dirty_bytes();
        let is_room = self.buffer.make_room(&mut self.budget);
        assert!(is_room || 0 < dirty_bytes || self.buffer.used_bytes() < CHUNK_BYTES);
        assert!(self.buffer.dirty_bytes() <= dirty_bytes);
        assert_eq!(self.buffer.chunk_bytes(), self.budget.taken_bytes());
    }

    /// Drains and writes all frozen epochs.
    fn finish(&mut self) {
        while !self.epochs.is_empty() {
            (0..self.epochs.len()).for_each(|i| self.drain(i, 1000));
            self.write(0);
        }
    }

    /// Writes what there is, drops all spaces, and expects all memory to be back.
    fn end(&mut self) {
        self.finish();
        self.freeze();
        self.finish();
        assert_eq!(self.tables, self.model, "everything is written");
        self.spaces.iter().for_each(|space| self.buffer.drop_space(*space));
        while 0 < self.buffer.evict(&mut self.budget, usize::MAX, 10_000) {}
        assert_eq!((self.buffer.used_bytes(), self.budget.taken_bytes()), (0, 0));
    }
}

#[derive(Debug, Clone)]
enum Op {
    Put(u32, usize),
    Append(u32, usize),
    Update(u32, u8),
    Remove(u32),
    Read(u32),
    Freeze,
    Drain(usize, usize),
    Write(usize),
    Evict(usize, usize),
    MakeRoom,
    Drop(usize),
    Prefetch(usize, Vec<u32>),
}

fn op() -> impl Strategy<Value = Op> {
    let len = || prop_oneof![8 => 0_usize..150, 2 => 0..1500_usize, 1 => 0..60_000_usize];
    prop_oneof![
        20 => (any::<u32>(), len()).prop_map(|(key, len)| Op::Put(key, len)),
        8 => (any::<u32>(), len()).prop_map(|(key, len)| Op::Append(key, len)),
        12 => any::<(u32, u8)>().prop_map(|(key, byte)| Op::Update(key, byte)),
        8 => any::<u32>().prop_map(Op::Remove),
        8 => any::<u32>().prop_map(Op::Read),
        4 => Just(Op::Freeze),
        8 => (0_usize..3, 0_usize..60).prop_map(|(which, steps)| Op::Drain(which, steps)),
        6 => (0_usize..3).prop_map(Op::Write),
        4 => (0_usize..100_000, 0_usize..500).prop_map(|(bytes, steps)| Op::Evict(bytes, steps)),
        4 => Just(Op::MakeRoom),
        1 => (0..SPACES.len()).prop_map(Op::Drop),
        12 => (0..SPACES.len(), prop::collection::vec(any::<u32>(), 0..20))
            .prop_map(|(space, keys)| Op::Prefetch(space, keys)),
    ]
}

/// Runs a script over so many keys of each space.
fn run(world: &mut World, key_count: u32, script: Vec<Op>) {
    let name = |key: u32| Name { space: key as usize / 7 % SPACES.len(), key: key % key_count };
    for (i, op) in script.into_iter().enumerate() {
        let value = |len| (0..len).map(|at| (i + at) as u8).collect::<Vec<u8>>();
        match op {
            Op::Put(key, len) => world.put(name(key), &value(len)),
            Op::Append(key, len) => world.append(name(key), &value(len)),
            Op::Update(key, byte) => world.update(name(key), byte),
            Op::Remove(key) => world.remove(name(key)),
            Op::Read(key) => world.read(name(key)),
            Op::Freeze => world.freeze(),
            Op::Drain(which, steps) => world.drain(which, steps),
            Op::Write(which) => world.write(which),
            Op::Evict(bytes, steps) => world.evict(bytes, steps),
            Op::MakeRoom => world.make_room(),
            Op::Drop(space) => world.drop_space(space),
            Op::Prefetch(space, keys) => {
                world.prefetch(space, keys.into_iter().map(|key| key % key_count).collect());
            }
        }
    }
    for space in 0..SPACES.len() {
        (0..key_count).for_each(|key| world.check(Name { space, key }));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Readers see what was written last; a frozen epoch holds what was there at the freeze,
    /// whatever happened since; all memory is accounted for.
    #[test]
    fn it_is_a_map(
        script in prop::collection::vec(op(), 1..400),
        key_count in prop::sample::select(vec![6_u32, 40, 300]),
        chunks in 2_usize..5,
    ) {
        let mut world = World::new(chunks * CHUNK_BYTES);
        run(&mut world, key_count, script);
        world.end();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// An operation that finds no memory changes nothing, wherever in it that is.
    #[test]
    fn memory_that_runs_out_takes_nothing_along(
        script in prop::collection::vec((any::<u32>(), 0_u8..20), 200..600),
        len in 0_usize..100,
    ) {
        let mut world = World::new(2 * CHUNK_BYTES);
        let filler = Name { space: 0, key: 1_000_000 };
        // Room for few slabs is left, and none of the large sizes.
        let sizes = [1 << 20, 1 << 19, 1 << 18];
        sizes.into_iter().zip(0..).for_each(|(bytes, i)| {
            world.put(Name { key: filler.key + i, ..filler }, &vec![7; bytes - 100]);
        });
        let World { buffer, budget, .. } = &mut world;
        let fillers = sizes.map(|bytes| {
            let at = buffer.slots.alloc(budget, Part::Index, bytes).expect("half of the chunks");
            (at, bytes)
        });
        let name = |key: u32| Name { space: key as usize % 2, key: key / 2 % 900 };
        for (key, action) in script {
            match action {
                0..10 => world.put(name(key), &vec![action; len * (1 + key as usize % 9)]),
                10..13 => world.remove(name(key)),
                13..17 => world.update(name(key), action),
                17..19 => world.append(name(key), &vec![action; len]),
                _ if key % 8 == 0 => world.freeze(),
                _ => {}
            }
        }
        let World { buffer, budget, .. } = &mut world;
        for (at, bytes) in fillers {
            buffer.slots.free(budget, at, bytes);
        }
        world.end();
    }
}

/// What was appended in epochs that are written is not kept for ever.
#[test]
fn operands_that_tables_have_are_forgotten() {
    let mut world = World::new(2 * CHUNK_BYTES);
    let name = Name { space: 1, key: 5 };
    let mut used_bytes = Vec::new();
    for byte in 0..20 {
        world.append(name, &[byte; 100]);
        world.freeze();
        world.append(name, &[byte; 10]);
        world.finish();
        used_bytes.push(world.buffer.used_bytes());
    }
    assert_eq!(used_bytes[3], used_bytes[19], "{used_bytes:?}");
    world.end();
}

/// A key that is born and dies between two freezes leaves nothing, one that a table has leaves a
/// tombstone, a window that is dropped nothing.
#[test]
fn only_what_tables_have_leaves_tombstones() {
    let mut world = World::new(2 * CHUNK_BYTES);
    let [stays, dies] = [0, 1].map(|key| Name { space: 0, key });
    let window = Name { space: 2, key: 0 };
    let emitted = |world: &mut World| {
        world.freeze();
        world.drain(0, 1000);
        let tombstone = |delta: &(Vec<u8>, Delta)| matches!(delta.1, Delta::Tombstone);
        let emitted: Vec<bool> = world.epochs[0].emitted.iter().map(tombstone).collect();
        world.finish();
        emitted
    };
    world.put(stays, b"a");
    world.put(dies, b"b");
    world.remove(dies);
    world.put(window, b"c");
    world.drop_space(window.space);
    assert_eq!(emitted(&mut world), [false]);
    world.remove(stays);
    assert_eq!(emitted(&mut world), [true]);
    world.put(window, b"d");
    assert_eq!(emitted(&mut world), [false]);
    world.drop_space(window.space);
    assert_eq!(emitted(&mut world), []);
    world.end();
}

/// However many records there are, no call does more than a bounded piece of work, and what a
/// frozen epoch hands out is in order.
#[test]
fn no_call_takes_many_steps() {
    let mut world = World::new(64 * CHUNK_BYTES);
    let space = world.spaces[0];
    let record = |i: u64| {
        let hash64 = (1 << 62) | (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 3);
        (
            hash64,
            StoredKey {
                key_group: (hash64 >> 61) as u16,
                state_id: 1,
                window_bucket: 0,
                hash64,
                key: &i.to_be_bytes(),
                namespace: &[],
                map_key: &[],
            }
            .encode(),
        )
    };
    let mut most = 0;
    let World { buffer, budget, .. } = &mut world;
    for i in 0..150_000 {
        let (hash64, stored) = record(i);
        let key = RecordKey { hash64, spread: 0, bytes: &stored[20..] };
        let before = buffer.step_count();
        buffer.put(budget, space, key, &[1; 20]).expect("enough memory");
        most = most.max(buffer.step_count() - before);
    }
    assert!(most <= STEPS_MAX, "{most} steps for one record");
    assert!(5000 < buffer.step_count(), "indexes grew");
    let before = buffer.step_count();
    let mut frozen = buffer.freeze().expect("nothing is frozen");
    assert_eq!(buffer.step_count(), before, "a freeze looks at nothing");
    let (mut keys, mut slices) = (Vec::new(), 0);
    loop {
        let before = buffer.step_count();
        let more = frozen.next(buffer, budget, 500, |key, _| keys.push(key.to_vec()));
        assert!(buffer.step_count() - before <= 1000);
        slices += 1;
        if !more {
            break;
        }
    }
    assert!(300 < slices);
    assert_eq!(keys.len(), 150_000);
    assert!(keys.is_sorted_by(|a, b| a < b));
    buffer.on_written(frozen);
    let before = buffer.step_count();
    buffer.drop_space(space);
    assert_eq!(buffer.step_count(), before, "a dropped space is not looked at");
    loop {
        let before = buffer.step_count();
        let freed = buffer.evict(budget, usize::MAX, 100);
        assert!(buffer.step_count() - before <= 100 + 8);
        if freed == 0 && buffer.used_bytes() == 0 {
            break;
        }
    }
    assert_eq!(budget.taken_bytes(), 0);
}

/// A record that takes a whole chunk is taken in; one byte more is refused, whatever is done to it,
/// and nothing has changed.
#[test]
fn what_is_larger_than_a_chunk_is_refused() {
    let mut budget = Budget::new(8 * CHUNK_BYTES);
    let mut buffer = WriteBuffer::new(0..1, 1);
    let space = buffer.open(1, 0, Origin::Restored);
    let named = |hash64, bytes| RecordKey { hash64, spread: 0, bytes };
    let (small, huge) = (named(1, &b"key"[..]), vec![0; 2 * CHUNK_BYTES]);
    let most = vec![7; CHUNK_BYTES - 48];
    let more = vec![7; CHUNK_BYTES - 47];
    // So large that its number of pages has more than 16 bits.
    let far_more = vec![7; (1 << 28) + 1];
    for value in [&more, &far_more] {
        assert_eq!(buffer.put(&mut budget, space, small, value), Err(Refused::TooLarge));
        assert_eq!(buffer.append(&mut budget, space, small, value), Err(Refused::TooLarge));
        let value = Some(&value[..]);
        assert_eq!(buffer.load(&mut budget, space, small, value), Err(Refused::TooLarge));
    }
    assert_eq!(buffer.remove(&mut budget, space, named(2, &huge)), Err(Refused::TooLarge));
    assert_eq!((buffer.used_bytes(), buffer.record_count(space)), (0, 0));
    buffer.put(&mut budget, space, small, &most).expect("a chunk holds it");
    let used_bytes = buffer.used_bytes();
    for value in [&more, &far_more] {
        assert_eq!(buffer.put(&mut budget, space, small, value), Err(Refused::TooLarge));
    }
    assert_eq!(buffer.append(&mut budget, space, small, b"7"), Err(Refused::TooLarge));
    assert!(buffer.get(space, small) == Lookup::Found(&most));
    assert_eq!((buffer.used_bytes(), buffer.dirty_bytes()), (used_bytes, CHUNK_BYTES));
    buffer.put(&mut budget, space, small, b"less").expect("it has room");
    assert_eq!(buffer.get(space, small), Lookup::Found(&b"less"[..]));
}

/// What was asked for is found without the index, until something is freed; and never the record
/// of another space, although its key is the same.
#[test]
fn what_was_asked_for_is_guessed() {
    let mut world = World::new(4 * CHUNK_BYTES);
    let name = |space, key| Name { space, key };
    (0..2000).for_each(|key| world.put(name(0, key), &[1; 100]));
    (0..2000).for_each(|key| world.put(name(2, key), &[2; 100]));
    let guessed = |world: &World, space: usize| {
        let is_guessed = |key: &u32| {
            let stored = name(space, *key).stored();
            let tag = name(space, *key).record_key(&stored).tag();
            let buffer = &world.buffer;
            buffer.ahead.guess(&buffer.slots, world.spaces[space], tag).is_some()
        };
        (16..32).filter(is_guessed).count()
    };
    world.prefetch(0, (16..32).collect());
    assert_eq!(guessed(&world, 0), 0);
    world.prefetch(0, (32..48).collect());
    assert!(14 <= guessed(&world, 0), "{} of 16", guessed(&world, 0));
    assert_eq!(guessed(&world, 2), 0);
    (16..32).for_each(|key| world.check(name(2, key)));
    (16..32).for_each(|key| world.update(name(0, key), 3));
    assert!(14 <= guessed(&world, 0), "{} of 16", guessed(&world, 0));
    world.remove(name(0, 17));
    assert_eq!(guessed(&world, 0), 0);
    (16..32).for_each(|key| world.check(name(0, key)));
}

/// Records that are used stay, the others go.
#[test]
fn the_clock_spares_what_is_used() {
    let mut world = World::new(4 * CHUNK_BYTES);
    let name = |key| Name { space: 0, key };
    (0..2000).for_each(|key| world.put(name(key), &[1; 100]));
    assert_eq!(world.buffer.evict(&mut world.budget, usize::MAX, 1 << 20), 0, "all are dirty");
    world.freeze();
    world.finish();
    for _ in 0..3 {
        (0..500).for_each(|key| world.check(name(key)));
    }
    let half = world.buffer.used_bytes() / 2;
    world.evict(half, 1 << 20);
    let space = world.spaces[0];
    let is_there = |world: &mut World, key| {
        let stored = name(key).stored();
        let key = name(key).record_key(&stored);
        matches!(world.buffer.get(space, key), Lookup::Found(_))
    };
    assert!((0..500).all(|key| is_there(&mut world, key)));
    assert!((500..2000).filter(|key| is_there(&mut world, *key)).count() < 1000);
    world.end();
}

/// Windows in which nothing changed cost a flush nothing; those that are empty, the clock little.
#[test]
fn sections_without_changes_take_no_steps() {
    let (mut budget, mut buffer) = (Budget::new(8 * CHUNK_BYTES), WriteBuffer::new(0..128, 128));
    let open = |bucket| buffer.open(1, bucket, Origin::New);
    let spaces: Vec<SpaceId> = (0..1000).map(open).collect();
    let key = |number: u64| RecordKey {
        hash64: number.wrapping_mul(0x9e37_79b9_7f4a_7c15),
        spread: 0,
        bytes: &[0; 8],
    };
    for number in 0..100 {
        buffer.put(&mut budget, spaces[500], key(number), &[1; 100]).expect("enough memory");
    }
    let mut frozen = buffer.freeze().expect("nothing is frozen");
    let (before, mut emitted) = (buffer.step_count(), 0);
    while frozen.next(&mut buffer, &mut budget, 1000, |_, _| emitted += 1) {}
    buffer.on_written(frozen);
    assert_eq!(emitted, 100);
    assert!(buffer.step_count() - before < 1000, "{}", buffer.step_count() - before);
    assert!(0 < buffer.evict(&mut budget, usize::MAX, 4096), "they are behind 500 empty spaces");
}

/// A window that has passed is no reason to flush.
#[test]
fn a_dropped_space_is_not_dirty_once_it_is_swept() {
    let mut world = World::new(4 * CHUNK_BYTES);
    (0..1000).for_each(|key| world.put(Name { space: 2, key }, &[1; 100]));
    world.freeze();
    (500..1500).for_each(|key| world.put(Name { space: 2, key }, &[1; 100]));
    world.put(Name { space: 0, key: 0 }, &[1; 100]);
    world.drop_space(2);
    world.drain(0, 10_000);
    let mut slices = 0;
    while world.buffer.sweep_dropped(&mut world.budget, 100) {
        slices += 1;
    }
    assert!(5 < slices, "{slices}");
    world.write(0);
    assert_eq!(world.buffer.dirty_bytes(), 160, "the record of the other space");
    world.end();
}
