//! Which column is which field of the record type, found out once per file.
//!
//! Serde tells which fields a struct has, in order. If every one of them is a column, a record is
//! read *by place*: field after field from its column, without comparing a name. Otherwise (a field
//! is missing because it is optional or has an alias, or the type is no plain struct) it is read
//! *by name*, and serde decides what a missing field means.
//!
//! Mistakes in the header are found here, before the first record: by reading a made-up record with
//! the file's columns ([`super::probe`]).

use serde::de::DeserializeOwned;

use super::super::fault::quoted;
use super::super::{Fault, Spot};
use super::cut::Fields;
use super::deserialize::{ByName, ByPlace, Wrong, WrongKind};
use super::probe;

/// Columns that an error message lists.
const COLUMNS_SHOWN_MAX: usize = 50;

/// The columns of one file, and how they become a record.
#[derive(Debug)]
pub(super) struct Columns {
    names: Vec<String>,
    /// Column of every field of the struct, in the order of the fields; none if fields are read
    /// by name.
    places: Option<Vec<usize>>,
}

impl Columns {
    /// The columns `names` of a file whose records become `T`.
    pub(super) fn of<T: DeserializeOwned>(names: Vec<String>) -> Result<Self, Fault> {
        let fields = probe::fields_of::<T>();
        check_unique(&names, fields)?;
        match probe::read_made_up::<T>(&names) {
            Err(WrongKind::MissingField(field)) => return Err(missing(&field, &names)),
            Err(WrongKind::UnknownField(column)) => {
                return Err(Fault::of_record(format!(
                    "the record type has no field for the column {}; remove the column, or let the \
                     type ignore it",
                    quoted(&column)
                )));
            }
            _ => {}
        }
        let place = |field: &&str| names.iter().position(|name| name == field);
        let places = fields.and_then(|fields| fields.iter().map(place).collect());
        Ok(Self { names, places })
    }

    /// Reads a record.
    pub(super) fn read<T: DeserializeOwned>(
        &mut self,
        fields: &Fields<'_>,
        null_text: Option<&str>,
    ) -> Result<T, Fault> {
        if fields.len() != self.names.len() {
            return Err(self.wrong_count(fields.len()));
        }
        if let Some(places) = &self.places {
            let by_place = ByPlace { fields, places, null_text };
            if let Ok(record) = T::deserialize(by_place) {
                return Ok(record);
            }
        }
        // By name as well if by place failed: the message is better, and a type that wants names
        // shows itself by succeeding now.
        let by_name = ByName { fields, names: &self.names, null_text };
        match T::deserialize(by_name) {
            Ok(record) => {
                self.places = None;
                Ok(record)
            }
            Err(wrong) => Err(self.fault(wrong)),
        }
    }

    fn wrong_count(&self, count: usize) -> Fault {
        let expected = self.names.len();
        let hint =
            if count > expected { "; put fields that hold the delimiter in quotes" } else { "" };
        Fault::of_record(format!(
            "{count} {} where the header has {expected} ({}){hint}",
            if count == 1 { "field" } else { "fields" },
            list(&self.names)
        ))
    }

    fn fault(&self, wrong: Wrong) -> Fault {
        let reason = match *wrong.kind {
            WrongKind::MissingField(field) => return missing(&field, &self.names),
            WrongKind::UnknownField(name) => format!("the record type has no field {name}"),
            WrongKind::Said(reason) => reason,
        };
        let spot = match wrong.column.and_then(|index| Some((index, self.names.get(index)?))) {
            Some((index, name)) => Spot::Column(index + 1, name.clone()),
            None => Spot::Record,
        };
        Fault { spot, reason }
    }
}

/// A column that is used must have its name for itself.
fn check_unique(names: &[String], fields: Option<&[&str]>) -> Result<(), Fault> {
    for (index, name) in names.iter().enumerate() {
        let is_used = fields.is_none_or(|fields| fields.contains(&name.as_str()));
        let Some(first) = names[..index].iter().position(|other| other == name) else { continue };
        if is_used {
            return Err(Fault::of_record(format!(
                "the columns {} and {} are both called {}; rename one of them",
                first + 1,
                index + 1,
                quoted(name)
            )));
        }
    }
    Ok(())
}

fn missing(field: &str, names: &[String]) -> Fault {
    Fault::of_record(format!(
        "there is no column {}; the columns are {}; rename one of them or the record's field, or \
         make the field an Option (if the file has no header, give the names with .columns(..))",
        quoted(field),
        list(names)
    ))
}

fn list(names: &[String]) -> String {
    let shown = &names[..names.len().min(COLUMNS_SHOWN_MAX)];
    let more = if shown.len() < names.len() { ", ..." } else { "" };
    shown.join(", ") + more
}
