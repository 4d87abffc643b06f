//! In which order do frames come? By number where their names hold one, as SAM 2's loader has it, else as text; and what
//! is odd about the names: several schemes, one number twice, numbers left out.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use crate::text::plural;

/// A name taken apart: `frame_012` is of the scheme `frame_#` and holds the number 12, kept as digits of any length.
struct Parsed<'a> {
    scheme: String,
    numbers: Vec<&'a str>,
}

fn parse(name: &str) -> Parsed<'_> {
    let mut parsed = Parsed { scheme: String::new(), numbers: Vec::new() };
    let mut rest = name;
    while !rest.is_empty() {
        let text = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        parsed.scheme.push_str(&rest[..text]);
        rest = &rest[text..];
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        if digits > 0 {
            parsed.scheme.push('#');
            parsed.numbers.push(rest[..digits].trim_start_matches('0'));
            rest = &rest[digits..];
        }
    }
    parsed
}

fn by_value(a: &str, b: &str) -> Ordering {
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

/// How a set of names is ordered.
enum Rule {
    /// All of one scheme: number by number.
    Numbers,
    /// All of the scheme `#.#`, both parts changing: time stamps, whose second part is a fraction.
    Decimal,
    /// Several schemes, one number in each name.
    OneNumber,
    /// Whatever else.
    Text,
}

fn rule(parsed: &[Parsed<'_>]) -> Rule {
    let Some(first) = parsed.first() else { return Rule::Text };
    if parsed.iter().any(|p| p.scheme != first.scheme) {
        return if parsed.iter().all(|p| p.numbers.len() == 1) { Rule::OneNumber } else { Rule::Text };
    }
    let varies = |column: usize| parsed.iter().any(|p| p.numbers[column] != first.numbers[column]);
    match first.numbers.len() {
        0 => Rule::Text,
        2 if first.scheme == "#.#" && varies(0) && varies(1) => Rule::Decimal,
        _ => Rule::Numbers,
    }
}

/// Puts `items` into the order of their names (file names or stems), and says what is odd about it.
pub(crate) fn sort<T>(items: &mut Vec<T>, name: impl Fn(&T) -> &str) -> Vec<String> {
    items.sort_by(|a, b| name(a).cmp(name(b)));
    let names: Vec<String> = items.iter().map(|item| name(item).to_string()).collect();
    let parsed: Vec<Parsed<'_>> = names.iter().map(|n| parse(n)).collect();
    let rule = rule(&parsed);
    let mut order: Vec<usize> = (0..names.len()).collect();
    let fraction = |digits: &str, name: &str| {
        // Zeros at the front of a fraction count.
        let shown = name.rsplit('.').next().unwrap_or(digits).len();
        format!("{}{digits}", "0".repeat(shown - digits.len()))
    };
    let compare = |&a: &usize, &b: &usize| {
        let (x, y) = (&parsed[a].numbers, &parsed[b].numbers);
        match rule {
            Rule::Text => Ordering::Equal,
            Rule::Decimal => {
                by_value(x[0], y[0]).then_with(|| fraction(x[1], &names[a]).cmp(&fraction(y[1], &names[b])))
            }
            Rule::Numbers | Rule::OneNumber => {
                let pairs = x.iter().zip(y).map(|(x, y)| by_value(x, y));
                pairs.fold(Ordering::Equal, Ordering::then)
            }
        }
    };
    order.sort_by(compare); // stable: equal numbers stay in the order of their texts
    let odd = oddities(&names, &parsed, &rule, &order);
    let mut slots: Vec<Option<T>> = std::mem::take(items).into_iter().map(Some).collect();
    items.extend(order.iter().filter_map(|&i| slots[i].take()));
    odd
}

fn oddities(names: &[String], parsed: &[Parsed<'_>], rule: &Rule, order: &[usize]) -> Vec<String> {
    let mut odd = Vec::new();
    let schemes: BTreeSet<&str> = parsed.iter().map(|p| p.scheme.as_str()).collect();
    let taken = match rule {
        Rule::Text => "as text",
        _ => "in the order of their numbers",
    };
    if schemes.len() > 1 {
        let shown: Vec<String> = schemes.iter().take(3).map(|s| format!("`{s}`")).collect();
        let shown = shown.join(", ");
        odd.push(format!(
            "names of {} schemes ({shown}{}) are taken {taken}; give them one",
            schemes.len(),
            if schemes.len() > 3 { ", …" } else { "" }
        ));
    } else if order.windows(2).any(|w| w[0] > w[1]) {
        odd.push(format!(
            "names without leading zeros are taken {taken} ({}, {}, …); a program that sorts them as text takes another order",
            names[order[0]],
            names[order[1]]
        ));
    }
    if matches!(rule, Rule::Text | Rule::Decimal) {
        return odd;
    }
    let twice = order.windows(2).find(|w| parsed[w[0]].numbers == parsed[w[1]].numbers);
    if let Some(pair) = twice {
        odd.push(format!("{} and {} hold the same number; remove or rename one", names[pair[0]], names[pair[1]]));
    }
    odd.extend(gaps(names, parsed, order));
    odd
}

/// Numbers left out: most differences between neighbours are the same, one is not. Only where one number changes.
fn gaps(names: &[String], parsed: &[Parsed<'_>], order: &[usize]) -> Option<String> {
    let first = &parsed.first()?.numbers;
    let mut changing = (0..first.len()).filter(|&c| parsed.iter().any(|p| p.numbers[c] != first[c]));
    let (Some(column), None) = (changing.next(), changing.next()) else { return None };
    let value = |i: &usize| match parsed[*i].numbers[column] {
        "" => Some(0),
        digits => digits.parse().ok(),
    };
    let numbers: Vec<u64> = order.iter().map(value).collect::<Option<_>>()?;
    if numbers.len() <= 3 {
        return None;
    }
    let mut steps: BTreeMap<u64, usize> = BTreeMap::new();
    for pair in numbers.windows(2) {
        *steps.entry(pair[1] - pair[0]).or_default() += 1;
    }
    let (&usual, _) = steps.iter().max_by_key(|(_, n)| **n)?;
    let odd: Vec<String> = numbers
        .windows(2)
        .zip(order)
        .filter(|(pair, _)| pair[1] - pair[0] != usual)
        .map(|(pair, &i)| format!("after {} comes {}", names[i], pair[1]))
        .collect();
    let shown = odd[..odd.len().min(5)].join(", ");
    (!odd.is_empty()).then(|| {
        format!(
            "numbers go in steps of {usual}, except at {}: {shown}; are files missing?",
            plural(odd.len(), "place", "places")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sorted(names: &[&str]) -> (String, String) {
        let mut names: Vec<String> = names.iter().map(|n| n.to_string()).collect();
        let odd = sort(&mut names, |n| n);
        (names.join(" "), odd.join("; "))
    }

    #[test]
    fn names_that_hold_numbers_come_in_their_order() {
        for (names, order) in [
            (&["10", "2", "1"][..], "1 2 10"),
            (&["frame_10", "frame_9", "frame_1"], "frame_1 frame_9 frame_10"),
            (&["v2_f10_left", "v2_f9_left"], "v2_f9_left v2_f10_left"),
            (&["img9", "frame10", "img1"], "img1 img9 frame10"),
            (
                &["99999999999999999999999", "100000000000000000000000"],
                "99999999999999999999999 100000000000000000000000",
            ),
            (&["0.05", "0.1", "1.025", "0.2"], "0.05 0.1 0.2 1.025"),
            (&["a.10", "a.9"], "a.9 a.10"),
            (&["1.10", "1.9"], "1.9 1.10"),
            (&["b", "a", "c1"], "a b c1"),
            (&[], ""),
        ] {
            assert_eq!(sorted(names).0, order);
        }
    }

    #[test]
    fn odd_names_are_said() {
        for (names, what) in [
            (&["1", "2", "10", "11"][..], "without leading zeros"),
            (
                &["img1", "frame2", "img3"],
                "names of 2 schemes (`frame#`, `img#`) are taken in the order of their numbers",
            ),
            (&["img1", "frame", "img3"], "taken as text"),
            (&["1", "01", "2"], "01 and 1 hold the same number"),
            (&["00000", "00001", "00002", "00004", "00005"], "after 00002 comes 4"),
            (&["f_0", "f_5", "f_15", "f_20"], "steps of 5, except at 1 place: after f_5 comes 15"),
        ] {
            let odd = sorted(names).1;
            assert!(odd.contains(what), "{names:?}: {odd}");
        }
        for names in
            [&["00000", "00001", "00002", "00003"][..], &["00000001", "00000006", "00000011", "00000016"], &["x"]]
        {
            assert_eq!(sorted(names).1, "", "{names:?}");
        }
    }

    proptest! {
        /// Whatever the names: nothing is lost, and zeros in front change nothing.
        #[test]
        fn padded_and_plain_numbers_have_one_order(numbers in prop::collection::btree_set(0u64..100_000, 1..30)) {
            let plain: Vec<String> = numbers.iter().map(u64::to_string).collect();
            let mut shuffled = plain.clone();
            shuffled.sort();
            sort(&mut shuffled, |n| n);
            prop_assert_eq!(shuffled, plain);
        }

        #[test]
        fn any_names_are_kept(names in prop::collection::vec("\\PC{0,8}", 0..12)) {
            let mut ordered = names.clone();
            sort(&mut ordered, |n| n);
            let (mut a, mut b) = (names, ordered);
            a.sort();
            b.sort();
            prop_assert_eq!(a, b);
        }
    }
}
