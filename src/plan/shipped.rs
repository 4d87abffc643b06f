//! Where is what comes with jetbench: packs, demo clips, jobs and scripts? Below the current directory, else below a home: a
//! checkout, or `share/jetbench` of an installation.

use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

/// Directory of an installation below its prefix.
const SHARE: &str = "share/jetbench";

/// The checkout in which this program was built, for `cargo install`, which copies the program alone. A release leaves it out:
/// its files are installed with it, and the machine that built it is nobody's business.
const CHECKOUT: Option<&str> = match option_env!("JETBENCH_RELEASE") {
    Some(_) => None,
    None => Some(env!("CARGO_MANIFEST_DIR")),
};

/// What decides where the homes are.
struct Surroundings<'a> {
    variable: &'a dyn Fn(&str) -> Option<OsString>,
    program: Option<PathBuf>,
    checkout: Option<&'a Path>,
}

impl Surroundings<'static> {
    fn here() -> Self {
        Surroundings {
            variable: &|name| std::env::var_os(name),
            program: std::env::current_exe().ok(),
            checkout: CHECKOUT.map(Path::new),
        }
    }
}

impl Surroundings<'_> {
    fn set(&self, name: &str) -> Option<OsString> {
        (self.variable)(name).filter(|value| !value.is_empty())
    }

    /// `JETBENCH_HOME`, and only that where it is set; else the directories above the program: a checkout holds its `target/`.
    fn above(&self) -> Vec<PathBuf> {
        match self.set("JETBENCH_HOME") {
            Some(home) => vec![home.into()],
            None => self.program.iter().flat_map(|program| program.ancestors().skip(1)).map(Into::into).collect(),
        }
    }

    /// Places of an installation: beside the program, the checkout it was built in, the user's and the system's data directories.
    fn installed(&self) -> Vec<PathBuf> {
        if self.set("JETBENCH_HOME").is_some() {
            return Vec::new();
        }
        let prefix = self.program.iter().filter_map(|program| program.parent()?.parent()).map(|dir| dir.join(SHARE));
        let own = self.set("XDG_DATA_HOME").map(PathBuf::from);
        let own = own.or_else(|| Some(PathBuf::from(self.set("HOME")?).join(".local/share")));
        let system = self.set("XDG_DATA_DIRS").unwrap_or_else(|| "/usr/local/share:/usr/share".into());
        let data = own.into_iter().chain(std::env::split_paths(&system)).filter(|dir| dir.is_absolute());
        let data = data.map(|dir| dir.join("jetbench"));
        let mut places: Vec<PathBuf> = prefix.chain(self.checkout.map(Into::into)).chain(data).collect();
        let mut seen = Vec::new();
        places.retain(|place| {
            !seen.contains(place) && {
                seen.push(place.clone());
                true
            }
        });
        places
    }

    fn find(&self, relative: &Path) -> Option<PathBuf> {
        self.above().iter().chain(&self.installed()).map(|home| home.join(relative)).find(|path| path.exists())
    }
}

/// `relative` below the current directory, else below the first home that has it.
pub(crate) fn find(relative: &str) -> Option<PathBuf> {
    let here = PathBuf::from(relative);
    if here.exists() { Some(here) } else { Surroundings::here().find(&here) }
}

/// A path that a user names: as it is, except that `assets/…` and `configs/…`, which the documents use, mean those of the home
/// where the current directory has none.
pub(crate) fn named(path: &Path) -> PathBuf {
    let ours = |first: Component<'_>| first.as_os_str() == "assets" || first.as_os_str() == "configs";
    if path.exists() || !path.components().next().is_some_and(ours) {
        return path.to_path_buf();
    }
    Surroundings::here().find(path).unwrap_or_else(|| path.to_path_buf())
}

/// Why `relative` was not found, and what to do.
pub(crate) fn missing(relative: &str) -> String {
    lacking(relative, &Surroundings::here())
}

