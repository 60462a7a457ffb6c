//! RocksDB, as far as the comparisons need it, through the C interface of an installed library.
//!
//! Bound by hand, because the dozen functions below are all that is used: nothing is generated and
//! no C++ is compiled. Built with the feature `peers`; [`FLASH`] says how it is tuned.
//!
//! The only unsafe idea in this file: **functions of `rocksdb/c.h` are called as that file declares
//! them**, with pointers that this file got from the library and gives back once, and with slices
//! that outlive the call.

use std::ffi::{CStr, CString, c_char, c_int, c_uchar, c_void};
use std::path::Path;
use std::ptr;
use std::slice;

/// As Flink runs it on flash (`FLASH_SSD_OPTIMIZED`): blocks of 4 KiB, no filter, two write buffers
/// of 64 MiB, index in the cache, LZ4, levels of dynamic size, four background jobs. The cache has
/// room for 2 GiB, more than most of the measurements put into it. Lists are merged as Flink's are.
pub const FLASH: &str = "create_if_missing=true; max_background_jobs=4; max_open_files=-1; \
    stats_dump_period_sec=0; write_buffer_size=67108864; max_write_buffer_number=2; \
    compression=kLZ4Compression; level_compaction_dynamic_level_bytes=true; \
    merge_operator=stringappend; \
    block_based_table_factory={block_size=4096; cache_index_and_filter_blocks=true; \
    block_cache=2147483648}";

/// What the library has; only it knows what is in it.
macro_rules! opaque {
    ($($name:ident),*) => {
        $(#[repr(C)]
        struct $name {
            bytes: [u8; 0],
        })*
    };
}
opaque!(Db, Options, ReadOptions, WriteOptions, Pinned, Batch, Cursor, Checkpoint);

type Failure = *mut *mut c_char;
type Bytes = *const c_char;

#[link(name = "rocksdb")]
unsafe extern "C" {
    fn rocksdb_options_create() -> *mut Options;
    fn rocksdb_options_destroy(options: *mut Options);
    fn rocksdb_get_options_from_string(
        base: *const Options,
        text: *const c_char,
        options: *mut Options,
        failure: Failure,
    );
    fn rocksdb_open(options: *const Options, path: *const c_char, failure: Failure) -> *mut Db;
    fn rocksdb_close(db: *mut Db);
    fn rocksdb_readoptions_create() -> *mut ReadOptions;
    fn rocksdb_readoptions_destroy(options: *mut ReadOptions);
    fn rocksdb_writeoptions_create() -> *mut WriteOptions;
    fn rocksdb_writeoptions_disable_WAL(options: *mut WriteOptions, disable: c_int);
    fn rocksdb_writeoptions_destroy(options: *mut WriteOptions);
    fn rocksdb_get_pinned(
        db: *mut Db,
        options: *const ReadOptions,
        key: Bytes,
        key_len: usize,
        failure: Failure,
    ) -> *mut Pinned;
    fn rocksdb_pinnableslice_value(pinned: *const Pinned, len: *mut usize) -> Bytes;
    fn rocksdb_pinnableslice_destroy(pinned: *mut Pinned);
    fn rocksdb_multi_get(
        db: *mut Db,
        options: *const ReadOptions,
        count: usize,
        keys: *const Bytes,
        key_lens: *const usize,
        values: *mut *mut c_char,
        value_lens: *mut usize,
        failures: Failure,
    );
    fn rocksdb_put(
        db: *mut Db,
        options: *const WriteOptions,
        key: Bytes,
        key_len: usize,
        value: Bytes,
        value_len: usize,
        failure: Failure,
    );
    fn rocksdb_merge(
        db: *mut Db,
        options: *const WriteOptions,
        key: Bytes,
        key_len: usize,
        value: Bytes,
        value_len: usize,
        failure: Failure,
    );
    fn rocksdb_delete(
        db: *mut Db,
        options: *const WriteOptions,
        key: Bytes,
        key_len: usize,
        failure: Failure,
    );
    fn rocksdb_writebatch_create() -> *mut Batch;
    fn rocksdb_writebatch_put(
        batch: *mut Batch,
        key: Bytes,
        key_len: usize,
        value: Bytes,
        value_len: usize,
    );
    fn rocksdb_writebatch_clear(batch: *mut Batch);
    fn rocksdb_writebatch_destroy(batch: *mut Batch);
    fn rocksdb_write(
        db: *mut Db,
        options: *const WriteOptions,
        batch: *mut Batch,
        failure: Failure,
    );
    fn rocksdb_create_iterator(db: *mut Db, options: *const ReadOptions) -> *mut Cursor;
    fn rocksdb_iter_seek(iterator: *mut Cursor, key: Bytes, key_len: usize);
    fn rocksdb_iter_valid(iterator: *const Cursor) -> c_uchar;
    fn rocksdb_iter_next(iterator: *mut Cursor);
    fn rocksdb_iter_key(iterator: *const Cursor, len: *mut usize) -> Bytes;
    fn rocksdb_iter_value(iterator: *const Cursor, len: *mut usize) -> Bytes;
    fn rocksdb_iter_destroy(iterator: *mut Cursor);
    fn rocksdb_checkpoint_object_create(db: *mut Db, failure: Failure) -> *mut Checkpoint;
    fn rocksdb_checkpoint_create(
        checkpoint: *mut Checkpoint,
        path: *const c_char,
        log_bytes: u64,
        failure: Failure,
    );
    fn rocksdb_checkpoint_object_destroy(checkpoint: *mut Checkpoint);
    fn rocksdb_free(memory: *mut c_void);
}

