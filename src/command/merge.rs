//! `jetbench merge`: the parts of one job become one result, and boards that did the same job are set beside each other.
//! Nothing is joined that does not belong together: parts that are missing, doubled or of another job are named, and
//! latencies are joined only where the device digest is the same. Scores do not depend on the device that computed
//! them, so parts of one data set may come from several.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::cli::MergeArgs;
use crate::exit::{self, Error, Outcome};
use crate::judge::complete::Planned;
use crate::judge::outcome::exit_code;
use crate::judge::summary;
use crate::plan::content::{self, CHANGED};
use crate::plan::{identity, settings};
use crate::report;
use crate::report::screen::{Wanted, screen};
use crate::results::disturbance;
use crate::results::note::{Note, NoteKind, Reason, ReasonKind};
use crate::results::record::{
    CellRecord, DeviceRecord, Origin, PartRecord, RunRecord, SequenceRecord, SummaryRecord, Verdict,
};
use crate::results::store::{self, RECORD, RunDir};
use crate::run::energy;
use crate::text::{plural, say, shell_word};

/// Cells of a record that was joined over several devices are named after their board; this stands for all of them.
const FLEET: &str = "fleet";

/// A run and where it was found.
struct Part {
    dir: PathBuf,
    record: RunRecord,
}

impl Part {
    /// Did it come to its end in every cell?
    fn is_done(&self) -> bool {
        self.dir.join(RECORD).is_file()
            && self.record.stopped.is_none()
            && self.record.cells.iter().all(CellRecord::is_final)
    }

    /// Is it of the same part of the same job as another run? (A whole job is no part.)
    fn is_part_of(&self, other: &Origin) -> bool {
        let own = &self.record.origin;
        own.shard.is_some() && (own.shard, &own.job_sha256) == (other.shard, &other.job_sha256)
    }
}

/// Joins what lies in the directories.
///
/// # Errors
/// Nothing to join, or something that does not belong: every fault is named, nothing is written.
pub fn merge(args: &MergeArgs, argv: Vec<String>) -> Result<Outcome, Error> {
    let (parts, notes) = collect(&args.dirs)?;
    let mut joined = join(&parts, args.partial)?;
    joined.argv = argv;
    if let Some(price) = args.energy_price {
        if !(price.is_finite() && price >= 0.0) {
            return Err(Error::Usage(format!(
                "--energy-price {price}: a price per kilowatt hour is needed, 0 or more"
            )));
        }
        joined.settings.insert("energy_price".into(), json!(price));
        joined.settings.insert("currency".into(), json!(args.currency));
    }
    let mut dir = RunDir::create(&settings::default_out(args.out.clone()), &joined.device.name)?;
    joined.run_id = dir.id.clone();
    let written = report::files(&joined)
        .map_err(std::io::Error::other)
        .and_then(|files| files.iter().try_for_each(|(name, bytes)| store::write_atomic(&dir.path.join(name), bytes)))
        .and_then(|()| store::remove(&dir.log()))
        .and_then(|()| dir.finish(&joined))
        .and_then(|()| dir.appear());
    written.map_err(|e| {
        Error::Environment(format!("cannot write results to {}: {e}{}", dir.path.display(), store::remedy(&e)))
    })?;
    if !args.quiet {
        notes.iter().for_each(|note| say(&format!("note: {note}")));
    }
    let code = exit_code(&joined, &[]);
    let code = if joined.stopped.is_some() { exit::NOT_VALID } else { code };
    let wanted = Wanted { quiet: args.quiet, verbose: false, json: args.json };
    Ok(Outcome { stdout: screen(&joined, &dir.path, wanted), code })
}

