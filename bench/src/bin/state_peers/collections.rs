//! Maps and lists per key: an entry put or read, all entries gone through, an element appended, all
//! elements taken.

use std::mem;

use hashbrown::HashTable;
use millstream::operator::Output;
use millstream::operator::process::{KeyedContext, KeyedProcessFunction, OpenContext};
use millstream::prelude::{ListState, MapState, StateSpec};
use millstream_bench::mix;
use millstream_bench::table::{Gates, Line, Table};
use millstream_bench::watch::Watch;

use crate::Options;
use crate::engine::{Engine, Request};
use crate::keys::{KEY_BYTES, Keyed, hash_of};
#[cfg(feature = "peers")]
use crate::rocks::Rocks;

const PEERS: [&str; 2] = ["hashbrown", "RocksDB"];

/// RocksDB does so many times fewer operations in a round.
const SLOWER: usize = 20;

/// Entries of a map.
const MAP_LEN: u64 = 64;

/// Elements of a list when it is taken.
const LIST_LEN: u64 = 16;

/// The value of an entry.
pub(crate) type Entry = [u64; 4];

/// An element of a list.
pub(crate) type Element = [u64; 2];

/// What holds a map and a list for each key.
pub(crate) trait Collections {
    /// Puts an entry into a map.
    fn put(&mut self, keyed: &Keyed, map_key: u64, entry: Entry);

    /// The first number of an entry that is there.
    fn get(&mut self, keyed: &Keyed, map_key: u64) -> u64;

    /// The sum of the first numbers of all entries.
    fn sum(&mut self, keyed: &Keyed) -> u64;

    /// Appends to a list.
    fn append(&mut self, keyed: &Keyed, element: Element);

    /// Takes all of a list: the sum of the first numbers.
    fn take(&mut self, keyed: &Keyed) -> u64;
}

type OfKeys<T> = HashTable<([u8; KEY_BYTES], T)>;

/// Tables within a table, and vectors in another.
#[derive(Debug, Default)]
struct Nested {
    maps: OfKeys<HashTable<(u64, Entry)>>,
    lists: OfKeys<Vec<Element>>,
}

impl Collections for Nested {
    fn put(&mut self, keyed: &Keyed, map_key: u64, entry: Entry) {
        let is_it = |it: &([u8; KEY_BYTES], _)| it.0 == keyed.key;
        let map = self.maps.entry(keyed.hash64, is_it, |it| hash_of(&it.0));
        let map = &mut map.or_insert_with(|| (keyed.key, HashTable::new())).into_mut().1;
        let place = map.entry(mix(map_key), |it| it.0 == map_key, |it| mix(it.0));
        place.or_insert((map_key, entry)).into_mut().1 = entry;
    }

    fn get(&mut self, keyed: &Keyed, map_key: u64) -> u64 {
        let map = self.maps.find(keyed.hash64, |it| it.0 == keyed.key).expect("it is there");
        map.1.find(mix(map_key), |it| it.0 == map_key).expect("it is there").1[0]
    }

    fn sum(&mut self, keyed: &Keyed) -> u64 {
        let map = self.maps.find(keyed.hash64, |it| it.0 == keyed.key).expect("it is there");
        map.1.iter().fold(0, |sum, (_, entry)| sum.wrapping_add(entry[0]))
    }

    fn append(&mut self, keyed: &Keyed, element: Element) {
        let is_it = |it: &([u8; KEY_BYTES], _)| it.0 == keyed.key;
        let list = self.lists.entry(keyed.hash64, is_it, |it| hash_of(&it.0));
        list.or_insert_with(|| (keyed.key, Vec::new())).into_mut().1.push(element);
    }

    fn take(&mut self, keyed: &Keyed) -> u64 {
        let list = self.lists.find_mut(keyed.hash64, |it| it.0 == keyed.key);
        let list = mem::take(&mut list.expect("it is there").1);
        list.into_iter().fold(0, |sum, element| sum.wrapping_add(element[0]))
    }
}

/// What is done with a map or a list.
#[derive(Debug, Clone, Copy)]
enum What {
    Put(u64, Entry),
    Get(u64),
    Sum,
    Append(Element),
    Take,
}

/// What a user would write: a map and a list per key.
#[derive(Debug, Clone, Default)]
struct MapAndList {
    map: MapState<u64, Entry>,
    list: ListState<Element>,
}

impl KeyedProcessFunction<[u8; KEY_BYTES], Request<What>> for MapAndList {
    type Out = u64;

    fn open(&mut self, ctx: &mut OpenContext<'_>) {
        self.map = ctx.map("map", StateSpec::kept_until_cleared());
        self.list = ctx.list("list", StateSpec::kept_until_cleared());
    }

    fn process(
        &mut self,
        request: Request<What>,
        ctx: &mut KeyedContext<'_, [u8; KEY_BYTES]>,
        out: &mut impl Output<u64>,
    ) {
        match request.what {
            What::Put(map_key, entry) => {
                self.map.put(ctx, map_key, entry);
            }
            What::Get(map_key) => out.collect(self.map.get(ctx, &map_key).expect("it is there")[0]),
            What::Sum => {
                let entries = self.map.iter(ctx);
                out.collect(entries.fold(0, |sum, (_, entry)| sum.wrapping_add(entry[0])));
            }
            What::Append(element) => self.list.append(ctx, element),
            What::Take => {
                let list = self.list.take(ctx).into_iter();
                out.collect(list.fold(0, |sum, element| sum.wrapping_add(element[0])));
            }
        }
    }
}

