//! Which checkpoint is gone on from when some of their files are damaged, missing or left over.

use super::*;
use crate::checkpoint::manifest::{PartRow, Tables};
use crate::checkpoint::names::{manifest_name, part_name};
use crate::graph::plan::Deal;
use crate::state::snapshot::{Place, Run, SnapshotReader, SnapshotWriter, ValueLayout};

/// A directory in memory.
#[derive(Debug, Clone, Default)]
struct Memory(BTreeMap<PathBuf, Vec<u8>>);

impl Files for Memory {
    fn names(&self, directory: &Path) -> io::Result<Vec<String>> {
        let names = self.0.keys().filter(|path| path.parent() == Some(directory));
        Ok(names.filter_map(|path| Some(path.file_name()?.to_str()?.to_string())).collect())
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.0.get(path).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

const DIRECTORY: &str = "/checkpoints";

impl Memory {
    /// With a checkpoint of two shards, in which each has its number and that of the checkpoint.
    fn with(mut self, id: u64) -> Self {
        let checkpoint = CheckpointId(id);
        let mut parts = Vec::new();
        for shard in 0..2 {
            let mut snapshot = Snapshot::default();
            let mut writer = SnapshotWriter::new(&mut snapshot, "op");
            writer.operator_state(&format!("shard/{shard}"), &id);
            let part = Part { checkpoint, shard, chains: vec![(0, snapshot)], image: None };
            let part = part.encode();
            let name = part_name(checkpoint, shard);
            self.0.insert(Path::new(DIRECTORY).join(&name), part.clone());
            parts.push(PartRow::of(name, &part, Tables::default()));
        }
        let manifest = Manifest {
            checkpoint,
            time_ms: 0,
            kind: Kind::Checkpoint,
            key_group_count: 8,
            job: "job".to_string(),
            parts,
        };
        self.0.insert(Path::new(DIRECTORY).join(manifest_name(checkpoint)), manifest.encode());
        self
    }

    fn without(mut self, name: &str) -> Self {
        assert!(self.0.remove(&Path::new(DIRECTORY).join(name)).is_some(), "{name} was there");
        self
    }

    fn damaged(mut self, name: &str) -> Self {
        let bytes = self.0.get_mut(&Path::new(DIRECTORY).join(name)).expect(name);
        *bytes.last_mut().expect("it is not empty") ^= 1;
        self
    }

    fn look(&self) -> Result<Found, Error> {
        look(self, Path::new(DIRECTORY))
    }
}

fn newest(found: &Found) -> Option<u64> {
    let restored = found.newest.as_ref()?;
    let reader = SnapshotReader::new(&restored.snapshot, "op");
    let states = reader.operator_state::<u64>("shard/").expect("it is whole");
    assert_eq!(states.len(), 2, "of both shards");
    assert!(states.iter().all(|(_, id)| *id == restored.manifest.checkpoint.0));
    Some(restored.manifest.checkpoint.0)
}

fn kept(found: &Found) -> Vec<u64> {
    found.kept.iter().map(|kept| kept.checkpoint.0).collect()
}

#[test]
fn an_empty_directory_has_nothing() {
    let found = Memory::default().look().expect("nothing is wrong");
    assert!(found.newest.is_none() && found.kept.is_empty() && found.orphans.is_empty());
}

#[test]
fn the_newest_whole_one_is_gone_on_from() {
    let found = Memory::default().with(3).with(4).with(12).look().expect("nothing is wrong");
    assert_eq!((newest(&found), kept(&found)), (Some(12), vec![3, 4, 12]));
    assert_eq!(found.last, CheckpointId(12));
}

#[test]
fn a_damaged_one_is_told_and_passed_over_and_its_files_are_left() {
    for name in ["chk-0000000004.manifest", "chk-0000000004.shard-00001"] {
        let found = Memory::default().with(3).with(4).damaged(name).look().expect("one is left");
        assert_eq!((newest(&found), kept(&found)), (Some(3), vec![3]), "{name}");
        let told = found.passed_over.iter().map(Error::chain).collect::<Vec<_>>();
        assert!(told.len() == 1 && told[0].contains(name), "{told:?}");
        assert!(found.orphans.is_empty(), "{:?}", found.orphans);
        assert_eq!(found.last, CheckpointId(4));
    }
}

#[test]
fn if_none_is_whole_that_is_an_error() {
    let files = Memory::default().with(3).without("chk-0000000003.shard-00000");
    let error = files.look().expect_err("its part is not there").chain();
    assert!(error.contains("chk-0000000003.shard-00000"), "{error}");
}

#[test]
fn what_no_manifest_names_is_an_orphan() {
    let mut files = Memory::default().with(3).with(4).without("chk-0000000004.manifest");
    for name in ["chk-0000000003.manifest.part", "notes", "chk-1"] {
        files.0.insert(Path::new(DIRECTORY).join(name), Vec::new());
    }
    let found = files.look().expect("one is whole");
    let names = |path: &PathBuf| path.file_name().expect("a name").to_string_lossy().into_owned();
    let mut orphans: Vec<_> = found.orphans.iter().map(names).collect();
    orphans.sort();
    assert_eq!(
        orphans,
        [
            "chk-0000000003.manifest.part",
            "chk-0000000004.shard-00000",
            "chk-0000000004.shard-00001"
        ]
    );
}

#[test]
fn one_is_opened_by_its_manifest_or_its_directory() {
    let files = Memory::default().with(3).with(4);
    let open = |path: &str| open(&files, Path::new(path)).map(|it| it.manifest.checkpoint.0);
    assert_eq!(open("/checkpoints/chk-0000000003.manifest").expect("it is there"), 3);
    assert_eq!(open("/checkpoints").expect("it is there"), 4);
    let error = open("/elsewhere").expect_err("there is nothing").chain();
    assert!(error.contains("/elsewhere"), "{error}");
}

#[test]
fn parts_of_another_checkpoint_are_refused() {
    let mut files = Memory::default().with(3).with(4);
    let path = |id, shard| Path::new(DIRECTORY).join(part_name(CheckpointId(id), shard));
    let other = files.0[&path(3, 0)].clone();
    files.0.insert(path(4, 0), other);
    let found = files.look().expect("the other is whole");
    assert_eq!(newest(&found), Some(3));
}

#[test]
fn another_job_or_other_key_groups_are_refused_with_what_to_do() {
    let found = Memory::default().with(3).look().expect("nothing is wrong");
    let restored = found.newest.expect("one is there");
    let uids = ["op".to_string()];
    let inputs = BTreeSet::new();
    let heir =
        Heir { job: "job", key_group_count: 8, uids: &uids, inputs: &inputs, may_drop: false };
    restored.check(&heir).expect("it is its own");
    let other = Heir { job: "other", key_group_count: 16, ..heir };
    let error = restored.check(&other).expect_err("both are others").to_string();
    assert!(error.contains("checkpoint 3 is of job job, and this is job other"), "{error}");
    assert!(error.contains("set key_group_count to 8"), "{error}");
}

#[test]
fn it_is_said_what_becomes_of_every_state() {
    let found = Memory::default().with(3).look().expect("nothing is wrong");
    let restored = found.newest.expect("one is there");
    let uids = ["other".to_string()];
    let inputs = BTreeSet::new();
    let heir =
        Heir { job: "job", key_group_count: 8, uids: &uids, inputs: &inputs, may_drop: false };
    let error = restored.check(&heir).expect_err("the state belongs to nobody").to_string();
    assert!(error.contains("has state of op, and no operator of the job has that uid"), "{error}");
    let becomes = restored.check(&Heir { may_drop: true, ..heir }).expect("it may be dropped");
    let only = |uid: &str| vec![uid.to_string()];
    assert_eq!((becomes.new, becomes.dropped), (only("other"), only("op")));
    let uids = ["op".to_string(), "other".to_string()];
    let becomes = restored.check(&Heir { uids: &uids, ..heir }).expect("nothing is dropped");
    assert_eq!((becomes.inherited, becomes.new), (only("op"), only("other")));
}

#[test]
fn rows_in_flight_to_an_input_that_nobody_reads_are_refused_or_dropped() {
    let found = Memory::default().with(3).look().expect("nothing is wrong");
    let mut restored = found.newest.expect("one is there");
    let to = RunTo { uid: "op".to_string(), input: 1 };
    let run =
        Run { deal: Deal::KeyGroup, layout: ValueLayout::of::<u64>(), frames: vec![vec![0; 16]] };
    let place = Place::Left { task: 0, index: 0 };
    restored.snapshot.put_in_flight(to.clone(), place, run);
    let (uids, inputs) = (["op".to_string()], BTreeSet::from([to]));
    let heir =
        Heir { job: "job", key_group_count: 8, uids: &uids, inputs: &inputs, may_drop: false };
    restored.check(&heir).expect("they are read");
    let none = BTreeSet::new();
    let heir = Heir { inputs: &none, ..heir };
    let error = restored.check(&heir).expect_err("nobody reads them").to_string();
    assert!(error.contains("has records in flight to input 1 of op"), "{error}");
    restored.check(&Heir { may_drop: true, ..heir }).expect("they may be dropped");
}
