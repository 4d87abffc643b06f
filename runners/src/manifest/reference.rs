//! The reference of `pack.toml` in docs/packs.md and the schema for editors, made from the types of the manifest. With UPDATE_DOCS=1 they are
//! written, else compared.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::Value;

use super::Manifest;

/// Below this line docs/packs.md is generated.
const MARK: &str = "<!-- below: from the types, UPDATE_DOCS=1 cargo test -p jetbench-runners --lib reference -->\n";

fn schema() -> Value {
    let mut schema = schemars::schema_for!(Manifest).to_value();
    schema["title"] = "pack.toml of jetbench".into();
    schema
}

/// The definition that a `$ref` leads to, and its name.
fn resolve<'a>(root: &'a Value, value: &'a Value) -> (Option<&'a str>, &'a Value) {
    let inner = value["anyOf"].as_array().and_then(|any| any.iter().find(|v| v["type"] != "null")).unwrap_or(value);
    match inner["$ref"].as_str().and_then(|path| path.rsplit('/').next()) {
        Some(name) => (Some(name), &root["$defs"][name]),
        None => (None, inner),
    }
}

/// The type of a field, in a reader's words.
fn kind(root: &Value, value: &Value) -> String {
    let (_, found) = resolve(root, value);
    if let Some(words) = found["oneOf"].as_array() {
        let words: Vec<String> = words.iter().filter_map(|w| Some(format!("`{:?}`", w["const"].as_str()?))).collect();
        if !words.is_empty() {
            return words.join(", ");
        }
    }
    if let Some(any) = found["anyOf"].as_array() {
        return any.iter().map(|v| kind(root, v)).collect::<Vec<_>>().join(" or ");
    }
    let name = match &found["type"] {
        Value::Array(names) => names.iter().filter_map(Value::as_str).find(|n| *n != "null").unwrap_or_default(),
        name => name.as_str().unwrap_or_default(),
    };
    match name {
        "array" => match (found["minItems"].as_u64(), kind(root, &found["items"])) {
            (Some(n), of) => format!("list of {n}: {of}"),
            (None, of) => format!("list of {of}"),
        },
        "object" if found["properties"].is_object() => "table".to_string(),
        "object" => {
            let of = kind(root, found.get("additionalProperties").unwrap_or(&Value::Null));
            format!("table of {}", if of.is_empty() { "text".to_string() } else { of })
        }
        "string" => "text".to_string(),
        "integer" => "whole number".to_string(),
        other => other.to_string(),
    }
}

fn words(text: &Value) -> String {
    let text = text.as_str().unwrap_or_default().replace('\n', " ");
    // Links of the code mean nothing here.
    text.replace("[`SCHEMA`]", "1").replace("[`", "`").replace("`]", "`").replace('|', "\\|")
}

/// A section per table of the manifest.
fn section(root: &Value, heading: &str, table: &Value, text: &mut String) {
    let required: Vec<&str> = table["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let _ = write!(
        text,
        "\n### {heading}\n\n{}\n\n| key | type | needed | meaning |\n|---|---|---|---|\n",
        words(&table["description"])
    );
    let mut below = Vec::new();
    for (key, value) in table["properties"].as_object().into_iter().flatten() {
        let (named, found) = resolve(root, value);
        let items = resolve(root, &value["items"]).1;
        let about = if value["description"].is_string() { &value["description"] } else { &found["description"] };
        let needed = if required.contains(&key.as_str()) { "yes" } else { "" };
        let _ = writeln!(text, "| `{key}` | {} | {needed} | {} |", kind(root, value), words(about));
        let name = heading.trim_matches('`').trim_matches(['[', ']']);
        let path = if heading.starts_with('`') { format!("{name}.{key}") } else { key.clone() };
        if named.is_some() && found["properties"].is_object() {
            below.push((if heading.starts_with('`') { format!("`{path}`") } else { format!("`[{path}]`") }, found));
        } else if items["properties"].is_object() {
            below.push((
                if heading.starts_with('`') { format!("`{path}`, each") } else { format!("`[[{path}]]`") },
                items,
            ));
        }
    }
    for (heading, table) in below {
        // Inputs and outputs are of one kind.
        if !text.contains(&format!("\n### {heading}\n")) && !heading.contains("outputs") {
            section(root, &heading.replace("inputs`, each", "inputs` and `graph.outputs`, each"), table, text);
        }
    }
}

#[test]
fn the_reference_of_the_manifest_is_that_of_its_types() {
    let root = schema();
    let mut page = String::from(MARK);
    section(&root, "Top", &root, &mut page);
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let (at, schema_at) = (docs.join("packs.md"), docs.join("pack.schema.json"));
    let written = std::fs::read_to_string(&at).unwrap();
    let head = written.split(MARK).next().unwrap();
    let wanted = format!("{head}{page}");
    let schema = serde_json::to_string_pretty(&root).unwrap() + "\n";
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&at, &wanted).unwrap();
        std::fs::write(&schema_at, &schema).unwrap();
    }
    let again = "UPDATE_DOCS=1 cargo test -p jetbench-runners --lib reference";
    assert!(std::fs::read_to_string(&at).unwrap() == wanted, "docs/packs.md is not that of the types: {again}");
    assert!(
        std::fs::read_to_string(&schema_at).unwrap_or_default() == schema,
        "docs/pack.schema.json is not that of the types: {again}"
    );
}

/// Every key of the shipped manifests is in the schema, and every key that the schema needs is in them.
#[test]
fn the_schema_admits_the_shipped_packs() {
    fn compare(root: &Value, schema: &Value, value: &toml::Value, at: &str) {
        let found = resolve(root, schema).1;
        match value {
            toml::Value::Table(table) if found["properties"].is_object() => {
                for (key, value) in table {
                    assert!(found["properties"][key].is_object(), "{at}.{key} is not in the schema");
                    compare(root, &found["properties"][key], value, &format!("{at}.{key}"));
                }
                for key in found["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                    assert!(table.contains_key(key), "{at}.{key} is needed");
                }
            }
            toml::Value::Array(list) => list.iter().for_each(|v| compare(root, &found["items"], v, at)),
            _ => {}
        }
    }
    let root = schema();
    for pack in ["sam2_mini", "edgetam_mini"] {
        let at = Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets/packs").join(pack).join("pack.toml");
        let text = std::fs::read_to_string(at).unwrap();
        compare(&root, &root, &toml::Value::Table(toml::from_str(&text).unwrap()), pack);
    }
}