impl Collections for Engine<What, MapAndList> {
    fn put(&mut self, keyed: &Keyed, map_key: u64, entry: Entry) {
        self.send(keyed, What::Put(map_key, entry));
    }

    fn get(&mut self, keyed: &Keyed, map_key: u64) -> u64 {
        self.send(keyed, What::Get(map_key));
        self.take_told()
    }

    fn sum(&mut self, keyed: &Keyed) -> u64 {
        self.send(keyed, What::Sum);
        self.take_told()
    }

    fn append(&mut self, keyed: &Keyed, element: Element) {
        self.send(keyed, What::Append(element));
    }

    fn take(&mut self, keyed: &Keyed) -> u64 {
        self.send(keyed, What::Take);
        self.take_told()
    }
}

/// One operation of a round: does it, and answers what it saw.
type Operation = fn(&mut dyn Collections, &Keyed, u64) -> u64;

/// What is measured.
#[derive(Debug, Clone, Copy)]
struct Task {
    title: &'static str,
    gates: Gates,
    operation: Operation,
    /// Entries or elements that an operation goes through.
    len: u64,
}

const fn gates(time_at_most: f64, speed_at_least: f64) -> Gates {
    Gates { time_at_most: Some(time_at_most), speed_at_least: Some(speed_at_least) }
}

const TASKS: [Task; 5] = [
    Task {
        title: "an entry of a map of 64 put",
        gates: gates(1.3, 6.0),
        operation: |it, keyed, i| {
            it.put(keyed, mix(i) % MAP_LEN, [i, 1, 2, mix(i)]);
            0
        },
        len: 1,
    },
    Task {
        title: "an entry of a map of 64 read",
        gates: gates(1.5, 15.0),
        operation: |it, keyed, i| it.get(keyed, mix(i) % MAP_LEN),
        len: 1,
    },
    Task {
        title: "a map of 64 gone through, per entry",
        gates: gates(1.0, 13.0),
        operation: |it, keyed, _| it.sum(keyed),
        len: MAP_LEN,
    },
    Task {
        title: "an element appended to a list",
        gates: gates(2.0, 12.0),
        operation: |it, keyed, i| {
            it.append(keyed, [i, mix(i)]);
            0
        },
        len: 1,
    },
    Task {
        title: "a list of 16 taken, per element",
        gates: gates(2.0, 8.0),
        operation: |it, keyed, _| it.take(keyed),
        len: LIST_LEN,
    },
];

/// Compares the collections with `entry_count` entries in maps.
pub(crate) fn compare(entry_count: u64, options: &Options) {
    let keys: Vec<Keyed> = (0..(entry_count / MAP_LEN).max(1)).map(Keyed::new).collect();
    let mut sides: Vec<(&str, Box<dyn Collections>)> = vec![
        (PEERS[0], Box::new(Nested::default())),
        ("MapState, ListState", Box::new(Engine::new(MapAndList::default()))),
        #[cfg(feature = "peers")]
        (PEERS[1], Box::new(Rocks::new(&options.directory))),
    ];
    for (_, side) in &mut sides {
        // The maps grow at the same time, so their entries are not beside each other.
        for map_key in 0..MAP_LEN {
            for keyed in &keys {
                side.put(keyed, map_key, [map_key; 4]);
            }
        }
    }
    let mut tables = TASKS
        .map(|task| sides.iter().map(|(name, _)| Line::new(*name, task.gates)).collect::<Vec<_>>());
    for round in 0..options.rounds {
        for (task, lines) in TASKS.iter().zip(&mut tables) {
            let mut seen = Vec::new();
            for ((name, side), line) in sides.iter_mut().zip(lines) {
                let slower = if *name == PEERS[1] { SLOWER } else { 1 };
                let (ns, sum) = run(task, round, &keys, &mut **side, options.operations / slower);
                line.ns.push(ns);
                seen.extend((slower == 1).then_some(sum));
            }
            assert!(seen.windows(2).all(|pair| pair[0] == pair[1]), "all saw the same");
        }
    }
    for (task, lines) in TASKS.iter().zip(&tables) {
        let title = format!("{}, {} keys", task.title, keys.len());
        crate::print(Table { title, lines, peers: PEERS });
    }
}

/// Nanoseconds for an entry or element, and what was seen.
fn run(
    task: &Task,
    round: usize,
    keys: &[Keyed],
    side: &mut dyn Collections,
    operations: usize,
) -> (f64, u64) {
    // Lists are taken of the keys in the order in which they were appended to.
    let list_count = (operations as u64 / LIST_LEN).clamp(1, keys.len() as u64);
    let is_list = task.title.contains("list");
    let count = match (is_list, task.len) {
        (true, LIST_LEN) => list_count,
        (true, _) => list_count * LIST_LEN,
        (false, len) => (operations as u64 / len).max(1),
    };
    let from = (round as u64) << 32;
    let pick = |i: u64| {
        let number = if is_list { i % list_count } else { mix(!(from + i)) % keys.len() as u64 };
        keys[number as usize]
    };
    let picked: Vec<(Keyed, u64)> = (0..count).map(|i| (pick(i), from + i)).collect();
    let (watch, mut sum) = (Watch::start(), 0_u64);
    for (keyed, i) in &picked {
        sum = sum.wrapping_add((task.operation)(side, keyed, *i));
    }
    (watch.ns() / (count * task.len) as f64, sum)
}
