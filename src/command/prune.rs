//! `jetbench prune`: which runs of a results directory go, so that the disk does not fill up? Never a baseline, a run under way, or
//! what jetbench did not make.

use std::collections::BTreeMap;

use bytesize::ByteSize;
use serde_json::json;

use crate::cli::PruneArgs;
use crate::exit::{self, Error, Outcome};
use crate::plan::settings;
use crate::results::retention::{Hold, Stored, discard, stored};
use crate::text::{clean, plural, say};

/// Removes what `args` allow.
///
/// # Errors
/// The results or a baseline cannot be read; a run cannot be removed.
pub fn prune(args: &PruneArgs) -> Result<Outcome, Error> {
    let out = settings::default_out(args.out.clone());
    let runs = stored(&out)?;
    let doomed: Vec<&Stored> = match (args.keep, &args.max_size) {
        (Some(keep), _) => beyond(&runs, keep.get()),
        (None, Some(most)) => above(&runs, most.0),
        (None, None) => Vec::new(), // clap asks for one of them
    };
    let (mut gone, mut stuck): (Vec<&Stored>, Vec<String>) = (Vec::new(), Vec::new());
    for run in doomed {
        if !args.dry_run
            && let Err(why) = discard(&run.dir)
        {
            // What could be removed so far is told, too.
            say(&format!("error: {why}"));
            stuck.push(why.to_string());
            continue;
        }
        gone.push(run);
    }
    let bytes = |runs: &mut dyn Iterator<Item = &Stored>| runs.map(|run| run.bytes).sum::<u64>();
    let (freed, all) = (bytes(&mut gone.iter().copied()), bytes(&mut runs.iter()));
    let left = all - freed;
    let over = args.max_size.as_ref().is_some_and(|most| left > most.0);
    let code = match (stuck.is_empty(), over) {
        (false, _) => exit::ENVIRONMENT,
        (true, true) => exit::NOT_VALID,
        (true, false) => exit::OK,
    };
    if args.json {
        let list: Vec<_> = gone.iter().map(|run| json!({"run": run.dir, "bytes": run.bytes})).collect();
        let line = json!({"schema": 1, "dry_run": args.dry_run, "removed": list, "freed_bytes": freed, "left_bytes": left, "errors": stuck});
        return Ok(Outcome { stdout: format!("{line}\n"), code });
    }
    let verb = if args.dry_run { "would remove" } else { "removed" };
    let mut text: String = gone
        .iter()
        .map(|run| format!("{verb} {} ({})\n", clean(&run.dir.display().to_string()), size(run.bytes)))
        .collect();
    let staying = plural(runs.len() - gone.len(), "run stays", "runs stay");
    text.push_str(&format!("{verb} {}, {}; {staying}, {}", plural(gone.len(), "run", "runs"), size(freed), size(left)));
    text.push_str(&format!("{}\n", held(&runs)));
    if over {
        text.push_str("the results take more than --max-size: what is left may not be removed\n");
    }
    Ok(Outcome { stdout: text, code })
}

/// What a number of bytes is called.
pub(super) fn size(bytes: u64) -> String {
    ByteSize(bytes).display().iec().to_string()
}

/// How many runs stay whatever is asked for, and why.
fn held(runs: &[Stored]) -> String {
    let count = |hold: Hold| runs.iter().filter(|run| run.hold == Some(hold)).count();
    let told = [Hold::Baseline, Hold::UnderWay, Hold::NotOurs].map(|hold| (count(hold), hold.as_str()));
    let told: Vec<String> = told.iter().filter(|(n, _)| *n > 0).map(|(n, why)| format!("{n} {why}")).collect();
    if told.is_empty() { String::new() } else { format!(" ({})", told.join(", ")) }
}

/// All but the newest `keep` runs of each device. A baseline counts as one that is kept; a run under way does not, because it may end with
/// nothing to keep.
fn beyond(runs: &[Stored], keep: usize) -> Vec<&Stored> {
    let mut newer: BTreeMap<&str, usize> = BTreeMap::new();
    let mut surplus: Vec<&Stored> = runs
        .iter()
        .rev()
        .filter(|run| !matches!(run.hold, Some(Hold::NotOurs | Hold::UnderWay)))
        .filter(|run| {
            let newer = newer.entry(&run.device).or_default();
            *newer += 1;
            *newer > keep && run.hold.is_none()
        })
        .collect();
    surplus.reverse();
    surplus
}

/// The oldest runs, as many as it takes to come down to `most` bytes.
fn above(runs: &[Stored], most: u64) -> Vec<&Stored> {
    let mut left: u64 = runs.iter().map(|run| run.bytes).sum();
    let free = runs.iter().filter(|run| run.hold.is_none());
    free.take_while(|run| {
        let over = left > most;
        left -= if over { run.bytes } else { 0 };
        over
    })
    .collect()
}
