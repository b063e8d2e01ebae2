use super::*;

/// What comes of `stream` when it is cut into inputs after `cuts`: lines as text, too long ones in angle brackets.
fn split(options: &LineOptions, stream: &[u8], cuts: &[usize]) -> Vec<String> {
    let mut splitter = Splitter::new(options.clone());
    let mut found = Vec::new();
    let mut begin = 0;
    for end in cuts.iter().copied().chain([stream.len()]) {
        let mut input = &stream[begin..end];
        begin = end;
        while let Some(line) = splitter.next(&mut input) {
            found.push(match line {
                Line::Whole(line) => String::from_utf8_lossy(line).into_owned(),
                Line::TooLong(start) => format!("<{}>", String::from_utf8_lossy(&start)),
            });
        }
        assert!(input.is_empty(), "all of the input is used up");
        assert!(splitter.kept.len() < options.max_length + options.delimiter.len(), "bounded");
    }
    found
}

/// Checks that `stream` gives `lines`, whole and however it is cut: in two, in three, into pieces of one length.
fn check(delimiter: &'static [u8], max_length: usize, stream: &str, lines: &[&str]) {
    let (options, bytes) = (LineOptions { delimiter, max_length }, stream.as_bytes());
    let mut all_cuts = vec![Vec::new()];
    for first in 0..=bytes.len() {
        all_cuts.extend((first..=bytes.len()).map(|second| vec![first, second]));
        all_cuts.push((1..bytes.len()).filter(|cut| cut % (first + 1) == 0).collect());
    }
    for cuts in all_cuts {
        assert_eq!(split(&options, bytes, &cuts), lines, "{stream:?} cut at {cuts:?}");
    }
}

// P192, P206
#[test]
fn any_cutting_gives_the_same_lines() {
    check(b"\r\n", 16, "one\r\ntwo\r\n\r\nfour\r\nrest", &["one", "two", "", "four"]);
    check(b"\r\n", 16, "a\rb\nc\r\r\n\n\r\n", &["a\rb\nc\r", "\n"]);
    check(b"\n", 16, "one\ntwo\n\nfour", &["one", "two", ""]);
}

#[test]
fn a_delimiter_that_overlaps_itself_ends_a_line_where_it_first_can() {
    check(b"aab", 8, "aaab-aab-aaaab", &["a", "-", "-aa"]);
    check(b"::", 8, "a:::b::", &["a", ":b"]);
}

// P198, P199, P200: in Twisted's LineOnlyReceiver a lone "\r" behind the longest line exceeds, but not in one segment
#[test]
fn the_longest_line_is_taken_however_its_delimiter_is_cut() {
    check(b"\r\n", 5, "12345\r\n123456\r\n", &["12345", "<123456>"]);
    check(b"\r\n", 5, "12345\r", &[]);
    check(b"--==--", 5, "12345--==--x--==--", &["12345", "x"]);
}

// P198, P201
#[test]
fn a_line_that_is_too_long_is_reported_once_by_its_beginning_and_skipped() {
    check(
        b"\r\n",
        5,
        "ok\r\n1234567890abcdef\r\nnext\r\n1234567\r\nlast\r\n",
        &["ok", "<123456>", "next", "<123456>", "last"],
    );
    check(b"\r\n", 0, "\r\na\r\n\r\n", &["", "<a>", ""]);
    check(b"--==--", 2, "abcdefgh--==-x--==--ok--==--", &["<abc>", "ok"]);
}

#[test]
fn nothing_is_kept_between_lines_or_copied_within_an_input() {
    let mut splitter = Splitter::new(LineOptions::default());
    let mut input: &[u8] = b"one\r\ntwo\r\nth";
    let whole = input.as_ptr_range();
    while let Some(line) = splitter.next(&mut input) {
        assert!(matches!(line, Line::Whole(line) if whole.contains(&line.as_ptr())));
    }
    input = b"ree\r\n";
    assert_eq!(splitter.next(&mut input), Some(Line::Whole(b"three")));
    assert_eq!(splitter.next(&mut input), None);
    assert_eq!(splitter.kept.capacity(), 0);
}

// T3
#[test]
fn an_endless_line_takes_no_memory() {
    let mut splitter = Splitter::new(LineOptions::default());
    let block = [b'x'; 1000];
    let reports = (0..10_000).filter(|_| splitter.next(&mut &block[..]).is_some()).count();
    assert_eq!(reports, 1);
    assert!(splitter.kept.capacity() < 100);
}
