//! Everything a job needs, in one `use`.

pub use crate::api::{
    AnyStream, ConnectedStreams, Job, JobArgs, KeyedStream, SharedKeyedStream, SharedStream,
    Stream, StreamEnd,
};
pub use crate::config::Config;
pub use crate::connector::{
    CardSource, CollectSink, Collected, DiscardSink, FileSink, FileSource, ForEachSink,
    GeneratorSource, LogSink, LogSource, NexmarkSource, Reconnect, SocketSink, SocketSource,
    StdoutSink, TwoPhase, TwoPhaseSink, VecSource,
};
pub use crate::data::either::Either;
pub use crate::data::key::Key;
pub use crate::data::record::Record;
pub use crate::data::row::Row;
pub use crate::error::{Error, Result};
pub use crate::graph::Facts;
pub use crate::operator::join::{JoinContext, ProcessJoinFunction, TimeBound};
pub use crate::operator::process::{
    BroadcastContext, BroadcastProcessFunction, CoProcessFunction, FiredTimer,
    KeyedBroadcastContext, KeyedBroadcastProcessFunction, KeyedCoProcessFunction, KeyedContext,
    KeyedProcessFunction, OpenContext, ProcessContext, ProcessFunction,
};
pub use crate::operator::side_output::{DEAD_LETTERS, DeadLetter, OnError, OutputTag, skip_to};
pub use crate::operator::window::{
    CoGroupFunction, EmitResult, ProcessWindowContext, ProcessWindowFunction, WindowContext,
    WindowFunction,
};
pub use crate::operator::{Nothing, Operator, OperatorContext, Output, Progress, Sink};
pub use crate::runtime::node::{JobEnd, JobReport};
pub use crate::sim::world::{SimConfig, SimReport};
pub use crate::state::aggregate::AggregateFunction;
pub use crate::state::broadcast::{BroadcastScope, BroadcastScopeMut, BroadcastState};
pub use crate::state::columns::StateScope;
pub use crate::state::keyed::TimerKind;
pub use crate::state::list::ListState;
pub use crate::state::map::MapState;
pub use crate::state::operator_list::{OperatorList, OperatorListScope, OperatorLists};
pub use crate::state::snapshot::{SnapshotReader, SnapshotWriter};
pub use crate::state::spec::{StateSpec, Ttl};
pub use crate::state::value::{AggregatingState, ReducingState, ValueState};
pub use crate::time::evictor::{Evictor, KeepCount, KeepNear, KeepRecent, Rows};
pub use crate::time::strategy::{
    BoundedOutOfOrderness, IngestionTime, Monotonic, Punctuated, WatermarkGenerator,
    WatermarkStrategy,
};
pub use crate::time::trigger::{
    ContinuousEventTime, ContinuousProcessingTime, Count, Delta, EventTime, Never, ProcessingTime,
    ProcessingTimeout, Purging, Trigger, TriggerContext, TriggerResult,
};
pub use crate::time::window::{
    Cumulative, Global, Session, Sliding, TimeDomain, Tumbling, Window, WindowAssigner,
};
