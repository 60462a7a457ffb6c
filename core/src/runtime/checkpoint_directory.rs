//! The directory of a job's checkpoints, while a run has it.
//!
//! ```text
//! <checkpoint directory>/.lock               held while the run lasts
//!                       /chk-0000000042.…    see `crate::checkpoint`
//!                       /ended               the job has: there is nothing more to do
//! ```
//!
//! One run has it at a time, whatever job it is: two that number their checkpoints would overwrite
//! each other's. What a crash left of unfinished checkpoints is removed when the next run begins,
//! and what a failure left when the job begins again in its process.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::checkpoint::Ended;
use crate::checkpoint::directory::{Files, Found, ended, look, manifest};
use crate::checkpoint::manifest::{Kind, Manifest};
use crate::checkpoint::names::{ENDED, FileName, is_state_name, manifest_name, unfinished_name};
use crate::data::element::CheckpointId;
use crate::error::Error;
use crate::runtime::storage_service::{Lock, link_durably, lock};

/// The directory, and the lock on it.
#[derive(Debug)]
pub(super) struct CheckpointDirectory {
    path: PathBuf,
    lock: Option<Lock>,
}

/// The files of the machine.
#[derive(Debug, Clone, Copy)]
pub struct SystemFiles;

impl Files for SystemFiles {
    fn names(&self, directory: &Path) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        // A name that is not UTF-8 is none of ours.
        let name = |entry: io::Result<fs::DirEntry>| {
            entry.map(|entry| entry.file_name().into_string().ok()).transpose()
        };
        entries.filter_map(name).collect()
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        fs::read(path)
    }
}

