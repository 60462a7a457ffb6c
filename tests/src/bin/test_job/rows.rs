//! Numbers, counted by key, in a directory that stands for a database: a file is a transaction,
//! made durable under one name and seen under another.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::PathBuf;

use millstream::connector::two_phase::{TwoPhaseSink, Writer};

/// Writes lines to `part-<task>-<beginning>-<number>.txt`.
#[derive(Clone)]
pub(crate) struct Rows {
    pub(crate) directory: PathBuf,
    pub(crate) writer: Option<Writer>,
    pub(crate) lines: Vec<String>,
    pub(crate) next: u64,
}

const PREPARED: &str = ".inprogress";

impl TwoPhaseSink for Rows {
    type In = String;
    type Committable = String;

    fn describe(&self) -> String {
        format!("transactions in {}", self.directory.display())
    }

    fn open(&mut self, writer: Writer) -> io::Result<()> {
        self.writer = Some(writer);
        fs::create_dir_all(&self.directory)
    }

    fn abort_all_but(&mut self, kept: &[String]) -> io::Result<()> {
        let writer = self.writer.as_ref().expect("it is open");
        for entry in fs::read_dir(&self.directory)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            let Some(part) = name.strip_suffix(PREPARED) else { continue };
            let task = part.split('-').nth(1).and_then(|task| task.parse().ok());
            let is_mine = task.is_some_and(|task| writer.answers_for(task));
            if is_mine && !kept.iter().any(|kept| kept == part) {
                fs::remove_file(self.directory.join(&name))?;
            }
        }
        Ok(())
    }

    fn write(&mut self, lines: Vec<String>) -> io::Result<()> {
        self.lines.extend(lines);
        Ok(())
    }

    fn pre_commit(&mut self) -> io::Result<Option<String>> {
        let writer = self.writer.as_ref().expect("it is open");
        let (task, begun_ms) = (writer.task_index, writer.begun_ms);
        let part = format!("part-{task:05}-{begun_ms}-{}.txt", self.next);
        self.next += 1;
        let mut file = File::create(self.directory.join(format!("{part}{PREPARED}")))?;
        for line in self.lines.drain(..) {
            writeln!(file, "{line}")?;
        }
        file.sync_all()?;
        Ok(Some(part))
    }

    fn commit(&mut self, part: &String) -> io::Result<()> {
        let (from, to) = (format!("{part}{PREPARED}"), self.directory.join(part));
        match fs::rename(self.directory.join(from), &to) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && to.exists() => Ok(()),
            result => result,
        }
    }
}
