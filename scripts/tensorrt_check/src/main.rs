//! Does NVIDIA's compiler take the graphs of a model pack? Parses and builds each graph of each pack ahead of time, on a machine
//! without a GPU, for a named compute capability and with the optimisation profile that jetbench gives to TensorRT.
//!
//! Every graph is built in a process of its own (the same program with `--one`): where the compiler crashes or runs out of memory, that
//! graph is refused and the others are still built.

mod arguments;
mod compiler;
mod listing;
mod messages;
mod nodes;
mod pack;
mod report;
mod row;

use std::io::IsTerminal as _;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use clap::Parser as _;

use crate::arguments::{Arguments, How, Target};
use crate::compiler::Libraries;
use crate::pack::{LeftOut, Pack, Task};
use crate::report::Report;
use crate::row::{Outcome, Refusal, Row, Step};

/// Something was refused.
const REFUSED: u8 = 1;
/// Wrong arguments or a pack that cannot be read. clap ends with the same number.
const USAGE: u8 = 2;
/// NVIDIA's libraries are missing or unfit.
const ENVIRONMENT: u8 = 3;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let ended = match &arguments.one {
        Some(file) => one(&arguments, file),
        None => all(&arguments),
    };
    ended.unwrap_or_else(|(code, text)| {
        eprintln!("tensorrt_check: {text}");
        ExitCode::from(code)
    })
}

/// Compiles one graph and writes its [`Outcome`] as JSON to standard output.
fn one(arguments: &Arguments, file: &Path) -> Result<ExitCode, (u8, String)> {
    let libraries = Libraries::find(&arguments.libraries).map_err(|e| (ENVIRONMENT, e))?;
    let outcome = compiler::compile(&libraries, file, &arguments.target).map_err(|e| (ENVIRONMENT, e))?;
    println!("{}", serde_json::to_string(&outcome).expect("plain data"));
    Ok(ExitCode::SUCCESS)
}

/// Compiles every graph of every pack and prints what came of it.
fn all(arguments: &Arguments) -> Result<ExitCode, (u8, String)> {
    let libraries = Libraries::find(&arguments.libraries).map_err(|e| (ENVIRONMENT, e))?;
    let (tasks, left_out) = plan(arguments).map_err(|e| (USAGE, e))?;
    let mut rows = Vec::with_capacity(tasks.len());
    for (i, task) in tasks.iter().enumerate() {
        if std::io::stderr().is_terminal() {
            eprintln!("[{}/{}] {} {} {}", i + 1, tasks.len(), task.pack, task.graph, task.dtype);
        }
        let outcome = in_child(arguments, task).map_err(|e| (ENVIRONMENT, e))?;
        rows.push(Row::new(task, outcome));
    }
    let report = Report::new(&libraries, &arguments.target, rows, left_out);
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&report).expect("plain data"));
    } else {
        print!("{report}");
    }
    Ok(ExitCode::from(if report.pass { 0 } else { REFUSED }))
}

/// The graphs to compile, and what of the packs is not compiled.
fn plan(arguments: &Arguments) -> Result<(Vec<Task>, Vec<LeftOut>), String> {
    let (mut tasks, mut left_out) = (Vec::new(), Vec::new());
    for folder in &arguments.packs {
        let pack = Pack::read(folder)?;
        tasks.extend(pack.tasks(&arguments.dtypes));
        left_out.extend(pack.left_out(&arguments.dtypes));
    }
    if tasks.is_empty() {
        return Err(format!("no graph to compile: no pack has {}", arguments.dtype_names().join(", ")));
    }
    if let Some(task) = tasks.iter().find(|task| !task.file.is_file()) {
        return Err(format!("{}: no such file, though the pack's pack.toml names it", task.file.display()));
    }
    if arguments.target.attention == How::Onnx {
        let mut changed = Vec::new();
        for task in tasks {
            let reason = if !["fp16", "bf16"].contains(&task.dtype.as_str()) {
                "attention=onnx is for fp16 and bf16"
            } else if How::Onnx.of(&task.file)?.is_none() {
                "attention=onnx changes nothing in it"
            } else {
                changed.push(task);
                continue;
            };
            let what = format!("{} {}", task.graph, task.dtype);
            left_out.push(LeftOut { pack: task.pack, what, reason: reason.to_string() });
        }
        tasks = changed;
        if tasks.is_empty() {
            return Err("no graph to compile: attention=onnx changes no fp16 or bf16 graph of these packs".to_string());
        }
    }
    Ok((tasks, left_out))
}

