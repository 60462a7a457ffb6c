//! What survives a crash, and what must not be relied upon.

use std::collections::BTreeMap;

use super::*;

/// The possible outcomes of one story, over many seeds.
fn outcomes(story: impl Fn(&mut Bench)) -> BTreeSet<String> {
    let outcome = |seed| {
        let mut bench = Bench::new(seed, DiskFaults::NONE);
        story(&mut bench);
        bench.disk.crash();
        bench.contents()
    };
    (0..200).map(outcome).collect()
}

fn set<const N: usize>(words: [&str; N]) -> BTreeSet<String> {
    words.into_iter().map(str::to_owned).collect()
}

#[test]
fn a_name_is_durable_once_it_was_renamed() {
    let created = |bench: &mut Bench| {
        bench.open(1, "d/a", OpenMode::Create).unwrap();
        bench.write(1, 0, b"1").unwrap();
        bench.sync(1).unwrap();
    };
    assert_eq!(outcomes(created), set(["", "d/a=1"]), "a created name may be lost");
    let renamed = |bench: &mut Bench| {
        created(bench);
        bench.rename("d/a", "d/b").unwrap();
    };
    assert_eq!(outcomes(renamed), set(["d/b=1"]));
    let sibling_renamed = |bench: &mut Bench| {
        bench.disk.write_file("d/x", "2");
        created(bench);
        bench.rename("d/x", "d/y").unwrap();
    };
    assert_eq!(outcomes(sibling_renamed), set(["d/a=1 d/y=2"]), "the directory was synced");
}

#[test]
fn a_rename_without_a_sync_keeps_the_name_only() {
    let story = |bench: &mut Bench| {
        bench.disk.write_file("a", "old");
        bench.open(1, "t", OpenMode::Create).unwrap();
        bench.write(1, 0, b"new").unwrap();
        bench.rename("t", "a").unwrap();
    };
    assert_eq!(outcomes(story), set(["a=", "a=new"]));
}

#[test]
fn a_rename_under_way_happens_or_not() {
    let story = |bench: &mut Bench| {
        bench.disk.write_file("a", "old");
        bench.disk.write_file("b", "new");
        bench.disk.faults.latency = MS..2 * MS;
        bench.submit(|op| FileOp::Rename { op, from: "b".into(), to: "a".into() });
    };
    assert_eq!(outcomes(story), set(["a=new", "a=old b=new"]));
}

#[test]
fn a_removed_file_stays_removed() {
    let story = |bench: &mut Bench| {
        bench.disk.write_file("a", "1");
        bench.remove("a").unwrap();
    };
    assert_eq!(outcomes(story), set([""]));
}

#[test]
fn an_overwritten_file_is_old_or_new_or_empty() {
    let story = |bench: &mut Bench| {
        bench.disk.write_file("a", "old");
        bench.open(1, "a", OpenMode::Create).unwrap();
        bench.write(1, 0, b"n").unwrap();
    };
    assert_eq!(outcomes(story), set(["a=", "a=n", "a=old"]));
}

#[test]
fn writes_tear_between_sectors() {
    let story = |bench: &mut Bench| {
        bench.disk.write_file("a", vec![b'.'; 1024]);
        bench.open(1, "t", OpenMode::Create).unwrap();
        bench.write(1, 0, &[b'x'; 1024]).unwrap();
        bench.rename("t", "a").unwrap();
    };
    let half = |first: u8| text(&[[first; 512], [b'x'; 512]].concat());
    let expected = [
        "a=".to_owned(),
        format!("a={}", text(&[b'x'; 512])),
        format!("a={}", half(0)),
        format!("a={}", half(b'x')),
    ];
    assert_eq!(outcomes(story), BTreeSet::from(expected));
}

