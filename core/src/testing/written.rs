//! [`written_lines`]: what a job left behind in a folder.

use std::fs;
use std::io;
use std::path::Path;

/// The end of a name under which a file is being written; see [`crate::connector::FileSink`].
const UNFINISHED: &str = ".inprogress";

/// All lines of the finished files in `folder` and below, sorted: which task wrote a line, and
/// when, is nobody's business.
///
/// # Errors
/// If a file cannot be read, or is no text.
pub fn written_lines(folder: impl AsRef<Path>) -> io::Result<Vec<String>> {
    let mut lines = Vec::new();
    collect(folder.as_ref(), &mut lines)?;
    lines.sort_unstable();
    Ok(lines)
}

#[expect(clippy::disallowed_methods, reason = "the host that wrote the files is gone")]
fn collect(folder: &Path, lines: &mut Vec<String>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, lines)?;
        } else if !path.to_string_lossy().ends_with(UNFINISHED) {
            lines.extend(fs::read_to_string(path)?.lines().map(str::to_string));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "the files to be read come from here")]
    fn lines_of_finished_files_are_there_in_order() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text);
        fs::create_dir(folder.path().join("a")).expect("the folder is ours");
        write("a/part-0.jsonl", "3\n1\n").expect("the folder is ours");
        write("part-1.jsonl", "2\n").expect("the folder is ours");
        write("part-2.jsonl.inprogress", "0\n").expect("the folder is ours");
        assert_eq!(written_lines(folder.path()).expect("it can be read"), ["1", "2", "3"]);
        let error = written_lines(folder.path().join("b")).expect_err("there is no such folder");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
