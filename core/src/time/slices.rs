//! Slices: the pieces of time that aligned windows are put together from.
//!
//! Every window begins and ends at a slice's border, so a record is added to one slice however many
//! windows cover it, and a window is the sum of the slices in it.
//!
//! ```text
//! sliding, size 5, slide 2        windows end at 1, 3, 5, 7 …: one slice begins with each window,
//! │0      │2      │4      │6      one with each end
//! ├───┬───┼───┬───┼───┬───┼───┬─  slices 0 1 2 3 4 5 6 7
//! └───────window──────┘           slices 0 ..= 4
//!         └───────window──────┘   slices 2 ..= 6
//! ```
//!
//! Where the slide divides the size, borders coincide and there is one slice per slide; otherwise
//! there are two. Slices are numbered by time; numbers may be negative.
//!
//! Invariant: windows are in the order of their ends, the slices of a window are contiguous, and a
//! later window begins at no earlier slice.

use crate::time::window::{Cumulative, Sliding, Tumbling, Window, period_start_ms};

/// One slice. Records come in the order of time more or less, so the slice of the last one is
/// nearly
/// always that of the next, and asking it saves the divisions.
#[derive(Debug, Clone, Copy)]
pub struct Piece {
    /// Its number.
    pub slice: i64,
    start_ms: i64,
    len_ms: u64,
    /// See [`Slices::first_end_ms`].
    pub first_end_ms: Option<i64>,
    /// End (ms) of the last window that covers the slice; of the slice itself if none does.
    pub last_end_ms: i64,
}

impl Piece {
    /// The piece that contains nothing.
    pub const NONE: Self =
        Self { slice: 0, start_ms: 0, len_ms: 0, first_end_ms: None, last_end_ms: 0 };

    /// Whether a time is in it.
    #[inline]
    pub fn contains(&self, time_ms: i64) -> bool {
        (time_ms.wrapping_sub(self.start_ms) as u64) < self.len_ms
    }
}

/// The slices of one window assigner. Plain arithmetic.
#[derive(Debug, Clone, Copy)]
pub struct Slices {
    /// From window end to window end, ms.
    slide_ms: i64,
    offset_ms: i64,
    kind: Kind,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    /// `size = whole * slide + rest`.
    Sliding { whole: i64, rest_ms: i64 },
    /// Slices in the longest window.
    Cumulative { count: i64 },
}

impl From<Tumbling> for Slices {
    fn from(tumbling: Tumbling) -> Self {
        let Tumbling { size_ms, offset_ms, domain } = tumbling;
        Sliding { size_ms, slide_ms: size_ms, offset_ms, domain }.into()
    }
}

impl From<Sliding> for Slices {
    fn from(sliding: Sliding) -> Self {
        let Sliding { size_ms, slide_ms, offset_ms, .. } = sliding;
        assert!(0 < size_ms && 0 < slide_ms, "the plan has refused this: {sliding:?}");
        let kind = Kind::Sliding { whole: size_ms / slide_ms, rest_ms: size_ms % slide_ms };
        Self { slide_ms, offset_ms, kind }
    }
}

impl From<Cumulative> for Slices {
    fn from(cumulative: Cumulative) -> Self {
        let Cumulative { size_max_ms, step_ms, offset_ms, .. } = cumulative;
        assert!(0 < step_ms && size_max_ms % step_ms == 0, "the plan has refused {cumulative:?}");
        let kind = Kind::Cumulative { count: size_max_ms / step_ms };
        Self { slide_ms: step_ms, offset_ms, kind }
    }
}

impl Slices {
    /// The slice that `time_ms` is in.
    #[inline]
    pub fn slice_of(&self, time_ms: i64) -> i64 {
        let since_ms = time_ms - self.offset_ms;
        let slide = since_ms.div_euclid(self.slide_ms);
        match self.kind {
            Kind::Sliding { rest_ms, .. } if rest_ms > 0 => {
                2 * slide + i64::from(since_ms - slide * self.slide_ms >= rest_ms)
            }
            Kind::Sliding { .. } | Kind::Cumulative { .. } => slide,
        }
    }

    /// What there is to know about the slice that `time_ms` is in.
    pub fn piece_at(&self, time_ms: i64) -> Piece {
        let slice = self.slice_of(time_ms);
        let (start_ms, end_ms) = (self.slice_start_ms(slice), self.slice_start_ms(slice + 1));
        let first_end_ms = self.first_end_ms(slice);
        let last_end_ms = first_end_ms.map_or(end_ms, |_| self.last_end_ms(slice));
        Piece { slice, start_ms, len_ms: (end_ms - start_ms) as u64, first_end_ms, last_end_ms }
    }

    /// Where `slice` begins (ms).
    fn slice_start_ms(&self, slice: i64) -> i64 {
        match self.kind {
            Kind::Sliding { rest_ms, .. } if rest_ms > 0 => {
                self.at(slice >> 1) + if slice & 1 == 1 { rest_ms } else { 0 }
            }
            Kind::Sliding { .. } | Kind::Cumulative { .. } => self.at(slice),
        }
    }

    /// The end (ms) of the first window that covers `slice`; `None` if none does.
    #[inline]
    pub fn first_end_ms(&self, slice: i64) -> Option<i64> {
        match self.kind {
            Kind::Sliding { whole, rest_ms } if rest_ms > 0 => {
                let is_second = slice & 1 == 1;
                if is_second && whole == 0 {
                    return None;
                }
                Some(self.at((slice >> 1) + i64::from(is_second)) + rest_ms)
            }
            Kind::Sliding { .. } | Kind::Cumulative { .. } => Some(self.at(slice + 1)),
        }
    }

