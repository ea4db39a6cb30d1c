//! What a start makes of the rows: one scan in order of `seq` rebuilds what is kept in memory, and
//! finds what the medium has damaged since. Only rows whose checksum holds are believed.
//!
//! A row that has vanished leaves no trace of its own: a flipped bit in a page of SQLite's tree can hide
//! a whole branch. So rows are counted: there must be as many as places were given away, less those
//! that were dropped at the end of their keep.

use std::collections::HashMap;

use rusqlite::OptionalExtension as _;

use super::event_row::{EventRow, event_row_columns};
use super::lanes::InFlight;
use super::notes::{self, Note};
use super::{BufferError, DeliveryId, Fingerprint, OrFailed as _, Recovery, Seq, SqliteBuffer, State, is_corruption};
use crate::buffer::Damage;
use crate::clock::RunMs;
use crate::faults::failpoint;

/// What the scan has seen.
#[derive(Default)]
struct Scanned {
    /// Rows in their order, the damaged ones included.
    rows: i64,
    damaged: Vec<Seq>,
    last: Seq,
    newest: RunMs,
    /// Rows that stand as dead letters, whether or not that can be believed: how many, and the sum of
    /// their places.
    dead: (i64, i64),
}

impl SqliteBuffer {
    /// Rebuilds from the rows what is kept in memory.
    pub(super) fn recover(&mut self, handed_out: &HashMap<Seq, DeliveryId>) -> Result<Recovery, BufferError> {
        let mut damage = Vec::new();
        let unclean = notes::read::<8>(&self.db, notes::OPEN)? != Note::Absent;
        let noted_run = self.noted_number(notes::RUN_MS, &mut damage)?;
        let dropped = self.noted_number(notes::DROPPED, &mut damage)?;
        let given = self.places_given()?;
        let fingerprint_key = self.fingerprint_key(given, &mut damage)?;
        notes::write_number(&self.db, notes::OPEN, 1)?;
        failpoint("recovery");

        let stored = given.saturating_sub(dropped.unwrap_or(0));
        self.index.expect(usize::try_from(stored).unwrap_or(0).min(self.settings.dedupe_entries));
        let scanned = self.scan(handed_out, RunMs(noted_run.unwrap_or(0)))?;
        self.index.expect(0);
        let newest = scanned.newest.max(RunMs(noted_run.unwrap_or(0)));
        self.last_seq = scanned.last.max(Seq(given));
        self.dropped = dropped.unwrap_or(0);
        self.missed = self.last_seq.0 - self.dropped - scanned.rows;
        if self.missed != 0 && dropped.is_some() {
            damage.push(Damage::Rows { missing: u64::try_from(self.missed).unwrap_or(0) });
        }
        self.restore_dead_index(scanned.dead)?;
        self.set_aside(&scanned.damaged, newest)?;

        self.run_noted = newest;
        self.opened = newest;
        self.measure()?;
        self.find_oldest_pending()?;
        Ok(Recovery {
            pending: self.counts.events[State::Pending as usize],
            dead: self.counts.events[State::Dead as usize],
            unclean,
            run_base: newest,
            routes: self.lanes.routes(),
            damage,
            quarantined: self.counts.quarantined,
            fingerprint_key,
            pauses: notes::read_pauses(&self.db)?,
        })
    }