impl CheckpointDirectory {
    /// Takes `path`.
    ///
    /// # Errors
    /// If another run has it, or it cannot be written to.
    pub(super) fn claim(path: &Path) -> Result<Self, Error> {
        let lock_path = path.join(".lock");
        let lock = lock(&lock_path).map_err(|source| refusal(&lock_path, source))?;
        Ok(Self { path: path.to_path_buf(), lock: Some(lock) })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Looks at what is there, and removes what was not finished.
    ///
    /// # Errors
    /// If what is there cannot be used.
    pub(super) fn look(&self) -> Result<Found, Error> {
        let found = look(&SystemFiles, &self.path)?;
        for error in &found.passed_over {
            let error = error.chain();
            tracing::error!(
                error,
                "a checkpoint is damaged and is passed over: results since the one before \
                 appear again"
            );
        }
        for orphan in &found.orphans {
            tracing::info!(path = %orphan.display(), "removing what an earlier run left");
            remove(orphan);
        }
        for directory in &found.orphan_directories {
            remove_directory(directory);
        }
        Ok(found)
    }

    /// Makes a savepoint of a checkpoint that is complete: in `savepoint`, a directory of its own.
    ///
    /// # Errors
    /// If it cannot be read or written.
    pub(super) fn copy(&self, checkpoint: CheckpointId, savepoint: &Path) -> Result<(), Error> {
        let failed = |source| {
            let action = format!("make the savepoint {}", savepoint.display());
            let advice = "the checkpoint that it was to be made of is complete";
            Error::System { action, advice: Some(advice), source }
        };
        let manifest = manifest(&SystemFiles, &self.path.join(manifest_name(checkpoint)))?;
        let manifest = Manifest { kind: Kind::Savepoint, ..manifest };
        fs::create_dir_all(savepoint).map_err(failed)?;
        let parents = savepoint.ancestors().skip(1).take(2).filter(|it| it.is_dir());
        for parent in parents {
            fs::File::open(parent).and_then(|it| it.sync_all()).map_err(failed)?;
        }
        for part in &manifest.parts {
            let bytes = fs::read(self.path.join(&part.name)).map_err(failed)?;
            write_durably(&savepoint.join(&part.name), &bytes).map_err(failed)?;
            let tables = part.tables.paths(&self.path).zip(part.tables.paths(savepoint));
            for (from, to) in tables {
                link_durably(&from, &to).map_err(failed)?;
            }
        }
        let name = manifest_name(checkpoint);
        let temporary = savepoint.join(unfinished_name(&name));
        write_durably(&temporary, &manifest.encode()).map_err(failed)?;
        fs::rename(&temporary, savepoint.join(&name)).map_err(failed)?;
        fs::File::open(savepoint).and_then(|it| it.sync_all()).map_err(failed)
    }

    /// When the job called `job` has ended here, ms since 1970; none if it has not. If it has, what
    /// a kill at its end may have left goes.
    ///
    /// # Errors
    /// If that cannot be said, or another job has ended here.
    pub(super) fn ended(&self, job: &str) -> Result<Option<i64>, Error> {
        let Some(ended) = ended(&SystemFiles, &self.path)? else { return Ok(None) };
        let path = self.path.join(ENDED);
        if ended.job != job {
            let problem = format!(
                "job {} has ended here ({}), and this is job {job}: give it a checkpoint_directory \
                 of its own",
                ended.job,
                path.display()
            );
            return Err(Error::Plan { problems: vec![problem] });
        }
        let since = Duration::from_millis(ended.time_ms.max(0).unsigned_abs());
        let at = humantime::format_rfc3339_seconds(SystemTime::UNIX_EPOCH + since);
        tracing::warn!(
            %at,
            path = %path.display(),
            "nothing is done: this job has ended before; remove that file to run it again"
        );
        self.clear();
        Ok(Some(ended.time_ms))
    }

    /// The job called `job` has ended at `time_ms`, and its results are shown: that is written, and
    /// then nobody will go on from its checkpoints.
    pub(super) fn end(&self, job: &str, time_ms: i64) {
        let word = Ended { time_ms, job: job.to_string() }.encode();
        let temporary = self.path.join(unfinished_name(ENDED));
        let written = write_durably(&temporary, &word)
            .and_then(|()| fs::rename(&temporary, self.path.join(ENDED)))
            .and_then(|()| fs::File::open(&self.path)?.sync_all());
        match written {
            Ok(()) => self.clear(),
            // As if it had been killed before: the next run comes to the same end.
            Err(error) => {
                let path = self.path.display();
                tracing::warn!(%path, %error, "it cannot be written that the job has ended");
            }
        }
    }

    /// Checkpoints go, manifests first.
    fn clear(&self) {
        let Ok(names) = SystemFiles.names(&self.path) else { return };
        let files = names.iter().filter_map(|name| Some((FileName::of(name)?, name)));
        let mut in_order: Vec<_> = files.collect();
        in_order.sort_unstable();
        for (_, name) in in_order {
            remove(&self.path.join(name));
        }
        for name in names.iter().filter(|name| is_state_name(name)) {
            let directory = self.path.join(name);
            for table in SystemFiles.names(&directory).unwrap_or_default() {
                remove(&directory.join(table));
            }
            remove_directory(&directory);
        }
    }
}

impl Drop for CheckpointDirectory {
    fn drop(&mut self) {
        if let Some(Err(error)) = self.lock.take().map(Lock::release) {
            tracing::warn!(path = %self.path.display(), %error, "a lock file is left behind");
        }
    }
}

fn write_durably(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = fs::File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn remove_directory(path: &Path) {
    if let Err(error) = fs::remove_dir(path) {
        tracing::warn!(path = %path.display(), %error, "a directory for tables is left behind");
    }
}

fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path) {
        tracing::warn!(path = %path.display(), %error, "a checkpoint's file is left behind");
    }
}

