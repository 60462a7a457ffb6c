//! Reading, checking and documenting the settings.

use std::fmt::Write as _;

use super::*;

fn problems(text: &str) -> Vec<String> {
    match Config::from_toml(text) {
        Ok(_) => Vec::new(),
        Err(Error::Config { problems }) => problems,
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn nothing_set_is_the_default() {
    assert_eq!(Config::from_toml("").expect("defaults are right"), Config::default());
}

#[test]
fn what_is_printed_can_be_read() {
    let config = Config {
        shards: Some(4),
        cores: vec![2, 3, 4, 5],
        idle: Idle::Spin,
        listen: Some("127.0.0.1:8081".parse().expect("an address")),
        memory_per_shard: Some(ByteCount(3 << 29)),
        state_directory: Some("/fast/state".into()),
        checkpoint_directory: Some("/safe/checkpoints".into()),
        checkpoint_interval: Period(Duration::from_millis(1_500)),
        checkpoint_timeout: Period(Duration::from_secs(90)),
        alignment: Alignment::Unaligned,
        alignment_timeout: Period(Duration::from_millis(250)),
        checkpoints_in_flight: 3,
        restart_strategy: Some(RestartKind::FailureRate),
        restart_attempts: Some(3),
        restart_backoff_multiplier: Factor::thousandths(1_250),
        guarantee: GuaranteeKind::ExactlyOnce,
        ..Config::default()
    };
    assert_eq!(Config::from_toml(&config.to_toml()).expect("just printed"), config);
    let default = Config::default();
    assert_eq!(Config::from_toml(&default.to_toml()).expect("just printed"), default);
}

#[test]
fn an_unknown_setting_is_refused_with_its_line() {
    let problems = problems("idle = \"spin\"\nshard = 4\n");
    assert_eq!(problems.len(), 1);
    assert!(problems[0].contains("line 2"), "{}", problems[0]);
    assert!(problems[0].contains("unknown field `shard`, expected one of `shards`"));
}

#[test]
fn a_wrong_value_is_refused_with_the_right_ones() {
    let problems = problems("idle = \"busy\"");
    assert!(problems[0].contains("`auto`, `spin`, `yield`, `park`"), "{}", problems[0]);
}

#[test]
fn all_problems_are_told_at_once() {
    let text = "shards = 2000\nkey_group_count = 0\ncores = [1, 1]\npin = \"off\"\nlog = \"a=b=c\"\n\
                listen = \"0.0.0.0:8081\"\nmemory_per_shard = \"63MiB\"";
    let problems = problems(text);
    assert_eq!(
        problems[..8],
        [
            "shards must be 1 to 1024, not 2000",
            "key_group_count (0) must not be less than shards (2000): every shard owns at least \
             one key group",
            "cores names 2 for 2000 shards: name one for every shard, or none",
            "key_group_count must be 1 to 32768, not 0",
            "cores names a core twice: two shards on one core wait for each other",
            "memory_per_shard must be at least 64MiB, not 63MiB: state could neither stay in \
             memory nor be written",
            "cores are named, but pin is off: leave one of them out",
            "listen must be an address of the machine itself, such as 127.0.0.1:8081, not \
             0.0.0.0:8081: whoever can reach it could see the job",
        ]
    );
    assert!(problems[8].starts_with("log is no filter such as info or warn: "), "{}", problems[8]);
}

#[test]
fn restarts_that_make_no_sense_are_refused() {
    let text = "restart_delay = \"9000h\"\nrestart_initial_backoff = \"0s\"\n\
                restart_backoff_multiplier = 0.5\nrestart_jitter = 2\n\
                restart_failures_per_interval = 0";
    assert_eq!(
        problems(text),
        [
            "restart_delay must be at most 30days, not 1year 9days 18h",
            "restart_initial_backoff must be longer than nothing",
            "restart_backoff_multiplier must be at least 1, not 0.5",
            "restart_jitter must be at most 1, not 2",
            "restart_failures_per_interval must be at least 1; restart_strategy = \"none\" ends \
             the process at the first failure",
        ]
    );
    let growing = problems("restart_initial_backoff = \"2m\"");
    assert_eq!(
        growing,
        ["restart_max_backoff (1m) must not be less than restart_initial_backoff (2m)"]
    );
}

#[test]
fn there_is_a_shard_for_every_core_unless_it_is_set() {
    let shards = |text: &str| Config::parse(text).expect("settings").with_shards(8).shards;
    assert_eq!(shards(""), Some(8));
    assert_eq!(shards("cores = [0, 3]"), Some(2));
    assert_eq!(shards("shards = 1\ncores = [0, 3]"), Some(1));
    let too_few_groups = Config::parse("key_group_count = 4").expect("settings").with_shards(8);
    assert_eq!(too_few_groups.problems().len(), 1, "what results is checked as well");
}

#[test]
fn shards_share_most_of_the_memory_unless_it_is_set() {
    let memory = |text: &str, machine| {
        let config = Config::parse(text).expect("settings").with_shards(8).with_memory(machine);
        assert!(config.problems().is_empty(), "{:?}", config.problems());
        config.memory_per_shard.expect("it is decided").to_string()
    };
    assert_eq!(memory("", Some(80 << 30)), "6GiB");
    assert_eq!(memory("shards = 1", Some(10 << 30)), "6GiB");
    assert_eq!(memory("memory_per_shard = \"100MiB\"", Some(80 << 30)), "100MiB");
    assert_eq!(memory("memory_per_shard = 134217728", None), "128MiB");
    assert_eq!(memory("", Some(100 << 20)), "64MiB", "the least that is of use");
    assert_eq!(memory("", None), "64MiB");
}

/// The document for users: name, type and comment of every setting, as they stand in the source.
fn document() -> String {
    let source = include_str!("../config.rs");
    let start = source.find("pub struct Config {").expect("the settings");
    let fields = &source[start..start + source[start..].find("\n}").expect("their end")];
    let default = toml::Value::try_from(Config::default()).expect("settings are plain values");
    let mut text = String::from(
        "# Configuration\n\n\
         A job reads its settings from the file given with `--config job.toml`. Every setting may be\n\
         left out. `--print-config` prints the settings that a job would run with. Made from\n\
         `core/src/config.rs`; after a change there, run `MILLSTREAM_WRITE_DOCS=1 cargo test -p\n\
         millstream config`.\n",
    );
    let mut comment = String::new();
    for line in fields.lines().map(str::trim) {
        if let Some(words) = line.strip_prefix("///") {
            let _ = writeln!(comment, "{}", words.trim());
        } else if let Some((name, _)) = line.strip_prefix("pub ").and_then(|l| l.split_once(": ")) {
            let value = default.get(name).map_or(String::new(), |value| format!(" = {value}"));
            let _ = write!(text, "\n## `{name}{value}`\n\n{}", std::mem::take(&mut comment));
        }
    }
    text
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a test may read and write the documentation")]
fn the_documentation_is_up_to_date() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md");
    let expected = document();
    assert_eq!(expected.matches("\n## `").count(), 32, "one section a setting");
    if std::env::var_os("MILLSTREAM_WRITE_DOCS").is_some() {
        std::fs::write(path, &expected).expect("docs/ can be written");
    }
    let found = std::fs::read_to_string(path).unwrap_or_default();
    assert_eq!(found, expected, "run MILLSTREAM_WRITE_DOCS=1 cargo test -p millstream config");
}