/// Finds the runs in and below the directories. Joined ones are left out, with a note: their parts are what counts.
fn collect(dirs: &[PathBuf]) -> Result<(Vec<Part>, Vec<String>), Error> {
    let mut found = Vec::new();
    for dir in dirs {
        let before = found.len();
        let dir = if dir.exists() { dir } else { &store::which(dir, &settings::default_out(None))? };
        store::find_runs(dir, &mut found).map_err(|e| Error::Usage(format!("{}: {e}", dir.display())))?;
        if found.len() == before {
            return Err(Error::Usage(format!("{}: no runs in it or below it", dir.display())));
        }
    }
    let (mut all, mut notes): (Vec<Part>, Vec<String>) = Default::default();
    let mut seen = BTreeSet::new();
    for dir in found {
        if !seen.insert(dir.canonicalize().unwrap_or_else(|_| dir.clone())) {
            continue;
        }
        let head = store::head_of(&dir);
        let record = store::load(if dir.join(RECORD).is_file() { &dir } else { &head })?;
        match record.origin.parts.is_empty() {
            true => all.push(Part { dir, record }),
            false => notes.push(format!("{} was joined from others and is left out", dir.display())),
        }
    }
    let (tries, parts): (Vec<Part>, Vec<Part>) = {
        let done: Vec<Origin> = all.iter().filter(|p| p.is_done()).map(|p| p.record.origin.clone()).collect();
        all.into_iter().partition(|part| !part.is_done() && done.iter().any(|origin| part.is_part_of(origin)))
    };
    notes.extend(tries.iter().map(|part| {
        let shard = part.record.origin.shard.map(|shard| shard.to_string()).unwrap_or_default();
        format!("{} was not done to its end and is left out, as another run did part {shard}", part.dir.display())
    }));
    if let Some(part) = parts.iter().find(|part| !part.dir.join(RECORD).is_file()) {
        return Err(Error::Usage(format!(
            "{}: unfinished; continue it with `jetbench --resume {0}`, or leave it out",
            part.dir.display()
        )));
    }
    if parts.is_empty() {
        return Err(Error::Usage("nothing to join: every run found was joined already".into()));
    }
    Ok((parts, notes))
}

/// What must be equal for two runs to be of one job; within one device also what decides latencies.
fn job(record: &RunRecord, same_device: bool) -> Vec<(&'static str, String)> {
    let cells = |show: &dyn Fn(&CellRecord) -> String| {
        record.cells.iter().map(|c| format!("{} {}", key(c).join(" "), show(c))).collect::<Vec<_>>().join(", ")
    };
    let mut fields = vec![
        ("jetbench version", record.version.clone()),
        ("list of videos, frames and objects", record.data.list_sha256.clone()),
        ("protocol", record.data.protocol.clone()),
    ];
    if same_device {
        fields.extend([
            ("program", record.origin.program_sha256.clone()),
            ("cells", cells(&|_| String::new())),
            ("packs", cells(&|c| c.pack_digest.clone())),
            ("precision in effect", cells(&|c| c.effective_dtype.clone().unwrap_or_default())),
            ("ONNX Runtime", cells(&|c| c.runtime.as_ref().map(|r| r.words()).unwrap_or_default())),
            ("settings", json!(identity::deciding(&record.settings)).to_string()),
        ]);
    }
    fields
}

/// What names a cell in all runs.
fn key(cell: &CellRecord) -> [String; 3] {
    [cell.model.clone(), cell.dtype.to_string(), cell.device.clone()]
}

/// Refuses runs of another job than the first.
fn refuse_foreign(parts: &[&Part], same_device: bool) -> Result<(), Error> {
    let reference = job(&parts[0].record, same_device);
    let mut faults = Vec::new();
    for part in &parts[1..] {
        let other = job(&part.record, same_device);
        let differing: Vec<String> = reference
            .iter()
            .zip(&other)
            .filter(|(a, b)| a.1 != b.1)
            .map(|(a, b)| {
                let short = |text: &str| text.chars().take(60).collect::<String>();
                if a.1.len() > 60 {
                    a.0.to_string()
                } else {
                    format!("{} ({} here, {} there)", a.0, short(&b.1), short(&a.1))
                }
            })
            .collect();
        if let Some(changed) = changed_between(&parts[0].record, &part.record).filter(|_| differing.is_empty()) {
            faults.push(format!("{}: {CHANGED} for {}: {changed}", part.dir.display(), parts[0].dir.display()));
        }
        if !differing.is_empty() {
            faults.push(format!(
                "{}: belongs to a different job than {}; different: {}",
                part.dir.display(),
                parts[0].dir.display(),
                differing.join(", ")
            ));
        }
    }
    if faults.is_empty() { Ok(()) } else { Err(Error::Usage(faults.join("\n"))) }
}

