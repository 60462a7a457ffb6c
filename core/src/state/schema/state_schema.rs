//! The schema that a state is declared with, and what it makes of one that a snapshot has.

use std::any::TypeId;
use std::fmt;

use rkyv::util::AlignedVec;

use super::{Damage, Describe, Migration, Schema, SchemaDiff, compatibility};
use crate::data::record::Record;

/// How values of `Old` become values of the type, where the rules do not say so, or say something
/// else.
///
/// Values of exactly `Old` are migrated by it. Others become values of the type by the rules, if
/// they allow that: those that a release in between has migrated, say. What the rules allow to
/// become `Old` alone is migrated after that.
///
/// ```
/// use millstream::prelude::*;
/// use millstream::state::schema::MigrateFrom;
///
/// millstream::described! {
///     #[derive(Clone, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
///     struct Balance {
///         dollars: f64,
///     }
/// }
///
/// millstream::described! {
///     #[derive(Clone, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
///     struct Account {
///         cents: i64,
///     }
/// }
///
/// impl MigrateFrom<Balance> for Account {
///     fn migrate(old: Balance) -> Self {
///         Self { cents: (old.dollars * 100.0).round() as i64 }
///     }
/// }
///
/// let spec = StateSpec::kept_until_cleared().migrated_from::<Balance, Account>();
/// ```
pub trait MigrateFrom<Old> {
    /// The value that `old` becomes.
    fn migrate(old: Old) -> Self;
}

/// What a state's values are made of, without their type.
#[derive(Clone, Copy)]
pub struct StateSchema {
    values: TypeId,
    now: Source,
    /// What the values were before, and became by a function.
    earlier: Option<Source>,
}

/// Values that can be read, and what becomes of them.
#[derive(Clone, Copy)]
struct Source {
    schema: fn() -> Schema,
    archive: Rearchive,
}

/// Makes an archive of the state's type of one that a migration reads.
type Rearchive = fn(&Migration, &[u8]) -> Result<AlignedVec, Damage>;

/// What makes archives that a snapshot has those of the state's type.
pub(in crate::state) struct Rewriting {
    migration: Migration,
    archive: Rearchive,
}

impl Rewriting {
    /// The archive that `bytes` become.
    pub(in crate::state) fn archive(&self, bytes: &[u8]) -> Result<AlignedVec, Damage> {
        (self.archive)(&self.migration, bytes)
    }
}

impl StateSchema {
    /// That of values of type `V`.
    pub(in crate::state) fn of<V: Describe + Record>() -> Self {
        let archive: Rearchive = |migration, bytes| Ok(migration.read::<V>(bytes)?.archive());
        let now = Source { schema: Schema::of::<V>, archive };
        Self { values: TypeId::of::<V>(), now, earlier: None }
    }

    /// That of values of type `V`, which may have been values of type `Old`.
    pub(in crate::state) fn migrated<Old, V>() -> Self
    where
        Old: Describe,
        V: Describe + Record + MigrateFrom<Old>,
    {
        let archive: Rearchive =
            |migration, bytes| Ok(V::migrate(migration.read::<Old>(bytes)?).archive());
        let earlier = Source { schema: Schema::of::<Old>, archive };
        Self { earlier: Some(earlier), ..Self::of::<V>() }
    }

    /// Whether the values are of type `V`.
    pub(crate) fn describes<V: 'static>(&self) -> bool {
        self.values == TypeId::of::<V>()
    }

    /// The schema, to be stored with the state.
    pub(in crate::state) fn schema(&self) -> Schema {
        (self.now.schema)()
    }

    /// What has to be done with archives of the schema `stored`: nothing, or to rewrite them.
    ///
    /// # Errors
    /// They cannot become archives of the state's type.
    pub(in crate::state) fn rewriting(
        &self,
        stored: &Schema,
    ) -> Result<Option<Rewriting>, SchemaDiff> {
        let by_rules = compatibility(stored, &self.schema());
        if by_rules.as_ref().is_ok_and(Migration::is_identity) {
            return Ok(None);
        }
        let by_hand = self.earlier.and_then(|Source { schema, archive }| {
            let migration = compatibility(stored, &schema()).ok()?;
            Some(Rewriting { migration, archive })
        });
        // What a release in between has stored was migrated then: another time would take from it
        // what the earlier type does not have.
        match (by_hand, by_rules) {
            (Some(by_hand), _) if by_hand.migration.is_identity() => Ok(Some(by_hand)),
            (_, Ok(migration)) => Ok(Some(Rewriting { migration, archive: self.now.archive })),
            (Some(by_hand), Err(_)) => Ok(Some(by_hand)),
            (None, Err(diff)) => Err(diff),
        }
    }
}

impl PartialEq for StateSchema {
    fn eq(&self, other: &Self) -> bool {
        self.values == other.values
    }
}

impl Eq for StateSchema {}

impl fmt::Debug for StateSchema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.schema().shape().fmt(f)
    }
}
