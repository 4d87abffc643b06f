//! Packs in archives: whole, damaged and hostile ones.

use super::*;
use std::os::unix::fs::symlink;

struct Case {
    root: tempfile::TempDir,
}

impl Case {
    /// A pack of one graph.
    fn new() -> Case {
        let root = tempfile::tempdir().unwrap();
        crate::pack::tests::write_pack(&root.path().join("pack"), |text| text);
        Case { root }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn pack(&self) -> Index {
        write(&self.at("pack"), &self.at("a.tar"), "1.2.3").unwrap()
    }

    fn add(&self) -> Result<(PathBuf, Index), RunnerError> {
        install(&self.at("a.tar"), &self.at("packs"), false)
    }

    /// Writes `a.tar` with these entries: path, type, data.
    fn forge(&self, index: &str, entries: &[(&str, tar::EntryType, &[u8])]) {
        let mut archive = tar::Builder::new(File::create(self.at("a.tar")).unwrap());
        for (path, kind, data) in std::iter::once(&(INDEX, tar::EntryType::Regular, index.as_bytes())).chain(entries) {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_size(data.len() as u64);
            // Not through the library, which refuses to write such paths.
            header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
            if *kind != tar::EntryType::Regular {
                header.set_link_name("/etc/passwd").unwrap();
            }
            header.set_cksum();
            archive.append(&header, *data).unwrap();
        }
        archive.finish().unwrap();
    }

    /// The fault of an archive whose index has these files, and these entries.
    fn fault(&self, files: &[(&str, &[u8])], entries: &[(&str, tar::EntryType, &[u8])]) -> String {
        self.forge(&indexed(files), entries);
        let fault = self.add().unwrap_err().to_string();
        let left: Vec<_> = std::fs::read_dir(self.at("packs")).into_iter().flatten().flatten().collect();
        assert!(left.is_empty(), "{fault}: {left:?}");
        fault
    }
}

/// The index of a scripted pack with these files, the first of which is its manifest.
fn indexed(files: &[(&str, &[u8])]) -> String {
    let items = files.iter().map(|(path, data)| Item {
        path: path.to_string(),
        bytes: data.len() as u64,
        sha256: crate::digest::sha256_hex(data),
    });
    let index = Index {
        schema: SCHEMA,
        written_by: "1".into(),
        id: "p".into(),
        family: "mock".into(),
        manifest_sha256: crate::digest::sha256_hex(files[0].1),
        files: items.collect(),
    };
    serde_json::to_string(&index).unwrap()
}

const MANIFEST: (&str, &[u8]) = ("pack.toml", b"schema = 1\nid = \"p\"\nfamily = \"mock\"\n");
const FILE: tar::EntryType = tar::EntryType::Regular;

#[test]
fn a_pack_comes_out_as_it_went_in_and_every_time_as_the_same_bytes() {
    let case = Case::new();
    let index = case.pack();
    let (place, read) = case.add().unwrap();
    assert_eq!(read, index);
    assert_eq!(packs::digest_of(&place).unwrap(), packs::digest_of(&case.at("pack")).unwrap());
    Pack::read(&place).unwrap().check(crate::types::Dtype::Fp32).unwrap();
    write(&place, &case.at("b.tar"), "1.2.3").unwrap();
    assert_eq!(std::fs::read(case.at("a.tar")).unwrap(), std::fs::read(case.at("b.tar")).unwrap());
    case.add().unwrap(); // the same pack again
}

#[test]
fn what_a_pack_leads_to_is_in_its_archive() {
    let case = Case::new();
    std::fs::write(case.at("LICENSE"), "free").unwrap();
    symlink(case.at("LICENSE"), case.at("pack/LICENSE")).unwrap();
    assert!(case.pack().files.iter().any(|item| item.path == "LICENSE"));
    std::fs::remove_file(case.at("LICENSE")).unwrap();
    let (place, _) = case.add().unwrap();
    assert_eq!(std::fs::read_to_string(place.join("LICENSE")).unwrap(), "free");
    let left = std::fs::read_dir(case.root.path()).unwrap().flatten();
    assert!(!left.into_iter().any(|e| e.file_name().to_string_lossy().starts_with('.')));
}

#[test]
fn weights_beside_graphs_travel_and_have_digests() {
    let case = Case::new();
    std::fs::remove_dir_all(case.at("pack")).unwrap();
    crate::pack::tests::write_pack_with_weights_apart(&case.at("pack"), |text| text);
    let listed = |dir: &Path| -> Vec<(String, bool)> {
        digests(dir).unwrap().iter().map(|d| (format!("{} {}", d.what, d.file), d.agrees())).collect()
    };
    let good = listed(&case.at("pack"));
    assert!(good.contains(&("graph g, bf16, weights bf16/g.onnx.data".to_string(), true)), "{good:?}");
    assert_eq!((good.len(), good.iter().all(|(_, agrees)| *agrees)), (5, true));
    case.pack();
    let (place, _) = case.add().unwrap();
    Pack::read(&place).unwrap().check(crate::types::Dtype::Bf16).unwrap();
    // A link to elsewhere, as download caches have them: a copy has the file in its place.
    let data = place.join("bf16/g.onnx.data");
    std::fs::rename(&data, case.at("w.bin")).unwrap();
    symlink(case.at("w.bin"), &data).unwrap();
    Pack::read(&place).unwrap().check(crate::types::Dtype::Bf16).unwrap();
    whole::copy(&place, &case.at("copy")).unwrap();
    Pack::read(&case.at("copy")).unwrap().check(crate::types::Dtype::Bf16).unwrap();
    std::fs::write(case.at("w.bin"), "other").unwrap();
    assert_eq!(listed(&place).iter().filter(|(_, agrees)| !agrees).count(), 1);
}

#[test]
fn another_pack_in_its_place_is_not_taken_away_unasked() {
    let case = Case::new();
    case.pack();
    let (place, _) = case.add().unwrap();
    let manifest = place.join("pack.toml");
    std::fs::write(&manifest, std::fs::read_to_string(&manifest).unwrap() + "\n# mine\n").unwrap();
    assert!(matches!(case.add(), Err(RunnerError::Usage(text)) if text.contains("--replace")));
    install(&case.at("a.tar"), &case.at("packs"), true).unwrap();
    case.add().unwrap();
    assert_eq!(std::fs::read_dir(case.at("packs")).unwrap().count(), 1);
}

#[test]
fn a_broken_pack_is_not_packed_and_a_damaged_archive_not_installed() {
    let case = Case::new();
    case.pack();
    let whole = std::fs::read(case.at("a.tar")).unwrap();
    for end in [0, 10, 511, 512, 3000, whole.len() / 2] {
        std::fs::write(case.at("a.tar"), &whole[..end]).unwrap();
        assert!(matches!(case.add(), Err(RunnerError::Pack(_))), "{end}");
    }
    let mut damaged = whole.clone();
    let text = whole.windows(11).rposition(|bytes| bytes == b"description").unwrap();
    damaged[text] ^= 1;
    std::fs::write(case.at("a.tar"), &damaged).unwrap();
    assert!(case.add().is_err());
    assert!(std::fs::read_dir(case.at("packs")).unwrap().next().is_none());
    let file =
        whole::files_in(&case.at("pack")).unwrap().into_iter().find(|f| f.extension().is_some_and(|e| e == "onnx"));
    std::fs::write(case.at("pack").join(file.unwrap()), "broken").unwrap();
    assert!(matches!(write(&case.at("pack"), &case.at("c.tar"), "1"), Err(RunnerError::Pack(_))));
    assert!(!case.at("c.tar").exists());
}

/// The vectors of a label pack's classes decide its names as much as its graph does.
#[test]
fn damaged_vectors_of_a_label_pack_are_neither_packed_nor_copied_nor_installed() {
    let case = Case::new();
    std::fs::remove_dir_all(case.at("pack")).unwrap();
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets/packs/labels_mini");
    whole::copy(&shipped, &case.at("pack")).unwrap();
    case.pack();
    let whole = std::fs::read(case.at("a.tar")).unwrap();
    let vectors = case.at("pack").join("labels.safetensors");
    let mut bytes = std::fs::read(&vectors).unwrap();
    let place = whole.windows(bytes.len()).position(|part| part == bytes).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&vectors, &bytes).unwrap();
    for fault in [
        write(&case.at("pack"), &case.at("c.tar"), "1").map(drop),
        whole::copy(&case.at("pack"), &case.at("copy")).map(drop),
    ] {
        let fault = fault.unwrap_err().to_string();
        assert!(fault.contains("labels.safetensors: SHA-256 is"), "{fault}");
    }
    assert!(!case.at("c.tar").exists() && !case.at("copy").exists());
    let told = digests(&case.at("pack")).unwrap();
    assert_eq!(
        told.iter().filter(|d| !d.agrees()).map(|d| d.file.as_str()).collect::<Vec<_>>(),
        ["labels.safetensors"]
    );
    // An archive whose index says what the damaged file is.
    let mut forged = whole;
    forged[place..place + bytes.len()].copy_from_slice(&bytes);
    let digest = |bytes: &[u8]| crate::digest::sha256_hex(bytes).into_bytes();
    let said = Pack::read(&shipped).unwrap().manifest.labels.unwrap().sha256.into_bytes();
    let index = forged.windows(64).position(|part| part == said).unwrap();
    forged[index..index + 64].copy_from_slice(&digest(&bytes));
    std::fs::write(case.at("a.tar"), &forged).unwrap();
    let fault = case.add().unwrap_err().to_string();
    assert!(fault.contains("labels.safetensors: SHA-256 is"), "{fault}");
    assert!(std::fs::read_dir(case.at("packs")).unwrap().next().is_none());
}

