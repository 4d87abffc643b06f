//! The runners' options as a list for the screen, as JSON and as the page `docs/options.md`, all from the runners' table.

use std::fmt::Write as _;

use jetbench_runners::REGISTRY;
use jetbench_runners::options::{DeviceKind, REFUSED, RunnerOption, TABLE};
use serde_json::{Map, Value, json};

/// Columns of the list.
const WIDTH: usize = 80;

/// The list for the screen.
pub fn text() -> String {
    let mut text = fold(
        "",
        "Options for the runners: --option NAME=VALUE (repeatable), or [option] in a config file; defaults in brackets. A wrong value \
         is refused. What a pack or a device does not take is dropped, shown and recorded. docs/options.md says more.",
    );
    for (devices, options) in groups() {
        let _ = writeln!(text, "\n{}", on(devices));
        for option in options {
            let _ = writeln!(text, "  {}={}  [{}]", option.name, option.values(), option.default);
            text.push_str(&fold("      ", option.help));
            text.push_str(&only(option).map(|only| fold("      ", &only)).unwrap_or_default());
        }
    }
    text.push_str("\nnot offered\n");
    for (name, reason) in REFUSED {
        let _ = write!(text, "  {name}\n{}", fold("      ", reason));
    }
    text
}

/// The same for programs.
pub fn json() -> String {
    let options: Vec<Value> = TABLE
        .iter()
        .map(|o| {
            let devices: Vec<&str> = o.devices.iter().map(|device| device.as_str()).collect();
            json!({"name": o.name, "values": o.values(), "words": o.words(), "range": o.range(), "default": o.default,
                "devices": devices, "families": families(o), "needs": o.needs.as_str(), "help": o.help,
                "provider_option": o.provider_key()})
        })
        .collect();
    let refused: Map<String, Value> = REFUSED.iter().map(|(name, reason)| (name.to_string(), json!(reason))).collect();
    format!("{}\n", json!({"schema": 1, "options": options, "refused": refused}))
}

/// The page `docs/options.md`.
pub fn page() -> String {
    let mut page = String::from(
        "# Options for the runners\n\n\
         <!-- From the table in runners/src/host/options/table.rs; written anew by: UPDATE_DOCS=1 cargo test --test it options:: -->\n\n\
         `--option NAME=VALUE` (repeatable), or in a config file:\n\n\
         ```toml\n[option]\nobjects = \"loop\"\nstage_times = \"off\"\n```\n\n\
         A value that an option cannot have is refused before anything runs (exit 2), also by `--dry-run`. An option that a pack or \
         a device does not take, and a name that is none, is dropped: the plan shows it with the reason, and `run.json` records what \
         was passed and what was dropped. `jetbench models --options` lists them on the screen, with `--json` for programs.\n",
    );
    for (devices, options) in groups() {
        let _ = writeln!(page, "\n## Options for {}", on(devices));
        let (passed, own): (Vec<_>, Vec<_>) = options.into_iter().partition(|o| o.provider_key().is_some());
        for option in own {
            let only = only(option).map(|only| format!("; {only}")).unwrap_or_default();
            let _ = write!(page, "\n### `{}`\n\n{}. ", option.name, option.help);
            let _ = writeln!(page, "Values: `{}`; default: {}{only}.", option.values(), option.default);
            if !option.doc.is_empty() {
                let _ = writeln!(page, "\n{}", option.doc);
            }
        }
        if !passed.is_empty() {
            let unknown = match devices {
                [DeviceKind::WebGpu] => "1.27 knows these, and passes over one that it does not know without a word",
                _ => "one that the linked ONNX Runtime does not know is dropped and recorded",
            };
            let _ = write!(
                page,
                "\nHanded to ONNX Runtime's provider under its own name for it; {unknown}.\n\n| option | values | default | ONNX Runtime's name | what it does |\n|---|---|---|---|---|\n",
            );
        }
        for option in passed {
            let (values, key) = (option.values().replace('|', r"\|"), option.provider_key().unwrap_or_default());
            let doc = if option.doc.is_empty() { String::new() } else { format!(". {}", option.doc) };
            let (name, default, help) = (option.name, option.default, option.help);
            let _ = writeln!(page, "| `{name}` | `{values}` | {default} | `{key}` | {help}{doc} |");
        }
    }
    page.push_str("\n## Not offered\n\nThese exist in ONNX Runtime and are dropped with this reason.\n\n| option | why |\n|---|---|\n");
    for (name, reason) in REFUSED {
        let _ = writeln!(page, "| `{name}` | {reason} |");
    }
    page
}

/// The options by the devices on which they mean something, in the table's order.
fn groups() -> Vec<(&'static [DeviceKind], Vec<&'static RunnerOption>)> {
    let mut groups: Vec<(&[DeviceKind], Vec<&RunnerOption>)> = Vec::new();
    for option in TABLE {
        match groups.iter_mut().find(|(devices, _)| *devices == option.devices) {
            Some((_, options)) => options.push(option),
            None => groups.push((option.devices, vec![option])),
        }
    }
    groups
}

fn on(devices: &[DeviceKind]) -> String {
    let names: Vec<&str> = devices.iter().map(|device| device.as_str()).collect();
    if names.len() == DeviceKind::ALL.len() { "every device".to_string() } else { names.join(" and ") }
}

/// Families that take it, test families left out.
fn families(option: &RunnerOption) -> Vec<&'static str> {
    let shown = REGISTRY.iter().filter(|entry| !entry.hidden).map(|entry| entry.family);
    shown.filter(|family| option.families.is_empty() || option.families.contains(family)).collect()
}

/// Which packs take it, where not all do.
fn only(option: &RunnerOption) -> Option<String> {
    let named = (!option.families.is_empty()).then(|| format!("only families {}", families(option).join(", ")));
    let needs = (!option.needs.as_str().is_empty()).then(|| format!("only {}", option.needs.as_str()));
    let parts: Vec<String> = named.into_iter().chain(needs).collect();
    (!parts.is_empty()).then(|| parts.join("; "))
}

/// Lines of whole words, each with its indent, as wide as the screen.
fn fold(indent: &str, text: &str) -> String {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(&format!("{indent}{word}")),
            Some(line) if line.chars().count() + 1 + word.chars().count() <= WIDTH => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(format!("{indent}{word}")),
        }
    }
    lines.join("\n") + "\n"
}
