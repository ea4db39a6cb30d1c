//! The operator's desk: looking at events and repairing them, on the thread that owns the engine,
//! one request at a time and a slice at a time, behind the group that is being committed.

use std::sync::Arc;

use thiserror::Error;
use tokio::sync::oneshot;

use super::{Committer, Message, Owner};
use crate::buffer::event::Seq;
use crate::buffer::pause::Pause;
use crate::buffer::record::{Detail, Filter, Listed, Record, Repair, Repaired, Slice};
use crate::buffer::{Buffer, BufferError};

/// Rows of one slice: well below a millisecond.
const SLICE_ROWS: u32 = 500;
/// Rows that are looked at for one page, whether they match or not.
const PAGE_ROWS: u32 = 5_000;
/// Repairs of one transaction: some milliseconds.
pub const REPAIRS_MAX: usize = 100;

/// Why an operator's request was not served.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum DeskError {
    /// The disk is full; nothing was changed.
    #[error("buffer_full")]
    Full,
    /// The buffer cannot be trusted any more, or is being closed.
    #[error("buffer_failed")]
    Failed,
}

/// What the thread is asked for, and where the answer goes.
pub(super) enum Request {
    List(Filter, Slice, oneshot::Sender<Result<Listed, DeskError>>),
    Get(Seq, oneshot::Sender<Result<Option<Detail>, DeskError>>),
    DeadAfter(Seq, usize, oneshot::Sender<Result<Vec<Seq>, DeskError>>),
    Repair(Vec<Repair>, oneshot::Sender<Result<Vec<Repaired>, DeskError>>),
    Pause(Arc<str>, Option<Pause>, oneshot::Sender<Result<(), DeskError>>),
}

impl Request {
    pub(super) fn changes(&self) -> bool {
        matches!(self, Request::Repair(..))
    }
}

/// A page of a list.
#[derive(Debug, Default)]
pub struct Page {
    /// The events, newest first.
    pub records: Vec<Record>,
    /// Where the next page begins: before this one. `None` at the end.
    pub next: Option<Seq>,
}

impl Committer {
    /// Events that match, newest first, from `before` on. A page is short when many rows had to be
    /// looked at for it; then it still has a `next`.
    ///
    /// # Errors
    /// [`DeskError`].
    pub async fn list(&self, filter: &Filter, before: Option<Seq>, events: usize) -> Result<Page, DeskError> {
        let _turn = self.turn().await?;
        let mut page = Page { records: Vec::new(), next: before };
        let mut rows = 0;
        while page.records.len() < events && rows < PAGE_ROWS {
            let slice = Slice { before: page.next, events: events - page.records.len(), rows: SLICE_ROWS };
            let listed = self.ask(|answer| Request::List(filter.clone(), slice, answer)).await?;
            page.records.extend(listed.records);
            page.next = listed.next;
            rows += listed.rows;
            if listed.next.is_none() {
                break;
            }
        }
        Ok(page)
    }

    /// Everything that is known of an event.
    ///
    /// # Errors
    /// [`DeskError`].
    pub async fn event(&self, seq: Seq) -> Result<Option<Detail>, DeskError> {
        let _turn = self.turn().await?;
        self.ask(|answer| Request::Get(seq, answer)).await
    }

    /// Dead letters behind `after`, oldest first.
    ///
    /// # Errors
    /// [`DeskError`].
    pub async fn dead_after(&self, after: Seq, events: usize) -> Result<Vec<Seq>, DeskError> {
        let _turn = self.turn().await?;
        self.ask(|answer| Request::DeadAfter(after, events.min(REPAIRS_MAX), answer)).await
    }

    /// Repairs events, at most [`REPAIRS_MAX`] at once; what is done is durable.
    ///
    /// # Errors
    /// [`DeskError`]; after `Failed` it may be done all the same.
    pub async fn repair(&self, repairs: Vec<Repair>) -> Result<Vec<Repaired>, DeskError> {
        let _turn = self.turn().await?;
        self.ask(|answer| Request::Repair(repairs, answer)).await
    }

