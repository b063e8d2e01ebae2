//! What peers and kernels do: resets, ends, odd cuts, floods.

use std::cell::{Cell, RefCell};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use twistor_reactor::testing::MemoryReactor;
use twistor_reactor::{Reactor, Transport, for_protocol};

use crate::common::{Event, Log, dial, echo, half_closeable, play, real_reactor, recorder, reset, scripted};

/// What a server does with a connection before its peer breaks it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Open,
    Paused,
    Sending,
    PausedSending,
    Closing,
    HalfClosed,
}

const STATES: [State; 6] =
    [State::Open, State::Paused, State::Sending, State::PausedSending, State::Closing, State::HalfClosed];

/// More than the kernel takes from a writer whose peer does not read.
const MUCH: usize = 16_000_000;

fn enter(state: State, transport: &Transport) {
    transport.set_close_timeout(None);
    if matches!(state, State::Paused | State::PausedSending) {
        transport.pause_producing();
    }
    if matches!(state, State::Sending | State::PausedSending | State::Closing) {
        transport.write(vec![0; MUCH]);
    }
    match state {
        State::Closing => transport.lose_connection(),
        State::HalfClosed => transport.lose_write_connection(),
        _ => {}
    }
}

fn server_in(reactor: &Reactor, state: State, log: &Log) -> twistor_reactor::Address {
    let shared = log.clone();
    let factory = for_protocol(move || {
        let log = shared.clone();
        scripted(move |transport, event| {
            if let Event::Made = event {
                enter(state, transport);
            }
            log.add(match event {
                Event::Data(_) => "data".to_owned(),
                other => other.to_string(),
            });
        })
    });
    let port = reactor.listen_tcp("127.0.0.1:0", factory).expect("a free port");
    port.address().clone()
}

/// T46
#[test]
fn a_reset_in_any_state_ends_the_connection_once() {
    for state in STATES {
        let (reactor, log) = (real_reactor(), Log::default());
        let address = server_in(&reactor, state, &log);
        let seen = log.clone();
        play(&reactor, move || {
            let peer = dial(&address);
            seen.wait_for(1, "made");
            reset(peer);
            seen.wait_for(1, "lost");
        });
        let text = "lost: Connection to the other side was lost in a non-clean fashion";
        assert_eq!(log.count("lost"), 1, "{state:?}: {:?}", log.entries());
        assert_eq!(log.count(text), 1, "{state:?}: {:?}", log.entries());
    }
}

/// T47: the peer shuts down its side, and reads all there is
#[test]
fn a_fin_in_any_state_flushes_what_is_pending_and_ends_once() {
    for state in STATES {
        let (reactor, log) = (real_reactor(), Log::default());
        let address = server_in(&reactor, state, &log);
        let seen = log.clone();
        let received = play(&reactor, move || {
            let mut peer = dial(&address);
            seen.wait_for(1, "made");
            peer.shutdown(Shutdown::Write).expect("it is open");
            let mut all = 0;
            let mut buffer = vec![0; 1 << 20];
            while let Ok(count @ 1..) = peer.read(&mut buffer) {
                all += count;
            }
            seen.wait_for(1, "lost");
            all
        });
        let want = match state {
            State::Sending | State::PausedSending | State::Closing => MUCH,
            _ => 0,
        };
        assert_eq!(received, want, "{state:?}: {:?}", log.entries());
        assert_eq!(log.count("lost: Connection was closed cleanly"), 1, "{state:?}: {:?}", log.entries());
    }
}

/// T47: data and FIN in one segment: first the data
#[test]
fn data_before_a_fin_is_delivered_first() {
    let (reactor, log) = (real_reactor(), Log::default());
    let shared = log.clone();
    let port = reactor.listen_tcp("127.0.0.1:0", for_protocol(move || recorder(&shared))).unwrap();
    let (address, seen) = (port.address().clone(), log.clone());
    play(&reactor, move || {
        dial(&address).write_all(b"goodbye").expect("it is open");
        seen.wait_for(1, "lost");
    });
    assert_eq!(log.entries(), ["made", "data goodbye", "read lost", "lost: Connection was closed cleanly."]);
}

/// T49, T50
#[test]
fn any_cuts_of_input_and_output_give_the_same_stream() {
    let message: Vec<u8> = (0..100).collect();
    for cut in 1..=message.len() {
        let reactor = MemoryReactor::new();
        let port = reactor.listen_tcp(1, for_protocol(echo)).unwrap();
        let peer = reactor.connect_to(&port);
        peer.set_chunk(cut);
        peer.set_room(cut);
        peer.send(&message[..cut / 2]);
        reactor.settle();
        peer.send(&message[cut / 2..]);
        let mut got = Vec::new();
        for _ in 0..=message.len() {
            reactor.settle();
            got.extend(peer.received());
        }
        assert_eq!(got, message, "cut {cut}");
    }
}

