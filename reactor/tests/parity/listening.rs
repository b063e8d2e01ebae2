//! Listening ports.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use twistor_reactor::testing::MemoryReactor;
use twistor_reactor::{ListenOptions, NotListeningError, for_protocol};

use crate::common::{
    Event, Log, PATIENCE, Recording, bounded, dial, echo, play, read_all, real_reactor, recorder, reset, run, scripted,
    silent,
};

/// P062, P072
#[test]
fn port_zero_takes_a_free_port_and_says_which() {
    let reactor = real_reactor();
    let port = reactor.listen_tcp("127.0.0.1:0", for_protocol(silent)).unwrap();
    let number = port.address().port().unwrap();
    assert_ne!(number, 0);
    assert_eq!(port.address().ip(), Some([127, 0, 0, 1].into()));
    assert_eq!(format!("{port:?}"), format!("ListeningPort(127.0.0.1:{number}, listening: true)"));
}

/// P063, P069, P071
#[test]
fn ipv6_peers_and_hosts_have_ipv6_addresses() {
    let Ok(probe) = TcpListener::bind("[::1]:0") else {
        return; // no IPv6 here
    };
    drop(probe);
    addresses_of_both_ends("[::1]:0");
}

/// P069, P071, P098
#[test]
fn the_factory_and_the_transport_know_both_addresses() {
    addresses_of_both_ends("127.0.0.1:0");
}

fn addresses_of_both_ends(listen: &str) {
    let reactor = real_reactor();
    let log = Log::default();
    let (built, made) = (log.clone(), log.clone());
    let factory = Recording::new(&Log::default()).building(move |peer| {
        built.add(format!("build {peer}"));
        let made = made.clone();
        Some(scripted(move |transport, event| match event {
            Event::Made => {
                let host = transport.host().expect("it is open");
                made.add(format!("peer {} host {host}", transport.peer()));
            }
            Event::Lost(_) => made.add(format!("lost, host: {:?}", transport.host().is_err())),
            _ => {}
        }))
    });
    let port = reactor.listen_tcp(listen, factory).expect("a free port");
    let (address, seen) = (port.address().clone(), log.clone());
    let local = play(&reactor, move || {
        let peer = dial(&address);
        seen.wait_for(1, "peer");
        peer.local_addr().expect("it is open")
    });
    let here = port.address();
    let lines = [format!("build {local}"), format!("peer {local} host {here}"), "lost, host: true".into()];
    assert_eq!(log.entries(), lines);
}

/// P064: the error names the address, the factory comes back unstarted
#[test]
fn a_port_in_use_is_refused_with_the_factory_given_back() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let (reactor, log) = (real_reactor(), Log::default());
    let error = reactor.listen_tcp(address, Recording::new(&log)).unwrap_err();
    assert_eq!(error.to_string(), format!("Couldn't listen on {address}: [Errno 98] Address already in use."));
    drop(taken);
    let port = reactor.listen_tcp(address, error.factory).unwrap();
    let stopper = reactor.clone();
    drop(port.stop_listening().unwrap().add_callback(move |()| stopper.stop()));
    run(&reactor);
    assert_eq!(log.entries(), ["start factory", "stop factory"]);
}

/// P064: the name for all interfaces
#[test]
fn a_conflict_on_every_interface_names_any() {
    let reactor = MemoryReactor::new();
    let _first = reactor.listen_tcp(80, for_protocol(silent)).unwrap();
    let error = reactor.listen_tcp(80, for_protocol(silent)).unwrap_err();
    assert_eq!(error.to_string(), "Couldn't listen on any:80: [Errno 98] Address already in use.");
}

/// P065, P066
#[test]
fn a_stopped_port_can_be_bound_again_and_stopping_twice_is_an_error() {
    let reactor = real_reactor();
    let log = Log::default();
    let port = reactor.listen_tcp("127.0.0.1:0", Recording::new(&log)).unwrap();
    let address = port.address().socket_addr().unwrap();
    let (again, factory, done) = (reactor.clone(), Recording::new(&log), log.clone());
    let stopped = port.stop_listening().unwrap();
    assert!(!port.listening());
    assert!(port.stop_listening().unwrap_err().check::<NotListeningError>());
    drop(stopped.add_callback(move |()| {
        done.add("stopped");
        again.listen_tcp(address, factory).expect("it is free");
        again.call_when_running(twistor_reactor::Reactor::stop);
    }));
    run(&reactor);
    assert_eq!(log.entries(), ["start factory", "stop factory", "stopped", "start factory", "stop factory"]);
}

