//! Memory of the whole system from `/proc/meminfo`, and Tegra's buffer manager (nvmap), whose buffers are the GPU's share
//! of the unified memory. The nvmap figures are not on every kernel, and per process only for root.

use std::path::Path;

use super::key::{Channel, WorkerMemory};
use super::sensor::{Found, Text, field_mib, is_tegra, text};
use jetbench_runners::files;

/// System memory, MiB.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SystemMemory {
    /// `MemAvailable`.
    pub available_mib: Option<f64>,
    /// `SwapTotal`.
    pub swap_total_mib: Option<f64>,
    /// `SwapFree`.
    pub swap_free_mib: Option<f64>,
    /// `NvMapMemUsed`: all buffers of Tegra's memory manager, where the kernel reports it.
    pub nvmap_mib: Option<f64>,
}

/// Reads `/proc/meminfo`.
pub fn system_memory(root: &Path) -> SystemMemory {
    let text = files::read_text(&root.join("proc/meminfo"), files::SMALL).unwrap_or_default();
    SystemMemory {
        available_mib: field_mib(&text, "MemAvailable"),
        swap_total_mib: field_mib(&text, "SwapTotal"),
        swap_free_mib: field_mib(&text, "SwapFree"),
        nvmap_mib: field_mib(&text, "NvMapMemUsed"),
    }
}

/// `MemAvailable`, `SwapFree` and, on Tegra kernels that have it, `NvMapMemUsed`: three figures of one moment, from one
/// reading of the file. A kernel without `MemAvailable` is named as such; libraries estimate one there.
pub(super) fn find(root: &Path, found: &mut Found) {
    let path = root.join("proc/meminfo");
    let content = match text(&path) {
        Ok(content) => content,
        Err(reason) => return found.miss("memory", reason),
    };
    let mut figures = Text::new(path.clone(), false);
    for (channel, key) in
        [(Channel::MemAvailable, "MemAvailable"), (Channel::SwapFree, "SwapFree"), (Channel::Nvmap, "NvMapMemUsed")]
    {
        if field_mib(&content, key).is_some() {
            figures = figures.with_field(channel, key);
        } else if channel != Channel::Nvmap {
            found.miss(channel, format!("{} has no {key}", path.display()));
        }
    }
    figures.settle(found);
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
        // A process that holds no buffer has no line.
        Ok(_) => {
            found.add(Text::new(path, true).with(Channel::Worker(WorkerMemory::Nvmap), "clients", move |t| {
                Some(client_mib(t, pid).unwrap_or(0.0))
            }))
        }
        Err(reason) => found.miss("worker nvmap", reason),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::tree;

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
