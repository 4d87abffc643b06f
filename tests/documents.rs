//! What the documents say about the command line is true: every command in them parses and is run, and every file that they
//! link to is there.

mod commands;

use std::path::{Path, PathBuf};

use clap::Parser;
use clap::error::ErrorKind;
use jetbench::cli::Cli;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// README, CONTRIBUTING and everything in docs/, with their texts.
fn documents() -> Vec<(PathBuf, String)> {
    let docs = std::fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let pages = docs.filter(|path| path.extension().is_some_and(|e| e == "md"));
    let all = ["README.md", "CONTRIBUTING.md", "scripts/README.md"].map(|name| root().join(name));
    all.into_iter().chain(pages).map(|path| (path.clone(), std::fs::read_to_string(path).unwrap())).collect()
}

/// Commands in code: lines of shell blocks (`true`) and spans, each up to what the shell would do next. Those with an ellipsis are
/// no commands.
fn commands(text: &str) -> Vec<(String, bool)> {
    let mut found = Vec::new();
    let mut block: Option<&str> = None;
    for line in text.lines() {
        match (line.trim_start().strip_prefix("```"), block) {
            (Some(_), Some(_)) => block = None,
            (Some(language), None) => block = Some(language),
            (None, Some("sh")) => found.push((line.trim().to_string(), true)),
            (None, Some(_)) => {}
            (None, None) => found.extend(line.split('`').skip(1).step_by(2).map(|span| (span.to_string(), false))),
        }
    }
    let whole = |code: &str| code.split(" #").next().unwrap_or_default().replace("&&", ";");
    let parts = found.iter().flat_map(|(code, block)| {
        let parts: Vec<String> =
            whole(code).split(';').map(|p| p.split(['|', '>']).next().unwrap().trim().into()).collect();
        parts.into_iter().map(move |part: String| (part, *block))
    });
    let tools = ["jetbench ", "cargo ", "python -m ", "python3 -m ", "pip install ", "git ", "sudo ", "apt-get "];
    let is_command = |part: &str| {
        let script = part.split(' ').next().is_some_and(|word| word.starts_with("scripts/") && word.ends_with(".sh"));
        script || tools.iter().any(|tool| part.starts_with(tool))
    };
    parts.filter(|(part, block)| !part.is_empty() && !part.contains('…') && (*block || is_command(part))).collect()
}

/// Is it a command that stands for itself in a sentence, without what it needs?
fn only_named(command: &str) -> bool {
    let words = shlex::split(command).unwrap_or_default();
    Cli::try_parse_from(&words).is_err_and(|error| {
        error.kind() == ErrorKind::MissingRequiredArgument || error.to_string().contains("but none was supplied")
    })
}

#[test]
fn every_command_in_the_documents_is_run_or_said_not_to_be() {
    let texts = documents();
    let all = texts.iter().flat_map(|(_, text)| commands(text));
    let all = all.filter(|(command, block)| *block || !command.starts_with("jetbench ") || !only_named(command));
    let faults = commands::faults(&all.map(|(command, _)| command).collect::<Vec<_>>());
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn every_command_in_the_documents_parses() {
    let mut seen = 0;
    let mut wrong = Vec::new();
    for (path, text) in documents() {
        for (command, block) in commands(&text).into_iter().filter(|(command, _)| command.starts_with("jetbench ")) {
            let words = shlex::split(&command).unwrap_or_default();
            seen += 1;
            if let Err(error) = Cli::try_parse_from(&words)
                && error.exit_code() != 0
                && (block || !only_named(&command))
            {
                wrong.push(format!("{}: {command}: {}", path.display(), error.to_string().lines().next().unwrap()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(seen > 40, "only {seen} commands were found");
}

#[test]
fn every_link_in_the_documents_leads_somewhere() {
    let mut wrong = Vec::new();
    for (path, text) in documents() {
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if target.contains("://") {
                continue;
            }
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let file = if file.is_empty() { path.clone() } else { path.parent().unwrap().join(file) };
            if !file.exists() {
                wrong.push(format!("{}: {target}", path.display()));
            } else if !anchor.is_empty() && !anchors(&file).contains(&anchor.to_string()) {
                wrong.push(format!("{}: {target}: no such heading", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Anchors of a page's headings, as hosts of repositories make them.
fn anchors(page: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(page).unwrap_or_default();
    let headings = text.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    let kept = |c: &char| c.is_alphanumeric() || [' ', '-', '_'].contains(c);
    headings.map(|h| h.to_lowercase().chars().filter(kept).collect::<String>().replace(' ', "-")).collect()
}

#[test]
fn the_readme_answers_in_a_minute() {
    let text = std::fs::read_to_string(root().join("README.md")).unwrap();
    let words = text.split_whitespace().count();
    assert!(words <= 1100, "the README has {words} words; 1,100 are its limit, the rest belongs to docs/");
}

/// Codes and meanings in the help of a command, and in every table of codes below a heading of a document.
#[test]
fn exit_codes_are_the_same_in_help_and_documents() {
    let help = |words: &[&str]| -> Vec<String> {
        let top = <Cli as clap::CommandFactory>::command();
        let command = words.iter().fold(&top, |command, word| command.find_subcommand(word).unwrap());
        let after = command.get_after_help().unwrap().to_string();
        let codes = after.split("Exit codes:\n").nth(1).unwrap();
        let row = |line: &str| line.trim().split_once(' ').map(|(code, what)| format!("| {code} | {} |", what.trim()));
        codes.lines().map(|line| row(line).unwrap()).collect()
    };
    let tables = |file: &str| -> Vec<Vec<String>> {
        let text = std::fs::read_to_string(root().join(file)).unwrap();
        let code = |line: &&str| line.split('|').nth(1).is_some_and(|cell| cell.trim().parse::<u8>().is_ok());
        let lines: Vec<&str> = text.lines().collect();
        let heads = (0..lines.len()).filter(|i| ["| code | meaning |", "| exit code | meaning |"].contains(&lines[*i]));
        heads.map(|i| lines[i + 2..].iter().take_while(|l| code(l)).map(|l| l.to_string()).collect()).collect()
    };
    assert_eq!(help(&["run"]).len(), 5);
    assert_eq!(tables("README.md"), [help(&["run"])]);
    assert_eq!(tables("docs/usage.md"), [help(&["packs", "get"]), help(&["run"])]);
}

#[test]
fn every_test_that_docs_trust_names_is_there() {
    fn sources(dir: &Path, found: &mut String) {
        for entry in std::fs::read_dir(dir).unwrap().flatten() {
            let path = entry.path();
            match path.extension().and_then(|e| e.to_str()) {
                _ if path.is_dir() => sources(&path, found),
                Some("rs" | "py") => found.push_str(&std::fs::read_to_string(&path).unwrap()),
                _ => {}
            }
        }
    }
    let mut code = String::new();
    for dir in ["src", "runners/src", "runners/tests", "tests", "scripts/tests"] {
        sources(&root().join(dir), &mut code);
    }
    let page = std::fs::read_to_string(root().join("docs/trust.md")).unwrap();
    let cells =
        page.lines().filter(|l| l.starts_with("| ")).filter_map(|l| l.trim_end_matches(" |").rsplit(" | ").next());
    let names = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).filter(|name| !name.contains('/'));
    let names: Vec<&str> = names.collect();
    assert!(names.len() > 60, "only {} names were found", names.len());
    let missing: Vec<&&str> = names
        .iter()
        .filter(|name| !code.contains(&format!("fn {name}(")) && !code.contains(&format!("def {name}(")))
        .collect();
    assert!(missing.is_empty(), "no such tests: {missing:?}");
}
