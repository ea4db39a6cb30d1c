//! The way of log lines to stderr: a bounded queue and one thread that writes. A log driver that
//! stalls, or a terminal with Ctrl-S, then stops that thread and nobody else.

use std::io::{self, ErrorKind, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// Bytes that wait for the writer; as much again may be in its hands. Lines beyond are dropped.
pub(super) const QUEUE_MAX_BYTES: usize = 1 << 20;
/// Room that stays allocated once a burst has been written.
const SPARE_BYTES: usize = 64 << 10;
/// Rest of the writer after a batch, in which lines gather: a wake for each line would cost more than the line.
const GATHER: Duration = Duration::from_millis(20);
/// Bytes that end the rest, well before lines are dropped.
const GATHERED_BYTES: usize = QUEUE_MAX_BYTES / 4;
/// Pause where stderr is non-blocking and takes nothing.
const BUSY_PAUSE: Duration = Duration::from_millis(10);

/// Lines that wait to be written.
#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    /// Wakes a writer that has nothing to write.
    filled: Condvar,
    /// Ends the rest of a writer after a batch.
    hurried: Condvar,
    /// Wakes those who wait for everything to be written.
    written: Condvar,
    dropped: AtomicU64,
}

#[derive(Default)]
struct State {
    waiting: Batch,
    is_writing: bool,
    /// Callers that wait for everything to be written.
    flushing: usize,
}

impl State {
    fn may_gather(&self) -> bool {
        self.flushing == 0 && self.waiting.text.len() < GATHERED_BYTES
    }

    fn is_idle(&self) -> bool {
        !self.is_writing && self.waiting.is_empty()
    }
}

/// Whole lines in their order, and the number of those dropped after them.
#[derive(Default)]
struct Batch {
    text: Vec<u8>,
    dropped: u64,
}

impl Batch {
    fn is_empty(&self) -> bool {
        self.text.is_empty() && self.dropped == 0
    }
}

impl Queue {
    /// Adds a line, its end included, or drops and counts it. After a dropped line all are dropped
    /// until the writer goes on, so that the log says at the right place how many are missing.
    pub(super) fn push(&self, line: &[u8]) {
        let mut state = self.state.lock();
        let waiting = &mut state.waiting;
        if waiting.dropped > 0 || waiting.text.len() + line.len() > QUEUE_MAX_BYTES {
            waiting.dropped += 1;
            self.dropped.fetch_add(1, Ordering::Relaxed);
        } else {
            waiting.text.extend_from_slice(line);
        }
        let may_gather = state.may_gather();
        drop(state);
        self.filled.notify_one();
        if !may_gather {
            self.hurried.notify_one();
        }
    }

    /// Adds the last line of a process, beyond the bound if need be.
    pub(super) fn push_last(&self, line: &[u8]) {
        self.state.lock().waiting.text.extend_from_slice(line);
        self.filled.notify_one();
    }

    /// Lines that never reached stderr.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Waits until every line so far is written; false where that takes longer than `within`.
    pub(super) fn flush(&self, within: Duration) -> bool {
        let mut state = self.state.lock();
        state.flushing += 1;
        self.hurried.notify_one();
        let in_time = !self.written.wait_while_for(&mut state, |state| !state.is_idle(), within).timed_out();
        state.flushing -= 1;
        in_time
    }

    /// Starts the thread that writes to `stream`; `notice` makes the line that tells how many lines are missing.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(super) fn start_writer(
        self: &Arc<Self>,
        stream: impl Write + Send + 'static,
        notice: impl Fn(u64) -> String + Send + 'static,
    ) -> io::Result<()> {
        let queue = self.clone();
        let output = Output { stream, untold: 0, is_torn: false };
        let thread = std::thread::Builder::new().name("hookward-log".to_owned());
        thread.spawn(move || queue.write_to(output, notice)).map(drop)
    }

    fn write_to(&self, mut output: Output<impl Write>, notice: impl Fn(u64) -> String) {
        let mut batch = Batch::default();
        loop {
            self.take(&mut batch);
            let lost = output.put(&batch, &notice);
            self.dropped.fetch_add(lost, Ordering::Relaxed);
        }
    }

    /// Replaces a written batch by the next one, for which it waits.
    fn take(&self, batch: &mut Batch) {
        batch.text.clear();
        batch.text.shrink_to(SPARE_BYTES);
        batch.dropped = 0;
        let mut state = self.state.lock();
        state.is_writing = false;
        if state.waiting.is_empty() {
            self.written.notify_all();
        }
        self.hurried.wait_while_for(&mut state, |state| state.may_gather(), GATHER);
        self.filled.wait_while(&mut state, |state| state.waiting.is_empty());
        std::mem::swap(batch, &mut state.waiting);
        state.is_writing = true;
    }
}

