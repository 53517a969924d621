use super::book::MAX_PROJECTS;
use super::*;

fn counts(accepted: u64, duplicates: u64, rejected: u64) -> Counts {
    Counts {
        accepted,
        duplicates,
        rejected,
    }
}

fn noted(project: &str, counts: Counts) -> Noted {
    Noted {
        project: Arc::from(project),
        endpoint: Endpoint::Batch,
        counts,
        tables: Some(ByTable::ALL),
    }
}

fn file(table: TableKind, project: &str, rows: u64) -> SegmentFile {
    SegmentFile {
        table,
        path: String::new(),
        size_bytes: 1,
        rows,
        partition: vec![(PROJECT_COLUMN.to_owned(), project.to_owned())],
        stats_json: String::new(),
        first_position: Position::new(1),
        last_position: Position::new(1),
    }
}

fn names(journal: &Journal) -> Vec<&'static str> {
    journal.take().iter().map(|event| event.name).collect()
}

#[test]
fn a_book_reads_back_and_a_damaged_one_is_refused() {
    let mut book = Book::begun(Position::new(3));
    book.as_of = Position::new(9);
    let mut entry = Entry::default();
    entry.add(TableKind::Events, counts(5, 1, 2), false);
    entry.add(TableKind::Recordings, counts(7, 0, 0), true);
    book.add("website", &entry);
    book.add("über", &entry);
    let bytes = book.encode();
    assert_eq!(Book::decode(&bytes), Some(book));
    for index in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[index] ^= 1;
        assert_eq!(Book::decode(&damaged), None, "byte {index}");
        assert_eq!(Book::decode(&bytes[..index]), None, "cut at {index}");
    }
}

#[test]
fn projects_past_the_limit_share_a_line_and_none_of_their_events_is_missing() {
    let mut book = Book::default();
    let mut entry = Entry::default();
    entry.add(TableKind::Events, counts(1, 0, 0), false);
    for number in 0..MAX_PROJECTS + 5 {
        book.add(&format!("p{number}"), &entry);
    }
    assert_eq!(book.projects[""].events, counts(5, 0, 0));
    assert_eq!(book.total.received(), counts(MAX_PROJECTS as u64 + 5, 0, 0));
}

#[test]
fn a_cut_with_other_rows_than_its_records_say_is_an_alarm() {
    let (ledger, journal) = (Ledger::default(), Journal::default());
    let mut tally = CutTally::default();
    tally.add(&noted("a", counts(2, 4, 1)), false);
    tally.add(&noted("b", counts(3, 0, 1)), false);
    let mut files = vec![
        file(TableKind::Events, "a", 2),
        file(TableKind::Events, "b", 3),
        file(TableKind::Rejected, "", 2),
    ];
    ledger.cut_made(&tally, &files, &journal);
    assert_eq!(ledger.look().1, 0);
    assert!(names(&journal).is_empty());
    // As many rows in all, but not of the right project.
    (files[0].rows, files[1].rows) = (3, 2);
    ledger.cut_made(&tally, &files, &journal);
    assert_eq!(ledger.look().1, 2);
    assert_eq!(names(&journal), ["ledger_difference"]);
    let mut text = String::new();
    ledger.write_text(&mut text);
    assert!(text.contains("\npenstock_ledger_difference_events 2\n"));
}

#[test]
fn events_that_were_synced_and_never_reach_the_background_are_an_alarm() {
    for last_is_there in [true, false] {
        let (ledger, journal) = (Ledger::default(), Journal::default());
        ledger.begin(Book::default(), Position::new(10), HashSet::new());
        ledger.synced(Position::new(13), counts(9, 1, 2));
        // Not those of before the opening.
        ledger.read(Position::new(10), counts(50, 0, 0), &journal);
        ledger.read(Position::new(11), counts(3, 1, 2), &journal);
        // Abandoned, and built once more.
        ledger.read(Position::new(11), counts(3, 1, 2), &journal);
        let last = if last_is_there { 6 } else { 4 };
        ledger.read(Position::new(13), counts(last, 0, 0), &journal);
        let difference = if last_is_there { 0 } else { 2 };
        assert_eq!(ledger.look().1, difference);
        assert_eq!(names(&journal).len(), usize::from(!last_is_there));
    }
}

#[test]
fn a_cut_that_is_committed_twice_or_was_in_the_book_counts_once() {
    let ledger = Ledger::default();
    let mut tally = CutTally::default();
    tally.add(&noted("a", counts(2, 0, 0)), false);
    tally.add(&noted("a", counts(70, 0, 0)), true);
    for _ in 0..2 {
        ledger.enter(Position::new(4), &tally);
    }
    assert_eq!(ledger.look().0.received(), counts(2, 0, 0));
    assert_eq!(ledger.as_of(), Position::new(4));
}
