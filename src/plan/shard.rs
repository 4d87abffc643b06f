//! Which part of a dataset this process is to do: `--shard i/n`, or the number of this task of a Slurm array or pod of an
//! indexed Kubernetes job, with the number of all parts in JETBENCH_SHARDS. The part is a pure function of the list of videos, so that machines that never
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
        (Some(task), None) => {
            // SLURM_ARRAY_TASK_COUNT, _MIN and _MAX are those of this submission: 1, 2 and 2 when only task 2 is submitted
            // again. The parts of the whole job are more, and only the user knows how many.
            let count = shards.ok_or_else(|| {
                usage(format!(
                    "this is task {task} of a Slurm array, and Slurm says only how many tasks were submitted together, not \
                     how many parts the whole job has: set JETBENCH_SHARDS to that number"
                ))
            })?;
            if !(1..=count).contains(&task) {
                return Err(usage(format!(
                    "SLURM_ARRAY_TASK_ID={task} is no part of JETBENCH_SHARDS={count}: parts count from 1, so submit \
                     --array=1-{count}"
                )));
            }
            (Shard { index: task, count }, "Slurm array")
        }
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
        // `sbatch --array=2` of a job of four: Slurm calls it an array of one.
        let slurm = |id, shards| {
            let mut env = vec![
                ("SLURM_ARRAY_TASK_ID", id),
                ("SLURM_ARRAY_TASK_COUNT", "1"),
                ("SLURM_ARRAY_TASK_MIN", id),
                ("SLURM_ARRAY_TASK_MAX", id),
            ];
            env.extend(Some(shards).filter(|s: &&str| !s.is_empty()).map(|shards| ("JETBENCH_SHARDS", shards)));
            found(None, &env)
        };
        let said = [
            found(None, &[]),
            found(Some("3/8"), &[]),
            found(Some("1/1"), &[("SLURM_ARRAY_TASK_ID", "7")]),
            found(Some("9/8"), &[]),
            found(Some("0/8"), &[]),
            found(Some("three"), &[]),
            slurm("2", "4"),
            slurm("4", "4"),
            slurm("1", "1"),
            slurm("2", ""),
            slurm("0", "4"),
            slurm("5", "4"),
            slurm("x", "4"),
            slurm("1", "many"),
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
