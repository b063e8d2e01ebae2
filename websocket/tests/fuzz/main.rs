//! The fuzz targets of `/fuzz`, for as long as `cargo test` has time: every kept finding, every seed, mutations of the
//! seeds, and noise.

use std::{fs, path::Path};

use proptest::{
    collection::vec,
    prelude::*,
    sample::Index,
    test_runner::{Config, TestRunner},
};

#[expect(unreachable_pub, reason = "the fuzz targets include it, too")]
mod harness;

use harness::{TARGETS, Target};

/// Of each target and kind.
const CASES: u32 = 250;

fn target(name: &str) -> &'static Target {
    TARGETS.iter().find(|target| target.name == name).expect("a target")
}

/// Checks inputs until one fails, which proptest makes smaller.
fn check(target: &Target, inputs: &impl Strategy<Value = Vec<u8>>) {
    let config = Config { failure_persistence: None, ..Config::with_cases(CASES) };
    let outcome = TestRunner::new(config).run(inputs, |input| {
        (target.check)(&input);
        Ok(())
    });
    assert!(outcome.is_ok(), "{}: {}", target.name, outcome.expect_err("a failure"));
}

/// What a mutation does at a place.
#[derive(Debug, Clone)]
enum Mutation {
    Set(u8),
    Insert(Vec<u8>),
    Remove(usize),
    /// Goes on with what stands elsewhere in another seed.
    Splice(Index, Index),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    prop_oneof![
        4 => any::<u8>().prop_map(Mutation::Set),
        2 => vec(any::<u8>(), 1..9).prop_map(Mutation::Insert),
        2 => (1usize..20).prop_map(Mutation::Remove),
        1 => any::<(Index, Index)>().prop_map(|(seed, place)| Mutation::Splice(seed, place)),
    ]
}

fn mutated(seeds: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    (any::<Index>(), vec((any::<Index>(), mutation()), 1..5)).prop_map(move |(seed, mutations)| {
        let mut input = seed.get(&seeds).clone();
        for (place, mutation) in mutations {
            let place = place.index(input.len() + 1);
            let rest = input.split_off(place);
            match mutation {
                Mutation::Set(byte) => input.extend(std::iter::once(byte).chain(rest.into_iter().skip(1))),
                Mutation::Insert(bytes) => input.extend(bytes.into_iter().chain(rest)),
                Mutation::Remove(count) => input.extend(rest.into_iter().skip(count)),
                Mutation::Splice(seed, place) => {
                    let other = seed.get(&seeds);
                    input.extend_from_slice(&other[place.index(other.len() + 1)..]);
                }
            }
        }
        input
    })
}

fn run(name: &str) {
    let target = target(name);
    let regressions = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/regressions").join(name);
    for file in fs::read_dir(regressions).into_iter().flatten() {
        let path = file.expect("a directory entry").path();
        println!("{}", path.display()); // shown when it fails
        (target.check)(&fs::read(path).expect("a readable file"));
    }
    let seeds = (target.seeds)();
    for seed in &seeds {
        println!("seed {}", seed.escape_ascii());
        (target.check)(seed);
    }
    check(target, &mutated(seeds));
    check(target, &vec(any::<u8>(), 0..300));
}

// T3, T5, T10, T12, T13, T18, T50, T71
#[test]
fn requests_and_handshakes_keep_their_promises() {
    run("http_head");
}

// T17
#[test]
fn extension_headers_keep_their_promises() {
    run("extensions");
}

// T21 to T31, T34 to T36, T39, T40, T50
#[test]
fn frames_of_clients_keep_their_promises() {
    run("server_frames");
}

// T22 to T31, T34 to T36, T39, T40, T50
#[test]
fn frames_of_servers_keep_their_promises() {
    run("client_frames");
}

// T39, T40
#[test]
fn compression_keeps_its_promises() {
    run("deflate");
}

// T34, T35
#[test]
fn text_in_pieces_keeps_its_promises() {
    run("utf8");
}

// T50, T62, T63, T68, T71
#[test]
fn answers_to_clients_keep_their_promises() {
    run("client_response");
}

// T18, T63
#[test]
fn urls_keep_their_promises() {
    run("url");
}
