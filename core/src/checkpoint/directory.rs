//! What is in a directory of checkpoints, and which of them a job goes on from.
//!
//! ```text
//! names ─► manifests, newest first ─► one that can be read ─► its parts ─► all whole ─► go on
//!                │ damaged                                       │ missing, damaged
//!                └────────── told; the one before it ◄───────────┘
//! ```
//!
//! Only damage is passed over. What was shown after an older checkpoint is shown again by a job
//! that goes back to it, which is why it is told as an error.
//!
//! Nothing that a manifest names is ever an orphan, though the manifest be damaged: somebody may
//! want to mend it. If there are manifests and none of them is whole, that is an error: to begin
//! anew would be to lose all state without a word.
//!
//! A directory whose job has [`ended`] has nothing to go on from.
//!
//! Not here: who reads files (a host gives [`Files`]), who removes orphans.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::path::{Path, PathBuf};

use super::coordinator::Kept;
use super::ended::Ended;
use super::manifest::{Damaged, Kind, Manifest};
use super::names::{ENDED, FileName, first_of_state, is_state_name, unfinished_name};
use super::part::Part;
use super::tables;
use crate::data::element::CheckpointId;
use crate::error::Error;
use crate::state::snapshot::{RunTo, Snapshot};

/// Files, as whoever looks for checkpoints sees them.
pub trait Files {
    /// The names of the files in a directory; none if there is no such directory.
    ///
    /// # Errors
    /// Whatever keeps it from being listed.
    fn names(&self, directory: &Path) -> io::Result<Vec<String>>;

    /// All bytes of a file.
    ///
    /// # Errors
    /// Whatever keeps it from being read.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
}

/// What a job goes on from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// What is said of it.
    pub manifest: Manifest,
    /// The state of all tasks.
    pub snapshot: Snapshot,
}

/// What is in a directory.
#[derive(Debug, Default)]
pub struct Found {
    /// The newest checkpoint that is whole.
    pub newest: Option<Restored>,
    /// The highest number that a file has.
    pub last: CheckpointId,
    /// Those that can be gone back to, oldest first.
    pub kept: VecDeque<Kept>,
    /// Files that no manifest names, left by a crash.
    pub orphans: Vec<PathBuf>,
    /// Directories for tables that have none that a manifest names.
    pub orphan_directories: Vec<PathBuf>,
    /// What was passed over, and why: an error each.
    pub passed_over: Vec<Error>,
}

/// Looks at `directory`.
///
/// # Errors
/// If there are checkpoints and none of them is whole: of the newest, what is wrong with it. If the
/// directory cannot be listed.
pub fn look(files: &impl Files, directory: &Path) -> Result<Found, Error> {
    let names = files.names(directory).map_err(|source| unreadable("list", directory, source))?;
    let unfinished_end = unfinished_name(ENDED);
    let has_unfinished_end = names.contains(&unfinished_end);
    let states = names.iter().filter(|name| is_state_name(name)).cloned();
    let states: Vec<String> = states.collect();
    let names: BTreeMap<FileName, String> =
        names.into_iter().filter_map(|name| Some((FileName::of(&name)?, name))).collect();
    let mut found = Found::default();
    let mut wanted = BTreeSet::new();
    let mut with_manifest = BTreeSet::new();
    let mut last_unreadable = None;
    for (kind, name) in names.iter().rev() {
        found.last = found.last.max(kind.checkpoint());
        let FileName::Manifest(checkpoint) = *kind else { continue };
        with_manifest.insert(checkpoint);
        let path = directory.join(name);
        let manifest = read_manifest(files, &path, checkpoint);
        last_unreadable = last_unreadable.or(manifest.is_err().then_some(checkpoint));
        if let Ok(manifest) = &manifest {
            let tables = manifest.parts.iter().flat_map(|part| part.tables.paths(directory));
            wanted.extend(tables);
        }
        match manifest {
            Ok(manifest) if found.newest.is_none() => {
                match read_parts(files, directory, &manifest) {
                    Ok(snapshot) => {
                        found.kept.push_front(kept(directory, name, &manifest));
                        found.newest = Some(Restored { manifest, snapshot });
                    }
                    Err(error) => found.passed_over.push(if_damaged(error)?),
                }
            }
            Ok(manifest) => found.kept.push_front(kept(directory, name, &manifest)),
            Err(error) if found.newest.is_none() => found.passed_over.push(if_damaged(error)?),
            // Nobody goes back to it, and somebody may want to know why it is there.
            Err(_) => {}
        }
    }
    if found.newest.is_none() && !found.passed_over.is_empty() {
        return Err(found.passed_over.swap_remove(0));
    }
    let is_orphan = |kind: &FileName| match kind {
        FileName::Manifest(_) => false,
        FileName::Unfinished(_) => true,
        FileName::Part(checkpoint, _) => !with_manifest.contains(checkpoint),
    };
    let orphans = names.iter().filter(|(kind, _)| is_orphan(kind));
    found.orphans = orphans.map(|(_, name)| directory.join(name)).collect();
    found.orphans.extend(has_unfinished_end.then(|| directory.join(unfinished_end)));
    for state in states {
        // A manifest that cannot be read may name any table that was there.
        if last_unreadable < first_of_state(&state) {
            found.look_at_tables(files, directory.join(state), &wanted)?;
        }
    }
    Ok(found)
}