/// T51: a slot is reused at once; what was for the old connection never reaches the new one
#[test]
fn a_reused_slot_hears_nothing_of_its_predecessor() {
    let (reactor, log) = (real_reactor(), Log::default());
    let (shared, mut number) = (log.clone(), 0);
    let factory = for_protocol(move || {
        let log = shared.clone();
        number += 1;
        let own = number.to_string();
        scripted(move |transport, event| match event {
            // each connection is sent its own number only
            Event::Data(data) => {
                let wrong = data.chunks(4).any(|piece| String::from_utf8_lossy(piece).trim() != own);
                log.add(if wrong { "wrong" } else { "right" });
                transport.abort_connection();
            }
            Event::Lost(_) => log.add("lost"),
            _ => {}
        })
    });
    let port = reactor.listen_tcp("127.0.0.1:0", factory).unwrap();
    let (address, seen) = (port.address().clone(), log.clone());
    play(&reactor, move || {
        for number in 1..=200_usize {
            let mut peer = dial(&address);
            let _ = peer.write_all(format!("{number:4}").as_bytes());
            if number % 3 == 0 {
                reset(peer);
            } else {
                // more for a connection that will be gone by then
                let _ = peer.write_all(format!("{number:4}").as_bytes());
            }
            seen.wait_for(number, "lost");
        }
    });
    assert_eq!(log.count("wrong"), 0);
    assert_eq!(log.count("lost"), 200);
}

/// T51, P112
#[test]
fn readable_and_writable_and_ended_at_once_is_all_served() {
    let (reactor, log) = (real_reactor(), Log::default());
    let shared = log.clone();
    let factory = for_protocol(move || {
        let log = shared.clone();
        half_closeable(move |transport, event| match event {
            Event::Made => transport.write(vec![1; MUCH]),
            Event::ReadLost => {
                log.add("read lost");
                transport.write("the end");
                transport.lose_connection();
            }
            Event::High | Event::Drained => {}
            other => log.add(other),
        })
    });
    let port = reactor.listen_tcp("127.0.0.1:0", factory).unwrap();
    let address = port.address().clone();
    let received = play(&reactor, move || {
        let mut peer = dial(&address);
        peer.write_all(b"some").expect("it is open");
        peer.shutdown(Shutdown::Write).expect("it is open");
        crate::common::read_all(&mut peer)
    });
    assert_eq!(received.len(), MUCH + 7);
    assert!(received.ends_with(b"the end"));
    assert_eq!(log.entries(), ["data some", "read lost", "lost: Connection was closed cleanly."]);
}

/// T51: EINTR from poll, read, write and accept. In a child process, whose signals are its own.
#[test]
fn a_storm_of_signals_disturbs_nobody() {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "faults::child_serves_under_signals", "--ignored", "--nocapture"])
        .env("TWISTOR_TEST_CHILD", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let number = lines.find_map(|line| line.split("listening on ").nth(1)?.parse::<u16>().ok());
    let address = SocketAddr::from(([127, 0, 0, 1], number.expect("the child says its port"))).into();
    let pid = child.id();
    let storm = std::thread::spawn(move || {
        let script = format!("i=0; while [ $i -lt 3000 ]; do kill -USR1 {pid}; i=$((i+1)); done");
        Command::new("sh").args(["-c", &script]).status().is_ok_and(|status| status.success())
    });
    while !storm.is_finished() {
        let mut peer = dial(&address);
        let message = vec![7; 100_000];
        let mut answer = vec![0; message.len()];
        peer.write_all(&message).unwrap();
        peer.read_exact(&mut answer).unwrap();
        assert_eq!(answer, message);
    }
    assert!(storm.join().unwrap(), "the child lived through it");
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
}

#[test]
#[ignore = "a child process of a_storm_of_signals_disturbs_nobody"]
fn child_serves_under_signals() {
    if std::env::var_os("TWISTOR_TEST_CHILD").is_none() {
        return;
    }
    signal_hook::flag::register(signal_hook::consts::SIGUSR1, Arc::default()).unwrap();
    let reactor = real_reactor();
    let port = reactor.listen_tcp("127.0.0.1:0", for_protocol(echo)).unwrap();
    println!("listening on {}", port.address().port().unwrap());
    let handle = reactor.handle();
    std::thread::spawn(move || {
        while std::io::stdin().read(&mut [0]).is_err_and(|error| error.kind() == std::io::ErrorKind::Interrupted) {}
        handle.stop()
    });
    reactor.run().unwrap();
}

