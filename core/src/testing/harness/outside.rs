//! What operators under test ask of the world: files, sockets, standard output. The test answers;
//! standard output takes everything at once.

use millstream_net::io::{SocketDone, SocketOp};
use millstream_storage::io::{FileAnswer, FileDone, FileOp};

use super::{Collect, OperatorHarness};
use crate::operator::Chain;
use crate::operator::env::owner_of;
use crate::testing::MemoryDisk;

impl<C: Chain> OperatorHarness<C> {
    /// The file operations that operators have asked for since the last call.
    pub fn take_file_ops(&mut self) -> Vec<FileOp> {
        std::mem::take(&mut self.env.requests.borrow_mut().files)
    }

    /// A file operation has been answered.
    pub fn file_done(&mut self, done: FileDone) {
        self.ready();
        let (_, stage_index) = owner_of(done.op.0);
        let mut out = Collect { env: &self.env, rows: &mut self.rows };
        self.chain.on_file_done(stage_index, done, &self.env, &mut out);
        self.check();
    }

    /// `disk` carries out what operators have asked for, and what they ask for then, until nothing
    /// is left.
    pub fn serve_files(&mut self, disk: &mut MemoryDisk) {
        self.open_or_panic();
        disk.accept(&self.env);
        while let Some(done) = disk.answer() {
            self.file_done(done);
            disk.accept(&self.env);
        }
    }

    /// The socket operations that operators have asked for since the last call.
    pub fn take_socket_ops(&mut self) -> Vec<SocketOp> {
        std::mem::take(&mut self.env.requests.borrow_mut().sockets)
    }

    /// Something has happened on a socket that an operator opened.
    pub fn socket_done(&mut self, done: SocketDone) {
        self.ready();
        if let SocketDone::Accepted { listener, socket, .. } = done {
            self.accepted.insert(socket, listener);
        }
        let owner = done.owner();
        let (_, stage_index) = owner_of(self.accepted.get(&owner).unwrap_or(&owner).0);
        let mut out = Collect { env: &self.env, rows: &mut self.rows };
        self.chain.on_socket_done(stage_index, done, &self.env, &mut out);
        self.check();
    }

    /// What operators have written to standard output since the last call.
    ///
    /// # Panics
    /// If it is no text.
    pub fn take_stdout(&mut self) -> String {
        String::from_utf8(std::mem::take(&mut self.stdout)).expect("operators print text")
    }

    /// Takes what operators print, and says that it is written; makes the calls that they ask for.
    /// Whether there were any.
    pub(super) fn take_prints(&mut self) -> bool {
        let mut were_any = false;
        loop {
            let mut requests = self.env.requests.borrow_mut();
            let prints = std::mem::take(&mut requests.prints);
            let calls = std::mem::take(&mut requests.calls);
            drop(requests);
            if prints.is_empty() && calls.is_empty() {
                return were_any;
            }
            were_any = true;
            let mut dones = Vec::new();
            for (op, bytes) in prints {
                self.stdout.extend_from_slice(&bytes);
                dones.push(FileDone { op, result: Ok(FileAnswer::Written { bytes }) });
            }
            dones.extend(calls.into_iter().map(|(op, call)| call.make(op, |call| Ok(call()))));
            for done in dones {
                let (_, stage_index) = owner_of(done.op.0);
                let mut out = Collect { env: &self.env, rows: &mut self.rows };
                self.chain.on_file_done(stage_index, done, &self.env, &mut out);
            }
        }
    }
}
