//! The durable buffer between the sender and the app.
//!
//! [`Buffer`] is what an engine promises; it is synchronous and lives on the one thread that owns
//! it. The async side is the [`committer::Committer`], which forms groups, answers waiters and is
//! the only maker of a [`committer::Stored`].
//!
//! # Invariants
//! 1. An append that returned `Ok` is durable at the engine's declared level, together with its
//!    duplicate key: one call, one transaction.
//! 2. An append that returned `Err` has an unknown outcome: nothing of it is acknowledged, and it
//!    may be repeated.
//! 3. A pending event leaves only by `Delivered`, an operator's discard, or as `Dead`, and dead ones
//!    only at the end of their keep, counted.
//! 4. A row whose checksum fails is quarantined, never handed out.
//!
//! # Assumptions about the disk
//! `fdatasync` returns only after the bytes are on stable storage, and a failed one is not trusted
//! when repeated. Writes may tear at any byte; what was synced stays unless the medium damages it,
//! which the checksums find.

pub mod capacity;
pub mod committer;
#[cfg(test)]
mod committer_tests;
#[cfg(test)]
pub(crate) mod conformance;
pub mod durability;
pub mod event;
pub mod index;
#[cfg(test)]
mod interleavings;
pub mod pause;
pub mod record;
pub mod redrive;
pub mod sqlite;
mod sync;

use std::path::PathBuf;
use std::sync::Arc;

use thiserror::Error;

use crate::clock::RunMs;
use event::{Claimed, HandedOut, NewEvent, Seq, Settlement, State};
use pause::Pause;
use record::{Detail, Filter, Listed, Repair, Repaired, Slice};

/// Why an engine could not do what it was asked to. Texts name files and causes, never contents.
#[derive(Debug, Error)]
pub enum BufferError {
    /// No room on the disk. Nothing of the call happened; it may be repeated when there is room.
    #[error("the disk is full")]
    DiskFull,
    /// The engine cannot be trusted any more until it is opened again.
    #[error("{0}")]
    Failed(String),
    /// The same, because the engine has met what it never writes.
    #[error("{0}")]
    Damaged(String),
}

/// One transaction's worth of work.
#[derive(Debug, Default)]
pub struct Work {
    /// Events to store.
    pub appends: Vec<Append>,
    /// What became of claimed events.
    pub settlements: Vec<Settlement>,
}

/// An event to store.
#[derive(Debug)]
pub struct Append {
    /// The event.
    pub event: NewEvent,
    /// Whether the caller wants it claimed right away, to forward it from memory. Where order
    /// matters it is granted only if no older event of its route waits.
    pub claim: bool,
}

/// What became of one append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appended {
    /// Durable.
    Stored {
        /// Its place.
        seq: Seq,
        /// Whether it is claimed by the caller.
        claimed: bool,
    },
    /// An equal one is durable.
    Duplicate {
        /// The place of the first.
        seq: Seq,
    },
    /// No room within the bounds; nothing was stored.
    Full,
}

/// Bounds of one claim.
#[derive(Debug, Clone, Copy)]
pub struct ClaimLimit {
    /// Events.
    pub events: usize,
    /// Bytes of bodies; one event is handed out whatever its size.
    pub bytes: usize,
    /// Whether retries come only after all that was never tried, where order does not matter.
    pub untried_first: bool,
}

/// Events handed out for an attempt.
#[derive(Debug, Default)]
pub struct Claims {
    /// The events: retries that are due and never-tried ones, each oldest first, in turns; where
    /// order matters the retries first.
    pub events: Vec<Claimed>,
    /// When the next one is due if nothing more is stored: at once if more wait than were handed
    /// out, `None` if none waits.
    pub next_due: Option<RunMs>,
}

/// Counts that cost nothing to read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Events by state, in the order of [`State::ALL`].
    pub events: [u64; State::ALL.len()],
    /// Used pages and WAL, bytes.
    pub used_bytes: u64,
    /// Most that it may take now: what is configured, or what the file system gives if that is less.
    pub capacity_bytes: u64,
    /// Ids that are remembered.
    pub dedupe_entries: u64,
    /// How far back ids are remembered now, milliseconds of running time.
    pub dedupe_window_ms: i64,
    /// Wall time at which the oldest pending event was received.
    pub oldest_pending_unix_ms: Option<i64>,
    /// Rows that failed their checksum, since the start.
    pub quarantined: u64,
}

impl Stats {
    /// Events in this state.
    pub fn of(&self, state: State) -> u64 {
        self.events[state as usize]
    }
}

