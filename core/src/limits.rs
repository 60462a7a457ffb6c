//! Hard limits: not settings. Their relations are checked before the program runs.

use std::time::Duration;

/// Most key groups a job may have. Fixes the width of the prefix in every stored key.
pub const KEY_GROUP_COUNT_MAX: u32 = 1 << 15;
const _: () = assert!(KEY_GROUP_COUNT_MAX <= 1 << 16, "a key group is stored as a u16 prefix");

/// Most shards of one node: every one of them owns at least one key group.
pub const SHARD_COUNT_MAX: u32 = 1 << 10;
const _: () = assert!(SHARD_COUNT_MAX <= KEY_GROUP_COUNT_MAX);

/// Most chains of a job.
pub const CHAIN_COUNT_MAX: u32 = 1 << 12;

/// Most operators of a chain; the last number stands for its source.
pub const STAGE_COUNT_MAX: u32 = 1 << 10;

/// Most records a task takes from one input before another input has its turn.
///
/// Long enough that the switch costs little (some 100 ns over 256 records), short enough that
/// with 20-80 ns a record another input waits about [`INPUT_BUDGET_NS`].
pub const INPUT_BUDGET_RECORDS: u32 = 256;

/// How long a task should stay with one input.
pub const INPUT_BUDGET_NS: u64 = 20_000;

/// A turn longer than this is counted as a stall, unless its tasks may take longer together. Five
/// inputs' worth of budget.
pub const TURN_STALL_NS: u64 = 5 * INPUT_BUDGET_NS;

/// Keys of which each operator of a task writes to the durable store what checkpoints get, in one
/// turn: some 50 µs (`checkpoints` of the benchmarks).
pub const SAVE_STEPS: u32 = 64;

/// With every watermark that comes while results are due, an input gives less of what it may (a
/// half, a third, ...), down to this part of it: rows go on without delay, but rows cannot bring
/// event time forward faster than it is worked off. So many results may every row owe (a sliding
/// window of an hour every five minutes: 12) without a backlog that grows.
pub const INPUT_DIVISOR_MAX: u32 = 16;

/// Records whose keys are looked up together, so that their cache misses overlap. A core has 10 to
/// 16 lines on their way at most, and a group asks for one of the index and one slot for each
/// record; `bench/RESULTS.md` compares this with other sizes.
pub const PREFETCH_GROUP: usize = 8;

/// Size of the buffer that carries a frame from one shard to another.
pub const FRAME_BYTES: usize = 32 << 10;

/// Frames that a channel may have on their way or unread. One is filled while another travels; two
/// more cover the receiver's turn.
pub const CHANNEL_CREDIT_FRAMES: u32 = 4;
const _: () = assert!(CHANNEL_CREDIT_FRAMES >= 2, "one to fill, one on its way");

/// Least memory for the keyed state of a shard: a quarter of it is its store's, in chunks of 2 MiB,
/// and eight of those are the fewest that a store can work with.
pub const MEMORY_PER_SHARD_MIN: u64 = 64 << 20;

/// What the outputs of a task may hold when its operators hand on rows for a cut that waits for no
/// credits: with more, they wait. Rows that wait make a few rows each as a rule.
pub const FORCED_OUTPUT_BYTES_MAX: u64 = 8 << 20;

/// Largest archived row. A larger one is a dead letter, or an error that names operator and record.
pub const ROW_BYTES_MAX: usize = 1 << 20;
const _: () = assert!(FRAME_BYTES <= ROW_BYTES_MAX, "a frame carries at least one row");

/// Largest archive of any value: places within it are 32-bit numbers with a sign.
pub const ARCHIVE_BYTES_MAX: usize = i32::MAX as usize;
const _: () = assert!(ROW_BYTES_MAX <= ARCHIVE_BYTES_MAX);

/// Most bytes of a schema: of the description of what a state's values are made of. Some hundred
/// types of twenty fields each.
pub const SCHEMA_BYTES_MAX: usize = 64 << 10;

/// How deep a state's type may be nested: struct in vector in option in struct. Whoever walks
/// through a schema, or a value, needs that much of the stack.
pub const SCHEMA_DEPTH_MAX: u32 = 32;

/// Longest text line or CSV record that a source accepts, bytes. Larger than a row may be, so that
/// a projection may still make a row of it.
pub const LINE_BYTES_MAX: usize = 16 << 20;

/// Smallest event time a record may have: the beginning of year 1. With [`EVENT_TIME_MS_MAX`] it
/// leaves so much room in 64 bits that adding window sizes and lateness cannot overflow, and finds
/// closures that give micro- or nanoseconds where milliseconds are wanted.
pub const EVENT_TIME_MS_MIN: i64 = -62_135_596_800_000;

/// Largest event time a record may have: the end of year 9999.
pub const EVENT_TIME_MS_MAX: i64 = 253_402_300_799_999;
const _: () = assert!(EVENT_TIME_MS_MAX < i64::MAX / 1024 && i64::MIN / 1024 < EVENT_TIME_MS_MIN);

/// Bytes of a record that are kept in its dead letter: what a row may hold beside the texts.
pub const DEAD_LETTER_BYTES_MAX: usize = ROW_BYTES_MAX - (64 << 10);

/// Bytes of each text of a dead letter: its place, its reason, a name.
pub const DEAD_LETTER_TEXT_BYTES_MAX: usize = 12 << 10;
const _: () = assert!(
    DEAD_LETTER_BYTES_MAX + 4 * DEAD_LETTER_TEXT_BYTES_MAX + (8 << 10) < ROW_BYTES_MAX,
    "a dead letter is a row"
);

/// Rows of an operator that wait for state which is being read. A disk is at its best with some
/// dozens of reads at once; the others are rows of the same keys, and of keys whose blocks are
/// being read.
pub const PARKED_ROWS_MAX: usize = 256;

/// Bytes of an accumulator that may leave memory as a part of what its key has in a window: so few
/// that many of one key fit into a chunk of the store. Larger ones stay until the window fires.
pub const PARTIAL_BYTES_MAX: usize = 64 << 10;

/// Shortest time between two checkpoints: less than a few syncs of a disk (0.2 to 10 ms each) would
/// be nothing but checkpoints.
pub const CHECKPOINT_INTERVAL_MIN: Duration = Duration::from_millis(1);

/// Longest time that a setting of checkpoints may have: far from where adding it to a time
/// overflows.
pub const CHECKPOINT_PERIOD_MAX: Duration = Duration::from_hours(24 * 365);

/// Most checkpoints that are under way, or kept.
pub const CHECKPOINT_COUNT_MAX: u32 = 1000;

/// Longest wait of a job that has failed, and longest time in which failures are counted: whoever
/// wants it longer wants a person to look.
pub const RESTART_PERIOD_MAX: Duration = Duration::from_hours(24 * 30);