/// P070
#[test]
fn a_refused_connection_is_closed() {
    let reactor = real_reactor();
    let log = Log::default();
    let port = reactor.listen_tcp("127.0.0.1:0", Recording::new(&log).building(|_| None)).unwrap();
    let (address, seen) = (port.address().clone(), log.clone());
    let received = play(&reactor, move || {
        seen.wait_for(1, "start factory");
        read_all(&mut dial(&address))
    });
    assert!(received.is_empty());
    assert_eq!(log.entries(), ["start factory", "build", "stop factory"]);
    assert_eq!(port.accepted(), 0);
}

/// P074: a client that is there before the first turn
#[test]
fn the_factory_starts_before_it_builds() {
    let (reactor, log) = (real_reactor(), Log::default());
    let port = reactor.listen_tcp("127.0.0.1:0", Recording::new(&log)).unwrap();
    let early = dial(port.address());
    let seen = log.clone();
    play(&reactor, move || {
        seen.wait_for(1, "made");
        drop(early);
    });
    assert_eq!(log.entries()[..3], ["start factory", "build", "made"]);
}

/// P084
#[test]
fn connections_outlive_their_port() {
    let reactor = real_reactor();
    let port = reactor.listen_tcp("127.0.0.1:0", for_protocol(echo)).unwrap();
    let (address, handle, log) = (port.address().clone(), reactor.handle(), Log::default());
    // the port stays here; the thread asks for it by a timer that looks for the first connection
    let (stop_port, stopped) = (port.clone(), log.clone());
    let watch = reactor.clone();
    fn when_accepted(reactor: &twistor_reactor::Reactor, port: twistor_reactor::ListeningPort, log: Log) {
        let again = reactor.clone();
        reactor.call_later(std::time::Duration::from_millis(1), move || {
            if port.accepted() == 0 {
                return when_accepted(&again, port, log);
            }
            let stopping = port.stop_listening().expect("it listens");
            drop(stopping.add_callback(move |()| log.add("stopped")));
        });
    }
    when_accepted(&watch, stop_port, stopped);
    let seen = log.clone();
    play(&reactor, move || {
        let mut peer = dial(&address);
        seen.wait_for(1, "stopped");
        let mut answer = [0; 4];
        peer.write_all(b"echo").expect("it reads");
        peer.read_exact(&mut answer).expect("it lives");
        assert_eq!(&answer, b"echo");
        assert!(TcpStream::connect(address.socket_addr().expect("TCP")).is_err());
        drop(handle);
    });
}

/// P079, T60: more than one turn's budget at once
#[test]
fn a_rush_of_connections_is_accepted_whole() {
    const RUSH: usize = 300;
    let reactor = real_reactor();
    let log = Log::default();
    let protocols = log.clone();
    let port = reactor.listen_tcp("127.0.0.1:0", for_protocol(move || recorder(&protocols))).unwrap();
    let address = port.address().clone();
    // all are there before the reactor's first turn
    let peers: Vec<_> = (0..RUSH).map(|_| dial(&address)).collect();
    let seen = log.clone();
    play(&reactor, move || {
        seen.wait_for(RUSH, "made");
        drop(peers);
        seen.wait_for(RUSH, "lost");
    });
    assert_eq!(port.accepted() as usize, RUSH);
}

/// P076, T45: gone before they are accepted
#[test]
fn connections_reset_before_accept_do_no_harm() {
    let reactor = real_reactor();
    let log = Log::default();
    let protocols = log.clone();
    let port = reactor.listen_tcp("127.0.0.1:0", for_protocol(move || recorder(&protocols))).unwrap();
    let address = port.address().clone();
    for _ in 0..20 {
        reset(dial(&address));
    }
    let seen = log.clone();
    play(&reactor, move || {
        let alive = dial(&address);
        drop(alive);
        seen.wait_for(1, "lost: Connection was closed cleanly.");
    });
    assert_eq!(log.count("made"), log.count("lost"), "{:?}", log.entries());
}

/// P081
#[test]
fn reuse_port_lets_two_reactors_share_a_port() {
    let options = ListenOptions { reuse_port: true, ..ListenOptions::default() };
    let (one, two) = (real_reactor(), real_reactor());
    let first = one.listen_tcp_with("127.0.0.1:0", for_protocol(silent), options.clone()).unwrap();
    let address: SocketAddr = first.address().socket_addr().unwrap();
    assert!(two.listen_tcp(address, for_protocol(silent)).is_err());
    assert!(two.listen_tcp_with(address, for_protocol(silent), options).is_ok());
}

