//! Who has been asked how it stands, and who has answered: rounds of questions to all hosts.
//!
//! A host has at most one unanswered question, whatever the rounds do, so its orders never pile up
//! behind a busy shard. The answer to a question of an earlier round is old news to this one: the
//! host is asked again.
//!
//! Not here: how long a round waits, who wants to know (`mod.rs`).

/// The hosts of a node.
#[derive(Debug)]
pub(super) struct Roll {
    hosts: Vec<Standing>,
    is_asking: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// Nothing is asked of it.
    Quiet,
    /// Asked in this round.
    Asked,
    /// Asked in an earlier round, and has not answered.
    Late,
    /// Has answered in this round.
    Answered,
}

impl Roll {
    /// `host_count` hosts of which nothing is asked.
    pub(super) fn new(host_count: usize) -> Self {
        Self { hosts: vec![Standing::Quiet; host_count], is_asking: false }
    }

    /// Begins a round: the hosts to be asked now.
    pub(super) fn begin(&mut self) -> Vec<usize> {
        assert!(!self.is_asking, "one round at a time");
        self.is_asking = true;
        let quiet = (0..self.hosts.len()).filter(|host| self.hosts[*host] == Standing::Quiet);
        let asked: Vec<usize> = quiet.collect();
        for host in &asked {
            self.hosts[*host] = Standing::Asked;
        }
        asked
    }

    /// `host` has answered. Whether it is to be asked again.
    pub(super) fn on_answer(&mut self, host: usize) -> bool {
        let asks_again = self.is_asking && self.hosts[host] == Standing::Late;
        self.hosts[host] = match self.hosts[host] {
            Standing::Late if asks_again => Standing::Asked,
            Standing::Late => Standing::Quiet,
            Standing::Asked => Standing::Answered,
            Standing::Quiet | Standing::Answered => panic!("host {host} was not asked"),
        };
        asks_again
    }

    /// Whether every host has answered in this round.
    pub(super) fn is_complete(&self) -> bool {
        self.hosts.iter().all(|host| *host == Standing::Answered)
    }

    /// Ends the round, whoever is missing.
    pub(super) fn end(&mut self) {
        self.is_asking = false;
        for host in &mut self.hosts {
            *host = match *host {
                Standing::Answered | Standing::Quiet => Standing::Quiet,
                Standing::Asked | Standing::Late => Standing::Late,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_is_complete_when_all_have_answered() {
        let mut roll = Roll::new(2);
        assert_eq!(roll.begin(), [0, 1]);
        assert!(!roll.on_answer(1) && !roll.is_complete());
        assert!(!roll.on_answer(0) && roll.is_complete());
        roll.end();
        assert_eq!(roll.begin(), [0, 1], "another round asks all of them again");
    }

    #[test]
    fn a_busy_host_is_not_asked_twice_and_its_late_answer_does_not_count() {
        let mut roll = Roll::new(2);
        assert_eq!(roll.begin(), [0, 1]);
        assert!(!roll.on_answer(0));
        roll.end();
        for _ in 0..1_000 {
            assert_eq!(roll.begin(), [0], "the other has a question already");
            assert!(!roll.on_answer(0) && !roll.is_complete());
            roll.end();
        }
        assert_eq!(roll.begin(), [0]);
        assert!(roll.on_answer(1), "the answer is of the first round: it is asked again");
        assert!(!roll.on_answer(0) && !roll.is_complete());
        assert!(!roll.on_answer(1) && roll.is_complete());
    }

    #[test]
    fn an_answer_between_rounds_makes_the_host_free() {
        let mut roll = Roll::new(1);
        assert_eq!(roll.begin(), [0]);
        roll.end();
        assert!(!roll.on_answer(0));
        assert_eq!(roll.begin(), [0]);
    }
}