/// An open database, written without a log. The library's threads begin with the first one that is
/// opened, and may run where the thread that opens it may.
#[derive(Debug)]
pub struct RocksDb {
    db: *mut Db,
    read: *mut ReadOptions,
    write: *mut WriteOptions,
    batch: *mut Batch,
}

impl RocksDb {
    /// Opens the database in `path`, tuned as [`FLASH`] says.
    ///
    /// # Panics
    /// If the library does not open it, as all other methods if it does not do what it is asked.
    pub fn open(path: &Path) -> Self {
        let (path, text) = (c_path(path), CString::new(FLASH).expect("no zero in it"));
        // SAFETY: as declared; both sets of options are destroyed once.
        unsafe {
            let (base, options) = (rocksdb_options_create(), rocksdb_options_create());
            checked(|failure| {
                rocksdb_get_options_from_string(base, text.as_ptr(), options, failure);
            });
            let db = checked(|failure| rocksdb_open(options, path.as_ptr(), failure));
            rocksdb_options_destroy(base);
            rocksdb_options_destroy(options);
            let write = rocksdb_writeoptions_create();
            rocksdb_writeoptions_disable_WAL(write, 1);
            let read = rocksdb_readoptions_create();
            Self { db, read, write, batch: rocksdb_writebatch_create() }
        }
    }

    /// What `take` makes of the value of `key`.
    pub fn get<R>(&self, key: &[u8], take: impl FnOnce(&[u8]) -> R) -> Option<R> {
        let (start, len) = parts(key);
        // SAFETY: as declared; the value is valid until what pins it is destroyed.
        unsafe {
            let pinned =
                checked(|failure| rocksdb_get_pinned(self.db, self.read, start, len, failure));
            if pinned.is_null() {
                return None;
            }
            let mut len = 0;
            let value = rocksdb_pinnableslice_value(pinned, &raw mut len);
            let taken = take(bytes(value, len));
            rocksdb_pinnableslice_destroy(pinned);
            Some(taken)
        }
    }

    /// Lets the value of `key` be `value`.
    pub fn put(&mut self, key: &[u8], value: &[u8]) {
        let ((key, key_len), (value, value_len)) = (parts(key), parts(value));
        // SAFETY: as declared.
        checked(|failure| unsafe {
            rocksdb_put(self.db, self.write, key, key_len, value, value_len, failure);
        });
    }

    /// Appends `value`, behind a comma, to that of `key`.
    pub fn append(&mut self, key: &[u8], value: &[u8]) {
        let ((key, key_len), (value, value_len)) = (parts(key), parts(value));
        // SAFETY: as declared.
        checked(|failure| unsafe {
            rocksdb_merge(self.db, self.write, key, key_len, value, value_len, failure);
        });
    }

    /// Removes `key`.
    pub fn remove(&mut self, key: &[u8]) {
        let (key, key_len) = parts(key);
        // SAFETY: as declared.
        checked(|failure| unsafe { rocksdb_delete(self.db, self.write, key, key_len, failure) });
    }