impl Found {
    /// Finds the orphans among the tables in `directory`.
    fn look_at_tables(
        &mut self,
        files: &impl Files,
        directory: PathBuf,
        wanted: &BTreeSet<PathBuf>,
    ) -> Result<(), Error> {
        let names = files.names(&directory);
        let names = names.map_err(|source| unreadable("list", &directory, source))?;
        let paths: Vec<PathBuf> = names.iter().map(|name| directory.join(name)).collect();
        let is_orphan = |path: &&PathBuf| !wanted.contains(*path);
        let orphan_count = paths.iter().filter(is_orphan).count();
        self.orphans.extend(paths.iter().filter(is_orphan).cloned());
        if orphan_count == paths.len() {
            self.orphan_directories.push(directory);
        }
        Ok(())
    }
}

/// Whether the job of `directory` has ended.
///
/// # Errors
/// If that cannot be said: the word is there and damaged, or cannot be read.
pub fn ended(files: &impl Files, directory: &Path) -> Result<Option<Ended>, Error> {
    let path = directory.join(ENDED);
    match files.read(&path) {
        Ok(bytes) => Ok(Some(Ended::decode(&bytes).map_err(|damaged| corrupt(&path, &damaged))?)),
        Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(unreadable("read", &path, source)),
    }
}

/// Reads one checkpoint: `path` is its manifest, or a directory of which it is the newest that is
/// whole.
///
/// # Errors
/// If there is none, or it is not whole.
pub fn open(files: &impl Files, path: &Path) -> Result<Restored, Error> {
    let name = path.file_name().and_then(|name| name.to_str()).and_then(FileName::of);
    if let Some(FileName::Manifest(checkpoint)) = name {
        let directory = path.parent().unwrap_or(Path::new(""));
        let manifest = read_manifest(files, path, checkpoint)?;
        let snapshot = read_parts(files, directory, &manifest)?;
        return Ok(Restored { manifest, snapshot });
    }
    look(files, path)?.newest.ok_or_else(|| {
        let source = io::Error::from(io::ErrorKind::NotFound);
        unreadable("find a checkpoint in", path, source)
    })
}

/// What a manifest says, if it is whole.
///
/// # Errors
/// If it is not, or is none.
pub fn manifest(files: &impl Files, path: &Path) -> Result<Manifest, Error> {
    let name = path.file_name().and_then(|name| name.to_str()).and_then(FileName::of);
    match name {
        Some(FileName::Manifest(checkpoint)) => read_manifest(files, path, checkpoint),
        _ => Err(other(path, "its name is not that of a manifest")),
    }
}

impl Restored {
    /// Checks that a job can go on from it, and says what becomes of every state.
    ///
    /// # Errors
    /// [`Error::Plan`], with what to do.
    pub fn check(&self, heir: &Heir<'_>) -> Result<Inheritance, Error> {
        let Heir { job, key_group_count, uids, inputs, may_drop } = *heir;
        let Manifest { checkpoint, kind, job: own, key_group_count: own_groups, .. } =
            &self.manifest;
        let mut problems = Vec::new();
        // A savepoint is named by whoever wants to go on from it.
        if own != job && *kind == Kind::Checkpoint {
            problems.push(format!(
                "checkpoint {} is of job {own}, and this is job {job}: give it a \
                 checkpoint_directory of its own",
                checkpoint.0
            ));
        }
        if *own_groups != key_group_count {
            problems.push(format!(
                "checkpoint {} has {own_groups} key groups, and the job has {key_group_count}: set \
                 key_group_count to {own_groups}",
                checkpoint.0
            ));
        }
        let is_own = |uid: &&str| uids.iter().any(|own| own == uid);
        let (inherited, dropped): (Vec<&str>, Vec<&str>) =
            self.snapshot.uids_with_state().partition(is_own);
        if !may_drop {
            problems.extend(dropped.iter().map(|uid| {
                format!(
                    "checkpoint {} has state of {uid}, and no operator of the job has that uid: \
                     give it to the one that the state belongs to (.uid(\"{uid}\")), or set \
                     allow_dropped_state",
                    checkpoint.0
                )
            }));
            let in_flight = self.snapshot.in_flight();
            let unread = in_flight.keys().filter(|to| !inputs.contains(**to));
            problems.extend(unread.map(|RunTo { uid, input }| {
                format!(
                    "checkpoint {} has records in flight to input {input} of {uid}, and the job \
                     has no channel there: let it go on from a checkpoint that has none in flight \
                     (alignment = \"aligned\"), or set allow_dropped_state",
                    checkpoint.0
                )
            }));
        }
        if !problems.is_empty() {
            return Err(Error::Plan { problems });
        }
        let is_known: BTreeSet<&str> = self.snapshot.uids().collect();
        let new = uids.iter().filter(|uid| !is_known.contains(uid.as_str()));
        let owned = |uids: Vec<&str>| uids.into_iter().map(str::to_string).collect();
        let (inherited, dropped) = (owned(inherited), owned(dropped));
        Ok(Inheritance { inherited, new: new.cloned().collect(), dropped })
    }
}

