//! Two ways to do the same, in turns, in one process: the machine's moods meet both.

use millstream::prelude::Result;

use crate::stopwatch::Run;

/// A run that waited longer than this part of its time for its core says little.
const DISTURBED: f64 = 0.05;

/// What is asked of the first way.
#[derive(Debug, Clone, Copy)]
pub enum Gate {
    /// At least this many times as fast as the second.
    SpeedAtLeast(f64),
    /// At most this many times as slow as the second.
    TimeAtMost(f64),
    /// At least this many million records a second.
    MillionsAtLeast(f64),
    /// Nothing; only to know.
    None,
}

/// The names of the two ways, and the records that each run takes in.
#[derive(Debug, Clone, Copy)]
pub struct Contest<'a> {
    /// What it is about.
    pub title: &'a str,
    /// Names of the two ways.
    pub names: [&'a str; 2],
    /// Records of a run.
    pub records: u64,
    /// How often each way runs.
    pub runs: usize,
    /// What is asked.
    pub gate: Gate,
}

impl Contest<'_> {
    /// Runs both ways in turns and prints the outcome.
    ///
    /// # Errors
    /// The first run's that fails.
    ///
    /// # Panics
    /// If the two did not do the same.
    pub fn hold(
        &self,
        mut first: impl FnMut() -> Result<Run>,
        mut second: impl FnMut() -> Result<Run>,
    ) -> Result<()> {
        let mut pairs = Vec::new();
        for _ in 0..self.runs {
            let (a, b) = (first()?, second()?);
            assert_eq!((a.rows, a.sum), (b.rows, b.sum), "{}: not the same work", self.title);
            pairs.push((a, b));
        }
        self.print(&pairs);
        Ok(())
    }

    #[expect(clippy::print_stdout, reason = "a report is for reading")]
    fn print(&self, pairs: &[(Run, Run)]) {
        let is_calm = |run: &Run| run.waited.as_secs_f64() < DISTURBED * run.took.as_secs_f64();
        let mut calm: Vec<_> = pairs.iter().filter(|(a, b)| is_calm(a) && is_calm(b)).collect();
        let calm_count = calm.len();
        if calm.is_empty() {
            calm = pairs.iter().collect();
        }
        let of = |f: &dyn Fn(&(Run, Run)) -> f64| Spread::of(calm.iter().map(|pair| f(pair)));
        let ns = [of(&|pair| pair.0.ns_per(self.records)), of(&|pair| pair.1.ns_per(self.records))];
        let speed = of(&|(a, b)| b.ns_per(1) / a.ns_per(1));
        println!("{}", self.title);
        for (name, ns) in self.names.iter().zip(&ns) {
            let millions = 1e3 / ns.median;
            println!("  {name:36} {ns:.2} ns/record   {millions:.1} M records/s");
        }
        let met = |is_met| if is_met { "met" } else { "NOT MET" };
        let verdict = match self.gate {
            Gate::SpeedAtLeast(gate) => {
                format!("gate at least {:.0} %: {}", gate * 100.0, met(gate <= speed.median))
            }
            Gate::TimeAtMost(gate) => {
                let time = 1.0 / speed.median;
                format!("time {time:.2}, gate at most {gate}: {}", met(time <= gate))
            }
            Gate::MillionsAtLeast(gate) => {
                let millions = 1e3 / ns[0].median;
                format!("gate at least {gate} M records/s: {}", met(gate <= millions))
            }
            Gate::None => String::new(),
        };
        println!("  speed ratio {speed:.3}   {verdict}");
        println!("  {calm_count} of {} pairs undisturbed\n", pairs.len());
    }
}

/// Median and range.
#[derive(Debug, Clone, Copy)]
pub struct Spread {
    /// The one in the middle.
    pub median: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
}

impl Spread {
    /// Of `values`.
    ///
    /// # Panics
    /// If there are none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<_> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (min, max) = (values[0], values[values.len() - 1]);
        Self { median: values[values.len() / 2], min, max }
    }
}

/// `median (min to max)`, each with the precision asked for.
impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let digits = f.precision().unwrap_or(2);
        let Self { median, min, max } = self;
        write!(f, "{median:.digits$} ({min:.digits$} to {max:.digits$})")
    }
}
