//! States whose type has changed between a snapshot and a restore.

use crate::operator::process::KeyedProcess;
use crate::prelude::*;
use crate::state::schema::{Describe, MigrateFrom};
use crate::state::snapshot::Snapshot;
use crate::testing::OperatorHarness;

/// Keeps every value in each kind of state.
#[derive(Clone)]
struct Keep<V> {
    spec: StateSpec,
    value: ValueState<V>,
    list: ListState<V>,
    map: MapState<u8, V>,
}

impl<V: Record> KeyedProcessFunction<u8, V> for Keep<V> {
    type Out = u8;

    fn open(&mut self, ctx: &mut OpenContext<'_>) {
        self.value = ctx.value("value", self.spec);
        self.list = ctx.list("list", self.spec);
        self.map = ctx.map("map", self.spec);
    }

    fn process(&mut self, value: V, ctx: &mut KeyedContext<'_, u8>, _: &mut impl Output<u8>) {
        self.value.set(ctx, value.clone());
        self.list.append(ctx, value.clone());
        self.map.put(ctx, 1, value);
    }
}

fn harness<V: Record>(spec: StateSpec) -> OperatorHarness<impl crate::operator::Chain<In = V>> {
    let (value, list, map) = (ValueState::default(), ListState::default(), MapState::default());
    let operator = KeyedProcess::new(|_: &V| 7_u8, Keep { spec, value, list, map });
    OperatorHarness::new(operator).keyed_by(|_: &V| 7_u8)
}

/// The snapshot of a job that has seen `value`, as a manifest would put it together.
fn snapshot<V: Record>(spec: StateSpec, value: V) -> Snapshot {
    let mut harness = harness(spec);
    harness.push(value, 0);
    let mut merged = Snapshot::default();
    merged.merge(harness.snapshot());
    merged
}

/// What a job of a later release finds in all of its states.
fn restored<V: Record + PartialEq + std::fmt::Debug>(
    spec: StateSpec,
    snapshot: &Snapshot,
) -> Result<V, Vec<String>> {
    let mut harness = harness::<V>(spec);
    match harness.restore(snapshot) {
        Ok(()) => {}
        Err(Error::Plan { problems }) => return Err(problems),
        Err(error) => panic!("{error}"),
    }
    let [(7, value)] = &harness.keyed_state::<u8, V>("value")[..] else { panic!("one value") };
    assert_eq!(harness.keyed_state::<u8, V>("list"), [(7, value.clone())]);
    assert_eq!(harness.map_state::<u8, u8, V>("map"), [(7, 1, value.clone())]);
    Ok(value.clone())
}

fn described<V: Describe + Record>() -> StateSpec {
    StateSpec::kept_until_cleared().described::<V>()
}

crate::described! {
    #[derive(Debug, Clone, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
    struct Account {
        owner: String,
        cents: u32,
    }
}

crate::described! {
    #[derive(Debug, Clone, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
    struct Later {
        cents: i64,
        currency: String = "EUR".to_string(),
        owner: String,
    }
}

crate::described! {
    #[derive(Debug, Clone, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
    struct Other {
        owner: String,
        cents: f32,
        limit: u32,
    }
}

impl MigrateFrom<Account> for Other {
    fn migrate(old: Account) -> Self {
        Self { owner: old.owner, cents: old.cents as f32, limit: 3 }
    }
}

impl MigrateFrom<Account> for Later {
    fn migrate(old: Account) -> Self {
        Self { cents: old.cents.into(), currency: "ATS".to_string(), owner: old.owner }
    }
}

fn account() -> Account {
    Account { owner: "ada lovelace".to_string(), cents: 7 }
}

fn later(currency: &str) -> Later {
    Later { cents: 7, currency: currency.to_string(), owner: "ada lovelace".to_string() }
}

#[test]
fn values_of_a_compatible_type_are_migrated() {
    let snapshot = snapshot(described::<Account>(), account());
    assert_eq!(restored(described::<Account>(), &snapshot), Ok(account()));
    assert_eq!(restored(described::<Later>(), &snapshot), Ok(later("EUR")));
}

#[test]
fn what_was_migrated_is_of_the_new_type_from_then_on() {
    let mut harness = harness::<Later>(described::<Later>());
    harness.restore(&snapshot(described::<Account>(), account())).expect("it is compatible");
    let snapshot = harness.snapshot();
    assert_eq!(restored(described::<Later>(), &snapshot), Ok(later("EUR")));
}

#[test]
fn values_of_another_type_are_refused_by_name() {
    let snapshot = snapshot(described::<Account>(), account());
    let problems = restored::<Other>(described::<Other>(), &snapshot).expect_err("it is another");
    let place = "operator: state value, field";
    let advice = "write a migration or choose another uid";
    assert_eq!(
        problems,
        [
            format!("{place} cents: u32 -> f32, not a widening; {advice}"),
            format!("{place} limit: u32 added without a default; {advice}"),
        ]
    );
}

#[test]
fn a_migration_by_hand_goes_before_the_rules() {
    let snapshot = snapshot(described::<Account>(), account());
    let by_hand = StateSpec::kept_until_cleared().migrated_from::<Account, Other>();
    let other = Other { owner: "ada lovelace".to_string(), cents: 7.0, limit: 3 };
    assert_eq!(restored(by_hand, &snapshot), Ok(other));
    let by_hand = StateSpec::kept_until_cleared().migrated_from::<Account, Later>();
    assert_eq!(restored(by_hand, &snapshot), Ok(later("ATS")));
    let snapshot = self::snapshot(by_hand, later("USD"));
    assert_eq!(restored(by_hand, &snapshot), Ok(later("USD")), "it is of that type already");
}

#[test]
fn values_without_a_schema_are_taken_for_what_they_are_now() {
    let snapshot = snapshot(StateSpec::kept_until_cleared(), account());
    assert_eq!(restored(described::<Account>(), &snapshot), Ok(account()));
}

#[test]
fn values_without_a_schema_are_of_one_size() {
    let plain = StateSpec::kept_until_cleared();
    let snapshot = snapshot(plain, account());
    for spec in [plain, described::<Later>()] {
        let problems = restored::<Later>(spec, &snapshot).expect_err("it has other fields");
        let [problem] = &problems[..] else { panic!("{problems:?}") };
        assert!(problem.starts_with("operator: state value, its values had 12 bytes"), "{problem}");
        assert!(problem.contains("Later has 24"), "{problem}");
    }
    assert_eq!(restored(plain, &snapshot), Ok(account()));
}

#[test]
fn a_state_that_was_described_stays_so() {
    let snapshot = snapshot(described::<Account>(), account());
    let plain = StateSpec::kept_until_cleared();
    let problems = restored::<Account>(plain, &snapshot).expect_err("it may be of another type");
    let was = "operator: state value, it was declared with `StateSpec::described`";
    assert!(problems[0].starts_with(was), "{}", problems[0]);
}

#[test]
fn a_state_is_described_as_what_it_keeps() {
    let error = harness::<Account>(described::<Later>()).open().expect_err("it keeps accounts");
    let Error::Plan { problems } = error else { panic!("{error}") };
    assert_eq!(problems.len(), 3, "one for each state");
    assert!(problems[0].contains("state \"value\" is described as another type than it keeps"));
    assert!(problems[0].ends_with("Account>()`"), "{}", problems[0]);
}
