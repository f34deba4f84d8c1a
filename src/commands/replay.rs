//! A delivery again: what became of each position, or its events as they came.

use std::io::{self, Write};
use std::process::ExitCode;

use ordercast::base::clock::{Clock, instant};
use ordercast::base::db::Db;
use ordercast::cli::ReplayArgs;
use ordercast::dialect::message::Message;
use ordercast::dialect::realtime::replay_end;
use ordercast::driver::filter::Rules;
use ordercast::driver::positions::recorded;
use ordercast::model::OrderId;
use ordercast::replay::play::{Playing, events, play};
use ordercast::replay::{Changes, replay as replayed};

use super::{exit_bad_config, exit_failure};

/// Judges a delivery again, and says how it went.
pub async fn replay(args: ReplayArgs) -> ExitCode {
    let url = match args.database.url() {
        Ok(url) => url,
        Err(line) => return exit_bad_config(&line),
    };
    let Ok(order) = OrderId::parse(&args.order) else {
        return exit_bad_config("--order is not the id of an order");
    };
    let mut changes = Changes::none(Rules::of(args.driver_mode, false));
    for change in &args.set {
        let set = change.split_once('=').ok_or_else(|| "--set must be NAME=VALUE".to_owned());
        if let Err(rule) = set.and_then(|(name, value)| changes.set(name, value)) {
            return exit_bad_config(&rule);
        }
    }
    let db = match Db::connect(&url).await {
        Ok(db) => db,
        Err(error) => return exit_failure(&format!("the database cannot be opened: {error}")),
    };
    let recorded = match recorded(&db, Clock::System.now(), &order).await {
        Ok(recorded) => recorded,
        Err(error) => return exit_failure(&format!("{}: {error}", order.as_str())),
    };
    if let Some(speed) = args.speed {
        let played = match events(db.reader(), &order).await {
            Ok(events) => print_paced(&play(&recorded, events, &changes), speed, args.json).await,
            Err(error) => return exit_failure(&format!("{}: {error}", order.as_str())),
        };
        return match played {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => exit_failure(&error.to_string()),
        };
    }
    let replayed = replayed(&recorded, &changes);
    if args.json {
        return match serde_json::to_string_pretty(&replayed) {
            Ok(json) => {
                println!("{json}");
                ExitCode::SUCCESS
            }
            Err(error) => exit_failure(&error.to_string()),
        };
    }
    print!("{replayed}");
    ExitCode::SUCCESS
}

/// Prints each event when it is due.
async fn print_paced(playing: &Playing, speed: u32, as_json: bool) -> io::Result<()> {
    let (mut out, began, mut sent) = (io::stdout(), instant(), 0);
    if !as_json {
        let Playing { order, fixes, incomplete, .. } = playing;
        let seconds = playing.seconds(speed);
        writeln!(out, "order {}: {fixes} positions in {seconds} s", order.as_str())?;
        if *incomplete {
            writeln!(out, "incomplete: the trail has holes, or begins in the middle, or is very long")?;
        }
    }
    for (after, beat) in playing.beats(speed) {
        tokio::time::sleep_until(began + after).await;
        if as_json {
            print_event(&mut out, &beat.message(&playing.order))?;
        } else {
            writeln!(out, "{beat}")?;
        }
        sent += 1;
    }
    if as_json {
        return print_event(&mut out, &replay_end(&playing.order, sent));
    }
    writeln!(out, "{sent} events")
}

fn print_event(out: &mut impl Write, message: &Message) -> io::Result<()> {
    // The name is one of ours, and the payload is JSON.
    writeln!(out, "{{\"event\":\"{}\",\"data\":{}}}", message.name, message.json.get())
}
