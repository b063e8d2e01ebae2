//! What happened in a reactor's thread, for others to wait for.

use std::fmt::Display;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use super::PATIENCE;

/// Lines, in order.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<(Mutex<Vec<String>>, Condvar)>);

impl Log {
    pub(crate) fn add(&self, entry: impl Display) {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).push(entry.to_string());
        self.0.1.notify_all();
    }

    pub(crate) fn entries(&self) -> Vec<String> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many entries begin with `start`.
    pub(crate) fn count(&self, start: &str) -> usize {
        self.entries().iter().filter(|entry| entry.starts_with(start)).count()
    }

    /// Blocks until an entry begins with `start`; that entry.
    pub(crate) fn wait_for(&self, start: &str) -> String {
        self.wait_for_nth(1, start)
    }

    /// Blocks until `count` entries begin with `start`; the last of them.
    pub(crate) fn wait_for_nth(&self, count: usize, start: &str) -> String {
        let (lock, added) = &*self.0;
        let nth = |entries: &[String]| {
            let mut found = entries.iter().filter(|entry| entry.starts_with(start));
            found.nth(count - 1).cloned()
        };
        let entries = lock.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = added.wait_timeout_while(entries, PATIENCE, |entries| nth(entries).is_none());
        let (entries, _) = waited.unwrap_or_else(PoisonError::into_inner);
        nth(&entries).unwrap_or_else(|| panic!("waited for {count} x {start:?}, got {entries:?}"))
    }
}
