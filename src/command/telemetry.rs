//! `jetbench telemetry`: the sensors by themselves, as CSV or JSON lines, until the time is over or Ctrl-C. Useful beside
//! any other program; and `--source tegrastats` shows what the board's own tool says about the same moment.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use jetbench_runners::files;
use serde_json::json;

use crate::cli::{SensorSource, TelemetryArgs, TelemetryFormat};
use crate::exit::{Error, Outcome};
use crate::report::csv::line;
use crate::telemetry::{Recorder, find, rate, tegrastats};
use crate::text::{output, say};

/// One moment's readings, by name with unit.
type Values = Vec<(String, f64)>;

/// Where samples go.
struct Sink {
    out: Box<dyn Write>,
    format: TelemetryFormat,
    started: Instant,
}

impl Sink {
    /// Writes one sample; `false` when nobody reads any more.
    fn write(&mut self, values: &Values, board_time: Option<&str>) -> Result<bool, Error> {
        let seconds = self.started.elapsed().as_secs_f64();
        let text = match self.format {
            TelemetryFormat::Csv => {
                let row =
                    |(name, value): &(String, f64)| line([format!("{seconds:.3}"), name.clone(), value.to_string()]);
                String::from_utf8_lossy(&values.iter().flat_map(row).collect::<Vec<u8>>()).into_owned()
            }
            TelemetryFormat::Jsonl => {
                let values: BTreeMap<&str, f64> = values.iter().map(|(n, v)| (n.as_str(), *v)).collect();
                let mut line = json!({"t_s": (seconds * 1000.0).round() / 1000.0, "values": values});
                if let Some(time) = board_time {
                    line["board_time"] = json!(time);
                }
                format!("{line}\n")
            }
        };
        let text = output(&text, false);
        match self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush()) {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
            Err(e) => Err(Error::Environment(format!("cannot write samples: {e}"))),
        }
    }
}

/// Samples until the duration is over, the input ends, or Ctrl-C.
///
/// # Errors
/// A rate or duration that is none, a file that cannot be opened (exit 2); no sensor at all, no `tegrastats` (exit 3).
pub fn telemetry(args: &TelemetryArgs) -> Result<Outcome, Error> {
    let hz = rate(args.sample_hz)?;
    let duration = match args.duration {
        Some(s) if (0.0..1e9).contains(&s) => Some(Duration::from_secs_f64(s)),
        Some(s) => return Err(Error::Usage(format!("--duration {s}: a number of seconds is needed"))),
        None => None,
    };
    let out: Box<dyn Write> = match args.out.to_str() {
        Some("-") => Box::new(std::io::stdout()),
        // Where to stream to is the user's own word, and may be a pipe.
        #[allow(clippy::disallowed_methods)]
        _ => Box::new(std::fs::File::create(&args.out).map_err(|e| {
            Error::Usage(format!("cannot write {}: {e}; name another file with --out", args.out.display()))
        })?),
    };
    let mut sink = Sink { out, format: args.format, started: Instant::now() };
    if args.format == TelemetryFormat::Csv {
        sink.out
            .write_all(b"t_s,quantity,value\n")
            .map_err(|e| Error::Environment(format!("cannot write samples: {e}")))?;
    }
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    ctrlc::set_handler(move || flag.store(true, Ordering::SeqCst))
        .map_err(|e| Error::Environment(format!("cannot listen for Ctrl-C: {e}")))?;
    let over = |started: Instant| stop.load(Ordering::SeqCst) || duration.is_some_and(|d| started.elapsed() >= d);
    match args.source {
        SensorSource::Sysfs => sysfs(args, hz, &mut sink, &over)?,
        SensorSource::Tegrastats => from_tegrastats(args, hz, &mut sink, &over)?,
    }
    Ok(Outcome::ok(String::new()))
}