/// Where lines go, and the state in which an error has left it.
struct Output<W> {
    stream: W,
    /// Missing lines that the log has not told of yet.
    untold: u64,
    /// The last line broke off in its middle.
    is_torn: bool,
}

impl<W: Write> Output<W> {
    /// Writes a batch and tells of missing lines where they are missing; how many of it the stream
    /// has refused.
    fn put(&mut self, batch: &Batch, notice: &impl Fn(u64) -> String) -> u64 {
        self.tell(notice);
        let lost = self.write(&batch.text);
        self.untold += lost + batch.dropped;
        self.tell(notice);
        lost
    }

    fn tell(&mut self, notice: &impl Fn(u64) -> String) {
        if self.untold > 0 && self.write(notice(self.untold).as_bytes()) == 0 {
            self.untold = 0;
        }
    }

    /// Writes lines; how many of them are lost to an error, such as a full disk or a closed pipe.
    fn write(&mut self, mut lines: &[u8]) -> u64 {
        let lost = |lines: &[u8]| memchr::memchr_iter(b'\n', lines).count() as u64;
        if self.is_torn && !lines.is_empty() {
            if self.write_all(&mut &b"\n"[..]).is_err() {
                return lost(lines);
            }
            self.is_torn = false;
        }
        let all = lines;
        if self.write_all(&mut lines).is_ok() {
            return 0;
        }
        let written = &all[..all.len() - lines.len()];
        self.is_torn = written.last().map_or(self.is_torn, |byte| *byte != b'\n');
        lost(lines)
    }