/// T58: counted in turns and bytes. A peer that sends without end gets one read a turn, as everybody else.
#[test]
fn a_hot_connection_gets_one_read_a_turn() {
    const TURN: usize = 256 * 1024;
    const ALL: usize = 40 * TURN;
    fn count_turns(reactor: &Reactor, turn: Rc<Cell<usize>>, left: Rc<Cell<usize>>) {
        reactor.call_when_running(move |reactor| {
            turn.set(turn.get() + 1);
            if left.get() > 0 {
                count_turns(reactor, turn, left);
            }
        });
    }
    let reactor = MemoryReactor::new();
    let (turn, left) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(ALL)));
    let per_turn: Rc<RefCell<Vec<usize>>> = Rc::default();
    let (now, rest, counts) = (turn.clone(), left.clone(), per_turn.clone());
    let factory = for_protocol(move || {
        let (now, rest, counts) = (now.clone(), rest.clone(), counts.clone());
        scripted(move |_, event| {
            if let Event::Data(data) = event {
                let mut counts = counts.borrow_mut();
                let length = counts.len().max(now.get() + 1);
                counts.resize(length, 0);
                counts[now.get()] += data.len();
                rest.set(rest.get().saturating_sub(data.len()));
            }
        })
    });
    let port = reactor.listen_tcp(1, factory).unwrap();
    let hot = reactor.connect_to(&port);
    hot.send(vec![0; ALL]);
    count_turns(&reactor, turn, left.clone());
    reactor.settle();
    assert_eq!(left.get(), 0);
    // the turn in which a read is left over may see an event too
    let most = per_turn.borrow().iter().copied().max();
    assert!(most <= Some(2 * TURN), "bytes read in each turn: {per_turn:?}");
}

/// T58: over sockets, by order: an answer to a quiet peer does not wait for the flood to end
#[test]
fn a_quiet_peer_is_answered_during_a_flood() {
    let reactor = real_reactor();
    let flooded = Rc::new(Cell::new(0_u64));
    let counter = flooded.clone();
    let factory = for_protocol(move || {
        let flooded = counter.clone();
        scripted(move |transport, event| match event {
            Event::Data(data) if data.len() < 16 => transport.write(flooded.get().to_be_bytes()),
            Event::Data(data) => flooded.set(flooded.get() + data.len() as u64),
            _ => {}
        })
    });
    let port = reactor.listen_tcp("127.0.0.1:0", factory).unwrap();
    let address = port.address().clone();
    let answers = play(&reactor, move || {
        let (mut hot, mut quiet) = (dial(&address), dial(&address));
        let stop = Arc::new(AtomicBool::new(false));
        let flag = stop.clone();
        let flood = std::thread::spawn(move || {
            let piece = vec![0; 1 << 20];
            while !flag.load(Ordering::Relaxed) && hot.write_all(&piece).is_ok() {}
        });
        let mut answers = Vec::new();
        for _ in 0..50 {
            let mut answer = [0; 8];
            quiet.write_all(b"?").expect("it reads");
            quiet.read_exact(&mut answer).expect("it is answered");
            answers.push(u64::from_be_bytes(answer));
        }
        stop.store(true, Ordering::Relaxed);
        flood.join().expect("it floods");
        answers
    });
    assert_eq!(answers.len(), 50);
    assert!(answers.is_sorted());
}

/// T52: Rust's own programs ignore SIGPIPE; one that does not, such as a C program with a reactor in it, is not killed
/// by a peer that is gone.
#[test]
fn writing_to_a_peer_that_is_gone_raises_no_sigpipe() {
    let raised = Arc::new(AtomicBool::new(false));
    let handler = signal_hook::flag::register(signal_hook::consts::SIGPIPE, raised.clone()).unwrap();
    for shared in [false, true] {
        let (reactor, log) = (real_reactor(), Log::default());
        let protocols = log.clone();
        let factory = for_protocol(move || {
            let log = protocols.clone();
            half_closeable(move |transport, event| match event {
                Event::ReadLost => {
                    log.add("read lost");
                    log.wait_for(1, "reset"); // the reactor shall not hear of it first
                    if shared {
                        transport.write_bytes(vec![0; MUCH].into());
                    } else {
                        transport.write([0; 100]);
                    }
                }
                Event::Lost(reason) => log.add(std::error::Error::source(reason).expect("what the system says")),
                _ => {}
            })
        });
        let port = reactor.listen_tcp("127.0.0.1:0", factory).unwrap();
        let (address, seen) = (port.address().clone(), log.clone());
        play(&reactor, move || {
            let peer = dial(&address);
            peer.shutdown(Shutdown::Write).expect("it is open");
            seen.wait_for(1, "read lost");
            reset(peer);
            seen.add("reset");
            seen.wait_for(1, "Broken pipe");
        });
        assert!(!raised.load(Ordering::Relaxed), "shared: {shared}");
    }
    assert!(signal_hook::low_level::unregister(handler));
}
