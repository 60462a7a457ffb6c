//! Patterns over trees in memory, with links, loops and what may not be looked at.

use super::*;

/// Directories, files and links by path; files are as large as their names are long.
#[derive(Default)]
struct Memory {
    places: BTreeMap<PathBuf, Place>,
}

#[derive(Clone)]
enum Place {
    File(u64),
    Directory(u64),
    Link(PathBuf),
    Forbidden,
    Fifo,
}

impl Memory {
    fn of(text: &str) -> Self {
        let mut memory = Self::default();
        for (number, word) in (1..).zip(text.split_whitespace()) {
            let (path, place) = match word.split_once([':', '>']) {
                Some((path, "forbidden")) => (path, Place::Forbidden),
                Some((path, "fifo")) => (path, Place::Fifo),
                Some((path, to)) => (path, Place::Link(to.into())),
                None => (word, Place::File(number)),
            };
            let path = Path::new(path);
            for above in path.ancestors().skip(1) {
                let number = 1000 + memory.places.len() as u64;
                memory.places.entry(above.to_owned()).or_insert(Place::Directory(number));
            }
            memory.places.insert(path.to_owned(), place);
        }
        memory
    }

    /// Follows links, the last one too.
    fn resolve(&self, path: &Path) -> io::Result<(PathBuf, &Place)> {
        let mut real = PathBuf::new();
        let mut place = self.places.get(Path::new("")).ok_or(io::ErrorKind::NotFound)?;
        for part in normal(path).components() {
            if matches!(place, Place::Forbidden) {
                return Err(io::ErrorKind::PermissionDenied.into());
            }
            real.push(part);
            place = self.places.get(&real).ok_or(io::ErrorKind::NotFound)?;
            while let Place::Link(to) = place {
                real.clone_from(to);
                place = self.places.get(to).ok_or(io::ErrorKind::NotFound)?;
            }
        }
        Ok((real, place))
    }
}

impl Places for Memory {
    fn look(&self, path: &Path) -> io::Result<Found> {
        let (_, place) = self.resolve(path)?;
        Ok(match place {
            Place::File(number) => Found::File {
                size_bytes: *number,
                modified: SystemTime::UNIX_EPOCH,
                identity: Some((1, *number)),
            },
            Place::Directory(number) => Found::Directory(Some((1, *number))),
            Place::Fifo => Found::Other("a FIFO"),
            Place::Forbidden => Found::Directory(None),
            Place::Link(_) => unreachable!("links are followed"),
        })
    }

    fn names(&self, directory: &Path) -> io::Result<Vec<OsString>> {
        let (real, place) = self.resolve(directory)?;
        match place {
            Place::Directory(_) => {}
            Place::Forbidden => return Err(io::ErrorKind::PermissionDenied.into()),
            _ => return Err(io::ErrorKind::NotADirectory.into()),
        }
        let inside = self.places.keys().filter(|path| path.parent() == Some(&real));
        Ok(inside.filter_map(|path| path.file_name()).map(Into::into).collect())
    }

    fn is_link(&self, path: &Path) -> bool {
        matches!(self.places.get(path), Some(Place::Link(_)))
    }
}

/// The paths that `pattern` names in `tree`, or the error.
fn check(tree: &str, pattern: &str, expected: &str) {
    let found = match list(&Memory::of(tree), pattern) {
        Ok(files) => {
            let paths: Vec<_> = files.iter().map(|file| file.path.display().to_string()).collect();
            paths.join(" ")
        }
        Err(error) => format!("error: {error}"),
    };
    assert_eq!(found, expected, "{pattern} in {tree}");
}

const TREE: &str = "in/a.csv in/b.txt in/.c.csv in/x/d.csv in/x/y/e.csv in/.h/f.csv";

#[test]
fn a_path_a_directory_and_a_glob_name_files() {
    check(TREE, "in/a.csv", "in/a.csv");
    check(TREE, "./in/a.csv", "in/a.csv");
    check(TREE, "in", "in/.c.csv in/a.csv in/b.txt");
    check(TREE, "in/*.csv", "in/a.csv");
    check(TREE, "in/*", "in/a.csv in/b.txt");
    check(TREE, "*/?/*.csv", "in/x/d.csv");
    check(TREE, "in/[xz]/d.csv", "in/x/d.csv");
    check(TREE, "in/nothing/*.csv", "");
    check(TREE, "in/a.csv/*", "");
}

