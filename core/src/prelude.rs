//! Everything a job needs, in one `use`.

pub use crate::connector::{CardSource, GeneratorSource, NexmarkSource};
pub use crate::data::key::Key;
pub use crate::data::record::Record;
pub use crate::data::row::Row;
pub use crate::error::{Error, Result};
pub use crate::operator::side_output::{DeadLetter, OnError, OutputTag, skip_to};
pub use crate::operator::{Operator, OperatorContext, Output, Progress};
pub use crate::state::aggregate::AggregateFunction;