/// A job that is to go on from a checkpoint.
#[derive(Debug, Clone, Copy)]
pub struct Heir<'a> {
    /// Its name.
    pub job: &'a str,
    /// Its key groups.
    pub key_group_count: u32,
    /// The uids of its sources, operators and sinks.
    pub uids: &'a [String],
    /// The inputs that its tasks read.
    pub inputs: &'a BTreeSet<RunTo>,
    /// Whether state that belongs to none of them may be dropped.
    pub may_drop: bool,
}

/// What becomes of the states of a checkpoint: uids.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inheritance {
    /// Operators that find their state.
    pub inherited: Vec<String>,
    /// Operators that the checkpoint does not know: they begin without state.
    pub new: Vec<String>,
    /// State that belongs to no operator any more.
    pub dropped: Vec<String>,
}

/// `error`, if it is about what is on disk. What a later release has written, or what cannot be
/// read for now, is no reason to go back in time.
fn if_damaged(error: Error) -> Result<Error, Error> {
    match &error {
        Error::Corrupt { .. } => Ok(error),
        Error::System { source, .. } if source.kind() == io::ErrorKind::NotFound => Ok(error),
        _ => Err(error),
    }
}

fn kept(directory: &Path, name: &str, manifest: &Manifest) -> Kept {
    let parts = manifest.parts.iter().map(|part| part.name.as_str());
    let tables = manifest.parts.iter().flat_map(|part| part.tables.paths(directory));
    Kept {
        checkpoint: manifest.checkpoint,
        files: std::iter::once(name).chain(parts).map(|name| directory.join(name)).collect(),
        tables: tables.collect(),
    }
}

fn read_manifest(
    files: &impl Files,
    path: &Path,
    checkpoint: CheckpointId,
) -> Result<Manifest, Error> {
    let bytes = files.read(path).map_err(|source| unreadable("read", path, source))?;
    let manifest = Manifest::decode(&bytes).map_err(|damaged| corrupt(path, &damaged))?;
    if manifest.checkpoint != checkpoint {
        return Err(other(path, "it is the manifest of another checkpoint"));
    }
    Ok(manifest)
}

fn read_parts(
    files: &impl Files,
    directory: &Path,
    manifest: &Manifest,
) -> Result<Snapshot, Error> {
    let mut snapshot = Snapshot::default();
    for (shard, row) in manifest.parts.iter().enumerate() {
        let path = directory.join(&row.name);
        let bytes = files.read(&path).map_err(|source| unreadable("read", &path, source))?;
        if let Some(objection) = row.objection(&bytes) {
            return Err(other(&path, objection));
        }
        let part = Part::decode(&bytes).map_err(|damaged| corrupt(&path, &damaged))?;
        if (part.checkpoint, part.shard as usize) != (manifest.checkpoint, shard) {
            return Err(other(&path, "it is another part than the manifest says"));
        }
        if !tables::agree(part.image.as_ref(), &row.tables) {
            return Err(other(&path, "it names other tables than the manifest says"));
        }
        if let Some(image) = &part.image {
            tables::read(files, directory, image, &mut snapshot)?;
        }
        part.chains.into_iter().for_each(|(_, chain)| snapshot.merge(chain));
    }
    Ok(snapshot)
}

pub(super) fn unreadable(verb: &str, path: &Path, source: io::Error) -> Error {
    let advice = "a checkpoint is a manifest and all files that it names, in one directory";
    Error::System { action: format!("{verb} {}", path.display()), advice: Some(advice), source }
}

fn corrupt(path: &Path, damaged: &Damaged) -> Error {
    if let Damaged::Version { .. } = damaged {
        let what = format!("{}: {damaged}; start the release that wrote it", path.display());
        return Error::Plan { problems: vec![what] };
    }
    let (what, reason) = (path.display().to_string(), damaged.to_string());
    Error::Corrupt { what, offset: damaged.offset(), reason }
}

fn other(path: &Path, reason: &str) -> Error {
    corrupt_at(path, 0, reason)
}

pub(super) fn corrupt_at(path: &Path, offset: u64, reason: &str) -> Error {
    Error::Corrupt { what: path.display().to_string(), offset, reason: reason.to_string() }
}

#[cfg(test)]
mod tests;
