//! What the socket source and the socket sink share: addresses, and when to try again.

use std::net::SocketAddr;
use std::time::Duration;

/// An address as the user wrote it, and what it means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) text: String,
    pub(super) parsed: Option<SocketAddr>,
}

impl Address {
    /// `127.0.0.1:7000`, `[::1]:7000` or `localhost:7000`. Names are not looked up: that would
    /// make the shard wait.
    pub(super) fn new(text: impl Into<String>) -> Self {
        let text = text.into();
        let numeric = match text.strip_prefix("localhost:") {
            Some(port) => format!("127.0.0.1:{port}"),
            None => text.clone(),
        };
        Self { text, parsed: numeric.parse().ok() }
    }

    /// What is wrong with it, if something is.
    pub(super) fn problem(&self) -> Option<String> {
        let text = &self.text;
        let is_wrong = self.parsed.is_none();
        is_wrong.then(|| format!("'{text}' is no address; write it as 127.0.0.1:7000"))
    }
}

/// How often a connection is tried again, and after what pauses.
///
/// The pause doubles with every attempt in a row, up to five seconds. Bytes that were received or
/// accepted begin a new row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reconnect {
    /// Attempts in a row after the first has failed; then the job stops.
    pub attempts: u32,
    /// Pause before the first of them.
    pub pause: Duration,
}

impl Default for Reconnect {
    /// Eight attempts within some twenty seconds: a server that restarts is waited for.
    fn default() -> Self {
        Self { attempts: 8, pause: Duration::from_millis(200) }
    }
}

impl Reconnect {
    /// The first failure is the last.
    pub const NEVER: Self = Self { attempts: 0, pause: Duration::ZERO };

    const PAUSE_MS_MAX: u64 = 5_000;

    /// Pause (ms) before attempt `number` of a row, counted from 0; none if there is no such
    /// attempt.
    pub(super) fn pause_ms(&self, number: u32) -> Option<i64> {
        let first_ms = self.pause.as_millis() as u64;
        let doubled = first_ms.saturating_mul(1 << number.min(32)).min(Self::PAUSE_MS_MAX);
        (number < self.attempts).then_some(doubled as i64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_numbers_or_localhost() {
        let parsed = |text| Address::new(text).parsed.map(|address| address.to_string());
        assert_eq!(parsed("localhost:7000").as_deref(), Some("127.0.0.1:7000"));
        assert_eq!(parsed("[::1]:1").as_deref(), Some("[::1]:1"));
        assert_eq!(
            Address::new("example.org:7000").problem().as_deref(),
            Some("'example.org:7000' is no address; write it as 127.0.0.1:7000")
        );
    }

    #[test]
    fn pauses_double_up_to_a_limit_and_end() {
        let reconnect = Reconnect { attempts: 7, pause: Duration::from_millis(200) };
        let pauses: Vec<_> = (0..9).map_while(|number| reconnect.pause_ms(number)).collect();
        assert_eq!(pauses, [200, 400, 800, 1600, 3200, 5000, 5000]);
        assert_eq!(Reconnect::NEVER.pause_ms(0), None);
    }
}
