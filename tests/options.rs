//! Options for the runners as a user meets them: wrong values are refused while planning, unknown names are dropped with the
//! nearest known one, and what is listed and documented is what is there.

use std::path::Path;

use serde_json::Value;

use crate::workshop::{Workshop, text};

const PACKS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/packs");

/// What is said of arguments that are refused: exit 2, nothing on stdout, and neither lock nor results nor worker.
fn refusal(shop: &Workshop, args: &[&str]) -> String {
    let mut said = Vec::new();
    for dry in [&[][..], &["--dry-run"][..]] {
        let output = shop.output(&[args, &["--data", "data", "--packs", PACKS], dry].concat());
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}{error}", text(&output.stdout));
        assert!(output.stdout.is_empty(), "{args:?}: {}", text(&output.stdout));
        said.push(error.trim_end().to_string());
    }
    assert_eq!(said[0], said[1], "a dry run says the same");
    assert!(!shop.path("results").exists() && !shop.path("locks").exists(), "{args:?}: something was written");
    said.remove(0)
}

#[test]
fn wrong_values_are_refused_before_anything_runs() {
    let shop = Workshop::new(1, 3);
    shop.pack("good", "");
    let objects = refusal(&shop, &["--models", "sam2_points", "--option", "objects=foo"]);
    assert_eq!(objects, "error: invalid value \"foo\" for option objects: expected batch, loop or a number");
    let mut seen = String::new();
    for (model, given) in [
        ("sam2_points", "objects=0"),
        ("sam2_points", "threads=0"),
        ("sam2_points", "threads=many"),
        ("sam2_points", "spinning=on"),
        ("sam2_points", "cpu_arena=1"),
        ("sam2_points", "stage_times="),
        ("sam2_points", "optimization=most"),
        // Also where the device would not take it, and where the pack does not.
        ("sam2_points", "tf32=yes"),
        ("sam2_points", "trt_workspace_mib=0"),
        ("sam2_points", "trt_auxiliary_streams=65"),
        ("sam2_points", "cudnn_conv_algo_search=best"),
        ("good_points", "objects=foo"),
        ("good_points", "stage_times=maybe"),
    ] {
        let said = refusal(&shop, &["--models", model, "--option", given]);
        seen.push_str(&format!("{given}\n  {said}\n"));
    }
    insta::assert_snapshot!(seen);
    assert!(refusal(&shop, &["--models", "good_points", "--threads", "5000"]).contains("option threads: expected"));
}

#[test]
fn values_that_do_not_go_with_the_cell_are_refused_too() {
    let shop = Workshop::new(1, 3);
    let mut seen = String::new();
    for args in [
        &["--dtype", "fp32,bf16", "--option", "form=cpu"][..],
        &["--option", "pin_threads=on"][..],
        &["--option", "pin_threads=on", "--threads", "1024"][..],
        &["--device", "tensorrt:0", "--option", "max_objects=2", "--option", "opt_objects=3"][..],
    ] {
        let said = refusal(&shop, &[&["--models", "sam2_points"], args].concat());
        seen.push_str(&format!("{}\n  {said}\n", args.join(" ")));
    }
    let processors = std::thread::available_parallelism().unwrap().to_string();
    insta::assert_snapshot!(seen.replace(&format!("{processors} processors"), "N processors"));
}

#[test]
fn a_config_files_options_are_checked_with_file_and_line() {
    let shop = Workshop::new(1, 3);
    for (line, options) in
        [("job.toml:3", "[option]\nobjects = \"foo\"\n"), ("job.toml:2", "option = [\"threads=2\", \"objects=foo\"]\n")]
    {
        std::fs::write(shop.path("job.toml"), format!("models = \"sam2_points\"\n{options}")).unwrap();
        let said = refusal(&shop, &["--config", "job.toml"]);
        assert_eq!(
            said,
            format!("error: {line}: invalid value \"foo\" for option objects: expected batch, loop or a number")
        );
    }
}

#[test]
fn unknown_names_are_dropped_with_the_nearest_known_one() {
    let shop = Workshop::new(1, 3);
    shop.pack("good", "options = [\"threads\", \"test_only\"]");
    let given = ["object=loop", "zzz=1", "test_only=anything"].map(|option| ["--option", option]).concat();
    let output = shop
        .output(&[&["--models", "good_points", "--dtype", "fp32", "--data", "data", "--dry-run"], &given[..]].concat());
    let said = text(&output.stdout);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("option object=loop dropped: not supported by this runner; it knows: threads, test_only; did you mean `objects`?"), "{said}");
    assert!(
        said.contains("option zzz=1 dropped: not supported by this runner; it knows: threads, test_only\n"),
        "{said}"
    );
    assert!(said.contains("options test_only=anything"), "{said}");
}

#[test]
fn the_list_fits_the_screen_and_hides_what_is_for_tests() {
    let shop = Workshop::new(1, 3);
    let list = shop.expect(0, &["models", "--options"]);
    let wide: Vec<&str> = list.lines().filter(|line| line.chars().count() > 80).collect();
    assert!(wide.is_empty(), "{wide:#?}");
    for word in
        ["objects=batch|loop|N", "threads=1..1024", "tf32=true|false", "trt_workspace_mib=1..1048576", "trt_dla_enable"]
    {
        assert!(list.contains(word), "{word} is missing:\n{list}");
    }
    assert!(!list.contains("mock"), "{list}");
    let json: Value = serde_json::from_str(&shop.expect(0, &["models", "--options", "--json"])).unwrap();
    assert_eq!(json["schema"], 1);
    let options = json["options"].as_array().unwrap();
    let objects = options.iter().find(|o| o["name"] == "objects").unwrap();
    assert_eq!(objects["values"], "batch|loop|N");
    assert_eq!(objects["families"], serde_json::json!(["sam2", "edgetam", "efficienttam", "sam3_tracker"]));
    assert_eq!(objects["devices"], serde_json::json!(["cpu", "cuda", "tensorrt", "webgpu", "plugin"]));
    assert!(options.iter().all(|o| o["default"].is_string() && !o["help"].as_str().unwrap().is_empty()));
    assert!(json["refused"]["trt_dla_enable"].as_str().unwrap().contains("LayerNormalization"));
}

/// With `UPDATE_DOCS` set it writes the page instead.
#[test]
fn the_page_of_options_is_the_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/options.md");
    let page = jetbench::command::models::options::page();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == page,
        "docs/options.md is not what the table says; write it anew with: UPDATE_DOCS=1 cargo test --test it options::"
    );
}
