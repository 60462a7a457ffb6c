//! Side outputs: rows that leave an operator beside its main output.

use std::any::Any;
use std::fmt;
use std::marker::PhantomData;

use serde::ser::SerializeStruct;

use crate::data::record::ArchiveError;
use crate::data::row::{Origin, Row};
use crate::error::Error;
use crate::graph::SideOutputFact;
use crate::limits::{DEAD_LETTER_BYTES_MAX, DEAD_LETTER_TEXT_BYTES_MAX, ROW_BYTES_MAX};
use crate::operator::env::{OperatorContext, TaskEnv};

/// Names a side output and the type of its records.
///
/// ```
/// use millstream::prelude::*;
/// const LATE: OutputTag<u64> = OutputTag::new("late");
/// ```
pub struct OutputTag<T> {
    name: &'static str,
    record: PhantomData<fn() -> T>,
}

impl<T> OutputTag<T> {
    /// A tag; one operator has at most one side output of a name.
    pub const fn new(name: &'static str) -> Self {
        Self { name, record: PhantomData }
    }

    /// Its name in the plan.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The tag as the plan sees it.
    pub fn fact(&self) -> SideOutputFact {
        SideOutputFact { tag: self.name, record: std::any::type_name::<T>() }
    }
}

impl<T> Clone for OutputTag<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for OutputTag<T> {}

impl<T> fmt::Debug for OutputTag<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OutputTag({})", self.name)
    }
}

/// The rows of a task's side outputs that have not been taken yet. Only side outputs that somebody
/// reads are kept.
///
/// A side output belongs to one operator: two operators of a task may use tags of one name.
#[derive(Default)]
pub struct SideOutputs {
    /// Few: a search through them costs less than finding them by hash.
    outputs: Vec<SideOutput>,
}

/// The rows of one side output.
struct SideOutput {
    stage_index: u16,
    tag: &'static str,
    /// Type of its records, as the reader's tag has it.
    record: &'static str,
    rows: Box<dyn Any>,
}

impl SideOutputs {
    /// Somebody reads `tag` of the operator `stage_index`.
    pub fn register<T: 'static>(&mut self, stage_index: u16, tag: OutputTag<T>) {
        if self.position(stage_index, tag.name).is_none() {
            let SideOutputFact { tag, record } = tag.fact();
            let rows = Box::new(Vec::<Row<T>>::new());
            self.outputs.push(SideOutput { stage_index, tag, record, rows });
        }
    }

    /// The rows that the operator `stage_index` has put under `tag` and nobody has taken yet; none
    /// if nobody reads it.
    ///
    /// # Errors
    /// The type of records that the reader expects, if it is another than `T`.
    pub fn rows<T: 'static>(
        &mut self,
        stage_index: u16,
        tag: OutputTag<T>,
    ) -> Result<Option<&mut Vec<Row<T>>>, &'static str> {
        let Some(position) = self.position(stage_index, tag.name) else { return Ok(None) };
        let SideOutput { record, rows, .. } = &mut self.outputs[position];
        rows.downcast_mut().map(Some).ok_or(*record)
    }

    fn position(&self, stage_index: u16, tag: &str) -> Option<usize> {
        let is_it = |output: &SideOutput| output.stage_index == stage_index && output.tag == tag;
        self.outputs.iter().position(is_it)
    }
}

impl SideOutputs {
    /// The dead letters of the operator `stage_index` not yet taken, if somebody reads them.
    fn dead_letters(&mut self, stage_index: u16) -> Option<&mut Vec<Row<DeadLetter>>> {
        self.rows(stage_index, DEAD_LETTERS).ok().flatten()
    }
}

impl fmt::Debug for SideOutputs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tags = self.outputs.iter().map(|output| (output.stage_index, output.tag));
        f.debug_list().entries(tags).finish()
    }
}

impl OperatorContext<'_> {
    /// Puts a value caused by the row being processed into a side output.
    pub fn side_output<T: 'static>(&self, tag: OutputTag<T>, value: T) {
        self.side_output_row(tag, self.env().row(value));
    }

    /// Puts a row into a side output. `false` if nobody reads it; the row is dropped then. Stops
    /// the job if the reader's tag has records of another type.
    pub fn side_output_row<T: 'static>(&self, tag: OutputTag<T>, row: Row<T>) -> bool {
        match self.env().side_outputs.borrow_mut().rows(self.stage_index(), tag) {
            Ok(Some(rows)) => {
                rows.push(row);
                true
            }
            Ok(None) => false,
            Err(read_as) => {
                let written_as = std::any::type_name::<T>();
                let problem = format!(
                    "side output \"{}\" of {} is written with records {written_as} and read with \
                     records {read_as}: use one tag for both ends",
                    tag.name,
                    self.name()
                );
                self.fail(Error::Plan { problems: vec![problem] });
                false
            }
        }
    }

    /// Puts a record that could not be read into a side output, and counts it whether somebody
    /// reads that output or not.
    pub fn dead_letter(&self, tag: OutputTag<DeadLetter>, letter: DeadLetter) {
        let count = &self.env().dead_letters;
        count.set(count.get() + 1);
        self.side_output_row(tag, Row::from(letter));
    }
}

/// The dead letters of any operator, for
/// [`Stream::side_output`](crate::api::stream::Stream::side_output): rows that are too large to
/// leave it or cannot be archived, and records that its source could not read if `on_error` is
/// `skip_to("dead-letter")`.
pub const DEAD_LETTERS: OutputTag<DeadLetter> = OutputTag::new("dead-letter");

