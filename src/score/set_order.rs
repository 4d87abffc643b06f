//! The order in which CPython iterates over a set of small integers. The references keep object ids in such a set; its
//! order decides the rows of `results.csv` and, through the order of summation, the last bit of the global mean.

/// A set of non-negative integers that iterates as CPython's does (open addressing, nine linear probes, then a
/// perturbed jump; growth as in `setobject.c`). Only insertion is needed, so there are no deleted slots.
#[derive(Clone, Debug)]
pub(super) struct SetOrder {
    slots: Vec<Option<u64>>,
    used: usize,
}

const LINEAR_PROBES: usize = 9;

impl Default for SetOrder {
    fn default() -> Self {
        SetOrder { slots: vec![None; 8], used: 0 }
    }
}

impl SetOrder {
    /// Set with the given members, added in order.
    fn of(ids: &[u64]) -> Self {
        let mut set = SetOrder::default();
        ids.iter().for_each(|&id| set.add(id));
        set
    }

    /// `set.update(set(ids))`.
    pub(super) fn update(&mut self, ids: &[u64]) {
        let other = SetOrder::of(ids);
        if other.used == 0 {
            return;
        }
        if (self.used + other.used) * 5 >= (self.slots.len() - 1) * 3 {
            self.resize((self.used + other.used) * 2);
        }
        if self.used == 0 && self.slots.len() == other.slots.len() {
            *self = other;
            return;
        }
        for id in other.iter() {
            self.add(id);
        }
    }

    /// Members in iteration order.
    pub(super) fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        self.slots.iter().flatten().copied()
    }

    fn add(&mut self, id: u64) {
        if self.place(id) && self.used * 5 >= (self.slots.len() - 1) * 3 {
            let least = if self.used > 50_000 { self.used * 2 } else { self.used * 4 };
            self.resize(least);
        }
    }

    /// Puts `id` where CPython would; false when it is there already.
    fn place(&mut self, id: u64) -> bool {
        let mask = self.slots.len() - 1;
        let mut at = id as usize & mask;
        let mut perturb = id;
        loop {
            let probes = if at + LINEAR_PROBES <= mask { LINEAR_PROBES } else { 0 };
            for slot in &mut self.slots[at..=at + probes] {
                match slot {
                    Some(there) if *there == id => return false,
                    Some(_) => {}
                    None => {
                        *slot = Some(id);
                        self.used += 1;
                        return true;
                    }
                }
            }
            perturb >>= 5;
            at = at.wrapping_mul(5).wrapping_add(1).wrapping_add(perturb as usize) & mask;
        }
    }

    /// Smallest power of two above `least` slots, members re-inserted in table order.
    fn resize(&mut self, least: usize) {
        let mut size = 8;
        while size <= least {
            size *= 2;
        }
        let old = std::mem::replace(&mut self.slots, vec![None; size]);
        self.used = 0;
        for id in old.into_iter().flatten() {
            self.place(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(frames: &[&[u64]]) -> Vec<u64> {
        let mut set = SetOrder::default();
        frames.iter().for_each(|ids| set.update(ids));
        set.iter().collect()
    }

    /// Orders printed by CPython 3.11 for `s = set(); s.update(set(frame)) ...; list(s)`.
    #[test]
    fn orders_are_those_of_cpython() {
        assert_eq!(order(&[&[1, 2, 3]]), [1, 2, 3]);
        assert_eq!(order(&[&[1, 8]]), [8, 1]);
        assert_eq!(order(&[&[1, 2, 8, 16, 33, 40]]), [16, 1, 2, 33, 8, 40]);
    }

    /// 60 random histories with the order that CPython 3.11 gave (one line each: frames by `;`, then `|` and the order).
    #[test]
    fn random_histories_are_those_of_cpython() {
        let lines = include_str!("../../tests/cases/set_order.txt");
        assert_eq!(lines.lines().count(), 60);
        for line in lines.lines() {
            let (history, wanted) = line.split_once('|').unwrap();
            let ids = |text: &str| text.split_whitespace().map(|w| w.parse().unwrap()).collect::<Vec<u64>>();
            let mut set = SetOrder::default();
            history.split(';').for_each(|frame| set.update(&ids(frame)));
            assert_eq!(set.iter().collect::<Vec<_>>(), ids(wanted), "{line}");
        }
    }
}
