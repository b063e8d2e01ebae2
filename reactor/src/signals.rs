//! SIGINT and SIGTERM stop the reactor.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mio::{Interest, Registry};
use signal_hook::SigId;
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::core::{Core, SIGNALS};

/// The handlers, while `run` lasts.
pub(crate) struct Signals {
    source: signal_hook_mio::v1_0::Signals,
    /// Set by the first signal; a second one that finds it set ends the process.
    stopping: Arc<AtomicBool>,
    forced: Vec<SigId>,
}

impl Signals {
    pub(crate) fn install(registry: &Registry) -> io::Result<Self> {
        let stopping = Arc::new(AtomicBool::new(false));
        let mut forced = Vec::new();
        for signal in [SIGINT, SIGTERM] {
            forced.push(signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, stopping.clone())?);
        }
        let mut source = signal_hook_mio::v1_0::Signals::new([SIGINT, SIGTERM])?;
        registry.register(&mut source, SIGNALS, Interest::READABLE)?;
        Ok(Self { source, stopping, forced })
    }

    pub(crate) fn on_event(&mut self, core: &Rc<Core>) {
        for signal in self.source.pending() {
            let name = if signal == SIGINT { "SIGINT" } else { "SIGTERM" };
            log::info!("Received {name}, shutting down.");
            self.stopping.store(true, Ordering::SeqCst);
            core.stop();
        }
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        for id in self.forced.drain(..) {
            signal_hook::low_level::unregister(id);
        }
    }
}