/// Videos whose files held something else when the other run was planned, whichever part they belong to.
fn changed_between(one: &RunRecord, other: &RunRecord) -> Option<String> {
    let pairs = one.data.planned.iter().zip(&other.data.planned).zip(&one.data.list);
    let changed: Vec<String> = pairs
        .filter_map(|((a, b), video)| {
            let parts = content::differing(a, b);
            (!parts.is_empty()).then(|| format!("{} of video {video}", parts.join(" and ")))
        })
        .collect();
    let more = changed.len().saturating_sub(3);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    (!changed.is_empty()).then(|| format!("{}{more}", changed[..changed.len().min(3)].join(", ")))
}

/// Which videos the runs of one device finished in every cell, and what is wrong about them.
struct Coverage {
    /// Videos of the list that nobody finished.
    missing: Vec<String>,
    /// One sentence for each video that two runs finished.
    doubled: Vec<String>,
}

fn coverage(parts: &[&Part]) -> Coverage {
    let list = &parts[0].record.data.list;
    let mut holders: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let mut missing = BTreeSet::new();
    for part in parts {
        for sequence in part.record.cells.iter().flat_map(|c| &c.sequences) {
            let holder = part.dir.display().to_string();
            let entry = holders.entry(&sequence.video).or_default();
            if !entry.contains(&holder) {
                entry.push(holder);
            }
        }
    }
    let cells: BTreeSet<[String; 3]> = parts.iter().flat_map(|p| p.record.cells.iter().map(key)).collect();
    for video in list {
        for cell in &cells {
            let done = parts.iter().flat_map(|p| &p.record.cells).filter(|c| key(c) == *cell);
            if !done.into_iter().any(|c| c.sequences.iter().any(|s| s.video == *video)) {
                missing.insert(video.clone());
            }
        }
    }
    let doubled = holders
        .iter()
        .filter(|(_, dirs)| dirs.len() > 1)
        .map(|(video, dirs)| format!("video {video} appears twice: in {}", dirs.join(" and in ")))
        .collect();
    Coverage { missing: list.iter().filter(|v| missing.contains(*v)).cloned().collect(), doubled }
}

/// What is missing, in words: whole parts by their number, others by their videos.
fn missing_words(parts: &[&Part], missing: &[String]) -> String {
    let list = &parts[0].record.data.list;
    let count = parts.iter().filter_map(|p| p.record.origin.shard).map(|s| s.count).max().unwrap_or(1);
    let present: BTreeSet<usize> = parts.iter().filter_map(|p| p.record.origin.shard).map(|s| s.index).collect();
    let mut words = Vec::new();
    let mut told = BTreeSet::new();
    for index in (1..=count).filter(|i| count > 1 && !present.contains(i)) {
        let shard = crate::plan::shard::Shard { index, count };
        let own: Vec<&String> = list.iter().enumerate().filter(|(p, _)| shard.holds(*p)).map(|(_, v)| v).collect();
        if own.iter().any(|v| missing.contains(v)) {
            words.push(format!("part {shard} is missing ({})", plural(own.len(), "video", "videos")));
            told.extend(own);
        }
    }
    let rest: Vec<&str> = missing.iter().filter(|v| !told.contains(v)).map(String::as_str).collect();
    if !rest.is_empty() {
        let shown = rest[..rest.len().min(5)].join(", ");
        let more = rest.len().saturating_sub(5);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        words.push(format!(
            "not finished in every cell: {shown}{more}; continue their runs with `jetbench --resume RUN`"
        ));
    }
    words.join("; ")
}