#[test]
fn hostile_archives_are_refused_and_leave_nothing() {
    let case = Case::new();
    let plain = [("pack.toml", FILE, MANIFEST.1)];
    for path in ["a//b", "a/./b", "a/", &"n".repeat(256)] {
        let fault = case.fault(&[MANIFEST, (path, b"x")], &plain);
        assert!(fault.contains("with one `/` between them expected"), "{path}: {fault}");
    }
    let escapes = ["../evil", "/etc/evil", "a/../../evil", "a\\b", "", "jetbench-pack.json", "a\nb"];
    for path in escapes {
        let fault = case.fault(&[MANIFEST, (path, b"x")], &plain);
        assert!(fault.contains("a relative path inside the pack expected"), "{path}: {fault}");
    }
    for (files, entries, part) in [
        (vec![MANIFEST, MANIFEST], plain.to_vec(), "is there twice"),
        (vec![MANIFEST, ("pack.toml/x", b"x")], plain.to_vec(), "lies in a file"),
        (vec![("other", b"x")], vec![("other", FILE, b"x".as_slice())], "there is no pack.toml"),
        (vec![MANIFEST, ("link", b"")], vec![plain[0], ("link", tar::EntryType::Symlink, b"")], "no plain file"),
        (vec![MANIFEST, ("link", b"")], vec![plain[0], ("link", tar::EntryType::Link, b"")], "no plain file"),
        (vec![MANIFEST, ("pipe", b"")], vec![plain[0], ("pipe", tar::EntryType::Fifo, b"")], "no plain file"),
        (vec![MANIFEST], vec![plain[0], ("more", FILE, b"x".as_slice())], "not in its index"),
        (vec![MANIFEST], vec![("../pack.toml", FILE, MANIFEST.1)], "where the index has"),
        (vec![MANIFEST, ("a", b"12")], vec![plain[0], ("a", FILE, b"123".as_slice())], "has 3 bytes, its index 2"),
        (vec![MANIFEST, ("a", b"12")], vec![plain[0], ("a", FILE, b"13".as_slice())], "has SHA-256"),
        (vec![MANIFEST, ("a", b"12")], vec![plain[0]], "a is missing"),
        (vec![MANIFEST, ("a", &[0; 1 << 16])], plain.to_vec(), "the archive has"),
    ] {
        let fault = case.fault(&files, &entries);
        assert!(fault.contains(part), "{part}: {fault}");
    }
    for (text, part) in [
        ("{}", "missing field"),
        (
            r#"{"schema":9,"written_by":"9.9","id":"p","family":"mock","manifest_sha256":"","files":[]}"#,
            "written by jetbench 9.9",
        ),
        (r#"{"schema":1,"written_by":"1","id":"../p","family":"mock","manifest_sha256":"","files":[]}"#, "id = "),
    ] {
        case.forge(text, &plain);
        let fault = case.add().unwrap_err().to_string();
        assert!(fault.contains(part), "{part}: {fault}");
    }
    std::fs::write(case.at("a.tar"), b"PK no tar at all").unwrap();
    assert!(case.add().is_err());
}

#[test]
fn a_header_that_says_how_much_is_to_come_is_not_believed() {
    let case = Case::new();
    let index = |path: &str| indexed(&[MANIFEST, (path, b"x")]);
    let kind = |byte: u8| tar::EntryType::new(byte);
    let long = "d/".repeat(60) + "file";
    let whole = |name: &[u8]| {
        let entries = [(MANIFEST.0, FILE, MANIFEST.1), ("L", kind(b'L'), name), ("short", FILE, b"x".as_slice())];
        case.forge(&index(&long), &entries);
        case.add().map_err(|e| e.to_string())
    };
    let (place, _) = whole(format!("{long}\0").as_bytes()).unwrap();
    assert_eq!(std::fs::read_to_string(place.join(&long)).unwrap(), "x");
    std::fs::remove_dir_all(place).unwrap();
    let fault = whole(&vec![b'a'; 4096]).unwrap_err();
    assert!(fault.contains("a path of 4096 bytes: at most 1024 expected"), "{fault}");
    for (byte, data) in [(b'x', b"17 path=pack.toml\n".as_slice()), (b'g', b"9 a=b\n"), (b'K', b"a\0")] {
        case.forge(&index("a"), &[("h", kind(byte), data), (MANIFEST.0, FILE, MANIFEST.1), ("a", FILE, b"x")]);
        let fault = case.add().unwrap_err().to_string();
        assert!(fault.contains("headers that `jetbench packs pack` does not write"), "{fault}");
    }
}

#[test]
fn an_index_that_names_another_family_is_not_believed() {
    let case = Case::new();
    let index = indexed(&[MANIFEST]).replace("\"mock\"", "\"sam2\"");
    case.forge(&index, &[(MANIFEST.0, FILE, MANIFEST.1)]);
    let fault = case.add().unwrap_err().to_string();
    assert!(fault.contains("its index describes another pack.toml"), "{fault}");
}
