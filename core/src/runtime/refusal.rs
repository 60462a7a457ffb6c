//! What to do when the operating system refuses something that the node itself needs.

use std::io;

use crate::error::Error;

/// The system has answered `source` when the node was to `action`.
pub(super) fn system(action: impl Into<String>, source: io::Error) -> Error {
    Error::System { action: action.into(), advice: advice(&source), source }
}

/// What may help against `source`, if anything is known to.
fn advice(source: &io::Error) -> Option<&'static str> {
    Some(match source.raw_os_error()? {
        libc::EADDRINUSE => {
            "another program has that port: end it, or choose another (with port 0 the system \
             chooses one)"
        }
        libc::EADDRNOTAVAIL => "this machine does not have that address: choose one that it has",
        libc::EACCES | libc::EPERM => {
            "the system does not permit it: choose a port above 1023, or give the process the \
             right to it"
        }
        libc::EMFILE => "too many files are open: raise the limit of open files (ulimit -n)",
        libc::ENFILE => "the whole machine has no file left: raise sysctl fs.file-max",
        libc::EAGAIN => "too many threads: raise the limit of processes (ulimit -u)",
        libc::ENOMEM => {
            "free some memory, or raise the limit of locked memory, of which rings need some \
             (ulimit -l)"
        }
        libc::ENOSPC => "free some space there",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_refuses_comes_with_advice() {
        for (code, advice) in [
            (libc::EADDRINUSE, "port 0"),
            (libc::EACCES, "above 1023"),
            (libc::EMFILE, "ulimit -n"),
            (libc::ENOMEM, "ulimit -l"),
            (libc::ENOSPC, "free some space"),
            (libc::EAGAIN, "ulimit -u"),
        ] {
            let chain = system("listen at a:1", io::Error::from_raw_os_error(code)).chain();
            assert!(chain.starts_with("could not listen at a:1: "), "{chain}");
            assert!(chain.contains(advice), "{chain}");
        }
    }
}
