//! What is wrong with settings.

use super::{ByteCount, Config, Factor, Period, Pin};
use crate::limits::{
    CHECKPOINT_COUNT_MAX, CHECKPOINT_INTERVAL_MIN, CHECKPOINT_PERIOD_MAX, KEY_GROUP_COUNT_MAX,
    MEMORY_PER_SHARD_MIN, RESTART_PERIOD_MAX, SHARD_COUNT_MAX,
};

impl Config {
    /// Everything wrong with the settings: one sentence each.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if let Some(shards) = self.shards {
            if !(1..=SHARD_COUNT_MAX).contains(&shards) {
                problems.push(format!("shards must be 1 to {SHARD_COUNT_MAX}, not {shards}"));
            }
            if self.key_group_count < shards {
                problems.push(format!(
                    "key_group_count ({}) must not be less than shards ({shards}): every shard owns \
                     at least one key group",
                    self.key_group_count
                ));
            }
            if !self.cores.is_empty() && self.cores.len() < shards as usize {
                problems.push(format!(
                    "cores names {} for {shards} shards: name one for every shard, or none",
                    self.cores.len()
                ));
            }
        }
        if !(1..=KEY_GROUP_COUNT_MAX).contains(&self.key_group_count) {
            problems.push(format!(
                "key_group_count must be 1 to {KEY_GROUP_COUNT_MAX}, not {}",
                self.key_group_count
            ));
        }
        let mut cores = self.cores.clone();
        cores.sort_unstable();
        cores.dedup();
        if cores.len() != self.cores.len() {
            problems.push(
                "cores names a core twice: two shards on one core wait for each other".to_string(),
            );
        }
        if let Some(memory) = self.memory_per_shard.filter(|m| m.0 < MEMORY_PER_SHARD_MIN) {
            problems.push(format!(
                "memory_per_shard must be at least {}, not {memory}: state could neither stay in \
                 memory nor be written",
                ByteCount(MEMORY_PER_SHARD_MIN)
            ));
        }
        self.checkpoint_problems(&mut problems);
        self.restart_problems(&mut problems);
        if self.pin == Pin::Off && !self.cores.is_empty() {
            problems.push("cores are named, but pin is off: leave one of them out".to_string());
        }
        if let Some(address) = self.listen
            && !address.ip().to_canonical().is_loopback()
        {
            problems.push(format!(
                "listen must be an address of the machine itself, such as 127.0.0.1:{}, not \
                 {address}: whoever can reach it could see the job",
                address.port()
            ));
        }
        if let Err(error) = tracing_subscriber::EnvFilter::try_new(&self.log) {
            problems.push(format!("log is no filter such as info or warn: {error}"));
        }
        problems
    }

    fn checkpoint_problems(&self, problems: &mut Vec<String>) {
        if self.checkpoint_interval.0 < CHECKPOINT_INTERVAL_MIN {
            problems.push(format!(
                "checkpoint_interval must be at least {}, not {}",
                Period(CHECKPOINT_INTERVAL_MIN),
                self.checkpoint_interval
            ));
        }
        for (name, period) in [
            ("checkpoint_interval", self.checkpoint_interval),
            ("checkpoint_min_pause", self.checkpoint_min_pause),
            ("checkpoint_timeout", self.checkpoint_timeout),
            ("alignment_timeout", self.alignment_timeout),
        ] {
            if CHECKPOINT_PERIOD_MAX < period.0 {
                let longest = Period(CHECKPOINT_PERIOD_MAX);
                problems.push(format!("{name} must be at most {longest}, not {period}"));
            }
        }
        if self.checkpoint_timeout.0.is_zero() {
            problems.push("checkpoint_timeout must be longer than nothing".to_string());
        }
        for (name, count) in [
            ("checkpoints_in_flight", self.checkpoints_in_flight),
            ("checkpoints_retained", self.checkpoints_retained),
        ] {
            if !(1..=CHECKPOINT_COUNT_MAX).contains(&count) {
                problems.push(format!("{name} must be 1 to {CHECKPOINT_COUNT_MAX}, not {count}"));
            }
        }
    }

    fn restart_problems(&self, problems: &mut Vec<String>) {
        for (name, period) in [
            ("restart_delay", self.restart_delay),
            ("restart_initial_backoff", self.restart_initial_backoff),
            ("restart_max_backoff", self.restart_max_backoff),
            ("restart_backoff_reset", self.restart_backoff_reset),
            ("restart_interval", self.restart_interval),
        ] {
            if RESTART_PERIOD_MAX < period.0 {
                let longest = Period(RESTART_PERIOD_MAX);
                problems.push(format!("{name} must be at most {longest}, not {period}"));
            }
        }
        let (initial, max) = (self.restart_initial_backoff, self.restart_max_backoff);
        if max < initial {
            problems.push(format!(
                "restart_max_backoff ({max}) must not be less than restart_initial_backoff \
                 ({initial})"
            ));
        }
        if initial.0.is_zero() {
            problems.push("restart_initial_backoff must be longer than nothing".to_string());
        }
        let (multiplier, jitter) = (self.restart_backoff_multiplier, self.restart_jitter);
        if multiplier < Factor::ONE {
            problems
                .push(format!("restart_backoff_multiplier must be at least 1, not {multiplier}"));
        }
        if Factor::ONE < jitter {
            problems.push(format!("restart_jitter must be at most 1, not {jitter}"));
        }
        if self.restart_failures_per_interval == 0 {
            let text = "restart_failures_per_interval must be at least 1; restart_strategy = \
                        \"none\" ends the process at the first failure";
            problems.push(text.to_string());
        }
    }
}