    fn scan(&mut self, handed_out: &HashMap<Seq, DeliveryId>, run: RunMs) -> Result<Scanned, BufferError> {
        let mut scanned = Scanned::default();
        let mut statement = self
            .db
            .prepare(concat!("SELECT ", event_row_columns!(), ", delivery_id FROM event ORDER BY seq"))
            .or_failed()?;
        let mut rows = statement.query([]).or_failed()?;
        while let Some(row) = rows.next().or_failed()? {
            let seq = Seq(row.get(0).or_failed()?);
            if row.get(7) == Ok(State::Dead.code()) {
                scanned.dead = (scanned.dead.0 + 1, scanned.dead.1.wrapping_add(seq.0));
            }
            // Of few rows: most are not handed out.
            let holder = handed_out.get(&seq).filter(|held| row.get(14) == Ok(held.0));
            let Some(row) = EventRow::read(row).or_failed()? else {
                scanned.rows += 1;
                scanned.damaged.push(seq);
                continue;
            };
            // A row that comes again stands in for one that is hidden.
            if seq <= scanned.last {
                continue;
            }
            scanned.rows += 1;
            scanned.last = seq;
            // No time that was written is ahead of the one that goes on from here.
            let written = [Some(row.stored), row.settled, row.redriven].into_iter().flatten();
            scanned.newest = written.fold(scanned.newest, RunMs::max);
            self.counts.add(row.state, row.route, row.size(), row.verified);
            match (row.state, holder) {
                (State::Pending, Some(delivery_id)) => {
                    self.lanes.hand_out(seq, InFlight::of(&row, *delivery_id, row.route.into()));
                }
                (State::Pending, None) => {
                    self.lanes.restore(row.route, seq, if self.settings.in_order { RunMs(0) } else { row.due });
                }
                (State::Dead, _) => self.lanes.know(row.route),
                (State::Delivered, _) if !self.settings.delivered_keep.is_zero() => {
                    self.lanes.know(row.route);
                    // Older ones have been swept, but for some of the last seconds.
                    let is_kept = run.since(row.settled.unwrap_or_default()) <= self.settings.delivered_keep;
                    self.counts.kept_bytes += if is_kept { row.size() } else { 0 };
                }
                _ => {}
            }
            if let Some(fingerprint) = row.fingerprint.filter(|_| row.state != State::Quarantined) {
                self.index.insert(Fingerprint(fingerprint), seq, row.stored);
            }
        }
        Ok(scanned)
    }

    /// Rows whose checksum fails are no event's any more.
    fn set_aside(&mut self, damaged: &[Seq], now: RunMs) -> Result<(), BufferError> {
        if damaged.is_empty() {
            return Ok(());
        }
        self.in_transaction(|engine| {
            for seq in damaged {
                engine.write_quarantine(*seq, now)?;
            }
            Ok(())
        })?;
        for _ in damaged {
            self.counts.add(State::Quarantined, "", 0, true);
            self.counts.quarantined += 1;
        }
        Ok(())
    }

    /// The index of dead letters says again what the rows say, if it does not.
    fn restore_dead_index(&self, dead: (i64, i64)) -> Result<(), BufferError> {
        let indexed: rusqlite::Result<(i64, i64)> = self.db.query_row(
            "SELECT count(*), coalesce(sum(seq), 0) FROM event INDEXED BY event_dead WHERE state = 2",
            [],
            |row| Ok((row.get(0)?, row.get(1)?)),
        );
        match indexed {
            Ok(indexed) if indexed == dead => Ok(()),
            Err(error) if !is_corruption(&error) => Err(error).or_failed(),
            _ => self.db.execute_batch("REINDEX event_dead").or_failed(),
        }
    }

    /// The highest place that was ever given away, as SQLite has noted it.
    fn places_given(&self) -> Result<i64, BufferError> {
        let given: Option<Option<i64>> = self
            .db
            .query_row("SELECT seq FROM sqlite_sequence WHERE name = 'event'", [], |row| Ok(row.get(0).ok()))
            .optional()
            .or_failed()?;
        Ok(given.flatten().unwrap_or(0))
    }

    /// A number that was noted, zero if none was; `None` if it is damaged.
    fn noted_number(&self, name: &'static str, damage: &mut Vec<Damage>) -> Result<Option<i64>, BufferError> {
        Ok(match notes::read::<8>(&self.db, name)?.number() {
            Note::Intact(number) => Some(number),
            Note::Absent => Some(0),
            Note::Damaged => {
                damage.push(Damage::Note(name));
                None
            }
        })
    }

    /// The secret of the fingerprints: made once, kept with the rows that hold them.
    fn fingerprint_key(&self, given: i64, damage: &mut Vec<Damage>) -> Result<[u8; 16], BufferError> {
        match notes::read::<16>(&self.db, notes::FINGERPRINT_KEY)? {
            Note::Intact(key) => return Ok(key),
            Note::Absent if given == 0 => {}
            // Fingerprints so far were made under a key that nobody has any more.
            Note::Absent | Note::Damaged => damage.push(Damage::Note(notes::FINGERPRINT_KEY)),
        }
        let mut key = [0; 16];
        getrandom::fill(&mut key).map_err(|_| BufferError::Failed("the system has no random bytes".to_owned()))?;
        notes::write(&self.db, notes::FINGERPRINT_KEY, &key)?;
        Ok(key)
    }
}
