//! Merges: one slice at a time, on a disk that fails, and what a merge that fails leaves.

use super::cases::cold;
use super::faults::{READING, go_on, put};
use super::*;
use crate::table::PIECE_BYTES;

/// A store with four tables of some blocks, which are due to be merged.
fn four_deltas() -> World {
    let mut world = World::new();
    for delta in 0..4 {
        for key in 0..24 {
            put(&mut world, key, vec![key ^ delta; 500]);
        }
        world.run(&Deed::Freeze);
        world.flush();
    }
    world
}

/// A step of a merge, and an answer.
fn advance(world: &mut World) {
    world.store.merge_step(1000).expect("a merge does not fail the store");
    world.answer_any();
}

/// Lets a merge go wrong once, after so many answers. False if it was at its end by then.
fn fails_once(fault: Fault, answer_count: usize) -> bool {
    let mut world = four_deltas();
    let rows = world.rows();
    (0..answer_count).for_each(|_| advance(&mut world));
    if world.rows() != rows {
        return false;
    }
    world.disk.fault = Some(fault);
    world.merge();
    // A disk that is full stays so, whether that was noticed or not.
    let (is_hit, is_full) = (world.disk.fault.is_none(), fault == Fault::Full);
    world.disk.fault = None;
    let is_read_again = READING.contains(&fault) && fault != Fault::ReadFails;
    match world.store.take_merge_error() {
        None => {
            // What is read of the merged table is read again.
            let is_writing = !READING.contains(&fault);
            let at = (fault, answer_count);
            assert!(!(is_hit && is_writing), "{at:?}: nothing was said");
            assert_eq!(world.rows().len(), 1, "{at:?}");
        }
        Some(error) => {
            assert!(is_hit || is_full);
            let is_said = matches!(error, MergeError::File(_));
            assert!(is_said && !is_read_again, "{fault:?}: {error}");
            assert_eq!(world.rows(), rows);
            assert!(world.store.due_merge().is_none(), "it is not tried again at once");
        }
    }
    assert_eq!(world.disk.paths(), world.named_paths());
    world.run(&Deed::ReadAll);
    world.restart();
    world.run(&Deed::ReadAll);
    world.merge();
    assert_eq!(world.rows().len(), 1);
    world.run(&Deed::ReadAll);
    true
}

#[test]
fn wherever_a_merge_fails_its_inputs_stay_and_its_file_goes() {
    for fault in Fault::ALL.into_iter().filter(|fault| *fault != Fault::ListFails) {
        let count = (0..1000).take_while(|count| fails_once(fault, *count)).count();
        assert!((10..1000).contains(&count), "{count} answers");
    }
}

#[test]
fn an_input_that_stays_damaged_is_named_and_its_merge_given_up() {
    for fault in [Fault::ReadIsDamaged, Fault::ReadIsShort] {
        let mut world = four_deltas();
        let rows = world.rows();
        while world.store.merging.run.is_some() || world.store.due_merge().is_some() {
            world.disk.fault = Some(fault);
            advance(&mut world);
        }
        world.disk.fault = None;
        world.settle();
        let error = world.store.take_merge_error().expect("somebody should know");
        let MergeError::Table { path, source: table::Error::Corrupt { .. } } = error else {
            panic!("{error}")
        };
        assert!(rows.iter().any(|row| world.store.config.path(row.id) == path), "{path:?}");
        assert_eq!((world.rows(), world.disk.paths()), (rows, world.named_paths()));
        world.run(&Deed::ReadAll);
    }
}

#[test]
fn a_merged_table_that_cannot_be_opened_leaves_its_inputs() {
    for fault in READING {
        let mut world = four_deltas();
        let rows = world.rows();
        while world.store.opening.is_empty() {
            advance(&mut world);
        }
        go_on(&mut world, Some(fault)).expect("the inputs are there");
        world.disk.fault = None;
        assert_eq!(world.rows(), rows);
        let error = world.store.take_merge_error().expect("somebody should know");
        let is_file = matches!(error, MergeError::File(_));
        let is_refused = fault == Fault::OpenFails || fault == Fault::ReadFails;
        assert_eq!(is_file, is_refused, "{error}");
        assert!(world.store.take_merge_error().is_none(), "it is said once");
        assert!(world.store.due_merge().is_none(), "it is not tried again at once");
        assert_eq!(world.disk.paths(), world.named_paths(), "the merged table is removed");
        world.restart();
        world.run(&Deed::ReadAll);
        world.merge();
        assert!(world.rows().len() < rows.len(), "the next merge takes their place");
        world.run(&Deed::ReadAll);
    }
}

/// Installs a delta with the keys of both bands.
fn install_delta(world: &mut World) {
    put(world, 0, vec![0; 10]);
    put(world, FIRST_MORTAL - 1, vec![1; 10]);
    world.run(&Deed::Freeze);
    world.flush();
}

