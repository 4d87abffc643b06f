//! Memory of the whole system from `/proc/meminfo`, and Tegra's buffer manager (nvmap), whose buffers are the GPU's share
//! of the unified memory. The nvmap figures are not on every kernel, and per process only for root.

use std::path::{Path, PathBuf};

use super::{Channel, Found, Reading, Sensor, is_tegra, text};

/// One line of a `key: value kB` file, in MiB.
pub(super) fn field_mib(text: &str, key: &str) -> Option<f64> {
    let line = text.lines().find(|l| l.strip_prefix(key).is_some_and(|rest| rest.starts_with(':')))?;
    let kib: f64 = line[key.len() + 1..].split_whitespace().next()?.parse().ok()?;
    Some(kib / 1024.0)
}

/// System memory, MiB.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SystemMemory {
    /// `MemAvailable`.
    pub available_mib: Option<f64>,
    /// `SwapFree`.
    pub swap_free_mib: Option<f64>,
    /// `NvMapMemUsed`: all buffers of Tegra's memory manager, where the kernel reports it.
    pub nvmap_mib: Option<f64>,
}

/// Reads `/proc/meminfo`.
pub fn system_memory(root: &Path) -> SystemMemory {
    let text = std::fs::read_to_string(root.join("proc/meminfo")).unwrap_or_default();
    SystemMemory {
        available_mib: field_mib(&text, "MemAvailable"),
        swap_free_mib: field_mib(&text, "SwapFree"),
        nvmap_mib: field_mib(&text, "NvMapMemUsed"),
    }
}

struct MemInfo {
    path: PathBuf,
    /// Channel name and key in the file.
    fields: Vec<(&'static str, &'static str)>,
}

impl Sensor for MemInfo {
    fn channels(&self) -> Vec<Channel> {
        self.fields.iter().map(|(name, _)| Channel { source: "memory", name: (*name).to_string() }).collect()
    }

    fn read(&mut self, out: &mut Vec<Reading>) {
        let text = text(&self.path);
        out.extend(self.fields.iter().map(|(_, key)| match &text {
            Ok(text) => field_mib(text, key).ok_or_else(|| format!("{} has no {key}", self.path.display())),
            Err(reason) => Err(reason.clone()),
        }));
    }
}

/// `MemAvailable`, `SwapFree` and, on Tegra kernels that have it, `NvMapMemUsed`.
pub(super) fn find(root: &Path, found: &mut Found) {
    let path = root.join("proc/meminfo");
    let content = match text(&path) {
        Ok(content) => content,
        Err(reason) => return found.miss("memory", reason),
    };
    let all = [("mem_available_mib", "MemAvailable"), ("swap_free_mib", "SwapFree"), ("nvmap_mib", "NvMapMemUsed")];
    let (fields, absent): (Vec<_>, Vec<_>) = all.into_iter().partition(|(_, key)| field_mib(&content, key).is_some());
    for (name, key) in absent.into_iter().filter(|(name, _)| *name != "nvmap_mib") {
        found.miss(name, format!("{} has no {key}", path.display()));
    }
    if !fields.is_empty() {
        found.add(MemInfo { path, fields });
    }
}

/// nvmap buffers of one process, from the list that debugfs gives to root.
struct NvmapClient {
    path: PathBuf,
    pid: u32,
}

impl Sensor for NvmapClient {
    fn channels(&self) -> Vec<Channel> {
        vec![Channel { source: "nvmap", name: "worker_nvmap_mib".into() }]
    }

    fn read(&mut self, out: &mut Vec<Reading>) {
        // A process that holds no buffer has no line.
        out.push(text(&self.path).map(|t| client_mib(&t, self.pid).unwrap_or(0.0)));
    }

    fn slow(&self) -> bool {
        true
    }
}

/// Lines `CLIENT PROCESS PID SIZE`, sizes with a unit letter: `user python3 1234 4096K`.
fn client_mib(text: &str, pid: u32) -> Option<f64> {
    let mut total = None;
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [.., process, size] = words[..] else { continue };
        if words.len() >= 4 && process.parse() == Ok(pid) {
            let unit = match size.chars().last() {
                Some('M') => 1.0,
                Some('K' | 'k') => 1.0 / 1024.0,
                _ => 1.0 / 1048576.0,
            };
            let digits: f64 = size.trim_end_matches(|c: char| c.is_ascii_alphabetic()).parse().ok()?;
            *total.get_or_insert(0.0) += digits * unit;
        }
    }
    total
}

/// Says where nvmap is missing, and finds the worker's own share.
pub(super) fn find_nvmap(root: &Path, pid: Option<u32>, found: &mut Found) {
    if !is_tegra(root) {
        return found.miss("nvmap", "not a Tegra board");
    }
    let meminfo = text(&root.join("proc/meminfo")).unwrap_or_default();
    if field_mib(&meminfo, "NvMapMemUsed").is_none() {
        found.miss("nvmap", "this kernel's /proc/meminfo has no NvMapMemUsed");
    }
    let Some(pid) = pid else { return };
    let path = root.join("sys/kernel/debug/nvmap/iovmm/clients");
    match text(&path) {
        Ok(_) => found.add(NvmapClient { path, pid }),
        Err(reason) => found.miss("worker nvmap", reason),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tree;
    use super::*;

    #[test]
    fn what_is_not_there_is_none_and_not_zero() {
        assert_eq!(system_memory(tree(&[]).path()), SystemMemory::default());
        let board = tree(&[("proc/meminfo", "MemTotal: 8 kB\nMemAvailable:    2048 kB\nNvMapMemUsed: 512 kB\n")]);
        let memory = system_memory(board.path());
        assert_eq!((memory.available_mib, memory.swap_free_mib, memory.nvmap_mib), (Some(2.0), None, Some(0.5)));
    }

    #[test]
    fn clients_of_nvmap_are_told_apart() {
        let text = "CLIENT PROCESS PID SIZE\nuser python3 12 2048K\nuser jetbench 123 1024K\nuser jetbench 123 1M\ntotal 4096K\n";
        assert_eq!(client_mib(text, 123), Some(2.0));
        assert_eq!(client_mib(text, 1), None);
    }
}