#[test]
fn two_stars_name_all_directories_below_but_hidden_ones() {
    check(TREE, "in/**/*.csv", "in/a.csv in/x/d.csv in/x/y/e.csv");
    check(TREE, "**/e.csv", "in/x/y/e.csv");
    check(TREE, "in/**/y/*", "in/x/y/e.csv");
    check(TREE, "in/x/**", "in/x/d.csv in/x/y/e.csv");
    check(TREE, "in/**/**/d.csv", "in/x/d.csv");
}

#[test]
fn a_directory_that_contains_itself_is_walked_once() {
    check("in/a.csv in/loop>in", "in/**/*.csv", "in/a.csv");
    check("in/a.csv in/l>in in/m>in in/x/n>in in/x/b.csv", "in/**/*.csv", "in/a.csv in/x/b.csv");
}

#[test]
fn a_link_that_the_pattern_reaches_is_followed_and_no_file_is_listed_twice() {
    check("data/a.csv in/link>data", "in/link/*.csv", "in/link/a.csv");
    check("data/a.csv in/link>data", "in/*/a.csv", "in/link/a.csv");
    check("in/x/a.csv in/z>in/x in/b.csv>in/x/a.csv", "in/*/*.csv", "in/x/a.csv");
    check("in/a.csv in/b.csv>in/a.csv", "in", "in/a.csv");
}

#[test]
fn a_link_to_what_is_not_there_is_an_error_unless_it_is_hidden() {
    let tree = "in/a.csv in/gone.csv>nowhere";
    for pattern in ["in", "in/*.csv", "in/**", "in/gone.csv"] {
        check(tree, pattern, "error: in/gone.csv is a link to what is not there");
    }
    // So do editors mark a file that is being edited.
    for pattern in ["in", "in/*.csv", "in/**"] {
        check("in/a.csv in/.#a.csv>nowhere", pattern, "in/a.csv");
    }
    check("in/a.csv in/b.txt>nowhere", "in/*.csv", "in/a.csv");
    let files = list_directory(&Memory::of(tree), Path::new("in"));
    assert_eq!(files.expect("whatever else is there").len(), 1);
}

#[test]
fn what_may_not_be_looked_at_is_an_error_that_names_it() {
    let tree = "in/a/data.csv in/b:forbidden";
    check(tree, "in/*/data.csv", "error: in/b/data.csv: permission denied");
    check(tree, "in/*/*.csv", "error: in/b: permission denied");
    check(tree, "in/**/*.csv", "error: in/b: permission denied");
    check(tree, "in/b/data.csv", "error: permission denied");
    check(tree, "in/b", "error: permission denied");
}

#[test]
fn a_pipe_is_an_error_unless_it_merely_lies_in_the_directory() {
    let tree = "in/a.csv in/p:fifo";
    check(tree, "in/p", "error: in/p is a FIFO, and only regular files are read");
    check(tree, "in/*", "error: in/p is a FIFO, and only regular files are read");
    check(tree, "in", "in/a.csv");
    for pattern in ["in/*", "in/**", "in"] {
        check("in/a.csv in/.p:fifo", pattern, "in/a.csv");
    }
}

#[test]
fn a_directory_is_listed_by_its_path_whatever_its_name() {
    let files = list_directory(&Memory::of("out[/a out[/b"), Path::new("./out["));
    assert_eq!(files.expect("it is there").len(), 2);
    let files = list_directory(&Memory::of("x"), Path::new("out["));
    assert_eq!(files.expect("that is no error"), []);
}

#[test]
fn all_of_a_group_are_answered_the_same() {
    let [two, other] = [1, 2].map(|group| Together { group, requester_count: 2 });
    let files = list(&Memory::of("a"), "a").expect("it is there");
    let mut shared = SharedListings::default();
    assert_eq!(shared.take(two), None);
    shared.keep(two, &files);
    assert_eq!(shared.take(other), None);
    assert_eq!(shared.take(two), Some(files));
    assert_eq!(shared.take(two), None, "the next listing is a new one");
}