fn lacking(relative: &str, around: &Surroundings<'_>) -> String {
    let places = match around.set("JETBENCH_HOME") {
        Some(home) => vec![format!("{} (JETBENCH_HOME)", PathBuf::from(home).display())],
        None => around.installed().iter().map(|place| place.display().to_string()).collect(),
    };
    format!(
        "{relative}, which comes with jetbench, is neither in the current directory nor in {}; set JETBENCH_HOME to a checkout of \
         jetbench or to the folder share/jetbench of a release",
        places.join(", ")
    )
}

/// The command that fetches an ONNX Runtime for the CPU: for all users, where jetbench is installed for all of them.
pub fn fetch_command() -> String {
    const SCRIPT: &str = "scripts/get-runtime.sh";
    match find(SCRIPT) {
        Some(script) if script.starts_with("/usr") => {
            // SAFETY: it only reads the identity of this process.
            let sudo = if unsafe { libc::geteuid() } == 0 { "" } else { "sudo " };
            format!("{sudo}{} --system", script.display())
        }
        Some(script) => script.display().to_string(),
        None => SCRIPT.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory with these files, empty.
    fn tree(files: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for file in files {
            let path = dir.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        dir
    }

    #[test]
    fn what_comes_with_it_is_found_from_every_place_it_may_be_installed_in() {
        let demo = Path::new("assets/demo/list.txt");
        let (empty, home) = (tree(&[]), tree(&["assets/demo/list.txt"]));
        let nothing = |_: &str| None::<OsString>;
        let found = |program: PathBuf, checkout: Option<&Path>, variable: &dyn Fn(&str) -> Option<OsString>| {
            Surroundings { variable, program: Some(program), checkout }.find(demo)
        };
        let there = |root: &Path| Some(root.join(demo));
        // The program of a checkout, and one that `cargo install` took out of it.
        assert_eq!(found(home.path().join("target/release/jetbench"), None, &nothing), there(home.path()));
        assert_eq!(found(empty.path().join("bin/jetbench"), Some(home.path()), &nothing), there(home.path()));
        // An unpacked release, a user's and a system's installation.
        let prefix = tree(&["share/jetbench/assets/demo/list.txt"]);
        let share = prefix.path().join(SHARE);
        assert_eq!(found(prefix.path().join("bin/jetbench"), None, &nothing), there(&share));
        let data = tree(&["jetbench/assets/demo/list.txt"]);
        for variable in ["XDG_DATA_HOME", "XDG_DATA_DIRS"] {
            let set = |name: &str| (name == variable).then(|| data.path().as_os_str().to_owned());
            assert_eq!(found(empty.path().join("bin/jetbench"), None, &set), there(&data.path().join("jetbench")));
        }
        // What the user names goes before, even where it has nothing.
        let named = |name: &str| (name == "JETBENCH_HOME").then(|| empty.path().as_os_str().to_owned());
        assert_eq!(found(prefix.path().join("bin/jetbench"), Some(home.path()), &named), None);
    }

    #[test]
    fn what_is_missing_is_said_with_every_place_and_the_remedy() {
        let variable = |name: &str| (name == "XDG_DATA_DIRS").then(|| OsString::from("/opt/data:relative"));
        let around = Surroundings {
            variable: &variable,
            program: Some("/opt/bin/jetbench".into()),
            checkout: Some(Path::new("/src/jetbench")),
        };
        assert_eq!(
            lacking("assets/demo", &around),
            "assets/demo, which comes with jetbench, is neither in the current directory nor in /opt/share/jetbench, \
             /src/jetbench, /opt/data/jetbench; set JETBENCH_HOME to a checkout of jetbench or to the folder share/jetbench of \
             a release"
        );
        let home = |name: &str| (name == "JETBENCH_HOME").then(|| OsString::from("/nowhere"));
        let said = lacking("assets/demo", &Surroundings { variable: &home, ..around });
        assert!(said.contains("nor in /nowhere (JETBENCH_HOME); set"), "{said}");
    }
}
