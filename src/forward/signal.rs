//! What an attempt says about the app, whatever it says about the event. Pure.

/// How an app answered, as far as it tells how much can be asked of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// 2xx.
    Good,
    /// An answer that finds fault with the event: the app is up.
    Refused,
    /// 429 or 503: less at once, please.
    Busy,
    /// Another answer that means "again later", or half of one.
    Failed,
    /// 508 of a hookward that has had the event: this is no app.
    Loop,
    /// No answer in time, or that of a hop between which had none (504).
    Timeout,
    /// No connection.
    Unreachable,
    /// The attempt was cut off by us, which says nothing.
    Cut,
}

impl Signal {
    /// True where the event may have to do with it.
    pub fn is_about_event(self) -> bool {
        !matches!(self, Signal::Unreachable | Signal::Cut)
    }

    /// Whether the app has judged the event.
    pub fn is_answer(self) -> bool {
        matches!(self, Signal::Good | Signal::Refused)
    }
}
