//! The statements that a commit goes through for every event of its group, looked up once for all of them.

use rusqlite::{CachedStatement, Connection};

/// Each is looked up when it is first needed, and goes back to the connection's cache with the group.
pub(super) struct Statements<'db> {
    pub(super) insert_event: Held<'db>,
    pub(super) insert_body: Held<'db>,
    pub(super) settle: Held<'db>,
    pub(super) delete_body: Held<'db>,
}

impl<'db> Statements<'db> {
    pub(super) fn of(db: &'db Connection) -> Statements<'db> {
        let held = |sql| Held { db, sql, statement: None };
        Statements {
            insert_event: held(
                "INSERT INTO event(seq, delivery_id, received_ms, stored_run_ms, route, event_id, event_type,
                 fingerprint, verified, size, crc, state, attempts, client_errors, due_run_ms, row_crc)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, 0, 0, 0, 0, ?12)",
            ),
            insert_body: held("INSERT INTO body(seq, head, body) VALUES (?1, ?2, ?3)"),
            settle: held(
                "UPDATE event SET state = ?2, attempts = ?3, due_run_ms = ?4, settled_run_ms = ?5, last_error = ?6,
                 client_errors = ?7, last_ended_ms = ?8, last_status = ?9, last_duration_ms = ?10, row_crc = ?11
                 WHERE seq = ?1 AND state = 0",
            ),
            delete_body: held("DELETE FROM body WHERE seq = ?1"),
        }
    }
}

/// One of them.
pub(super) struct Held<'db> {
    db: &'db Connection,
    sql: &'static str,
    statement: Option<CachedStatement<'db>>,
}

impl<'db> Held<'db> {
    pub(super) fn held(&mut self) -> rusqlite::Result<&mut CachedStatement<'db>> {
        Ok(match &mut self.statement {
            Some(statement) => statement,
            none => none.insert(self.db.prepare_cached(self.sql)?),
        })
    }
}