/// Parts by the digest of their device.
fn boards<'a>(parts: &[&'a Part]) -> Vec<(String, Vec<&'a Part>)> {
    let mut boards: Vec<(String, Vec<&Part>)> = Vec::new();
    for part in parts {
        let digest = &part.record.device.digest;
        match boards.iter_mut().find(|(d, _)| d == digest) {
            Some((_, of)) => of.push(part),
            None => boards.push((digest.clone(), vec![part])),
        }
    }
    boards
}

/// Refuses runs of one board that are all of the same part, or all whole: there is nothing to join, whatever they measured.
fn refuse_repeated(of: &[&Part]) -> Result<(), Error> {
    let shard = of[0].record.origin.shard;
    if of.len() < 2 || of.iter().any(|part| part.record.origin.shard != shard) {
        return Ok(());
    }
    let what = shard.map_or_else(|| "whole runs".to_string(), |shard| format!("runs of part {shard}"));
    let dirs: Vec<String> = of.iter().map(|part| shell_word(&part.dir.display().to_string())).collect();
    Err(Error::Usage(format!(
        "{} are {what} on one board ({}), and merge joins different parts of a job, or different boards; to compare them: \
         jetbench compare {}",
        dirs.join(" and "),
        board(&of[0].record.device),
        dirs.join(" ")
    )))
}

/// Joins runs of one job, whatever devices they ran on.
fn join(parts: &[Part], partial: bool) -> Result<RunRecord, Error> {
    let all: Vec<&Part> = parts.iter().collect();
    let boards = boards(&all);
    boards.iter().try_for_each(|(_, of)| refuse_repeated(of))?;
    refuse_foreign(&all, false)?;
    if all[0].record.data.list.is_empty() {
        return Err(Error::Usage(format!(
            "{}: written before parts were recorded; run it again",
            all[0].dir.display()
        )));
    }
    let mut doubled = Vec::new();
    for (_, of) in &boards {
        refuse_foreign(of, true)?;
        doubled.extend(coverage(of).doubled);
    }
    if !doubled.is_empty() {
        return Err(Error::Usage(doubled.join("\n")));
    }
    let whole: Vec<Coverage> = boards.iter().map(|(_, of)| coverage(of)).collect();
    if boards.len() == 1 {
        return one_device(&boards[0].1, &whole[0].missing, partial);
    }
    if whole.iter().all(|c| c.missing.is_empty()) {
        let records = boards.iter().map(|(_, of)| one_device(of, &[], false)).collect::<Result<Vec<_>, _>>()?;
        return Ok(fleet(&all, records));
    }
    // Parts of one data set on several boards: together they must cover it once.
    let together = coverage(&all);
    if !together.doubled.is_empty() {
        let mut faults =
            vec!["boards that did part of the same videos can be joined neither as parts nor as wholes:".into()];
        for ((_, of), own) in boards.iter().zip(&whole).filter(|(_, c)| !c.missing.is_empty()) {
            faults.push(format!("device {}: {}", of[0].record.device.name, missing_words(of, &own.missing)));
        }
        faults.extend(together.doubled);
        return Err(Error::Usage(faults.join("\n")));
    }
    let mut joined = one_device(&all, &together.missing, partial)?;
    scores_only(&mut joined, &boards);
    Ok(joined)
}

