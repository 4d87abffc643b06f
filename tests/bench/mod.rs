//! Two clips in which an object appears late, mock packs as asked for, and the last line of a run. It exists only under
//! `tests/`.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use assert_cmd::cargo::cargo_bin;
use serde_json::Value;

use crate::workshop::limited;

/// A directory with two clips in SA-V layout, mock packs as asked for, and a place for results.
pub struct Bench {
    pub dir: tempfile::TempDir,
}

pub const WIDTH: u32 = 64;
pub const HEIGHT: u32 = 48;

pub fn png(path: &Path, colour: png::ColorType, data: &[u8]) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut encoder = png::Encoder::new(std::fs::File::create(path).unwrap(), WIDTH, HEIGHT);
    encoder.set_color(colour);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.write_header().unwrap().write_image_data(data).unwrap();
}

impl Bench {
    pub fn new() -> Self {
        let bench = Bench { dir: tempfile::tempdir().unwrap() };
        for video in ["a", "b"] {
            for frame in 0..13u32 {
                let name = format!("{frame:05}.png");
                let grey = vec![90; (WIDTH * HEIGHT * 3) as usize];
                png(&bench.path("data/JPEGImages_24fps").join(video).join(&name), png::ColorType::Rgb, &grey);
                if frame % 4 != 0 {
                    continue;
                }
                // Object 001 appears late, on frame 4.
                for (object, left) in [("000", 4), ("001", 30)] {
                    let inside = |x: u32, y: u32| {
                        (object == "000" || frame >= 4)
                            && (left + frame..left + frame + 12).contains(&x)
                            && (8..24).contains(&y)
                    };
                    let mask: Vec<u8> = (0..HEIGHT)
                        .flat_map(|y| (0..WIDTH).map(move |x| (x, y)))
                        .map(|(x, y)| if inside(x, y) { 255 } else { 0 })
                        .collect();
                    let path = bench.path("data/Annotations_6fps").join(video).join(object).join(&name);
                    png(&path, png::ColorType::Grayscale, &mask);
                }
            }
        }
        bench.pack("good", "motion = [1.0, 0.0]\n");
        bench
    }

    pub fn path(&self, relative: &str) -> PathBuf {
        self.dir.path().join(relative)
    }

    pub fn pack(&self, id: &str, mock: &str) -> &Self {
        let dir = self.path("packs").join(id);
        std::fs::create_dir_all(&dir).unwrap();
        let text = format!("schema = 1\nid = \"{id}\"\nfamily = \"mock\"\n[mock]\n{mock}");
        std::fs::write(dir.join("pack.toml"), text).unwrap();
        self
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(cargo_bin!("jetbench"));
        command.current_dir(self.dir.path()).args(args);
        for name in ["JETBENCH_PACKS", "JETBENCH_CONFIG", "JETBENCH_RESULTS", "CLICOLOR_FORCE"] {
            command.env_remove(name);
        }
        // The repository's own packs and clips must not be found from where the executable lies.
        command.env("JETBENCH_HOME", self.dir.path());
        // Nor may tests wait for each other.
        command.env("JETBENCH_LOCKS", self.path("locks"));
        command
    }

    pub fn output(&self, args: &[&str]) -> Output {
        limited(self.command(args))
    }

    /// Runs these models over the clips and reads the last line.
    pub fn run(&self, models: &str, more: &[&str]) -> Ran {
        let mut args = vec!["--models", models, "--dtype", "fp32", "--data", "data", "--json"];
        args.extend(more);
        Ran::new(self, self.output(&args))
    }
}

/// A finished run.
pub struct Ran {
    pub code: i32,
    pub last: String,
    pub line: Value,
    pub record: Value,
    pub dir: PathBuf,
    pub stderr: String,
}

impl Ran {
    pub fn new(bench: &Bench, output: Output) -> Self {
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        let last = stdout.lines().last().unwrap_or_default();
        let line: Value = serde_json::from_str(last).unwrap_or_else(|e| panic!("{e}: {stdout}\n{stderr}"));
        let dir = bench.path(line["run"].as_str().unwrap());
        let record = serde_json::from_slice(&std::fs::read(dir.join("run.json")).unwrap()).unwrap();
        Ran { code: output.status.code().unwrap_or(-1), last: last.to_string(), line, record, dir, stderr }
    }

    pub fn verdict(&self, cell: usize) -> (&str, String) {
        let cell = &self.line["cells"][cell];
        let reasons: Vec<_> = cell["reasons"].as_array().unwrap().iter().map(|r| r.as_str().unwrap()).collect();
        (cell["verdict"].as_str().unwrap(), reasons.join("; "))
    }

    pub fn csv(&self, name: &str) -> Vec<Vec<String>> {
        let mut reader = csv::ReaderBuilder::new().has_headers(false).from_path(self.dir.join(name)).unwrap();
        reader.records().map(|r| r.unwrap().iter().map(String::from).collect()).collect()
    }
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub fn stderr(output: &Output) -> String {
    text(&output.stderr)
}