    /// Remembers over restarts that the deliveries of a route are stopped, or that they are no more; durable then.
    ///
    /// # Errors
    /// [`DeskError`]; after `Failed` it may be remembered all the same.
    pub async fn note_pause(&self, route: Arc<str>, pause: Option<Pause>) -> Result<(), DeskError> {
        let _turn = self.turn().await?;
        self.ask(|answer| Request::Pause(route, pause, answer)).await
    }

    /// Whether an operator has thrown away an event that is handed out, so that it need not be sent.
    pub fn is_withdrawn(&self, seq: Seq) -> bool {
        self.shared.withdrawn.lock().contains(&seq)
    }

    async fn turn(&self) -> Result<tokio::sync::SemaphorePermit<'_>, DeskError> {
        self.shared.desk.acquire().await.map_err(|_| DeskError::Failed)
    }

    async fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T, DeskError>>) -> Request,
    ) -> Result<T, DeskError> {
        let (answer, waiter) = oneshot::channel();
        self.messages.send(Message::Operator(request(answer))).map_err(|_| DeskError::Failed)?;
        waiter.await.unwrap_or(Err(DeskError::Failed))
    }
}

impl Owner {
    pub(super) fn serve(&mut self, request: Request) {
        let now = self.now();
        // Whoever asked may be gone; that changes nothing.
        match request {
            Request::List(filter, slice, answer) => {
                let listed = self.attend(|engine| engine.list(&filter, slice, now));
                let _ = answer.send(listed);
            }
            Request::Get(seq, answer) => {
                let found = self.attend(|engine| engine.get(seq, now));
                let _ = answer.send(found);
            }
            Request::DeadAfter(seq, events, answer) => {
                let found = self.attend(|engine| engine.dead_after(seq, events));
                let _ = answer.send(found);
            }
            Request::Repair(repairs, answer) => {
                // What could not be written before would be forgotten by what is repaired now.
                let repaired = match self.engine {
                    Some(_) if !self.settlements.is_empty() => Err(DeskError::Full),
                    _ => self.attend(|engine| engine.repair(&repairs, now)),
                };
                if let Ok(repaired) = &repaired {
                    self.note_repairs(&repairs, repaired);
                    // Before the answer, so that whoever got it sees the event counted.
                    self.publish_stats(now);
                }
                let _ = answer.send(repaired);
            }
            Request::Pause(route, pause, answer) => {
                let noted = self.attend(|engine| engine.note_pause(&route, pause.as_ref()));
                let _ = answer.send(noted);
            }
        }
    }

    fn attend<T>(&mut self, work: impl FnOnce(&mut dyn Buffer) -> Result<T, BufferError>) -> Result<T, DeskError> {
        self.on_engine(work).map_err(|error| match error {
            BufferError::DiskFull => DeskError::Full,
            BufferError::Failed(_) | BufferError::Damaged(_) => DeskError::Failed,
        })
    }

    fn note_repairs(&self, repairs: &[Repair], repaired: &[Repaired]) {
        for (repair, repaired) in repairs.iter().zip(repaired) {
            let Repaired::Done { route, handed_out, .. } = repaired else { continue };
            match repair {
                Repair::Redrive(_) => self.handover.wake(route),
                Repair::Forget(_) => {}
                Repair::Discard(seq) => {
                    self.metrics.route(route).discarded.inc();
                    if *handed_out {
                        self.shared.withdrawn.lock().insert(*seq);
                    }
                }
            }
        }
    }

    /// A settled event is not handed out any more.
    pub(super) fn forget_withdrawn(&self, seq: Seq) {
        let mut withdrawn = self.shared.withdrawn.lock();
        if !withdrawn.is_empty() {
            withdrawn.remove(&seq);
        }
    }
}
