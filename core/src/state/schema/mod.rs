//! What the values of a state are made of, and how those of an earlier release of a job are read.
//!
//! ```text
//!  type ── described! ──► Schema ── encode ──► bytes beside the state
//!                                                │ decode
//!                          Schema of the job ──► ▼
//!                                           compatibility ──► Migration ──► values of the new type
//!                                                        └──► SchemaDiff    refused, by name
//! ```
//!
//! A [`Schema`] is written with each state. When a later release of the job finds the state, the
//! schema that it finds is compared with the one it has: equal archives are viewed as they are,
//! compatible ones are read through a [`Migration`], others are refused before the job runs.
//! Values are matched by the names of fields and variants, never by their order. What no rule
//! covers, a function may ([`MigrateFrom`]). A state that is declared with
//! [`StateSpec::described`](crate::state::spec::StateSpec::described) has its schema in snapshots.
//!
//! ```
//! use millstream::prelude::*;
//! use millstream::state::schema::{Describe, Schema, compatibility};
//!
//! mod before {
//!     millstream::described! {
//!         #[derive(Clone, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
//!         pub struct Account {
//!             pub owner: String,
//!             pub cents: u32,
//!         }
//!     }
//! }
//!
//! millstream::described! {
//!     #[derive(Debug, Clone, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
//!     struct Account {
//!         cents: i64,
//!         owner: String,
//!         /// What older accounts get.
//!         currency: String = "EUR".to_string(),
//!     }
//! }
//!
//! let stored = Schema::of::<before::Account>().encode().to_vec();
//! let archive = before::Account { owner: "ada".to_string(), cents: 7 }.archive();
//!
//! let migration = compatibility(&Schema::decode(&stored)?, &Schema::of::<Account>())?;
//! let account: Account = migration.read(&archive)?;
//! let (owner, currency) = ("ada".to_string(), "EUR".to_string());
//! assert_eq!(account, Account { cents: 7, owner, currency });
//!
//! let refused = compatibility(&Schema::of::<i64>(), &Schema::of::<f32>()).unwrap_err();
//! assert!(refused.to_string().starts_with("the value: i64 -> f32, not a widening"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Not here: where schemas are stored (`state/snapshot.rs`), keys, whose type cannot change: their
//! hash decides where they are.

mod compatibility;
mod describe;
mod described;
mod encoding;
mod layout;
mod migration;
mod shape;
mod state_schema;
mod value;

#[cfg(test)]
mod tests;

pub use compatibility::{Difference, SchemaDiff};
pub use describe::Describe;
pub use encoding::SchemaError;
pub use layout::Unarchivable;
pub use migration::{Damage, Migration};
pub use shape::{Depth, Field, Fields, Number, Shape, VARIANT_COUNT_MAX, Variant, Width};
pub(in crate::state) use state_schema::Rewriting;
pub use state_schema::{MigrateFrom, StateSchema};
pub use value::Value;

use crate::limits::SCHEMA_BYTES_MAX;

/// What the values of a state are made of: a shape that can be archived, described and stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schema {
    shape: Shape,
    encoded: Vec<u8>,
}

impl Schema {
    /// That of `T`.
    ///
    /// # Panics
    /// As [`Describe::described`], and if the schema takes more than [`SCHEMA_BYTES_MAX`].
    pub fn of<T: Describe>() -> Self {
        let shape = T::described(Depth::default());
        let Some(encoded) = encoding::encode(&shape) else {
            panic!(
                "{} has a schema of more than {SCHEMA_BYTES_MAX} bytes, or a name of more than 255",
                std::any::type_name::<T>()
            )
        };
        Self { shape, encoded }
    }

    /// The schema in `bytes`, which are not believed.
    ///
    /// # Errors
    /// If they are damaged, or of a later release.
    pub fn decode(bytes: &[u8]) -> Result<Self, SchemaError> {
        Ok(Self { shape: encoding::decode(bytes)?, encoded: bytes.to_vec() })
    }

    /// As bytes; `docs/formats/schema.md` draws them. Equal schemas are equal bytes.
    pub fn encode(&self) -> &[u8] {
        &self.encoded
    }

    /// What values are made of.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }
}

/// How the values of `old` become values of `new`.
///
/// # Errors
/// All differences for which there is no rule, by name. The rules are those of
/// `docs/formats/schema.md`.
pub fn compatibility(old: &Schema, new: &Schema) -> Result<Migration, SchemaDiff> {
    compatibility::compatibility(&old.shape, &new.shape)
}
