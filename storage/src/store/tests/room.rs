//! Memory that is used up: whoever flushes when the pressure says so goes on.

use super::*;

const MEMORY_BYTES: usize = 16 << 20;

/// The key of a number; numbers are spread over all hashes.
fn hash_of(number: usize) -> u64 {
    (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

impl World {
    fn put_number(&mut self, number: usize, value: &[u8]) -> Result<(), Error> {
        let (hash64, bytes) = (hash_of(number), rest(1));
        self.store.put(self.spaces[0], RecordKey { hash64, spread: 0, bytes: &bytes }, value)
    }

    /// Reads to the end, as a caller does that flushes when the pressure says so.
    fn read_number(&mut self, number: usize) -> Option<Vec<u8>> {
        let (hash64, bytes) = (hash_of(number), rest(1));
        for _ in 0..100 {
            let name = RecordKey { hash64, spread: 0, bytes: &bytes };
            match self.store.get(self.spaces[0], name) {
                Ok(Got::Ready(value)) => return value.map(<[u8]>::to_vec),
                Ok(Got::Wait(_)) => assert!(self.answer_any(), "what waits is answered"),
                Err(error) => self.heed(&error),
            }
        }
        panic!("{number} is never read");
    }

    /// Reads what is in memory as often as the clock counts.
    fn use_number(&mut self, number: usize) {
        let (hash64, bytes) = (hash_of(number), rest(1));
        let name = RecordKey { hash64, spread: 0, bytes: &bytes };
        for _ in 0..3 {
            self.store.buffer.get(self.spaces[0], name);
        }
    }

    /// Does for room what a caller does: flushes, if there is pressure, and nothing else.
    fn heed(&mut self, error: &Error) {
        assert!(matches!(error, Error::Full(_)), "{error}");
        if self.store.pressure() != Pressure::Ok {
            self.run(&Deed::Freeze);
            self.flush();
        }
    }

    /// Puts as such a caller does.
    fn put_surely(&mut self, number: usize, value: &[u8]) {
        for _ in 0..10 {
            match self.put_number(number, value) {
                Ok(()) => return,
                Err(error) => self.heed(&error),
            }
        }
        panic!("{number} never finds room");
    }

    fn clean(&mut self) {
        self.run(&Deed::Freeze);
        self.flush();
        assert_eq!(self.store.buffer.dirty_bytes(), 0);
    }

    /// Puts values of a size until no more fit, and makes them clean. How many there are.
    fn fill(&mut self, value_bytes: usize) -> usize {
        let value = vec![1; value_bytes];
        let mut count = 0;
        while self.put_number(count, &value).is_ok() {
            count += 1;
            if self.store.pressure() != Pressure::Ok {
                self.clean();
            }
            if MEMORY_BYTES < count * value_bytes {
                break;
            }
        }
        self.clean();
        self.store.buffer.record_count(self.spaces[0])
    }
}

/// Sizes that leave much of a chunk unused.
#[test]
fn what_finds_no_room_raises_the_pressure() {
    for value_bytes in [66 << 10, 132 << 10, 260 << 10, 1100 << 10, 2000 << 10] {
        let mut world = World::new();
        let count = 3 * MEMORY_BYTES / value_bytes;
        (0..count).for_each(|number| world.put_surely(number, &vec![number as u8; value_bytes]));
        for number in 0..count {
            let value = world.read_number(number);
            assert!(value.is_some_and(|value| value == vec![number as u8; value_bytes]));
        }
    }
}

/// However much was used since the clock last came by: what is clean makes room, and at once.
#[test]
fn clean_records_make_room_however_often_they_are_used() {
    let mut world = World::new();
    let mut count = 0;
    while world.store.budget.taken_bytes() < MEMORY_BYTES / 8 * 7 {
        world.put_surely(count, &[1; 450]);
        count += 1;
        if world.store.pressure() != Pressure::Ok {
            world.clean();
        }
    }
    world.clean();
    for number in count..count + 10_000 {
        if number % 500 == 0 {
            (0..count).for_each(|number| world.use_number(number));
        }
        world.put_number(number, &[2; 450]).expect("clean records make room");
    }
}

/// A size that nothing has yet: some slabs of the others go, and not nearly all.
#[test]
fn another_size_takes_little_from_the_others() {
    let mut world = World::new();
    let count = world.fill(60);
    assert!(50_000 < count, "{count}");
    for size in [300, 700, 1500, 3000, 20_000, 100_000] {
        let before = world.store.buffer.step_count();
        world.put_number(1_000_000 + size, &vec![3; size]).expect("clean records make room");
        let steps = world.store.buffer.step_count() - before;
        assert!(steps < 20_000, "{steps} steps for {size} bytes");
    }
    let left = world.store.buffer.record_count(world.spaces[0]);
    assert!(count * 4 / 5 < left, "{left} of {count}");
}

/// One that keeps asking while everything is dirty takes nothing from the rest.
#[test]
fn a_change_that_finds_no_room_evicts_little_however_often_it_is_tried() {
    let mut world = World::new();
    let count = world.fill(60);
    for number in (0..2 * count).step_by(20) {
        world.put_number(number, &[4; 60]).expect("clean records make room");
    }
    let value = vec![5; 1900 << 10];
    let before = world.store.buffer.record_count(world.spaces[0]);
    for _ in 0..1000 {
        let full = world.put_number(1_000_000, &value);
        assert!(matches!(full, Err(Error::Full(_))), "{full:?}");
        assert_eq!(world.store.pressure(), Pressure::Stop);
    }
    let left = world.store.buffer.record_count(world.spaces[0]);
    assert!(before * 9 / 10 < left, "{left} of {before}");
    world.put_surely(1_000_000, &value);
    assert_eq!(world.store.pressure(), Pressure::Ok);
}

/// Many small records leave no memory behind that a large one cannot have.
#[test]
fn after_many_small_records_a_large_one_finds_room() {
    let mut world = World::new();
    (0..300_000).for_each(|number| world.put_surely(number, &[6; 8]));
    (0..30).for_each(|number| world.put_surely(1_000_000 + number, &vec![7; 2000 << 10]));
    for number in 0..30 {
        let value = world.read_number(1_000_000 + number);
        assert!(value.is_some_and(|value| value == vec![7; 2000 << 10]));
    }
    (0..300_000).step_by(1000).for_each(|number| {
        assert_eq!(world.read_number(number), Some(vec![6; 8]));
    });
}

/// Those of a batch that come first are not evicted for those that come last.
#[test]
fn what_was_read_stays_until_it_is_asked_for() {
    const COUNT: usize = 300;
    let mut world = World::new();
    (0..COUNT).for_each(|number| world.put_surely(number, &[8; 10_000]));
    world.clean();
    world.restart();
    let first = 1_000_000;
    let mut last = first;
    while world.store.budget.taken_bytes() < MEMORY_BYTES / 8 * 7 {
        world.put_surely(last, &[9; 10_000]);
        last += 1;
        if world.store.pressure() != Pressure::Ok {
            world.clean();
        }
    }
    world.clean();
    let bytes = rest(1);
    let name = |number| RecordKey { hash64: hash_of(number), spread: 0, bytes: &bytes };
    let names: Vec<_> = (0..COUNT).map(name).collect();
    world.store.prefetch(world.spaces[0], &names).expect("clean records make room");
    world.settle();
    let is_there = |number: &usize| {
        matches!(world.store.buffer.get(world.spaces[0], name(*number)), Lookup::Found(_))
    };
    assert_eq!((0..COUNT).filter(is_there).count(), COUNT);
}

/// Sizes from all over, changed and read at random, in little memory: everything finds room, at
/// most after a flush or two.
#[test]
fn every_size_finds_room_in_the_end() {
    for memory_bytes in [MEMORY_BYTES_MIN, MEMORY_BYTES] {
        let mut world = World::new();
        world.disk.crash();
        world.store = Store::new(StoreConfig { memory_bytes, ..config(100) }, Vec::new());
        world.spaces =
            [STATE, MORTAL_STATE].map(|id| world.store.open_space(id, WINDOW, Origin::New));
        world.open();
        let mut sizes: BTreeMap<usize, usize> = BTreeMap::new();
        let mut random = 1_u64;
        let mut draw = |end: usize| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (random >> 33) as usize % end
        };
        for i in 0..12_000 {
            let number = draw(3000);
            match draw(8) {
                0..5 => {
                    let order = if i % 200 == 0 { 21 } else { 4 + draw(10) };
                    let size = draw((1_usize << order).saturating_sub(200).max(1)).max(1);
                    world.put_surely(number, &vec![number as u8; size]);
                    sizes.insert(number, size);
                }
                _ => {
                    let value = world.read_number(number);
                    let expected = sizes.get(&number).map(|size| vec![number as u8; *size]);
                    assert!(value == expected, "{number}");
                }
            }
        }
    }
}