#[test]
fn a_failed_sync_loses_what_was_written_and_later_syncs_fail_or_lie() {
    let mut later = BTreeSet::new();
    let after_crash = (0..200).map(|seed| {
        let mut bench = Bench::new(seed, DiskFaults::NONE);
        bench.disk.write_file("x", "");
        bench.open(1, "x.tmp", OpenMode::Create).unwrap();
        bench.rename("x.tmp", "x").unwrap();
        bench.write(1, 0, b"1").unwrap();
        bench.sync(1).unwrap();
        bench.write(1, 1, b"2").unwrap();
        bench.disk.faults.sync_error = Chance::ALWAYS;
        let failed = bench.sync(1).unwrap_err();
        assert_eq!(failed, "could not sync x.tmp: Input/output error (os error 5)");
        bench.disk.faults.sync_error = Chance::NEVER;
        assert_eq!(bench.contents(), "x=1");
        bench.write(1, 1, b"3").unwrap();
        later.insert(bench.sync(1).is_ok());
        bench.disk.crash();
        bench.contents()
    });
    assert_eq!(after_crash.collect::<BTreeSet<_>>(), set(["x=1", "x=13"]));
    assert_eq!(later, BTreeSet::from([false, true]));
}

#[test]
fn after_a_crash_nothing_is_open_or_answered() {
    let mut bench = Bench::new(0, DiskFaults::NONE);
    bench.open(1, "a", OpenMode::Create).unwrap();
    bench.submit(|op| FileOp::Sync { op, file: FileId(1) });
    bench.disk.crash();
    assert_eq!(bench.disk.next_due(), None);
    assert!(bench.after(SECOND).is_empty());
    bench.open(1, "b", OpenMode::Create).unwrap();
}

/// What a requester knows of one block of one file.
#[derive(Debug, Clone, Copy, Default)]
struct Block {
    /// The value written last, if the write succeeded.
    written: Option<u8>,
    /// The value that must survive, if nothing was written over it since.
    durable: Option<u8>,
    /// The number of the last write that was asked for.
    last_write: u64,
}

/// A requester that keeps what the contract promises it, and what it knows by that.
#[derive(Default)]
struct Requester {
    blocks: BTreeMap<(u64, u64), Block>,
    /// What a waiting operation was.
    asked: BTreeMap<OpId, Act>,
    /// Files with a failed sync: what comes later may not be trusted.
    distrusted: BTreeSet<u64>,
}

impl Requester {
    fn on_submit(&mut self, op: OpId, act: &Act) {
        if let Act::Write { file, block, .. } = act {
            let block = self.blocks.entry((*file, *block)).or_default();
            *block = Block { last_write: op.0, ..Block::default() };
        }
        self.asked.insert(op, act.clone());
    }

    fn on_done(&mut self, done: &FileDone) {
        match (self.asked.remove(&done.op).unwrap(), &done.result) {
            (Act::Write { file, block, value }, Ok(_)) => {
                let block = self.blocks.get_mut(&(file, block)).unwrap();
                if block.last_write == done.op.0 {
                    block.written = Some(value);
                }
            }
            (Act::Sync { file }, Ok(_)) if !self.distrusted.contains(&file) => {
                for (_, block) in self.blocks.iter_mut().filter(|((of, _), _)| *of == file) {
                    // A write that was asked for after the sync is not covered by it.
                    if block.last_write < done.op.0 && block.written.is_some() {
                        block.durable = block.written;
                    }
                }
            }
            (Act::Sync { file }, Err(_)) => {
                self.distrusted.insert(file);
            }
            _ => {}
        }
    }
}

proptest! {
    /// Whatever was written, synced and not overwritten is there after a crash, under faults too.
    #[test]
    fn what_is_durable_survives_each_crash(seed: u64, acts in acts(), faulty: bool) {
        let latency = Duration::ZERO..10 * MS;
        let faults = DiskFaults { latency, ..DiskFaults::NONE };
        let mut bench = Bench::new(seed, if faulty { all_faults() } else { faults });
        open_files(&mut bench);
        let mut requester = Requester::default();
        for act in &acts {
            if let Some((op, _)) = submit(&mut bench, act) {
                requester.on_submit(op, act);
            }
            if let Act::Wait { ms } = act {
                let done = bench.after(Duration::from_millis(*ms));
                for done in &done {
 requester.on_done(done);
}
            }
        }
        for _ in 0..2 {
            bench.disk.crash();
            let files: BTreeMap<&Path, &[u8]> = bench.disk.files().collect();
            prop_assert_eq!(files.len(), 3);
            for ((file, index), block) in &requester.blocks {
                let Some(value) = block.durable else { continue };
                let start = *index as usize * BLOCK_BYTES;
                let bytes = &files[Path::new(&format!("d/{file}"))];
                prop_assert_eq!(&bytes[start..start + BLOCK_BYTES], &[value; BLOCK_BYTES]);
            }
        }
    }
}
