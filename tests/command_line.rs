//! The command line as a person meets it: help, completions, man pages, and the names by which runs are called.

use std::process::Command;

use jetbench::cli::shown;

use crate::workshop::{Workshop, text};

/// Every command that is shown, nested ones included, with the words that call it.
fn commands() -> Vec<(Vec<String>, clap::Command)> {
    fn collect(command: &clap::Command, words: &[String], found: &mut Vec<(Vec<String>, clap::Command)>) {
        for below in command.get_subcommands().filter(|c| !c.is_hide_set() && c.get_name() != "help") {
            let words = [words, &[below.get_name().to_string()]].concat();
            found.push((words.clone(), below.clone()));
            collect(below, &words, found);
        }
    }
    let mut program = shown();
    program.build();
    let mut found = Vec::new();
    collect(&program, &[], &mut found);
    found
}

fn flags(command: &clap::Command) -> Vec<String> {
    command.get_arguments().filter(|a| !a.is_hide_set()).filter_map(|a| Some(format!("--{}", a.get_long()?))).collect()
}

/// Words that flags and arguments take, where it is one of a few; those of `--option` are for `models --options` to list.
fn values(command: &clap::Command) -> Vec<clap::builder::PossibleValue> {
    let taken = command.get_arguments().filter(|a| a.get_action().takes_values() && a.get_id() != "option");
    taken.flat_map(|a| a.get_possible_values()).filter(|v| !v.is_hide_set()).collect()
}

fn help(shop: &Workshop, args: &[&str]) -> String {
    let output = shop.command(args).env("COLUMNS", "80").output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

#[test]
fn help_is_short_grouped_and_ends_with_examples_and_exit_codes() {
    let shop = Workshop::new(1, 3);
    let short = help(&shop, &["-h"]);
    assert!(short.lines().count() <= 62, "{} lines:\n{short}", short.lines().count());
    let wide: Vec<&str> = short.lines().filter(|l| l.chars().count() > 80).collect();
    assert!(wide.is_empty(), "{wide:#?}");
    let long = help(&shop, &["--help"]);
    let headings = ["What to measure:", "How to run it:", "Limits:", "Output:", "Waiting:"];
    let places: Vec<usize> = headings.iter().map(|h| long.find(h).unwrap_or_else(|| panic!("{h}\n{long}"))).collect();
    assert!(places.is_sorted(), "{places:?}");
    for flag in flags(&shown()) {
        assert!(long.contains(&flag), "{flag} is not in the long help");
    }
    for (words, command) in commands() {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let text = help(&shop, &[&words[..], &["--help"]].concat());
        let both = help(&shop, &[&words[..], &["-h"]].concat()) + &text;
        assert!(!both.contains("BOOL") && !both.to_lowercase().contains("possible values"), "{words:?}:\n{both}");
        // Every value is in a sentence, the values of shells and forms too.
        for value in values(&command) {
            assert!(both.contains(value.get_name()), "{words:?}: `{}` is in no sentence:\n{both}", value.get_name());
        }
        if command.get_subcommands().next().is_none() {
            assert!(text.contains("Examples:\n  "), "{words:?} has no example:\n{text}");
            assert!(!text.contains("As for"), "{words:?} sends its reader elsewhere:\n{text}");
            let writes = ["completions", "man"].contains(&words[0]);
            assert!(text.contains("Exit codes:\n  0 ") != writes, "{words:?}:\n{text}");
        }
    }
    assert_eq!(help(&shop, &["--help", "--dry-run"]), long, "whatever comes after it");
}

#[test]
fn examples_of_the_help_are_commands_that_parse() {
    for (_, command) in commands() {
        let Some(after) = command.get_after_help().map(ToString::to_string) else { continue };
        let examples = after.lines().filter_map(|l| l.strip_prefix("  jetbench ")).map(str::to_string);
        for example in examples.filter(|e| !e.starts_with("completions")) {
            let line = example.split(" >> ").next().unwrap().split(" | ").next().unwrap();
            let words = shlex::split(line).unwrap();
            let parsed = <jetbench::cli::Cli as clap::Parser>::try_parse_from(
                std::iter::once("jetbench".to_string()).chain(words),
            );
            assert!(parsed.is_ok(), "{example}: {}", parsed.unwrap_err());
        }
    }
}

/// What a shell is answered that asks for the last of `words`: its own protocol, that of fish.
fn offered(shop: &Workshop, words: &[&str]) -> Vec<String> {
    let output = shop.command(&[&["--", "jetbench"], words].concat()).env("COMPLETE", "fish").output().unwrap();
    assert!(output.status.success(), "{words:?}: {}", text(&output.stderr));
    text(&output.stdout).lines().map(|l| l.split('\t').next().unwrap().to_string()).collect()
}

#[test]
fn shells_are_offered_every_command_flag_and_value() {
    let shop = Workshop::new(1, 3);
    shop.pack("good", "prompts = [\"points\", \"mask\"]");
    for (words, command) in commands() {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let (name, before) = words.split_last().unwrap();
        assert!(offered(&shop, &[before, &[*name]].concat()).contains(&name.to_string()), "{words:?}");
        let known = offered(&shop, &[&words[..], &["--"]].concat());
        for flag in flags(&command) {
            assert!(known.contains(&flag), "{words:?}: {flag} is not among {known:?}");
        }
    }
    assert_eq!(offered(&shop, &["--dtype", "fp32,f"]), ["fp32,fp32", "fp32,fp16"]);
    assert_eq!(offered(&shop, &["--scenario", "r"]), ["realtime"]);
    assert_eq!(offered(&shop, &["data", "check", "--layout", "davis"]), ["davis2016", "davis2017"]);
    assert_eq!(offered(&shop, &["score", "--protocol", "v"]), ["vos", "vost", "vipseg"]);
    assert_eq!(offered(&shop, &["--option", "over"]), ["overlaps=keep", "overlaps=exclusive"]);
    assert_eq!(offered(&shop, &["--models", "good_"]), ["good_points", "good_mask"], "packs that are there now");
    assert_eq!(offered(&shop, &["verify"]), ["verify"], "not verify-side, which is hidden");
    let run = shop.run(&["--models", "good_points"]);
    let id = run.file_name().unwrap().to_str().unwrap();
    assert_eq!(offered(&shop, &["report", "2"]), [id]);
    assert_eq!(offered(&shop, &["--resume", "la"]), ["latest"]);
}

#[test]
fn every_shell_gets_the_lines_by_which_it_asks() {
    let shop = Workshop::new(1, 3);
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = shop.expect(0, &["completions", shell]);
        assert!(script.contains("COMPLETE") && script.contains("jetbench"), "{shell}: {script}");
    }
    assert_eq!(shop.output(&["completions", "tcsh"]).status.code(), Some(2));
}

