//! What goes through the function of a migration, and what by the rules.

use super::*;

crate::described! {
    #[derive(Debug, Clone, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
    struct First {
        cents: i64,
    }
}

crate::described! {
    #[derive(Debug, Clone, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
    struct Second {
        cents: i64,
        currency: String = "EUR".to_string(),
    }
}

crate::described! {
    #[derive(Debug, Clone, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
    struct Third {
        cents: i64,
        currency: String = "EUR".to_string(),
        limit: u32 = 3,
    }
}

crate::described! {
    #[derive(Debug, Clone, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
    struct Narrow {
        cents: i32,
    }
}

crate::described! {
    #[derive(Debug, Clone, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
    struct Euros {
        euros: f64,
    }
}

impl MigrateFrom<First> for Second {
    fn migrate(old: First) -> Self {
        Self { cents: old.cents, currency: "ATS".to_string() }
    }
}

impl MigrateFrom<First> for Third {
    fn migrate(old: First) -> Self {
        Self { cents: old.cents, currency: "ATS".to_string(), limit: 3 }
    }
}

impl MigrateFrom<First> for Euros {
    fn migrate(old: First) -> Self {
        Self { euros: old.cents as f64 / 100.0 }
    }
}

/// What `spec` makes of a value that was stored.
fn rewritten<Stored: Describe + Record, V: Describe + Record>(
    spec: StateSchema,
    value: &Stored,
) -> V {
    let rewriting = spec.rewriting(&Schema::of::<Stored>()).expect("it can be read");
    let archive = rewriting.expect("it is another type").archive(&value.archive());
    let read = same(&Schema::of::<V>()).read::<V>(&archive.expect("it is an archive"));
    read.expect("it is of the type now")
}

/// Whichever releases are left out, a value goes through the function once at most.
#[test]
fn what_was_migrated_is_not_migrated_again() {
    let first = First { cents: 7 };
    let second: Second = rewritten(StateSchema::migrated::<First, Second>(), &first);
    assert_eq!(second, Second { cents: 7, currency: "ATS".to_string() });
    let third = |currency: &str| Third { cents: 7, currency: currency.to_string(), limit: 3 };
    let now = StateSchema::migrated::<First, Third>();
    assert_eq!(rewritten::<_, Third>(now, &first), third("ATS"));
    let stored = Second { cents: 7, currency: "USD".to_string() };
    assert_eq!(rewritten::<_, Third>(now, &stored), third("USD"));
}

/// Before the first type was as it is, there was another: the function takes that too.
#[test]
fn what_only_the_earlier_type_can_read_is_migrated() {
    let euros: Euros = rewritten(StateSchema::migrated::<First, Euros>(), &Narrow { cents: 250 });
    assert_eq!(euros, Euros { euros: 2.5 });
}