/// P075, P080, T44: 64 descriptors, 200 connections
#[test]
fn without_descriptors_it_serves_on_does_not_spin_and_recovers() {
    let mut child = Command::new("sh")
        .args(["-c", "ulimit -n 64 && exec \"$0\" --exact listening::child_with_few_descriptors --ignored --nocapture"])
        .arg(std::env::current_exe().unwrap())
        .env("TWISTOR_TEST_CHILD", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let number = lines.find_map(|line| line.split("listening on ").nth(1)?.parse::<u16>().ok());
    let address = SocketAddr::from(([127, 0, 0, 1], number.expect("the child says its port")));
    let connect = || bounded(TcpStream::connect(address).expect("the kernel takes it"));

    // each answer is the number of times the child could not accept, and of its warnings of that
    let failures = |peer: &mut TcpStream| -> Option<[usize; 2]> {
        let mut answer = [0; 16];
        peer.write_all(b"?").ok()?;
        peer.read_exact(&mut answer).ok()?;
        let answer = String::from_utf8_lossy(&answer);
        let mut numbers = answer.split_whitespace().map_while(|number| number.parse().ok());
        Some([numbers.next()?, numbers.next()?])
    };
    let mut existing = connect();
    assert_eq!(failures(&mut existing), Some([0, 0]));
    let begun = Instant::now();
    let mut crowd = Vec::new();
    for _ in 0..200 {
        crowd.push(connect());
        failures(&mut existing).expect("existing connections are served");
    }
    let [before, _] = failures(&mut existing).expect("served");
    assert!(before > 0, "the test is to exhaust the child");
    let start = Instant::now();
    std::thread::sleep(std::time::Duration::from_millis(500));
    let [after, warnings] = failures(&mut existing).expect("served");
    // one try every 100 ms; and never more, however slow this machine is
    let allowed = start.elapsed().as_millis() as usize / 100 + 2;
    assert!(after - before <= allowed, "{} tries to accept in {:?}", after - before, start.elapsed());
    assert!((1..=begun.elapsed().as_secs() as usize + 1).contains(&warnings), "{warnings} in {:?}", begun.elapsed());

    let told = |mut peer: &TcpStream| peer.set_nonblocking(true).is_ok() && matches!(peer.read(&mut [0]), Ok(0));
    assert!(crowd.iter().any(told), "those who cannot be served are closed");
    drop(crowd);
    let start = Instant::now();
    let recovered = std::iter::repeat_with(|| failures(&mut connect()))
        .take_while(|_| start.elapsed() < PATIENCE)
        .any(|answer| answer.is_some());
    drop(child.stdin.take());
    assert!(recovered, "new connections are served again");
    assert!(child.wait().unwrap().success());
}

#[test]
#[ignore = "a child process of without_descriptors_it_serves_on_does_not_spin_and_recovers"]
fn child_with_few_descriptors() {
    static FAILURES: AtomicUsize = AtomicUsize::new(0);
    static WARNINGS: AtomicUsize = AtomicUsize::new(0);
    struct Counter;
    impl log::Log for Counter {
        fn enabled(&self, _: &log::Metadata<'_>) -> bool {
            true
        }
        fn log(&self, record: &log::Record<'_>) {
            if record.args().to_string().contains("could not accept") {
                FAILURES.fetch_add(1, Ordering::Relaxed);
                WARNINGS.fetch_add(usize::from(record.level() == log::Level::Warn), Ordering::Relaxed);
            }
        }
        fn flush(&self) {}
    }
    if std::env::var_os("TWISTOR_TEST_CHILD").is_none() {
        return;
    }
    log::set_logger(&Counter).expect("the only logger");
    log::set_max_level(log::LevelFilter::Debug);
    let reactor = real_reactor();
    let factory = for_protocol(|| {
        scripted(|transport, event| {
            if let Event::Data(_) = event {
                let (failures, warnings) = (FAILURES.load(Ordering::Relaxed), WARNINGS.load(Ordering::Relaxed));
                transport.write(format!("{failures:8}{warnings:8}"));
            }
        })
    });
    let port = reactor.listen_tcp("127.0.0.1:0", factory).unwrap();
    println!("listening on {}", port.address().port().unwrap());
    // the parent's death or its closing of the pipe ends the child
    let handle = reactor.handle();
    std::thread::spawn(move || {
        let _ = std::io::stdin().read(&mut [0]);
        handle.stop()
    });
    reactor.run().unwrap();
}