/// What a user of bash gets who presses the tabulator key. Bash takes `objects=l` for three words.
#[test]
fn bash_completes_flags_and_what_stands_behind_an_equals_sign() {
    if Command::new("bash").arg("--version").output().is_err() {
        eprintln!("skipped: no bash");
        return;
    }
    let shop = Workshop::new(1, 3);
    std::fs::write(shop.path("complete.sh"), shop.expect(0, &["completions", "bash"])).unwrap();
    let program = std::path::PathBuf::from(assert_cmd::cargo::cargo_bin!("jetbench"));
    let path = format!("{}:{}", program.parent().unwrap().display(), std::env::var("PATH").unwrap());
    let ask = |words: &str| {
        let script = format!(
            "source ./complete.sh && COMP_WORDS=({words}) && COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)) && \
             COMP_WORDBREAKS='=: ' && _jetbench jetbench \"${{COMP_WORDS[COMP_CWORD]}}\" x && \
             printf '%s\\n' \"${{COMPREPLY[@]}}\""
        );
        let mut bash = Command::new("bash");
        let output = bash.current_dir(shop.dir.path()).env("PATH", &path).args(["-c", &script]).output().unwrap();
        assert!(output.status.success(), "{script}: {}", text(&output.stderr));
        text(&output.stdout)
    };
    assert_eq!(ask("jetbench run --rep"), "--repeat\n");
    assert_eq!(ask("jetbench doc"), "doctor\n");
    assert_eq!(ask("jetbench verify"), "verify\n", "not verify-side, which is hidden");
    assert_eq!(ask("jetbench --option objects = l"), "loop\n");
    assert_eq!(ask("jetbench --option objects ="), "batch\nloop\n\n");
    assert_eq!(ask("jetbench --option objects=loop --scen"), "--scenario\n");
}

#[test]
fn man_pages_have_every_command_and_flag() {
    let shop = Workshop::new(1, 3);
    let page = shop.expect(0, &["man"]);
    assert!(page.contains(".TH jetbench 1"), "{}", &page[..200]);
    assert!(!page.to_lowercase().contains("jetbench worker") && !page.contains("SIDE"), "hidden commands stay hidden");
    shop.expect(0, &["man", "--dir", "man1"]);
    for (words, command) in commands() {
        let title = format!(".SH \"JETBENCH {}\"", words.join(" ").to_uppercase());
        let section = page.split(&title).nth(1).unwrap_or_else(|| panic!("no section {title}"));
        let section = section.split(".SH \"JETBENCH").next().unwrap();
        let own = std::fs::read_to_string(shop.path("man1").join(format!("jetbench-{}.1", words.join("-")))).unwrap();
        for flag in flags(&command) {
            let flag = flag.replace('-', "\\-");
            assert!(section.contains(&flag) && own.contains(&flag), "{words:?}: {flag}");
        }
    }
}