/// The parts of one device as one run.
fn one_device(parts: &[&Part], missing: &[String], partial: bool) -> Result<RunRecord, Error> {
    if !missing.is_empty() && !partial {
        return Err(Error::Usage(format!("{}; --partial joins what there is", missing_words(parts, missing))));
    }
    let mut joined = parts[0].record.clone();
    let records: Vec<&RunRecord> = parts.iter().map(|p| &p.record).collect();
    let list = joined.data.list.clone();
    let min_frames = joined.settings.get("min_frames").and_then(Value::as_u64).unwrap_or(0) as usize;
    for cell in &mut joined.cells {
        // Each part against its own plan, then all of them against the whole list.
        let cells: Vec<CellRecord> = records
            .iter()
            .filter_map(|r| Some((r, r.cells.iter().find(|c| key(c) == key(cell))?)))
            .map(|(r, c)| CellRecord { verdict: Planned::of_record(r).judged(c), ..c.clone() })
            .collect();
        *cell = join_cell(&cells.iter().collect::<Vec<_>>(), &list, min_frames);
        cell.verdict = Planned::of_names(list.iter()).judged(cell);
    }
    joined.agreement = records.iter().flat_map(|r| r.agreement.clone()).collect();
    joined.forecast = None; // it is of one part
    joined.data.content_sha256 = content::content_sha256(&joined.cells);
    joined.started = records.iter().map(|r| r.started.clone()).min().unwrap_or_default();
    joined.finished = records.iter().filter_map(|r| r.finished.clone()).max();
    let first: &[SequenceRecord] = joined.cells.first().map_or(&[], |c| &c.sequences);
    joined.data.videos = first.len();
    joined.data.objects = first.iter().map(|s| s.objects.len()).sum();
    joined.data.frames = first.iter().map(|s| s.frames.len()).sum();
    if let Some(limits) = joined.settings.get_mut("limits").and_then(Value::as_object_mut) {
        limits.insert("shard".into(), Value::Null);
    }
    joined.stopped = (!missing.is_empty())
        .then(|| format!("partial: {} of {} videos; {}", first.len(), list.len(), missing_words(parts, missing)));
    joined.origin = Origin {
        shard: None,
        parts: records
            .iter()
            .map(|r| PartRecord {
                run_id: r.run_id.clone(),
                shard: r.origin.shard,
                device: r.device.name.clone(),
                device_digest: r.device.digest.clone(),
            })
            .collect(),
        ..joined.origin
    };
    Ok(joined)
}

/// One cell out of its parts. Sequences are taken over as they are; summaries are computed anew from them.
fn join_cell(cells: &[&CellRecord], list: &[String], min_frames: usize) -> CellRecord {
    let mut joined = cells[0].clone();
    let place = |name: &str| list.iter().position(|v| v == name);
    joined.sequences = cells.iter().flat_map(|c| c.sequences.iter().cloned()).collect();
    joined.sequences.sort_by_cached_key(|s| place(&s.video));
    joined.memory_curve = cells.iter().flat_map(|c| c.memory_curve.iter().cloned()).collect();
    for (phase, memory) in &mut joined.memory {
        cells.iter().filter_map(|c| c.memory.get(phase)).for_each(|other| memory.raise_to(other));
    }
    // A rail that one part could not read has no sum.
    let sum = |of: fn(&CellRecord) -> &BTreeMap<String, f64>| -> BTreeMap<String, f64> {
        let rails = of(cells[0]).keys();
        rails.filter_map(|r| Some((r.clone(), cells.iter().map(|c| of(c).get(r)).sum::<Option<f64>>()?))).collect()
    };
    (joined.energy_j, joined.energy_above_idle_j) = (sum(|c| &c.energy_j), sum(|c| &c.energy_above_idle_j));
    if cells.len() > 1 {
        joined.repeats.clear();
    }
    joined.track_wall_s = cells.iter().map(|c| c.track_wall_s).sum();
    let mut notes: Vec<Note> = Vec::new();
    for note in cells.iter().flat_map(|c| &c.notes) {
        if !notes.contains(note) {
            notes.push(note.clone());
        }
    }
    if cells.len() > 1 {
        notes.push(Note::new(NoteKind::Joined, format!(
            "joined from {} processes: load and warm-up times are those of the first, memory figures the largest of any",
            cells.len()
        )));
    }
    joined.notes = notes;
    cells.iter().for_each(|c| disturbance::join(&mut joined.disturbed, &c.disturbed));
    joined.summary = summary::summarise(&joined);
    energy::per_frame(&mut joined);
    joined.verdict = join_verdicts(cells, &joined, min_frames);
    joined
}

