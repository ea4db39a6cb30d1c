//! Which events, and the pages that they come in.

use clap::builder::PossibleValuesParser;
use form_urlencoded::Serializer;
use serde_json::Value;

use crate::buffer::event::State;
use crate::cli::admin::{Admin, Trouble};

/// Events of one page: the most that is given.
const PAGE_EVENTS: u64 = 1_000;

/// Which events.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct FilterArgs {
    /// Only events that stand so
    #[arg(long, value_name = "STATE",
        value_parser = PossibleValuesParser::new(State::ALL.map(State::name)))]
    state: Option<String>,
    /// Only events of this route
    #[arg(long, value_name = "NAME")]
    route: Option<String>,
    /// Only events of this type, such as message.received
    #[arg(long, value_name = "TYPE")]
    event_type: Option<String>,
    /// Only the event with this id (data.id)
    #[arg(long, value_name = "ID")]
    event_id: Option<String>,
}

impl FilterArgs {
    /// Whether an event stands as asked for: of all that is asked for, only the state changes.
    pub(super) fn has_state_of(&self, event: &Value) -> bool {
        self.state.as_deref().is_none_or(|state| event["state"] == state)
    }

    /// Every event with this id, of one route or of all.
    pub(super) fn with_id(id: &str, route: Option<&str>) -> FilterArgs {
        FilterArgs { state: None, route: route.map(str::to_owned), event_type: None, event_id: Some(id.to_owned()) }
    }
}

/// Pages of a list, one after the other, newest first.
pub(super) struct Pages<'a> {
    admin: &'a Admin,
    filter: &'a FilterArgs,
    /// Where the next page begins, as the last one said; `None` at the end.
    pub(super) cursor: Option<String>,
    begun: bool,
}

impl<'a> Pages<'a> {
    /// From `cursor` on, or from the newest event.
    pub(super) fn new(admin: &'a Admin, filter: &'a FilterArgs, cursor: Option<String>) -> Pages<'a> {
        Pages { admin, filter, cursor, begun: false }
    }

    /// At most `events` more; `None` behind the last page. A page may be empty although more follow.
    pub(super) async fn next(&mut self, events: u64) -> Result<Option<Vec<Value>>, Trouble> {
        if self.begun && self.cursor.is_none() {
            return Ok(None);
        }
        let mut page = self.admin.get(&self.target(events.min(PAGE_EVENTS))).await?;
        self.begun = true;
        self.cursor = page["next_cursor"].as_str().map(str::to_owned);
        match page["events"].take() {
            Value::Array(events) => Ok(Some(events)),
            _ => Err(Trouble::Failed("the answer is no list of events; is that hookward's admin side?".to_owned())),
        }
    }

    fn target(&self, events: u64) -> String {
        let mut query = Serializer::for_suffix("/api/v1/events?".to_owned(), "/api/v1/events?".len());
        let FilterArgs { state, route, event_type, event_id } = self.filter;
        let given = [("state", state), ("route", route), ("event_type", event_type), ("event_id", event_id)];
        let given = given.into_iter().chain([("cursor", &self.cursor)]);
        for (name, value) in given {
            if let Some(value) = value {
                query.append_pair(name, value);
            }
        }
        query.append_pair("limit", &events.to_string()).finish()
    }
}
