//! Monotonic time, real or turned by hand.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// The reactor's only source of time. Nothing else calls `Instant::now()`.
pub(crate) enum Time {
    System,
    /// A clock for tests: stands still but for `advance`.
    Manual {
        start: Instant,
        elapsed: Cell<Duration>,
    },
}

impl Time {
    pub(crate) fn manual() -> Self {
        Self::Manual { start: Instant::now(), elapsed: Cell::new(Duration::ZERO) }
    }

    pub(crate) fn now(&self) -> Instant {
        match self {
            Self::System => Instant::now(),
            Self::Manual { start, elapsed } => *start + elapsed.get(),
        }
    }

    /// Turns a manual clock to `instant`, never back.
    pub(crate) fn advance_to(&self, instant: Instant) {
        if let Self::Manual { start, elapsed } = self {
            elapsed.set(elapsed.get().max(instant.saturating_duration_since(*start)));
        }
    }
}