    /// Takes off `rest` what is written; on an error it holds what is not.
    fn write_all(&mut self, rest: &mut &[u8]) -> io::Result<()> {
        while !rest.is_empty() {
            match self.stream.write(rest) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(n) => *rest = &rest[n..],
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(BUSY_PAUSE),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

    const DEADLINE: Duration = Duration::from_secs(20);

    /// A stream whose every write waits for its reader; each may say how a write fails.
    struct Stalling {
        asks: SyncSender<()>,
        answers: Receiver<io::Result<usize>>,
        written: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Stalling {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.asks.send(());
            let takes = self.answers.recv().unwrap_or(Ok(usize::MAX))?.min(bytes.len());
            self.written.lock().extend_from_slice(&bytes[..takes]);
            Ok(takes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A queue, and the far end of its stream.
    struct Reader {
        queue: Arc<Queue>,
        asked: Receiver<()>,
        answers: Option<SyncSender<io::Result<usize>>>,
        written: Arc<Mutex<Vec<u8>>>,
    }

    impl Reader {
        fn new() -> Reader {
            let (queue, written) = (Arc::new(Queue::default()), Arc::new(Mutex::default()));
            let (asks, asked) = sync_channel(1000);
            let (answers, given) = sync_channel(0);
            let stream = Stalling { asks, answers: given, written: Arc::clone(&written) };
            queue.start_writer(stream, |lines| format!("missing {lines}\n")).unwrap();
            Reader { queue, asked, answers: Some(answers), written }
        }

        /// Lets the write that comes next, or waits already, take this.
        fn answer(&self, answer: io::Result<usize>) {
            self.answers.as_ref().unwrap().send(answer).unwrap();
        }

        /// Waits until the writer stands in a write.
        fn is_stalled(&self) {
            self.asked.recv_timeout(DEADLINE).unwrap();
        }

        /// Takes everything from now on; all that was written by then.
        fn read_on(&mut self) -> String {
            self.answers = None;
            assert!(self.queue.flush(DEADLINE));
            String::from_utf8(self.written.lock().clone()).unwrap()
        }
    }

    #[test]
    fn lines_beyond_a_stalled_stream_are_dropped_and_counted_where_they_are_missing() {
        let mut reader = Reader::new();
        reader.queue.push(b"first\n");
        reader.is_stalled();
        let line = [&[b'x'; 1023][..], b"\n"].concat();
        for _ in 0..QUEUE_MAX_BYTES / line.len() + 5 {
            reader.queue.push(&line);
        }
        // A short line would fit still, but not at its place.
        reader.queue.push(b"\n");
        assert_eq!(reader.queue.dropped(), 6);
        assert!(!reader.queue.flush(Duration::ZERO));
        reader.answer(Ok(usize::MAX));
        reader.is_stalled();
        reader.queue.push(b"afterwards\n");
        let written = reader.read_on();
        let lines: Vec<&str> = written.lines().collect();
        assert_eq!(lines.len(), 1 + QUEUE_MAX_BYTES / line.len() + 2);
        assert_eq!((lines[0], &lines[lines.len() - 2..]), ("first", &["missing 6", "afterwards"][..]));
        assert_eq!(reader.queue.dropped(), 6);
    }

    #[test]
    fn a_line_larger_than_the_queue_is_dropped_and_the_next_is_not() {
        let mut reader = Reader::new();
        reader.queue.push(&vec![b'x'; QUEUE_MAX_BYTES + 1]);
        reader.is_stalled();
        reader.queue.push(b"next\n");
        assert_eq!(reader.read_on(), "missing 1\nnext\n");
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "the rests of the writer are those of the machine's clock")]
    fn lines_gather_while_the_writer_rests_and_a_flush_ends_its_rest() {
        let mut reader = Reader::new();
        reader.answers = None;
        let begin = std::time::Instant::now();
        for _ in 0..500 {
            reader.queue.push(b"line\n");
            std::thread::yield_now();
        }
        let rests = begin.elapsed().as_micros() / GATHER.as_micros();
        let writes = reader.asked.try_iter().count() as u128;
        assert!(writes <= rests + 1, "{writes} writes in {rests} rests");
        assert_eq!(reader.read_on().lines().count(), 500);
    }

    #[test]
    fn the_last_line_of_a_process_waits_beyond_the_bound() {
        let mut reader = Reader::new();
        reader.queue.push(b"first\n");
        reader.is_stalled();
        reader.queue.push(&[&[b'x'; QUEUE_MAX_BYTES - 1][..], b"\n"].concat());
        reader.queue.push(b"dropped\n");
        reader.queue.push_last(b"the end\n");
        assert!(reader.read_on().ends_with("x\nthe end\nmissing 1\n"));
    }

    #[test]
    fn lines_that_the_stream_refuses_are_counted_and_a_torn_one_does_not_spoil_the_next() {
        let mut reader = Reader::new();
        reader.queue.push(b"one\n");
        reader.is_stalled();
        reader.queue.push(b"two\nthree\n");
        // A disk that is full in the middle of a line, and of the notice about it.
        for answer in [Ok(usize::MAX), Ok(1), Err(ErrorKind::StorageFull.into()), Err(ErrorKind::StorageFull.into())] {
            reader.answer(answer);
        }
        reader.queue.flush(DEADLINE);
        assert_eq!(reader.queue.dropped(), 2);
        reader.queue.push(b"four\n");
        assert_eq!(reader.read_on(), "one\nt\nmissing 2\nfour\n");
        assert_eq!(reader.queue.dropped(), 2);
    }

    #[test]
    fn a_stream_that_takes_a_byte_at_a_time_or_is_busy_gets_all_lines_in_their_order() {
        let mut reader = Reader::new();
        reader.queue.push(b"ab\n");
        for answer in [Ok(1), Err(ErrorKind::WouldBlock.into()), Err(ErrorKind::Interrupted.into()), Ok(1), Ok(1)] {
            reader.answer(answer);
        }
        reader.queue.push(b"cd\n");
        assert_eq!((reader.read_on().as_str(), reader.queue.dropped()), ("ab\ncd\n", 0));
    }
}