/// Compiles one graph in a process of its own.
///
/// # Errors
/// When the process cannot be started, or says that the machine is unfit.
fn in_child(arguments: &Arguments, task: &Task) -> Result<Outcome, String> {
    let program = std::env::current_exe().map_err(|e| format!("the path of this program: {e}"))?;
    let ran = Command::new(&program)
        .arg("--one")
        .arg(&task.file)
        .arg("--libraries")
        .arg(&arguments.libraries)
        .args(arguments.target.as_arguments())
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .output()
        .map_err(|e| format!("{}: {e}", program.display()))?;
    let stderr = String::from_utf8_lossy(&ran.stderr);
    if ran.status.code() == Some(ENVIRONMENT.into()) {
        return Err(stderr.trim().trim_start_matches("tensorrt_check: ").to_string());
    }
    // NVIDIA's libraries may print, too: the answer is the last line.
    let answer = String::from_utf8_lossy(&ran.stdout);
    let answer = answer.lines().last().and_then(|line| serde_json::from_str(line).ok());
    Ok(answer.filter(|_| ran.status.success()).unwrap_or_else(|| crashed(&ran.status.to_string(), &stderr)))
}

/// The outcome of a process that ended without one.
fn crashed(status: &str, stderr: &str) -> Outcome {
    let last = stderr.trim().lines().last().unwrap_or_default();
    let text = format!("the compiler's process ended without an answer ({status}) {last}").trim_end().to_string();
    Outcome { refusal: Some(Refusal { step: Step::Crash, node: None, text }), ..Outcome::default() }
}

impl Target {
    /// The same target as arguments of the child.
    fn as_arguments(&self) -> Vec<String> {
        let mut list = vec![
            format!("--compute-capability={}", self.compute_capability),
            format!("--opt-objects={}", self.opt_objects),
            format!("--max-objects={}", self.max_objects),
        ];
        list.extend((self.attention == How::Onnx).then(|| "--attention=onnx".to_string()));
        list.extend(self.parse_only.then(|| "--parse-only".to_string()));
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crash_is_a_refusal_with_the_last_words() {
        let outcome = crashed("signal: 11 (SIGSEGV)", "first\nstack smashed\n");
        let refusal = outcome.refusal.unwrap();
        assert_eq!(refusal.step, Step::Crash);
        assert_eq!(refusal.text, "the compiler's process ended without an answer (signal: 11 (SIGSEGV)) stack smashed");
    }

    #[test]
    fn only_graphs_that_are_changed_are_compiled_in_that_form() {
        let planned = |pack: &str| {
            let pack = format!("{}/../../assets/packs/{pack}", env!("CARGO_MANIFEST_DIR"));
            plan(&Arguments::parse_from(["t", "--libraries=/l", &pack, "--attention=onnx"]))
        };
        let (tasks, left_out) = planned("sam2_mini").unwrap();
        let names: Vec<_> = tasks.iter().map(|task| (task.graph.as_str(), task.dtype.as_str())).collect();
        let both = |dtype| [("image_encoder", dtype), ("memory_attention", dtype)];
        assert_eq!(names, [both("fp16"), both("bf16")].concat());
        let reasons = |reason: &str| left_out.iter().filter(|left| left.reason == reason).count();
        assert_eq!(reasons("attention=onnx is for fp16 and bf16"), 5);
        assert_eq!(reasons("attention=onnx changes nothing in it"), 6);
        assert!(planned("labels_mini").unwrap_err().contains("changes no fp16 or bf16 graph"));
    }

    #[test]
    fn the_child_gets_the_same_target() {
        let words = [
            "t",
            "--libraries=/l",
            "p",
            "--compute-capability=89",
            "--max-objects=4",
            "--parse-only",
            "--attention=onnx",
        ];
        let given = Arguments::parse_from(words);
        let mut again = vec!["t".to_string(), "--libraries=/l".to_string(), "--one=/g.onnx".to_string()];
        again.extend(given.target.as_arguments());
        assert_eq!(Arguments::parse_from(again).target, given.target);
    }
}