    /// Reads the values of `keys` together, lets `change` change each, and writes them together.
    ///
    /// # Panics
    /// If one is not there, or not of `V` bytes.
    pub fn update_together<const N: usize, const V: usize>(
        &mut self,
        keys: &[[u8; 16]; N],
        mut change: impl FnMut(&mut [u8; V]),
    ) {
        let starts = keys.each_ref().map(|key| key.as_ptr().cast());
        let lens = [16; N];
        let (mut values, mut value_lens) = ([ptr::null_mut(); N], [0; N]);
        let mut failures = [ptr::null_mut(); N];
        // SAFETY: as declared: `N` of everything; each value is given back once.
        unsafe {
            rocksdb_multi_get(
                self.db,
                self.read,
                N,
                starts.as_ptr(),
                lens.as_ptr(),
                values.as_mut_ptr(),
                value_lens.as_mut_ptr(),
                failures.as_mut_ptr(),
            );
            assert!(failures.iter().all(|failure| failure.is_null()), "RocksDB reads");
            rocksdb_writebatch_clear(self.batch);
            for i in 0..N {
                let read = bytes(values[i], value_lens[i]);
                let mut value: [u8; V] = read.try_into().expect("a value of that length");
                rocksdb_free(values[i].cast());
                change(&mut value);
                let (value, len) = parts(&value);
                rocksdb_writebatch_put(self.batch, starts[i], 16, value, len);
            }
            checked(|failure| rocksdb_write(self.db, self.write, self.batch, failure));
        }
    }

    /// Shows `each` the keys and values from `from` on, until it has seen enough.
    pub fn scan(&self, from: &[u8], mut each: impl FnMut(&[u8], &[u8]) -> bool) {
        let (start, len) = parts(from);
        // SAFETY: as declared; key and value are valid until the iterator moves.
        unsafe {
            let iterator = rocksdb_create_iterator(self.db, self.read);
            rocksdb_iter_seek(iterator, start, len);
            while rocksdb_iter_valid(iterator) != 0 {
                let (mut key_len, mut value_len) = (0, 0);
                let key = rocksdb_iter_key(iterator, &raw mut key_len);
                let value = rocksdb_iter_value(iterator, &raw mut value_len);
                if !each(bytes(key, key_len), bytes(value, value_len)) {
                    break;
                }
                rocksdb_iter_next(iterator);
            }
            rocksdb_iter_destroy(iterator);
        }
    }

    /// Flushes, and makes the new directory `path` with links to all files.
    pub fn checkpoint(&self, path: &Path) {
        let path = c_path(path);
        // SAFETY: as declared; the checkpoint is destroyed once.
        unsafe {
            let checkpoint = checked(|failure| rocksdb_checkpoint_object_create(self.db, failure));
            checked(|failure| rocksdb_checkpoint_create(checkpoint, path.as_ptr(), 0, failure));
            rocksdb_checkpoint_object_destroy(checkpoint);
        }
    }
}

impl Drop for RocksDb {
    fn drop(&mut self) {
        // SAFETY: each was made by the library, and nobody uses it any more.
        unsafe {
            rocksdb_writebatch_destroy(self.batch);
            rocksdb_writeoptions_destroy(self.write);
            rocksdb_readoptions_destroy(self.read);
            rocksdb_close(self.db);
        }
    }
}

/// What `call` answers, unless it fails.
fn checked<R>(call: impl FnOnce(Failure) -> R) -> R {
    let mut failure = ptr::null_mut();
    let answer = call(&raw mut failure);
    if !failure.is_null() {
        // SAFETY: a failure is text that ends with a zero.
        let text = unsafe { CStr::from_ptr(failure) };
        panic!("RocksDB: {}", text.to_string_lossy());
    }
    answer
}

fn parts(bytes: &[u8]) -> (Bytes, usize) {
    (bytes.as_ptr().cast(), bytes.len())
}

/// # Safety
/// There are `len` bytes at `start`, as long as they are used.
unsafe fn bytes<'a>(start: Bytes, len: usize) -> &'a [u8] {
    if len == 0 {
        return &[];
    }
    // SAFETY: the caller says so.
    unsafe { slice::from_raw_parts(start.cast(), len) }
}

fn c_path(path: &Path) -> CString {
    CString::new(path.as_os_str().as_encoded_bytes()).expect("no zero in a path")
}