fn sysfs(args: &TelemetryArgs, hz: f64, sink: &mut Sink, over: &dyn Fn(Instant) -> bool) -> Result<(), Error> {
    let found = find(&args.root, args.pid);
    for missing in found.missing.iter().filter(|_| !args.quiet) {
        say(&format!("not read: {}: {}", missing.sensor, missing.reason));
    }
    if found.sensors.is_empty() {
        return Err(Error::Environment(format!("no sensor can be read below {}", args.root.display())));
    }
    let names: Vec<String> = found.channels().iter().map(ToString::to_string).collect();
    let mut recorder = Recorder::new(found);
    let interval = Duration::from_secs_f64(1.0 / hz);
    let mut due = Instant::now();
    loop {
        let sample = recorder.sample(false);
        let values: Values =
            names.iter().cloned().zip(sample.values.iter().copied()).filter(|(_, v)| !v.is_nan()).collect();
        recorder.forget();
        if !sink.write(&values, None)? {
            return Ok(());
        }
        due = (due + interval).max(Instant::now());
        while Instant::now() < due {
            if over(sink.started) {
                return Ok(());
            }
            std::thread::sleep(due.saturating_duration_since(Instant::now()).min(Duration::from_millis(50)));
        }
        if over(sink.started) {
            return Ok(());
        }
    }
}

/// A running `tegrastats`, ended with this value.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn from_tegrastats(
    args: &TelemetryArgs,
    hz: f64,
    sink: &mut Sink,
    over: &dyn Fn(Instant) -> bool,
) -> Result<(), Error> {
    let mut running = None;
    let input: Box<dyn BufRead + Send> = match &args.input {
        Some(path) if path == Path::new("-") => Box::new(BufReader::new(std::io::stdin())),
        Some(path) => {
            Box::new(BufReader::new(files::plain(path).map_err(|e| Error::Usage(format!("{}: {e}", path.display())))?))
        }
        None => {
            let interval = (1000.0 / hz).round().max(1.0).to_string();
            let mut child = Command::new("tegrastats")
                .args(["--interval", &interval])
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .spawn()
                .map_err(|e| {
                    Error::Environment(format!(
                        "tegrastats cannot be started: {e}; it belongs to a Jetson. --input FILE reads lines that it \
                         wrote; --source sysfs reads this machine's own sensors"
                    ))
                })?;
            let lines = child.stdout.take().map(BufReader::new);
            running = Some(Running(child));
            Box::new(lines.ok_or_else(|| Error::Environment("tegrastats has no output".into()))?)
        }
    };
    // Lines come from a thread, so that the end of the duration is not slept through by a silent program.
    let (send, lines) = std::sync::mpsc::sync_channel(64);
    std::thread::spawn(move || {
        for line in input.split(b'\n') {
            let end = line.is_err();
            if send.send(line).is_err() || end {
                break;
            }
        }
    });
    let live = running.is_some();
    let mut understood = 0;
    let mut unknown: Vec<String> = Vec::new();
    loop {
        match lines.recv_timeout(Duration::from_millis(50)) {
            Ok(Ok(bytes)) => {
                let line = tegrastats::parse(&bytes);
                for word in line.unknown {
                    if unknown.len() < 20 && !unknown.contains(&word) {
                        unknown.push(word);
                    }
                }
                if !line.values.is_empty() {
                    understood += 1;
                    if !sink.write(&line.values, line.time.as_deref())? {
                        break;
                    }
                }
            }
            Ok(Err(e)) => return Err(Error::Environment(format!("tegrastats' lines cannot be read: {e}"))),
            Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {}
            Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => break,
        }
        if over(sink.started) {
            break;
        }
    }
    drop(running);
    if !unknown.is_empty() && !args.quiet {
        say(&format!("not understood: {}", unknown.join(" ")));
    }
    if understood == 0 && !(live && over(sink.started)) {
        return Err(Error::Usage("no line of tegrastats was understood".into()));
    }
    Ok(())
}