impl TaskEnv {
    /// A row of `operator` (its name and its stage), caused by the record at `origin`, cannot leave
    /// the task: it is put among the operator's dead letters if somebody reads them, and else stops
    /// the job.
    #[cold]
    pub fn refuse_row(
        &self,
        (operator, stage_index): (&str, u16),
        origin: Origin,
        error: &ArchiveError,
    ) {
        if let Some(letters) = self.side_outputs.borrow_mut().dead_letters(stage_index) {
            let place = format!("operator {operator} at {}", self.describe(origin));
            let reason = match error {
                ArchiveError::Overflow { .. } => {
                    format!("a row of more than {ROW_BYTES_MAX} bytes")
                }
                ArchiveError::Unserializable { .. } => error.to_string(),
            };
            let letter = DeadLetter::new(place, reason, &[]);
            letters.push(Row { origin, ..self.row(letter) });
            self.dead_letters.set(self.dead_letters.get() + 1);
            return;
        }
        let (operator, place) = (operator.to_string(), self.describe(origin));
        let error = match error {
            ArchiveError::Overflow { .. } => {
                Error::RowTooLarge { operator, place, limit_bytes: ROW_BYTES_MAX }
            }
            ArchiveError::Unserializable { reason } => {
                Error::Unserializable { operator, place, reason: reason.clone() }
            }
        };
        self.fail_at(error, origin);
    }
}

/// A record that could not be read, or a row that could not leave, and why.
///
/// Written as JSON or CSV, `raw` is a text in which bytes that are not UTF-8 are replaced; if there
/// are such bytes, `raw_hex` has them all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct DeadLetter {
    /// File, line, column and field in words, as far as they are known; of a row, its operator and
    /// the record that caused it.
    pub place: String,
    /// What is wrong, and what would be right.
    pub reason: String,
    /// The file, or the peer that sent the record.
    pub source: Option<String>,
    /// Its line there, from 1.
    pub line: Option<u64>,
    /// Column of a table, or character of the line, from 1.
    pub column: Option<u64>,
    /// Name of the field.
    pub field: Option<String>,
    /// The record as it came, without its line end. Empty for a row.
    pub raw: Vec<u8>,
    /// It was longer: `raw` is its beginning.
    pub is_cut: bool,
}

impl DeadLetter {
    /// A letter that fits into a row: what is too long is cut.
    pub fn new(place: impl Into<String>, reason: impl Into<String>, raw: &[u8]) -> Self {
        let kept = &raw[..raw.len().min(DEAD_LETTER_BYTES_MAX)];
        Self {
            place: cut(place.into()),
            reason: cut(reason.into()),
            raw: kept.to_vec(),
            is_cut: kept.len() < raw.len(),
            ..Self::default()
        }
    }

    /// Says in which line of which file or stream the record stands.
    pub fn at(self, source: impl Into<String>, line: u64) -> Self {
        Self { source: Some(cut(source.into())), line: Some(line), ..self }
    }

    /// Says which column or character is to blame, and which field, if one is known.
    pub fn in_field(self, column: u64, field: Option<String>) -> Self {
        Self { column: Some(column), field: field.map(cut), ..self }
    }
}

/// `text`, cut between two characters if it is too long for a dead letter.
fn cut(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(DEAD_LETTER_TEXT_BYTES_MAX));
    text
}

impl serde::Serialize for DeadLetter {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let is_text = std::str::from_utf8(&self.raw).is_ok();
        let hex = || self.raw.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
        let mut letter = serializer.serialize_struct("DeadLetter", 9)?;
        letter.serialize_field("place", &self.place)?;
        letter.serialize_field("reason", &self.reason)?;
        letter.serialize_field("source", &self.source)?;
        letter.serialize_field("line", &self.line)?;
        letter.serialize_field("column", &self.column)?;
        letter.serialize_field("field", &self.field)?;
        letter.serialize_field("raw", &String::from_utf8_lossy(&self.raw))?;
        letter.serialize_field("raw_hex", &(!is_text).then(hex))?;
        letter.serialize_field("is_cut", &self.is_cut)?;
        letter.end()
    }
}

/// What to do with a record that cannot be read.
#[derive(Debug, Clone, Copy, Default)]
pub enum OnError {
    /// Stop the job with an error that names the place.
    #[default]
    Stop,
    /// Put the raw record and the reason there, count it, and go on.
    SkipTo(OutputTag<DeadLetter>),
}

/// Puts unreadable records into the side output `name` instead of stopping the job.
pub const fn skip_to(name: &'static str) -> OnError {
    OnError::SkipTo(OutputTag::new(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::ROW_BYTES_MAX;

    #[test]
    fn a_dead_letter_is_a_row_whatever_is_wrong() {
        let (long, text) = (vec![b'x'; ROW_BYTES_MAX], "\u{e4}".repeat(ROW_BYTES_MAX));
        let letter = DeadLetter::new(&text, &text, &long).at(&text, 7).in_field(3, Some(text));
        assert!(letter.is_cut && letter.raw.len() == DEAD_LETTER_BYTES_MAX);
        let archived = rkyv::to_bytes::<rkyv::rancor::Error>(&letter).expect("plain data");
        assert!(archived.len() < ROW_BYTES_MAX, "{} bytes", archived.len());
    }

    #[test]
    fn bytes_that_are_no_text_are_written_in_hexadecimal_beside_the_text() {
        let json = |raw: &[u8]| {
            serde_json::to_value(DeadLetter::new("a.csv:2", "no", raw)).expect("plain data")
        };
        assert_eq!((&json(b"a,b")["raw"], &json(b"a,b")["raw_hex"]), (&"a,b".into(), &().into()));
        let letter = json(b"a\xff");
        assert_eq!((&letter["raw"], &letter["raw_hex"]), (&"a\u{fffd}".into(), &"61ff".into()));
    }
}