/// What the medium has taken of what was answered 200, as far as it can be told; text for people.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Damage {
    /// Commits in the log that cannot be read.
    #[error(
        "the medium has damaged the buffer's log: {lost_commits} commits or more that were answered 200 cannot be read; the log as it was found is kept as {}", .copy.display()
    )]
    Log {
        /// How many, at least; each holds one event or more.
        lost_commits: u64,
        /// What was found, set aside for whoever can still read it.
        copy: PathBuf,
    },
    /// Events that should be in the database and are not found there; told at every start until one
    /// run has ended cleanly.
    #[error(
        "the medium has damaged the buffer: {missing} of its events are not found any more, some may not have been delivered"
    )]
    Rows {
        /// How many; zero if there are more than there should be.
        missing: u64,
    },
    /// A value that the engine keeps besides the events.
    #[error(
        "the medium has damaged the buffer: its {0} cannot be read; repeats of earlier events may be taken for new, keeps may end later"
    )]
    Note(&'static str),
}

/// What opening found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovery {
    /// Events that wait for delivery.
    pub pending: u64,
    /// Dead letters.
    pub dead: u64,
    /// Whether the last run ended without closing the buffer.
    pub unclean: bool,
    /// The running time that earlier runs have added up to.
    pub run_base: RunMs,
    /// Routes that have events which are to be delivered, or may be sent again.
    pub routes: Vec<Arc<str>>,
    /// What the medium has damaged besides single events.
    pub damage: Vec<Damage>,
    /// Events that are set aside since their checksum fails, found now.
    pub quarantined: u64,
    /// Secret under which event ids are fingerprinted.
    pub fingerprint_key: [u8; 16],
    /// Routes whose deliveries an operator has stopped.
    pub pauses: Vec<(Arc<str>, Pause)>,
}

/// A storage engine. Owned by one thread; no call blocks longer than one commit.
pub trait Buffer: Send {
    /// Stores and settles in one transaction. On `Ok`, everything is durable, duplicates included.
    /// Order of appends is kept.
    ///
    /// # Errors
    /// The whole group then has an unknown outcome (see [`BufferError`]).
    fn commit(&mut self, work: &Work, now: RunMs) -> Result<Vec<Appended>, BufferError>;

    /// These routes take events from now on, and each leaves a reserve to the others. Until it is told, one
    /// route may take all the room there is.
    fn share_among(&mut self, routes: &[Arc<str>]);

    /// Hands out events of a route that are due. They stay with the caller until settled, or until
    /// the engine is opened again.
    ///
    /// # Errors
    /// Nothing is handed out then.
    fn claim(&mut self, route: &str, limit: ClaimLimit, now: RunMs) -> Result<Claims, BufferError>;

    /// Looks at events, newest first, for an operator. Bounded by the slice, so that a commit waits
    /// for no more than one.
    ///
    /// # Errors
    /// Repeatable.
    fn list(&mut self, filter: &Filter, slice: Slice, now: RunMs) -> Result<Listed, BufferError>;

    /// Everything that is known of one event.
    ///
    /// # Errors
    /// Repeatable.
    fn get(&mut self, seq: Seq, now: RunMs) -> Result<Option<Detail>, BufferError>;

    /// Dead letters behind `after`, oldest first.
    ///
    /// # Errors
    /// Repeatable.
    fn dead_after(&mut self, after: Seq, events: usize) -> Result<Vec<Seq>, BufferError>;

    /// Does what an operator asks for, in one transaction; on `Ok` it is durable. A discarded event
    /// that was handed out is not the caller's any more: settling it changes nothing.
    ///
    /// # Errors
    /// Nothing of it is done then, or it is unknown whether it is (see [`BufferError`]).
    fn repair(&mut self, repairs: &[Repair], now: RunMs) -> Result<Vec<Repaired>, BufferError>;

    /// Remembers, over restarts, that the deliveries of a route are stopped, or that they are no more. Events
    /// are handed out all the same: whoever asks for them keeps to it. On `Ok` it is durable.
    ///
    /// # Errors
    /// It is unknown then what is remembered (see [`BufferError`]).
    fn note_pause(&mut self, route: &str, pause: Option<&Pause>) -> Result<(), BufferError>;

    /// Whether housekeeping is due right after this commit: the log is at its bound, or room is
    /// needed. Not done within the commit, so that its waiters are answered first.
    fn is_pressed(&self) -> bool;

    /// A bounded slice of housekeeping: purge, checkpoint, giving space back. `idle` allows what
    /// would delay a commit. Returns the route of each dead letter, and of each event that was set
    /// aside, that was dropped at the end of its keep.
    ///
    /// # Errors
    /// Repeatable.
    fn maintain(&mut self, now: RunMs, idle: bool) -> Result<Vec<Arc<str>>, BufferError>;

    /// Counts, without a look at the disk.
    fn stats(&self, now: RunMs) -> Stats;

    /// Gives the engine up after it has failed: nothing more is written. Returns the events that are
    /// handed out, which whoever holds them will settle with the engine that is opened next.
    fn abandon(self: Box<Self>) -> Vec<HandedOut>;

    /// Writes back what is only in the log and marks a clean end.
    ///
    /// # Errors
    /// What is committed stays durable.
    fn close(&mut self, now: RunMs) -> Result<(), BufferError>;
}
