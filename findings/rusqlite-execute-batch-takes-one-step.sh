#!/usr/bin/env bash
# rusqlite 0.43.0 (bundled SQLite): `execute_batch` takes one step of each statement and drops it, and answers Ok.
#
# A pragma that works row by row therefore does a fraction of its work without a word: `PRAGMA incremental_vacuum(100)`
# gives one free page back to the file system, not 100. Rows have to be asked for until there are none.
#
# hookward met it as a database that gave its space back 200 times slower than asked; its engine has a helper that
# runs such statements to their end, with a test.
#
# Output seen:
#   free pages after deleting everything: at least 300
#   execute_batch("PRAGMA incremental_vacuum(100)"): Ok, pages given back: 1
#   the same, rows read to the end: pages given back: 100
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
cd "$work"
cargo init --quiet --vcs none --name find .
cargo add --quiet rusqlite@=0.43.0 --features bundled
cat > src/main.rs <<'RUST'
use rusqlite::Connection;

fn free_pages(db: &Connection) -> i64 {
    db.query_row("PRAGMA freelist_count", [], |row| row.get(0)).unwrap()
}

fn main() {
    let db = Connection::open("find.db").unwrap();
    db.execute_batch("PRAGMA auto_vacuum=INCREMENTAL; CREATE TABLE t(x)").unwrap();
    db.execute_batch(
        "WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i+1 FROM n WHERE i<400)
         INSERT INTO t SELECT zeroblob(4000) FROM n;
         DELETE FROM t",
    )
    .unwrap();
    let before = free_pages(&db);
    assert!(before >= 300, "{before} free pages");
    println!("free pages after deleting everything: at least 300");

    let answer = db.execute_batch("PRAGMA incremental_vacuum(100)");
    let by_batch = before - free_pages(&db);
    println!(
        "execute_batch(\"PRAGMA incremental_vacuum(100)\"): {}, pages given back: {by_batch}",
        if answer.is_ok() { "Ok" } else { "Err" }
    );

    let before = free_pages(&db);
    let mut statement = db.prepare("PRAGMA incremental_vacuum(100)").unwrap();
    let mut rows = statement.query([]).unwrap();
    while rows.next().unwrap().is_some() {}
    drop(rows);
    drop(statement);
    let to_the_end = before - free_pages(&db);
    println!("the same, rows read to the end: pages given back: {to_the_end}");
    assert!(answer.is_ok() && by_batch == 1 && to_the_end == 100, "this has changed");
}
RUST
cargo run --quiet
