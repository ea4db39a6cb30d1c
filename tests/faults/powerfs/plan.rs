//! Which calls fail, and what happens right before or after one.

use std::sync::mpsc::{Receiver, Sender, channel};

use fuser::Errno;

/// The kinds of calls that are counted and can be planned for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// A file is opened, or made and opened.
    Open,
    /// A directory or a socket is made.
    Make,
    /// Data is read.
    Read,
    /// Data is written.
    Write,
    /// A file or a directory is synced.
    Sync,
    /// A file is given another length, or room in advance.
    Truncate,
    /// Something is renamed.
    Rename,
    /// A name is taken away.
    Unlink,
}

impl Call {
    /// All kinds.
    pub const ALL: [Call; 8] =
        [Call::Open, Call::Make, Call::Read, Call::Write, Call::Sync, Call::Truncate, Call::Rename, Call::Unlink];
}

/// What is done at a call; on the thread that serves it, which holds no lock meanwhile.
pub type Action = Box<dyn FnOnce() + Send>;

/// What has been planned for one call.
#[derive(Default)]
pub struct Planned {
    /// It fails so, without having happened.
    pub fails: Option<Errno>,
    /// To be done before it; then it does not happen, and fails.
    pub before: Option<Action>,
    /// To be done once it has happened, before it is answered.
    pub after: Option<Action>,
}

/// The plan, and how many calls there have been.
#[derive(Default)]
pub struct Plan {
    counts: [u64; Call::ALL.len()],
    rules: Vec<Rule>,
}

struct Rule {
    kinds: Vec<Call>,
    /// Calls of these kinds that pass yet.
    passing: u64,
    /// Calls that it then applies to.
    applies: u64,
    effect: Effect,
}

enum Effect {
    Fail { errno: Errno, told: Sender<Call> },
    Before(Action),
    After(Action),
}

impl Plan {
    /// Calls of a kind so far.
    pub fn count(&self, call: Call) -> u64 {
        self.counts[call as usize]
    }

    /// From now on, the `nth` call (from 1) of these kinds and the following, `calls` in all, fail.
    /// Each of them is told.
    pub fn fail(&mut self, kinds: &[Call], nth: u64, calls: u64, errno: Errno) -> Receiver<Call> {
        let (told, hits) = channel();
        self.add(kinds, nth, calls, Effect::Fail { errno, told });
        hits
    }

    /// Does something in place of the `nth` call from now.
    pub fn before(&mut self, kinds: &[Call], nth: u64, action: Action) {
        self.add(kinds, nth, 1, Effect::Before(action));
    }

    /// Does something after the `nth` call from now has happened.
    pub fn after(&mut self, kinds: &[Call], nth: u64, action: Action) {
        self.add(kinds, nth, 1, Effect::After(action));
    }

    fn add(&mut self, kinds: &[Call], nth: u64, calls: u64, effect: Effect) {
        assert!(nth > 0, "calls are counted from 1");
        self.rules.push(Rule { kinds: kinds.to_vec(), passing: nth - 1, applies: calls, effect });
    }

    /// Forgets everything that is planned.
    pub fn clear(&mut self) {
        self.rules.clear();
    }

    /// Counts a call and says what is planned for it.
    pub fn next(&mut self, call: Call) -> Planned {
        self.counts[call as usize] += 1;
        let mut planned = Planned::default();
        for mut rule in std::mem::take(&mut self.rules) {
            if !rule.kinds.contains(&call) {
                self.rules.push(rule);
            } else if rule.passing > 0 {
                rule.passing -= 1;
                self.rules.push(rule);
            } else {
                match rule.effect {
                    Effect::Fail { errno, told } => {
                        planned.fails = Some(errno);
                        // Nobody need listen.
                        let _ = told.send(call);
                        if rule.applies > 1 {
                            let effect = Effect::Fail { errno, told };
                            self.rules.push(Rule { applies: rule.applies - 1, effect, ..rule });
                        }
                    }
                    Effect::Before(action) => planned.before = Some(action),
                    Effect::After(action) => planned.after = Some(action),
                }
            }
        }
        planned
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_planned_calls_fail_and_no_others() {
        let mut plan = Plan::default();
        let hits = plan.fail(&[Call::Write, Call::Sync], 3, 2, Errno::EIO);
        let calls = [Call::Write, Call::Open, Call::Sync, Call::Write, Call::Read, Call::Sync, Call::Write];
        let failed: Vec<bool> = calls.iter().map(|call| plan.next(*call).fails.is_some()).collect();
        assert_eq!(failed, [false, false, false, true, false, true, false]);
        assert_eq!(hits.try_iter().collect::<Vec<_>>(), [Call::Write, Call::Sync]);
        assert_eq!((plan.count(Call::Write), plan.count(Call::Rename)), (3, 0));
    }

    #[test]
    fn actions_come_once_and_at_their_call() {
        let mut plan = Plan::default();
        plan.before(&[Call::Sync], 1, Box::new(|| {}));
        plan.after(&[Call::Write], 2, Box::new(|| {}));
        assert!(plan.next(Call::Write).after.is_none());
        assert!(plan.next(Call::Sync).before.is_some() && plan.next(Call::Sync).before.is_none());
        assert!(plan.next(Call::Write).after.is_some() && plan.next(Call::Write).after.is_none());
        plan.fail(&Call::ALL, 1, u64::MAX, Errno::ENOSPC);
        plan.clear();
        assert!(plan.next(Call::Write).fails.is_none());
    }
}