/// The worst verdict of the parts. That a part alone had too few frames is judged again for the whole.
fn join_verdicts(cells: &[&CellRecord], joined: &CellRecord, min_frames: usize) -> Verdict {
    if let Some(failed) = cells.iter().map(|c| &c.verdict).find(|v| matches!(v, Verdict::Failed { .. })) {
        return failed.clone();
    }
    let mut reasons: Vec<Reason> = Vec::new();
    for cell in cells {
        if let Verdict::Invalid { reasons: own } = &cell.verdict {
            for reason in own.iter().filter(|r| r.kind != ReasonKind::TooFewFrames) {
                if !reasons.contains(reason) {
                    reasons.push(reason.clone());
                }
            }
        }
    }
    let frames: usize = joined.sequences.iter().map(|s| s.frames.len()).sum();
    if frames < min_frames && reasons.is_empty() {
        reasons.push(crate::judge::verdict::too_few_frames(frames, min_frames));
    }
    if reasons.is_empty() { Verdict::Valid } else { Verdict::Invalid { reasons } }
}

/// Takes everything out that depends on the device: the parts ran on several.
fn scores_only(joined: &mut RunRecord, boards: &[(String, Vec<&Part>)]) {
    joined.device = fleet_device(boards.iter().map(|(_, of)| &of[0].record.device));
    for cell in &mut joined.cells {
        cell.memory.clear();
        cell.memory_curve.clear();
        cell.energy_j.clear();
        cell.energy_above_idle_j.clear();
        cell.idle_power_w.clear();
        cell.graph_load_ms.clear();
        cell.disturbed.clear();
        (cell.load_ms, cell.track_wall_s) = (None, None);
        if let Some(s) = &mut cell.summary {
            *s = SummaryRecord {
                videos: s.videos,
                objects: s.objects,
                frames: s.frames,
                j: s.j,
                f: s.f,
                jf: s.jf,
                jf_interval: s.jf_interval,
                found: s.found,
                ..SummaryRecord::default()
            };
        }
        for sequence in &mut cell.sequences {
            sequence.frames.clear();
            sequence.energy_j.clear();
            sequence.energy_above_idle_j.clear();
        }
        cell.notes.push(Note::new(NoteKind::Joined, format!(
            "the parts ran on {} devices: scores are joined, latencies, memory and energy are not; they stand in each part's \
             own record",
            boards.len()
        )));
    }
}

fn fleet_device<'a>(devices: impl Iterator<Item = &'a DeviceRecord>) -> DeviceRecord {
    let facts = devices.enumerate().map(|(i, d)| (format!("board_{}", i + 1), format!("{} ({})", board(d), d.digest)));
    DeviceRecord { name: FLEET.into(), digest: String::new(), facts: facts.collect() }
}

/// A board and its power mode.
fn board(device: &DeviceRecord) -> String {
    match device.facts.get("power_mode") {
        Some(mode) => format!("{}, {mode}", device.name),
        None => device.name.clone(),
    }
}

/// Boards that each did the whole job, side by side: every cell keeps its own latencies and is named after its board.
fn fleet(parts: &[&Part], records: Vec<RunRecord>) -> RunRecord {
    let mut joined = records[0].clone();
    joined.device = fleet_device(records.iter().map(|r| &r.device));
    // Cells are named after their boards, and those of two boards were not compared.
    joined.agreement = Vec::new();
    joined.forecast = None;
    joined.origin.parts = records.iter().flat_map(|r| r.origin.parts.clone()).collect();
    debug_assert_eq!(joined.origin.parts.len(), parts.len());
    let names: Vec<String> = records.iter().map(|r| board(&r.device)).collect();
    joined.cells = Vec::new();
    for (record, name) in records.into_iter().zip(&names) {
        // Two boards of one kind in one mode differ by their digest only.
        let twins = names.iter().filter(|n| *n == name).count() > 1;
        let name = if twins { format!("{name} {}", record.device.digest) } else { name.clone() };
        joined.cells.extend(
            record.cells.into_iter().map(|cell| CellRecord { device: format!("{name}, {}", cell.device), ..cell }),
        );
    }
    joined
}