    /// The end (ms) of the last window that covers `slice`, if one does.
    #[inline]
    pub fn last_end_ms(&self, slice: i64) -> i64 {
        match self.kind {
            Kind::Sliding { whole, rest_ms } => {
                let begun = if rest_ms > 0 { slice >> 1 } else { slice };
                self.at(begun + whole) + rest_ms
            }
            Kind::Cumulative { count } => self.at((slice.div_euclid(count) + 1) * count),
        }
    }

    /// The first slice of the window that ends at `end_ms`.
    #[inline]
    pub fn first_slice(&self, end_ms: i64) -> i64 {
        match self.kind {
            Kind::Sliding { whole, rest_ms } => {
                let slide = self.slide_at(end_ms - rest_ms) - whole;
                if rest_ms > 0 { 2 * slide } else { slide }
            }
            Kind::Cumulative { count } => (self.slide_at(end_ms) - 1).div_euclid(count) * count,
        }
    }

    /// The slice that begins where the window that ends at `end_ms` ends: one after its last.
    #[inline]
    pub fn slice_behind(&self, end_ms: i64) -> i64 {
        match self.kind {
            Kind::Sliding { rest_ms, .. } if rest_ms > 0 => 2 * self.slide_at(end_ms - rest_ms) + 1,
            Kind::Sliding { .. } | Kind::Cumulative { .. } => self.slide_at(end_ms),
        }
    }

    /// The end (ms) of the window after the one that ends at `end_ms`.
    #[inline]
    pub fn next_end_ms(&self, end_ms: i64) -> i64 {
        end_ms + self.slide_ms
    }

    /// The end (ms) of the first window that ends after `time_ms`.
    pub fn end_after_ms(&self, time_ms: i64) -> i64 {
        let rest_ms = match self.kind {
            Kind::Sliding { rest_ms, .. } => rest_ms,
            Kind::Cumulative { .. } => 0,
        };
        period_start_ms(time_ms, self.slide_ms, self.offset_ms + rest_ms) + self.slide_ms
    }

    /// The window that ends at `end_ms`.
    pub fn window(&self, end_ms: i64) -> Window {
        let start_ms = match self.kind {
            Kind::Sliding { whole, rest_ms } => end_ms - rest_ms - whole * self.slide_ms,
            Kind::Cumulative { .. } => self.at(self.first_slice(end_ms)),
        };
        Window::new(start_ms, end_ms)
    }

    /// Whether every slice is a window: nothing is shared.
    pub fn is_tumbling(&self) -> bool {
        match self.kind {
            Kind::Sliding { whole, rest_ms } => whole + i64::from(rest_ms > 0) == 1,
            Kind::Cumulative { count } => count == 1,
        }
    }

    fn at(&self, slide: i64) -> i64 {
        self.offset_ms + slide * self.slide_ms
    }

    fn slide_at(&self, time_ms: i64) -> i64 {
        (time_ms - self.offset_ms).div_euclid(self.slide_ms)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::time::window::{TimeDomain, WindowAssigner};

    const DOMAIN: TimeDomain = TimeDomain::Event;

    /// Slices and assigner agree on which windows cover a time, and every window is exactly the
    /// slices from its first to the one behind it.
    fn check(slices: Slices, assigner: &impl WindowAssigner<()>, time_ms: i64) {
        let mut windows = Vec::new();
        assigner.assign(&(), time_ms, &mut windows);
        let slice = slices.slice_of(time_ms);
        let first_ms = slices.first_end_ms(slice);
        let piece = slices.piece_at(time_ms);
        assert!(piece.contains(time_ms) && !Piece::NONE.contains(time_ms));
        for near_ms in time_ms - 50..time_ms + 50 {
            assert_eq!(piece.contains(near_ms), slices.slice_of(near_ms) == slice);
        }
        assert_eq!(first_ms, windows.first().map(|window| window.end_ms));
        let Some(mut end_ms) = first_ms else { return };
        for window in &windows {
            assert_eq!(slices.window(end_ms), *window);
            let (first, behind) = (slices.first_slice(end_ms), slices.slice_behind(end_ms));
            assert!((first..behind).contains(&slice));
            assert_eq!(first, slices.slice_of(window.start_ms));
            assert_eq!(behind, slices.slice_of(window.end_ms - 1) + 1);
            assert_eq!(slices.end_after_ms(end_ms - 1), end_ms);
            assert_eq!(slices.last_end_ms(slice), windows[windows.len() - 1].end_ms);
            end_ms = slices.next_end_ms(end_ms);
        }
    }

    proptest! {
        #[test]
        fn sliding_agrees_with_the_assigner(
            size_ms in 1_i64..40, slide_ms in 1_i64..40, offset_ms in 0_i64..40,
            time_ms in -300_i64..300,
        ) {
            let sliding = Sliding { size_ms, slide_ms, offset_ms, domain: DOMAIN };
            check(sliding.into(), &sliding, time_ms);
            prop_assert_eq!(Slices::from(sliding).is_tumbling(), size_ms <= slide_ms);
        }

        #[test]
        fn cumulative_agrees_with_the_assigner(
            count in 1_i64..9, step_ms in 1_i64..20, offset_ms in 0_i64..40,
            time_ms in -300_i64..300,
        ) {
            let size_max_ms = count * step_ms;
            let cumulative = Cumulative { size_max_ms, step_ms, offset_ms, domain: DOMAIN };
            check(cumulative.into(), &cumulative, time_ms);
        }

        #[test]
        fn tumbling_is_sliding_by_its_size(
            size_ms in 1_i64..40, offset_ms in 0_i64..40, time_ms in -300_i64..300,
        ) {
            let tumbling = Tumbling { size_ms, offset_ms, domain: DOMAIN };
            check(tumbling.into(), &tumbling, time_ms);
            prop_assert!(Slices::from(tumbling).is_tumbling());
        }
    }
}