#[test]
fn a_run_is_called_by_its_directory_its_id_or_as_the_latest_one() {
    let shop = Workshop::new(1, 3);
    shop.pack("good", "");
    let first = shop.run(&["--models", "good_points"]);
    let second = shop.run(&["--models", "good_points"]);
    let id = |run: &std::path::Path| run.file_name().unwrap().to_str().unwrap().to_string();
    let of = |name: &str| {
        let said: serde_json::Value = serde_json::from_str(&shop.expect(1, &["report", name, "--json"])).unwrap();
        said["run_id"].as_str().unwrap_or_else(|| panic!("{said}")).to_string()
    };
    for name in ["latest", "results", &id(&second), second.to_str().unwrap()] {
        assert_eq!(of(name), id(&second), "{name}");
    }
    assert_eq!(of(&id(&first)), id(&first));
    let compared = shop.expect(0, &["compare", &id(&first), "latest"]);
    assert!(compared.contains(&id(&second)), "{compared}");
    let refused = shop.output(&["report", "20200101T000000Z-000000"]);
    let said = text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(2));
    assert!(said.contains("no such run; `latest` in results is ") && said.contains(&id(&second)), "{said}");
    let empty = text(&shop.output(&["compare", "latest", "latest", "--out", "data"]).stderr);
    assert!(empty.contains("latest: no such run, and there is no run in data"), "{empty}");
}

#[test]
fn a_model_without_a_prompt_is_told_the_prompts() {
    let shop = Workshop::new(1, 3);
    shop.pack("good", "");
    let output = shop.output(&["--models", "good", "--data", "data"]);
    assert_eq!(output.status.code(), Some(2));
    let said = text(&output.stderr);
    assert!(said.contains("model `good` lacks its prompt; add one: good_points, good_bbox, good_mask"), "{said}");
}

/// Runs a copy of the program that lies somewhere else, from a directory that has nothing of it.
fn elsewhere(program: &std::path::Path, args: &[&str], data_home: &std::path::Path) -> (Option<i32>, String) {
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new(program);
    command.current_dir(directory.path()).args(args).env("XDG_DATA_HOME", data_home).env("JETBENCH_LOCKS", data_home);
    for name in ["JETBENCH_HOME", "JETBENCH_PACKS", "JETBENCH_CONFIG", "JETBENCH_RESULTS"] {
        command.env_remove(name);
    }
    // Between its fork and its exec, a child of another test holds the fresh copy open, and what is written to cannot be run.
    let output = loop {
        match command.output() {
            Err(e) if e.kind() == std::io::ErrorKind::ExecutableFileBusy => std::thread::yield_now(),
            output => break output.unwrap(),
        }
    };
    (output.status.code(), text(&output.stdout) + &text(&output.stderr))
}

#[test]
fn a_program_that_was_copied_away_finds_what_comes_with_it() {
    let shop = Workshop::new(1, 3);
    let program = shop.path("prefix/bin/jetbench");
    std::fs::create_dir_all(program.parent().unwrap()).unwrap();
    std::fs::copy(assert_cmd::cargo::cargo_bin!("jetbench"), &program).unwrap();
    let home = shop.path("home");
    // As `cargo install` leaves it, alone: the checkout it was built in has the rest.
    let (code, said) = elsewhere(&program, &["--config", "configs/demo.toml", "--dry-run"], &home);
    assert!(code == Some(0) && said.contains("sam2_mini"), "{said}");
    let (code, said) = elsewhere(&program, &["packs", "inspect", "assets/packs/edgetam_mini"], &home);
    assert!(code == Some(0) && said.contains("edgetam_mini"), "{said}");
    // As a release leaves it: what is installed beside it goes before.
    shop.pack("good", "");
    let share = shop.path("prefix/share/jetbench/assets");
    std::fs::create_dir_all(&share).unwrap();
    std::fs::rename(shop.path("packs"), share.join("packs")).unwrap();
    std::fs::rename(shop.path("data"), share.join("demo")).unwrap();
    let (code, said) = elsewhere(&program, &["--models", "good_points", "--dtype", "fp32", "--dry-run"], &home);
    assert!(code == Some(0) && said.contains("good_points") && said.contains("1 video"), "{said}");
}

#[test]
fn what_is_found_nowhere_is_named_with_the_remedy() {
    let shop = Workshop::empty();
    shop.pack("good", "");
    let output = shop.output(&["--models", "good_points", "--dtype", "fp32"]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("no --data given, and assets/demo, which comes with jetbench, is neither in"), "{said}");
    assert!(said.contains("(JETBENCH_HOME); set JETBENCH_HOME to a checkout"), "{said}");
    let said = text(&Workshop::new(1, 3).output(&["--models", "sam2_points", "--data", "data"]).stderr);
    assert!(said.contains("there is no ./packs, and assets/packs, which comes with jetbench"), "{said}");
}
