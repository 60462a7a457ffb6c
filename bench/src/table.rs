//! A table of several ways to do the same: what each takes in every round, and the ratios to the
//! peers in the same round.

use std::fmt;

use crate::contest::Spread;

/// At most so many times the first peer's time is asked for; at least so many times as fast as the
/// second.
#[derive(Debug, Clone, Copy, Default)]
pub struct Gates {
    /// Most times the time of the first peer.
    pub time_at_most: Option<f64>,
    /// Least times the speed of the second.
    pub speed_at_least: Option<f64>,
}

/// One way, and nanoseconds per operation in every round.
#[derive(Debug, Clone)]
pub struct Line {
    /// What it is.
    pub name: String,
    /// By round.
    pub ns: Vec<f64>,
    /// What is asked of it.
    pub gates: Gates,
}

impl Line {
    /// Of a way that was not gone yet.
    pub fn new(name: impl Into<String>, gates: Gates) -> Self {
        Self { name: name.into(), ns: Vec::new(), gates }
    }
}

/// The ways, and which of them are the peers.
#[derive(Debug, Clone)]
pub struct Table<'a> {
    /// What is done.
    pub title: String,
    /// In the order in which they took turns.
    pub lines: &'a [Line],
    /// Names of the first and the second peer.
    pub peers: [&'a str; 2],
}

/// `median (min to max)` for each way, and for each peer that is there the median of the ratios.
impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}; ns an operation", self.title)?;
        for line in self.lines {
            let ns = format!("{:.0}", Spread::of(line.ns.iter().copied()));
            write!(f, "  {:40} {ns:26}", line.name)?;
            for (i, peer) in self.peers.iter().enumerate() {
                let Some(peer_ns) = self.lines.iter().find(|line| line.name == **peer) else {
                    continue;
                };
                if peer_ns.name == line.name {
                    continue;
                }
                let pairs = line.ns.iter().zip(&peer_ns.ns);
                if i == 0 {
                    let times = Spread::of(pairs.map(|(ns, peer)| ns / peer));
                    write!(f, " {times:.2} × {peer}")?;
                    if let Some(gate) = line.gates.time_at_most {
                        write!(f, " [≤ {gate} {}]", met(times.median <= gate))?;
                    }
                } else {
                    let speed = Spread::of(pairs.map(|(ns, peer)| peer / ns));
                    write!(f, ", {:.1} × as fast as {peer}", speed.median)?;
                    if let Some(gate) = line.gates.speed_at_least {
                        write!(f, " [≥ {gate} {}]", met(gate <= speed.median))?;
                    }
                }
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

fn met(is_met: bool) -> &'static str {
    if is_met { "met" } else { "NOT MET" }
}