/// However a merge fails, the next attempt waits for more deltas each time, and for so many at
/// most; the other band does not wait, and a merge that is done ends it.
#[test]
fn a_merge_that_fails_is_tried_again_after_more_and_more_deltas() {
    const FAULTS: [Fault; 5] =
        [Fault::Full, Fault::CreateFails, Fault::WriteFails, Fault::SyncFails, Fault::RenameFails];
    let mut world = World::new();
    (0..4).for_each(|_| install_delta(&mut world));
    let mut failing = None;
    let mut failed_at = Vec::new();
    let mut installed = 0;
    while failed_at.len() < 10 {
        world.store.merge_step(1000).expect("a merge does not fail the store");
        let Some(band) = world.store.merging.run.as_ref().map(|run| run.band) else {
            install_delta(&mut world);
            installed += 1;
            continue;
        };
        if *failing.get_or_insert(band) == band {
            failed_at.push(installed);
            world.disk.fault = Some(FAULTS[failed_at.len() % FAULTS.len()]);
        }
        while world.store.merging.run.is_some() {
            advance(&mut world);
        }
        world.settle();
        world.disk.make_room();
    }
    let waits: Vec<usize> = failed_at.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 64, 64]);
    let failing = failing.expect("one failed");
    let count_of = |world: &World, band: usize| world.store.version().bands()[band].tables.len();
    assert_eq!(count_of(&world, failing), 4 + installed);
    assert!(count_of(&world, 1 - failing) < 8, "the other band was merged");
    assert!(world.store.due_merge().is_none());
    for _ in 0..64 {
        world.merge();
        install_delta(&mut world);
    }
    world.merge();
    assert_eq!(count_of(&world, failing), 1);
    (0..4).for_each(|_| install_delta(&mut world));
    assert!(world.store.due_merge().is_some(), "a merge that is done ends the waiting");
}

/// What a merge has asked for, and what was not answered.
#[derive(Default)]
struct Asked {
    waiting: Vec<FileOp>,
    read_bytes_max: usize,
    write_bytes_max: usize,
    write_count_max: usize,
}

impl Asked {
    /// Takes what the store wants. Writes are answered when nothing else is left.
    fn answer(&mut self, store: &mut Store, disk: &mut Disk) -> bool {
        while let Some(op) = store.next_op() {
            match &op {
                FileOp::Read { len, .. } => self.read_bytes_max = self.read_bytes_max.max(*len),
                FileOp::Write { bytes, .. } => {
                    self.write_bytes_max = self.write_bytes_max.max(bytes.len());
                }
                _ => {}
            }
            self.waiting.push(op);
        }
        let is_write = |op: &FileOp| matches!(op, FileOp::Write { .. });
        let write_count = self.waiting.iter().filter(|op| is_write(op)).count();
        self.write_count_max = self.write_count_max.max(write_count);
        let first = self.waiting.iter().position(|op| !is_write(op)).unwrap_or(0);
        if self.waiting.is_empty() {
            return false;
        }
        disk.ask(self.waiting.remove(first));
        let done = disk.answer(0).expect("one was asked");
        store.on_done(done).expect("nothing fails");
        true
    }
}

/// Four tables of 4 MiB, while no write is answered before it has to be.
#[test]
fn a_merge_holds_so_much_and_no_more() {
    const VALUE_BYTES: usize = 3000;
    const COUNT: usize = 1400;
    let mut world = World::new();
    let space = world.spaces[0];
    let bytes = rest(0);
    let name = |number: usize| RecordKey {
        hash64: number as u64 * (u64::MAX / 2 / COUNT as u64),
        spread: 0,
        bytes: &bytes,
    };
    for delta in 0..4 {
        for number in 0..COUNT {
            let value = vec![number as u8 ^ delta; VALUE_BYTES];
            world.store.put(space, name(number), &value).expect("there is memory enough");
        }
        world.run(&Deed::Freeze);
        world.flush();
    }
    assert_eq!(world.rows().len(), 4);
    let mut asked = Asked::default();
    while world.store.merge_step(1 << 20).expect("nothing fails")
        || asked.answer(&mut world.store, &mut world.disk)
    {}
    assert_eq!(world.rows().len(), 1);
    assert_eq!((asked.read_bytes_max, asked.write_bytes_max), (PIECE_BYTES, PIECE_BYTES));
    assert_eq!(asked.write_count_max, 4);
}

#[test]
fn what_tables_have_of_windows_that_have_passed_goes_with_a_merge() {
    let mut world = cold([0]);
    let bytes = rest(0);
    let name = RecordKey { hash64: 0, spread: 0, bytes: &bytes };
    let windows = [10, 20].map(|end| world.store.open_space(STATE, end, Origin::New));
    for _ in 0..3 {
        for window in windows {
            world.store.put(window, name, b"value").expect("there is memory enough");
        }
        world.run(&Deed::Freeze);
        world.flush();
    }
    world.store.drop_space(windows[0]);
    world.store.pass_windows(STATE, 11);
    world.store.pass_windows(STATE, 5);
    world.merge();
    let version = world.store.version();
    let tables = version.bands().iter().flat_map(|band| &band.tables);
    let windows = tables.flat_map(|table| table.view.table().sections());
    let windows: Vec<i64> = windows.map(|section| section.prefix[11].into()).collect();
    assert_eq!(windows, [20, WINDOW]);
}

/// A shard may be made in one thread and run in another.
#[test]
fn a_store_can_be_sent() {
    fn is_send<T: Send>() {}
    is_send::<Store>();
}
