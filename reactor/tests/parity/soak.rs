//! Many connections, one after another: slots, descriptors and memory return to where they were.

use std::cell::Cell;
use std::io::Write;
use std::net::Shutdown;
use std::rc::Rc;

use twistor_reactor::testing::MemoryReactor;
use twistor_reactor::{ReactorHandle, for_protocol};

use crate::common::{Event, Log, dial, play, real_reactor, reset, scripted};

/// Resident memory in KiB.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
    number.expect("VmRSS: n kB")
}

/// Runs one of the tests below in a process of its own, since the other tests' memory and descriptors would be counted.
fn in_a_child(test: &str) {
    let child = std::process::Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", test, "--ignored"])
        .env("TWISTOR_TEST_CHILD", "1")
        .output()
        .expect("it starts");
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
}

/// T70, P111: 20,000 in memory, ended in every way
#[test]
fn connections_in_memory_leave_nothing_behind() {
    in_a_child("soak::child_connects_in_memory");
}

#[test]
#[ignore = "a child process of connections_in_memory_leave_nothing_behind"]
fn child_connects_in_memory() {
    if std::env::var_os("TWISTOR_TEST_CHILD").is_none() {
        return;
    }
    let reactor = MemoryReactor::new();
    let alive = Rc::new(Cell::new(0_i32));
    let lost = Rc::new(Cell::new(0));
    let (living, ended) = (alive.clone(), lost.clone());
    struct Alive(Rc<Cell<i32>>);
    impl Drop for Alive {
        fn drop(&mut self) {
            self.0.set(self.0.get() - 1);
        }
    }
    let factory = for_protocol(move || {
        living.set(living.get() + 1);
        let (alive, ended) = (Alive(living.clone()), ended.clone());
        scripted(move |transport, event| {
            let _held = &alive;
            match event {
                Event::Data(b"lose") => transport.lose_connection(),
                Event::Data(b"abort") => transport.abort_connection(),
                Event::Data(b"write") => transport.write([0; 1000]),
                Event::Data(b"panic") => panic!("on purpose"),
                Event::Lost(_) => ended.set(ended.get() + 1),
                _ => {}
            }
        })
    });
    let port = reactor.listen_tcp(1, factory).unwrap();
    let mut base = 0;
    for round in 0..20_000_u32 {
        if round == 2_000 {
            base = resident();
        }
        let peer = reactor.connect_to(&port);
        match round % 7 {
            0 => peer.close(),
            1 => peer.reset(),
            2 => peer.send("lose"),
            3 => peer.send("abort"),
            4 if round % 70 == 4 => peer.send("panic"),
            4 => peer.finish(),
            5 => peer.send("write"),
            _ => {
                peer.set_room(0);
                peer.send("write");
                peer.send("");
            }
        }
        reactor.settle();
        drop(peer);
        reactor.settle();
    }
    assert_eq!(lost.get(), 20_000);
    assert_eq!(alive.get(), 0, "protocols are alive");
    assert_eq!(reactor.pending_calls(), 0);
    let grown = resident().saturating_sub(base);
    // a leak of one Conn each would be 18,000 x ~500 B and more
    assert!(grown < 4 * 1024, "{grown} KiB more are resident");
}

/// How many sockets are open, which the reactor must be at rest to tell.
fn sockets(handle: &ReactorHandle) -> usize {
    let (send, receive) = std::sync::mpsc::channel();
    let count = move |_: &twistor_reactor::Reactor| {
        let listed = std::fs::read_dir("/proc/self/fd").expect("Linux");
        let links = listed.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
        let sockets = links.filter(|link| link.to_string_lossy().starts_with("socket:")).count();
        let _ = send.send(sockets);
    };
    handle.call_from_thread(count).expect("it runs");
    receive.recv_timeout(crate::common::PATIENCE).expect("it answers")
}

/// T46, T70: 2,000 over sockets.
#[test]
fn connections_over_sockets_leave_nothing_behind() {
    in_a_child("soak::child_connects_over_sockets");
}

#[test]
#[ignore = "a child process of connections_over_sockets_leave_nothing_behind"]
fn child_connects_over_sockets() {
    const ROUNDS: usize = 2_000;
    if std::env::var_os("TWISTOR_TEST_CHILD").is_none() {
        return;
    }
    let (reactor, log) = (real_reactor(), Log::default());
    let shared = log.clone();
    let factory = for_protocol(move || {
        let log = shared.clone();
        scripted(move |transport, event| match event {
            Event::Data(b"lose") => transport.lose_connection(),
            Event::Data(b"abort") => transport.abort_connection(),
            Event::Data(_) => transport.write([0; 100_000]),
            Event::Lost(_) => log.add("lost"),
            _ => {}
        })
    });
    let port = reactor.listen_tcp("127.0.0.1:0", factory).unwrap();
    let (address, handle, seen) = (port.address().clone(), reactor.handle(), log.clone());
    let (before, after, grown) = play(&reactor, move || {
        let (before, mut base) = (sockets(&handle), 0);
        for round in 0..ROUNDS {
            if round == ROUNDS / 10 {
                base = resident();
            }
            let mut peer = dial(&address);
            let words: &[u8] = [&b"lose"[..], b"abort", b"much", b""][round % 4];
            let _ = peer.write_all(words);
            match round % 3 {
                0 => reset(peer),
                1 => drop(peer),
                _ => {
                    let _ = peer.shutdown(Shutdown::Write);
                }
            }
        }
        seen.wait_for(1, "lost");
        let start = std::time::Instant::now();
        // for some turns: connections that are not accepted yet are nobody's descriptors
        let mut quiet = 0;
        while quiet < 50 && start.elapsed() < crate::common::PATIENCE / 2 {
            quiet = if sockets(&handle) > before { 0 } else { quiet + 1 };
            std::thread::yield_now();
        }
        (before, sockets(&handle), resident().saturating_sub(base))
    });
    assert_eq!(after, before, "sockets are left open");
    assert_eq!(port.accepted() as usize, log.count("lost"));
    assert!(grown < 16 * 1024, "{grown} KiB more are resident");
}
