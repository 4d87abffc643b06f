//! Which part of a dataset this process is to do: `--shard i/n`, or what a Slurm array or an indexed Kubernetes job says
//! about itself in the environment. The part is a pure function of the list of videos, so that machines that never
//! talk to each other cover it together without gap or overlap.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::exit::Error;

/// Part `index` of `count`, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Shard {
    /// 1..=count.
    pub index: usize,
    /// At least 1.
    pub count: usize,
}

impl Shard {
    /// Does the video at `position` (from 0) of the whole list belong to this part? Videos are dealt like cards, so that
    /// lists sorted by kind or length spread evenly.
    pub fn holds(self, position: usize) -> bool {
        position % self.count == self.index - 1
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers = text.split_once('/').and_then(|(i, n)| Some((i.trim().parse().ok()?, n.trim().parse().ok()?)));
        match numbers {
            Some((index, count)) if index >= 1 && index <= count => Ok(Shard { index, count }),
            _ => Err(format!("`{text}` is no part of a whole; expected i/n with i from 1 to n, such as 3/8")),
        }
    }
}

/// The part to do, and in words where that was said; `None` for everything. The flag wins over the environment; `1/1`
/// means everything, also inside an array.
///
/// # Errors
/// A flag or an environment that cannot be understood. A process that cannot tell its part must not do everything: the
/// whole array would repeat the same work.
pub fn find(flag: Option<Shard>, env: impl Fn(&str) -> Option<String>) -> Result<Option<(Shard, String)>, Error> {
    let usage = |text: String| Error::Usage(format!("{text}; say --shard i/n, or --shard 1/1 to do everything"));
    if let Some(shard) = flag {
        return Ok((shard.count > 1).then(|| (shard, "--shard".to_string())));
    }
    let number = |name: &str| -> Result<Option<usize>, Error> {
        let Some(text) = env(name).filter(|t| !t.is_empty()) else { return Ok(None) };
        text.trim().parse().map(Some).map_err(|_| usage(format!("{name}={text} in the environment is no number")))
    };
    let (slurm, kubernetes) = (number("SLURM_ARRAY_TASK_ID")?, number("JOB_COMPLETION_INDEX")?);
    let shards = number("JETBENCH_SHARDS")?;
    let (shard, said) = match (slurm, kubernetes) {
        (Some(_), Some(_)) => {
            let both = "both SLURM_ARRAY_TASK_ID and JOB_COMPLETION_INDEX are in the environment";
            return Err(usage(both.to_string()));
        }
        (Some(task), None) => (slurm_part(task, &number).map_err(|e| e.unwrap_or_else(&usage))?, "Slurm array"),
        (None, Some(pod)) => {
            let count = shards.ok_or_else(|| {
                usage(format!(
                    "this is pod {pod} of an indexed Kubernetes job (JOB_COMPLETION_INDEX), which does not say how many \
                     there are: set JETBENCH_SHARDS to the job's `completions`"
                ))
            })?;
            if pod >= count {
                return Err(usage(format!("JOB_COMPLETION_INDEX={pod} counts from 0, JETBENCH_SHARDS={count}")));
            }
            (Shard { index: pod + 1, count }, "indexed Kubernetes job")
        }
        (None, None) => return Ok(None),
    };
    Ok((shard.count > 1).then(|| (shard, said.to_string())))
}

/// A fault in words that still wants the remedy, or a finished error.
enum ShardFault {
    Words(String),
    Whole(Error),
}

impl ShardFault {
    fn unwrap_or_else(self, finish: &impl Fn(String) -> Error) -> Error {
        match self {
            ShardFault::Words(words) => finish(words),
            ShardFault::Whole(stop) => stop,
        }
    }
}

