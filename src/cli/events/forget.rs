//! `hookward events forget`.

use std::process::ExitCode;

use http::Method;
use serde_json::{Value, json};

use super::filter::{FilterArgs, Pages};
use super::told_of;
use crate::cli::admin::{Admin, Trouble, converse, said};
use crate::cli::instance::InstanceArgs;
use crate::cli::output::{FAILED, fail, finish};

/// How the API begins where no repeat is a duplicate of an event.
const NOT_REMEMBERED: &str = "not remembered";

/// Let one repeat of an event through: of one that the app has lost, or that was discarded by mistake
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "hookward events forget [OPTIONS] <SEQ>...\n       hookward events forget [OPTIONS] --event-id <ID>",
    after_help = "\
A repeat of a delivered or discarded event is answered 200 and goes no further for as long as its id is
remembered. After `forget`, exactly one is taken as a new event, and its own repeats are duplicates again.
Have the sender send the event again afterwards. Dead letters need none of it: `hookward events redrive`.

Examples:
  hookward events forget 4711
  hookward events forget --event-id 0ccc7b54-4df3-4bca-a65a-3da1ecc777f0"
)]
pub(super) struct Args {
    /// Their numbers in the list; or else --event-id
    #[arg(value_name = "SEQ", required_unless_present = "event_id", conflicts_with = "event_id",
        value_parser = clap::value_parser!(i64).range(1..))]
    seqs: Vec<i64>,
    /// The event with this id (data.id), in every route that has had it
    #[arg(long, value_name = "ID")]
    event_id: Option<String>,
    /// Only in this route
    #[arg(long, value_name = "NAME", requires = "event_id", conflicts_with = "seqs")]
    route: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    instance: InstanceArgs,
}

/// Forgets each of them; one that cannot be forgotten does not keep the others from it.
pub(super) fn run(args: &Args) -> ExitCode {
    converse(async {
        let admin = args.instance.client()?;
        let seqs = match &args.event_id {
            Some(id) => with_id(&admin, id, args.route.as_deref()).await?,
            None => args.seqs.clone(),
        };
        let mut code = ExitCode::SUCCESS;
        let mut not_remembered = Vec::new();
        for seq in &seqs {
            match forget(&admin, *seq).await {
                Ok(Forgotten::Now(answer)) if args.json => code = finish(&format!("{answer}\n"), code),
                Ok(Forgotten::Now(_)) => code = finish(&format!("{seq} forgotten\n"), code),
                Ok(Forgotten::Before(why)) => not_remembered.push((seq, why)),
                Err(Trouble::NoEvent(why)) => code = fail(FAILED, &why),
                Err(Trouble::Failed(why)) => code = fail(FAILED, &format!("event {seq}: {why}")),
                Err(usage) => return Err(usage),
            }
        }
        // Of all events with one id, the newest of each scope stands for them: that the others do not is no failure.
        if args.event_id.is_none() || not_remembered.len() == seqs.len() {
            for (seq, why) in not_remembered {
                code = fail(FAILED, &format!("event {seq}: {why}"));
            }
        }
        Ok(code)
    })
}

/// The numbers of all events with this id, newest first.
async fn with_id(admin: &Admin, id: &str, route: Option<&str>) -> Result<Vec<i64>, Trouble> {
    let filter = FilterArgs::with_id(id, route);
    let mut pages = Pages::new(admin, &filter, None);
    let mut seqs = Vec::new();
    while let Some(page) = pages.next(u64::MAX).await? {
        seqs.extend(page.iter().filter_map(|event| event["seq"].as_i64()));
    }
    match seqs.is_empty() {
        true => Err(Trouble::Failed(match route {
            Some(route) => {
                format!("no event of the route {route} has this id; leave --route out to look in all routes")
            }
            None => "no event with this id is in the buffer: a repeat is let through as it is".into(),
        })),
        false => Ok(seqs),
    }
}

/// Whether an event stood for its repeats.
enum Forgotten {
    /// It did until now; the answer.
    Now(Value),
    /// It did not; why.
    Before(String),
}

async fn forget(admin: &Admin, seq: i64) -> Result<Forgotten, Trouble> {
    let answer = admin.ask(Method::POST, &format!("/api/v1/events/{seq}/forget"), Some(&json!({}))).await?;
    let json = answer.json();
    match answer.status {
        409 if said(&json).starts_with(NOT_REMEMBERED) => Ok(Forgotten::Before(said(&json).to_owned())),
        _ => told_of(&seq.into(), &answer).map(Forgotten::Now),
    }
}
