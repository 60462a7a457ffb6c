//! What a panic is called: whose code, which record, what it said and where.
//!
//! Three kinds of code run in a task: operators and sources, which are the user's as often as the
//! engine's, and what is between them, where a panic is a bug. The panic's place in the source code
//! is known to the process's panic hook alone, so [`catch`] adds one, in front of the one that is
//! there.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use crate::data::row::Origin;
use crate::error::Error;
use crate::operator::env::SplitName;

thread_local! {
    /// Where the last panic of this thread was.
    static PLACE: Cell<Option<String>> = const { Cell::new(None) };
}

/// Runs `code`; if it panics, answers what the panic said, and where.
///
/// # Errors
/// The panic's message and place: `index out of bounds (src/main.rs:17:9)`.
pub fn catch<R>(code: impl FnOnce() -> R) -> Result<R, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            // A thread that is ending has no place to note it any more, and nobody who asks.
            let _ = PLACE.try_with(|place| place.set(panic.location().map(ToString::to_string)));
            before(panic);
        }));
    });
    catch_unwind(AssertUnwindSafe(code)).map_err(|payload| {
        let message = message_of(&*payload);
        match PLACE.take() {
            Some(place) => format!("{message} ({place})"),
            None => message,
        }
    })
}

fn message_of(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_string());
    let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "a panic without a message".to_string())
}

/// Where a shard was when it panicked.
#[derive(Debug)]
pub struct LastWords {
    /// Whose code was running.
    pub culprit: Culprit,
    /// The record that was processed last.
    pub origin: Origin,
    /// Splits whose names nobody has been told yet, with the number of their source.
    pub named: Vec<(u32, SplitName)>,
}

/// Whose code panicked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Culprit {
    /// An operator's, by its name.
    Operator(String),
    /// A source's, by its name: on the way to a record that has no position yet.
    Source(String),
    /// The engine's, in the task of this name.
    Engine(String),
}

impl LastWords {
    /// The panic as what ended the job. `record` is what people call the record at the origin.
    pub fn into_error(self, message: String, record: String) -> Error {
        match self.culprit {
            Culprit::Operator(operator) => Error::Panicked { operator, origin: record, message },
            Culprit::Source(operator) if self.origin == Origin::NONE => {
                Error::Panicked { operator, origin: "its first record".to_string(), message }
            }
            Culprit::Source(operator) => {
                Error::Panicked { operator, origin: format!("what follows {record}"), message }
            }
            Culprit::Engine(task) => Error::bug(task, message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(culprit: Culprit, origin: Origin, expected: &str) {
        let last = LastWords { culprit, origin, named: Vec::new() };
        let error = last.into_error("boom".to_string(), "source payments, a.csv, byte 17".into());
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn an_operator_panics_at_a_record() {
        let score = Culprit::Operator("score".to_string());
        let expected = "operator score panicked at source payments, a.csv, byte 17: boom";
        check(score, Origin::new(0, 3, 17), expected);
    }

    #[test]
    fn a_source_panics_behind_its_last_record() {
        let source = || Culprit::Source("payments".to_string());
        let expected = "operator payments panicked at what follows source payments, a.csv, byte \
                        17: boom";
        check(source(), Origin::new(0, 3, 17), expected);
        check(source(), Origin::NONE, "operator payments panicked at its first record: boom");
    }

    #[test]
    fn the_engine_itself_is_a_bug() {
        let engine = Culprit::Engine("payments -> score".to_string());
        let expected = "operator payments -> score: boom (a bug in the engine)";
        check(engine, Origin::new(0, 3, 17), expected);
    }

    #[test]
    fn a_panic_is_caught_with_its_place() {
        assert_eq!(catch(|| 7), Ok(7));
        let message = catch(|| panic!("no {}", "way")).expect_err("it panics");
        let place = format!("no way ({}:", file!());
        assert!(message.starts_with(&place), "{message}");
    }
}