/// Slurm numbers tasks from any start in any even step; `1,5,6` has gaps that nothing in the environment explains.
fn slurm_part(task: usize, number: &impl Fn(&str) -> Result<Option<usize>, Error>) -> Result<Shard, ShardFault> {
    let need = |name: &str| {
        let found = number(name).map_err(ShardFault::Whole)?;
        found.ok_or_else(|| ShardFault::Words(format!("SLURM_ARRAY_TASK_ID is set, but {name} is not")))
    };
    let (count, first, last) =
        (need("SLURM_ARRAY_TASK_COUNT")?, need("SLURM_ARRAY_TASK_MIN")?, need("SLURM_ARRAY_TASK_MAX")?);
    let step = number("SLURM_ARRAY_TASK_STEP").map_err(ShardFault::Whole)?.unwrap_or(1).max(1);
    let even = last >= first && (last - first) / step + 1 == count && (last - first).is_multiple_of(step);
    if !even || !(first..=last).contains(&task) || !(task - first).is_multiple_of(step) {
        return Err(ShardFault::Words(format!(
            "task {task} of a Slurm array of {count} tasks from {first} to {last} in steps of {step}: the numbers are not \
             even, so no task knows its place"
        )));
    }
    Ok(Shard { index: (task - first) / step + 1, count })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn found(flag: Option<&str>, env: &[(&str, &str)]) -> String {
        let env = |name: &str| env.iter().find(|(n, _)| *n == name).map(|(_, v)| v.to_string());
        let flag = match flag.map(str::parse).transpose() {
            Ok(flag) => flag,
            Err(e) => return format!("error: --shard: {e}"),
        };
        match find(flag, env) {
            Ok(None) => "everything".into(),
            Ok(Some((shard, said))) => format!("{shard} ({said})"),
            Err(e) => format!("error: {e}"),
        }
    }

    #[test]
    fn flags_and_schedulers_are_understood() {
        let slurm = |id, count, min, max, step| {
            found(
                None,
                &[
                    ("SLURM_ARRAY_TASK_ID", id),
                    ("SLURM_ARRAY_TASK_COUNT", count),
                    ("SLURM_ARRAY_TASK_MIN", min),
                    ("SLURM_ARRAY_TASK_MAX", max),
                    ("SLURM_ARRAY_TASK_STEP", step),
                ],
            )
        };
        let said = [
            found(None, &[]),
            found(Some("3/8"), &[]),
            found(Some("1/1"), &[("SLURM_ARRAY_TASK_ID", "7")]),
            found(Some("9/8"), &[]),
            found(Some("0/8"), &[]),
            found(Some("three"), &[]),
            slurm("0", "4", "0", "3", "1"),
            slurm("4", "4", "1", "4", ""),
            slurm("14", "3", "10", "14", "2"),
            slurm("5", "3", "1", "9", "1"),
            slurm("x", "3", "1", "3", "1"),
            slurm("1", "", "1", "3", "1"),
            found(None, &[("JOB_COMPLETION_INDEX", "0"), ("JETBENCH_SHARDS", "4")]),
            found(None, &[("JOB_COMPLETION_INDEX", "4"), ("JETBENCH_SHARDS", "4")]),
            found(None, &[("JOB_COMPLETION_INDEX", "2")]),
            found(None, &[("JOB_COMPLETION_INDEX", "2"), ("SLURM_ARRAY_TASK_ID", "2")]),
        ];
        insta::assert_snapshot!(said.join("\n"));
    }

    proptest! {
        /// Every video is in exactly one part, whatever the lengths.
        #[test]
        fn parts_cover_the_list_once(videos in 0usize..500, count in 1usize..40) {
            for position in 0..videos {
                let holders = (1..=count).filter(|&index| Shard { index, count }.holds(position)).count();
                prop_assert_eq!(holders, 1);
            }
            let sizes: Vec<usize> = (1..=count)
                .map(|index| (0..videos).filter(|&p| Shard { index, count }.holds(p)).count())
                .collect();
            prop_assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1);
        }

        #[test]
        fn any_text_is_a_part_or_an_error(text in "\\PC{0,12}") {
            if let Ok(shard) = text.parse::<Shard>() {
                prop_assert!(shard.index >= 1 && shard.index <= shard.count);
            }
        }
    }
}