fn refusal(path: &Path, source: io::Error) -> Error {
    let advice = if source.kind() == io::ErrorKind::WouldBlock {
        "another run has its checkpoints there: end it, or give this one a checkpoint_directory of \
         its own"
    } else {
        "name a directory that can be written to as checkpoint_directory"
    };
    Error::System { action: format!("lock {}", path.display()), advice: Some(advice), source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::directory::open;
    use crate::checkpoint::manifest::{PartRow, Tables};
    use crate::checkpoint::names::part_name;
    use crate::checkpoint::part::Part;

    /// Writes a checkpoint of one shard.
    fn write(directory: &Path, id: u64) {
        let checkpoint = CheckpointId(id);
        let part = Part { checkpoint, shard: 0, chains: Vec::new(), image: None }.encode();
        let name = part_name(checkpoint, 0);
        fs::write(directory.join(&name), &part).expect("it can be written");
        let manifest = Manifest {
            checkpoint,
            time_ms: 0,
            kind: Kind::Checkpoint,
            key_group_count: 8,
            job: "job".to_string(),
            parts: vec![PartRow::of(name, &part, Tables::default())],
        };
        let path = directory.join(manifest_name(checkpoint));
        fs::write(path, manifest.encode()).expect("it can be written");
    }

    fn names(directory: &Path) -> Vec<String> {
        let mut names = SystemFiles.names(directory).expect("it can be listed");
        names.sort();
        names
    }

    #[test]
    fn one_run_has_it_and_finds_what_the_last_one_left() {
        let place = tempfile::tempdir().expect("a place for files");
        let path = place.path().join("checkpoints");
        let first = CheckpointDirectory::claim(&path).expect("nobody has it");
        let found = first.look().expect("nothing is there");
        assert!(found.newest.is_none() && found.last == CheckpointId(0));
        let refusal = CheckpointDirectory::claim(&path).expect_err("the first has it").chain();
        assert!(refusal.contains("another run has its checkpoints there"), "{refusal}");
        (3..5).for_each(|id| write(&path, id));
        fs::write(path.join("notes"), "mine").expect("it can be written");
        fs::write(path.join(part_name(CheckpointId(9), 0)), "half").expect("it can be written");
        drop(first);
        let second = CheckpointDirectory::claim(&path).expect("nobody has it any more");
        let found = second.look().expect("two are whole");
        assert_eq!(found.newest.map(|it| it.manifest.checkpoint), Some(CheckpointId(4)));
        assert_eq!(found.last, CheckpointId(9), "no number is used twice");
        assert_eq!(names(&path).len(), 6, "the orphan is gone: {:?}", names(&path));
        let savepoint = place.path().join("before");
        second.copy(CheckpointId(4), &savepoint).expect("it can be written");
        let opened = open(&SystemFiles, &savepoint).expect("it is whole").manifest;
        assert_eq!((opened.checkpoint, opened.kind), (CheckpointId(4), Kind::Savepoint));
        assert_eq!(second.ended("job").expect("nothing is there"), None);
        second.end("job", 1_000);
        assert_eq!(names(&path), [".lock", "ended", "notes"]);
        drop(second);
        assert_eq!(names(&path), ["ended", "notes"]);
    }

    /// A kill at the end of a job leaves one of these.
    #[test]
    fn what_was_left_at_the_end_of_a_job_is_an_end_or_a_checkpoint_to_go_on_from() {
        let place = tempfile::tempdir().expect("a place for files");
        let path = place.path().join("checkpoints");
        let directory = CheckpointDirectory::claim(&path).expect("nobody has it");
        (3..5).for_each(|id| write(&path, id));
        fs::write(path.join("ended.part"), "half").expect("it can be written");
        assert_eq!(directory.ended("job").expect("nothing is said"), None);
        let found = directory.look().expect("two are whole");
        assert_eq!(found.newest.map(|it| it.manifest.checkpoint), Some(CheckpointId(4)));
        assert!(!path.join("ended.part").exists());
        let word = Ended { time_ms: 1_000, job: "job".to_string() }.encode();
        fs::write(path.join("ended"), &word).expect("it can be written");
        let other = directory.ended("other").expect_err("another job").to_string();
        assert!(other.contains("job job has ended here"), "{other}");
        assert_eq!(names(&path).len(), 6, "nothing of it is touched");
        // Some checkpoints were removed, and some were not.
        fs::remove_file(path.join(manifest_name(CheckpointId(3)))).expect("it is there");
        assert_eq!(directory.ended("job").expect("it is whole"), Some(1_000));
        assert_eq!(names(&path), [".lock", "ended"]);
        fs::write(path.join("ended"), &word[1..]).expect("it can be written");
        let damaged = directory.ended("job").expect_err("it is not whole").to_string();
        assert!(damaged.contains("is damaged at byte"), "{damaged}");
    }
}
