//! Unattended runs: units that systemd accepts, one run per device at a time, nothing repeated without need, old runs
//! removed and no others.

use std::io::BufRead;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::workshop::{Workshop, text, tree};

const JOB: [&str; 8] = ["--models", "calm_mask", "--data", "data", "--dtype", "fp32", "--min-frames", "1"];

fn shop() -> Workshop {
    let shop = Workshop::new(2, 5);
    shop.pack("calm", "motion = [1.0, 0.0]");
    let job = "models = \"calm_mask\"\ndata = \"data\"\ndtype = \"fp32\"\nmin-frames = 1\n";
    std::fs::write(shop.path("night.toml"), job).unwrap();
    shop
}

#[test]
fn units_are_made_accepted_listed_and_removed() {
    let shop = shop();
    let install = |more: &[&str]| {
        let mut args = vec![
            "schedule",
            "install",
            "--on-calendar",
            "*-*-* 02:00",
            "--config",
            "night.toml",
            "--unit-dir",
            "units",
        ];
        args.extend(more);
        let mut command = shop.command(&args);
        // Words that a unit would expand if they were not quoted.
        command.env("JETBENCH_PACKS", "a dir/50%/$HOME/\"packs\"").output().unwrap()
    };
    let more = ["--cool-to", "45", "--max-wait", "30m", "--if-changed", "--keep", "30"];
    for place in ["--user", "--system"] {
        let output = install(&[&more[..], &[place]].concat());
        assert!(output.status.success(), "{}", text(&output.stderr));
        let units = [shop.path("units/jetbench-night.service"), shop.path("units/jetbench-night.timer")];
        let service = std::fs::read_to_string(&units[0]).unwrap();
        for word in [
            "\"--cool-to\" \"45\"",
            "\"--max-wait\" \"30m\"",
            "\"--keep\" \"30\"",
            "\"--if-changed\"",
            "NoNewPrivileges=yes",
        ] {
            assert!(service.contains(word), "{word}: {service}");
        }
        assert!(service.contains(r#"Environment="JETBENCH_PACKS=a dir/50%%/$HOME/\"packs\"""#), "{service}");
        assert_eq!(service.contains("ProtectSystem=strict"), place == "--system");
        assert!(std::fs::read_to_string(&units[1]).unwrap().contains("\nOnCalendar=*-*-* 02:00\nPersistent=yes\n"));
        match Command::new("systemd-analyze").arg("verify").arg("--man=no").args(&units).output() {
            Ok(verified) => {
                let said = text(&verified.stderr);
                let ours: Vec<&str> = said.lines().filter(|l| l.contains("jetbench-night")).collect();
                assert!(verified.status.success() && ours.is_empty(), "{said}");
            }
            Err(e) => println!("skipped: units were not verified, systemd-analyze cannot be run: {e}"),
        }
    }
    let said = shop.expect(0, &["schedule", "list", "--unit-dir", "units"]);
    assert!(said.starts_with("night\n  when    *-*-* 02:00\n") && said.contains("has not run yet"), "{said}");

    // What the unit would run, run by hand: the list shows how it ended.
    let service = std::fs::read_to_string(shop.path("units/jetbench-night.service")).unwrap();
    let line = service.lines().find_map(|l| l.strip_prefix("ExecStart=")).unwrap();
    let words: Vec<String> = line.trim_matches('"').split("\" \"").map(String::from).collect();
    let args: Vec<&str> = words[1..].iter().map(String::as_str).filter(|w| !["--cool-to", "45"].contains(w)).collect();
    shop.expect(0, &args);
    let said = shop.expect(0, &["schedule", "list", "--unit-dir", "units"]);
    assert!(said.contains("all cells valid, "), "{said}");
    shop.expect(0, &args);
    let said = shop.expect(0, &["schedule", "list", "--unit-dir", "units"]);
    assert!(said.contains("skipped, nothing had changed"), "{said}");
    assert_eq!(shop.runs("results").iter().filter(|r| r.join("run.json").exists()).count(), 1);
    let json: Value =
        serde_json::from_str(&shop.expect(0, &["schedule", "list", "--unit-dir", "units", "--json"])).unwrap();
    assert_eq!(
        (&json["schedules"][0]["schedule"]["name"], &json["schedules"][0]["last"]["code"]),
        (&"night".into(), &0.into())
    );

    shop.expect(2, &["schedule", "remove", "day", "--unit-dir", "units"]);
    shop.expect(0, &["schedule", "remove", "night", "--unit-dir", "units"]);
    assert!(tree(&shop.path("units")).is_empty());
}

#[test]
fn a_schedule_tells_when_it_fails_and_writes_where_it_is_asked_to() {
    let shop = shop();
    let mut job = std::fs::read_to_string(shop.path("night.toml")).unwrap();
    job.push_str("export-prometheus = \"metrics/night.prom\"\n");
    std::fs::write(shop.path("night.toml"), job).unwrap();
    let when = ["schedule", "install", "--on-calendar", "*-*-* 02:00", "--config", "night.toml", "--unit-dir", "units"];
    let baseline = ["--baseline", "main", "--fail-on-regression", "--on-inconclusive", "fail"];
    let missing = shop.output(&[&when[..], &baseline].concat());
    assert_eq!(missing.status.code(), Some(2));
    assert!(text(&missing.stderr).contains("no baseline `main`"), "{}", text(&missing.stderr));
    shop.expect(0, &JOB);
    shop.expect(0, &["compare", "latest", "--save-baseline", "main"]);

    let command = r#"echo "$JETBENCH_SCHEDULE 100%" 'failed' >> said"#;
    let failure = ["--on-failure", command];
    shop.expect(0, &[&when[..], &["--system"], &baseline, &failure].concat());
    let unit = |name: &str| shop.path(&format!("units/jetbench{name}"));
    let service = std::fs::read_to_string(unit("-night.service")).unwrap();
    for word in [
        "\nOnFailure=jetbench_failed-night.service\n",
        r#""--baseline" "main" "--on-inconclusive" "fail" "--fail-on-regression""#,
        &format!("\nReadWritePaths=\"{}\"\n", shop.dir.path().canonicalize().unwrap().join("metrics").display()),
    ] {
        assert!(service.contains(word), "{word}: {service}");
    }
    let failed = std::fs::read_to_string(unit("_failed-night.service")).unwrap();
    let line = r#"ExecStart="/bin/sh" "-c" "echo \"$$JETBENCH_SCHEDULE 100%%\" 'failed' >> said""#;
    assert!(failed.contains(line) && failed.contains("Environment=\"JETBENCH_SCHEDULE=night\""), "{failed}");
    assert!(shop.path("metrics").is_dir(), "systemd must find what it leaves writable");
    let units = [unit("-night.service"), unit("-night.timer"), unit("_failed-night.service")];
    match Command::new("systemd-analyze").arg("verify").arg("--man=no").args(&units).output() {
        Ok(verified) => {
            let said = text(&verified.stderr);
            let ours: Vec<&str> = said.lines().filter(|l| l.contains("night")).collect();
            assert!(verified.status.success() && ours.is_empty(), "{said}");
        }
        Err(e) => println!("skipped: units were not verified, systemd-analyze cannot be run: {e}"),
    }
    // The line for cron does the same, by a shell: here the run fails, because there is no such program.
    let printed = shop.expect(0, &[&when[..], &failure, &["--print"]].concat());
    let line = printed.lines().last().unwrap().strip_prefix("# 0 2 * * * ").unwrap().replace("\\%", "%");
    let program = assert_cmd::cargo::cargo_bin!("jetbench").display().to_string();
    assert!(line.contains(&program), "{line}");
    let shell = Command::new("sh").arg("-c").arg(line.replace(&program, "/nowhere/jetbench")).output().unwrap();
    assert_eq!(std::fs::read_to_string(shop.path("said")).unwrap(), "night 100% failed\n", "{}", text(&shell.stderr));

    // What does not outlive a boot is made anew by the run, so that the directory above it must be writable; and what is made for
    // a user by root is the user's. (scripts/schedule_test.sh tries both for real.)
    if Path::new("/run/lock").is_dir() && std::fs::metadata(shop.dir.path()).unwrap().uid() == 0 {
        let mut sudo = shop.command(&[&when[..], &["--system", "--name", "first"]].concat());
        sudo.env("SUDO_UID", "1")
            .env("SUDO_GID", "1")
            .env_remove("JETBENCH_LOCKS")
            .env("JETBENCH_RESULTS", "new/results");
        assert!(sudo.output().unwrap().status.success());
        let service = std::fs::read_to_string(unit("-first.service")).unwrap();
        assert!(service.contains("\nReadWritePaths=\"/run/lock\"\n") && service.contains("\nUser=1\n"), "{service}");
        let owner = |path: &str| std::fs::metadata(shop.path(path)).unwrap().uid();
        assert_eq!(["new", "new/results", "new/results/schedules"].map(owner), [1; 3]);
        assert_eq!(owner("units"), 0);
        shop.expect(0, &["schedule", "remove", "first", "--unit-dir", "units"]);
    } else {
        println!("skipped: only root makes directories for others");
    }

    // Installed again without it, and removed, nothing of it stays.
    shop.expect(0, &when);
    assert!(
        !unit("_failed-night.service").exists()
            && !std::fs::read_to_string(unit("-night.service")).unwrap().contains("OnFailure")
    );
    shop.expect(0, &[&when[..], &failure].concat());
    shop.expect(0, &["schedule", "remove", "night", "--unit-dir", "units"]);
    assert!(tree(&shop.path("units")).is_empty());
    for command in ["", " ", "a\nb"] {
        assert_eq!(shop.output(&[&when[..], &["--on-failure", command]].concat()).status.code(), Some(2));
    }
}

#[test]
fn what_cannot_be_scheduled_is_said_at_once() {
    let shop = shop();
    let print = |calendar: &str, more: &[&str]| {
        let mut args = vec!["schedule", "install", "--print", "--on-calendar", calendar];
        args.extend(more);
        shop.output(&args)
    };
    let printed = print("*-*-* 02:00", &["--config", "night.toml"]);
    let said = text(&printed.stdout);
    assert!(printed.status.success() && said.contains("# 0 2 * * * cd ") && said.contains("OnCalendar="), "{said}");
    assert!(!shop.path("results").exists(), "--print leaves nothing");
    std::fs::write(shop.path("typo.toml"), "modles = \"calm_mask\"\n").unwrap();
    for (calendar, more) in [
        ("*-*-* 02:00", &["--config", "typo.toml"][..]),
        ("*-*-* 02:00", &["--config", "missing.toml"]),
        ("*-*-* 02:00", &["--config", "night.toml", "--name", "../evil"]),
        ("*-*-* 02:00\nExecStartPre=x", &["--config", "night.toml"]),
        ("*-*-* 02:00", &["--config", "night.toml", "--max-wait", "soon"]),
    ] {
        let output = print(calendar, more);
        assert_eq!(output.status.code(), Some(2), "{more:?}: {}", text(&output.stdout));
    }
}

#[test]
fn two_runs_never_share_a_device() {
    let shop = shop();
    shop.pack("slow", "[[mock.fault]]\nframe = 3\nkind = \"wait\"");
    let slow = ["--models", "slow_mask", "--data", "data", "--dtype", "fp32", "--min-frames", "1", "--out", "first"];
    let mut first = shop.command(&slow).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(120);
    while shop.runs("first").is_empty() {
        assert!(Instant::now() < deadline, "the first run did not begin");
        std::thread::sleep(Duration::from_millis(5));
    }
    let hasty = shop.output(&[&JOB[..], &["--max-wait", "0", "--out", "second"]].concat());
    assert_eq!(hasty.status.code(), Some(3), "{}", text(&hasty.stderr));
    assert!(
        text(&hasty.stderr).contains(&format!("still in use by process {}", first.id())),
        "{}",
        text(&hasty.stderr)
    );
    assert!(!shop.path("second").exists(), "nothing is left of a run that never began");
    let patient = [&JOB[..], &["--max-wait", "10m", "--out", "second"]].concat();
    let mut patient = shop.command(&patient).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = std::io::BufReader::new(patient.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(said.any(|line| line.contains("waiting")), "it says that it waits");
    std::fs::write(shop.path("go"), "").unwrap();
    said.for_each(drop);
    assert_eq!(patient.wait().unwrap().code(), Some(0));
    // The second began after the first had ended.
    assert_eq!(first.wait().unwrap().code(), Some(0));
    let time = |root: &str| jetbench::results::store::load(&shop.runs(root)[0]).unwrap();
    assert!(time("first").finished.unwrap() <= time("second").started);
}

#[test]
fn retention_removes_its_own_and_nothing_else() {
    let shop = shop();
    let by_hand = shop.run(&["--models", "calm_mask"]);
    let saved = shop.run(&["--models", "calm_mask", "--keep", "2"]);
    shop.expect(0, &["compare", saved.to_str().unwrap(), "--save-baseline", "main"]);
    let mut kept = Vec::new();
    for _ in 0..4 {
        // Ids of one second are in no order.
        std::thread::sleep(Duration::from_millis(1010));
        kept.push(shop.run(&["--models", "calm_mask", "--keep", "2"]));
    }
    assert!(by_hand.exists() && saved.exists());
    assert_eq!(kept.iter().map(|r| r.exists()).collect::<Vec<_>>(), [false, false, true, true]);
}

#[test]
fn conditions_that_cannot_be_met_stop_before_anything_is_measured() {
    let shop = shop();
    let stopped = |more: &[&str]| {
        let output = shop.output(&[&JOB[..], more].concat());
        assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
        assert!(!shop.path("results").exists());
        text(&output.stderr)
    };
    assert!(stopped(&["--min-free-mib", "99999999999"]).contains("--min-free-mib"));
    assert!(stopped(&["--cool-to=-200", "--max-wait", "0"]).contains("--cool-to"));
    let status = shop.path("status.json");
    stopped(&["--min-free-mib", "99999999999", "--status", status.to_str().unwrap()]);
    let status: Value = serde_json::from_slice(&std::fs::read(status).unwrap()).unwrap();
    assert_eq!((&status["code"], status["error"].as_str().unwrap().contains("disk space")), (&3.into(), true));
}
