//! The directory of a run's state: each shard has one of its own in it.
//!
//! ```text
//! <state directory>/lock          held while the run lasts
//!                  /shard-0/…     what has no room in memory
//!                  /shard-1/…
//! ```
//!
//! The files are of use to nobody but the run that wrote them. They go when it ends, whatever has
//! ended it; after a `kill -9` the next run clears the directory that it was told, and those that
//! runs which are no more have left where nobody told them one.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::config::Config;
use crate::error::Error;
use crate::runtime::storage_service::{Lock, lock};

/// The directory, while a run has it.
#[derive(Debug)]
pub(super) struct StateDirectory {
    path: PathBuf,
    /// Nobody has named it.
    is_temporary: bool,
    lock: Option<Lock>,
}

impl StateDirectory {
    /// Takes the directory that `config` names, or makes one, for the job called `job`.
    ///
    /// # Errors
    /// If another run has it, or it cannot be written to.
    pub(super) fn claim(config: &Config, job: &str) -> Result<Self, Error> {
        let temporary = std::env::temp_dir();
        let own = || temporary.join(format!("{}{}", prefix(job), std::process::id()));
        if config.state_directory.is_none() {
            remove_leftovers(&temporary, &prefix(job));
        }
        let path = config.state_directory.clone().unwrap_or_else(own);
        let lock_path = path.join("lock");
        let lock = lock(&lock_path).map_err(|source| refusal(&lock_path, source))?;
        remove_shards(&path);
        let is_temporary = config.state_directory.is_none();
        Ok(Self { path, is_temporary, lock: Some(lock) })
    }

    /// Removes what shards have there, once they have ended.
    pub(super) fn clear(&self) {
        remove_shards(&self.path);
    }

    /// Where shard `index` has its files.
    pub(super) fn shard(&self, index: u32) -> PathBuf {
        self.path.join(format!("shard-{index}"))
    }
}

impl Drop for StateDirectory {
    fn drop(&mut self) {
        self.clear();
        if let Some(Err(error)) = self.lock.take().map(Lock::release) {
            tracing::warn!(path = %self.path.display(), %error, "a lock file is left behind");
        }
        if self.is_temporary {
            // If a thread that was left behind writes on, the next run finds what it wrote.
            let _ = fs::remove_dir(&self.path);
        }
    }
}

/// How the names of directories begin that nobody has named. A name of a job may be anything.
fn prefix(job: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
    let job: String = job.chars().map(plain).take(64).collect();
    format!("millstream-{job}-")
}

fn refusal(path: &Path, source: io::Error) -> Error {
    let advice = if source.kind() == io::ErrorKind::WouldBlock {
        "another run has its state there: end it, or give this one a state_directory of its own"
    } else {
        "name a directory that can be written to as state_directory"
    };
    Error::System { action: format!("lock {}", path.display()), advice: Some(advice), source }
}

/// Removes what runs have left in `directory` that did not end by themselves.
fn remove_leftovers(directory: &Path, prefix: &str) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(process) = name.to_str().and_then(|name| name.strip_prefix(prefix)) else {
            continue;
        };
        let is_number = !process.is_empty() && process.bytes().all(|byte| byte.is_ascii_digit());
        if !is_number || Path::new("/proc").join(process).exists() {
            continue;
        }
        // A process elsewhere may have that number, and its lock.
        let path = entry.path();
        if let Ok(held) = lock(&path.join("lock")) {
            tracing::info!(path = %path.display(), "removing what an earlier run left");
            remove_shards(&path);
            let _ = held.release();
            let _ = fs::remove_dir(&path);
        }
    }
}

/// Removes the directories of shards, and nothing else that may be there.
fn remove_shards(directory: &Path) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let index = name.to_str().and_then(|name| name.strip_prefix("shard-"));
        if index.is_some_and(|index| index.parse::<u32>().is_ok())
            && let Err(error) = fs::remove_dir_all(entry.path())
        {
            tracing::warn!(path = %entry.path().display(), %error, "state is left behind");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(directory: &Path) -> Config {
        Config { state_directory: Some(directory.to_path_buf()), ..Config::default() }
    }

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).expect("it is there");
        let name = |entry: io::Result<fs::DirEntry>| entry.expect("it can be listed").file_name();
        let mut names: Vec<_> =
            entries.map(name).map(|name| name.to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn two_runs_never_share_a_directory() {
        let place = tempfile::tempdir().expect("a place for files");
        let config = config(&place.path().join("state"));
        let first = StateDirectory::claim(&config, "job").expect("nobody has it");
        let refusal = StateDirectory::claim(&config, "job").expect_err("the first has it").chain();
        assert!(refusal.contains("another run has its state there"), "{refusal}");
        drop(first);
        drop(StateDirectory::claim(&config, "job").expect("nobody has it any more"));
    }

    #[test]
    fn what_is_left_goes_before_and_after_a_run_and_nothing_else() {
        let place = tempfile::tempdir().expect("a place for files");
        fs::create_dir_all(place.path().join("shard-7")).expect("it can be made");
        fs::write(place.path().join("shard-7/0001.table"), "old").expect("it can be written");
        fs::create_dir(place.path().join("shard-x")).expect("it can be made");
        fs::write(place.path().join("notes"), "mine").expect("it can be written");
        let state = StateDirectory::claim(&config(place.path()), "job").expect("nobody has it");
        assert_eq!(names(place.path()), ["lock", "notes", "shard-x"]);
        fs::create_dir(state.shard(0)).expect("it can be made");
        drop(state);
        assert_eq!(names(place.path()), ["notes", "shard-x"]);
    }

    #[test]
    fn a_directory_that_nobody_named_goes_with_its_run() {
        let state = StateDirectory::claim(&Config::default(), "a/job of tests").expect("it is new");
        let path = state.path.clone();
        let name = path.file_name().expect("it has a name").to_string_lossy().into_owned();
        assert_eq!(name, format!("millstream-a_job_of_tests-{}", std::process::id()));
        fs::create_dir(state.shard(3)).expect("it can be made");
        drop(state);
        assert!(!path.exists());
    }

    #[test]
    fn what_a_dead_process_left_is_removed() {
        let place = tempfile::tempdir().expect("a place for files");
        let (dead, alive) = (place.path().join("job-4194305"), std::process::id());
        let alive = place.path().join(format!("job-{alive}"));
        for path in [&dead, &alive, &place.path().join("job-of-mine")] {
            fs::create_dir_all(path.join("shard-0")).expect("it can be made");
        }
        remove_leftovers(place.path(), "job-");
        let alive = alive.file_name().expect("it has a name").to_string_lossy().into_owned();
        assert_eq!(names(place.path()), [alive, "job-of-mine".to_string()]);
    }
}
