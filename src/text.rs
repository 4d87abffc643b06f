//! How is text from outside made safe, and how are figures and counts written? Shared by everything that prints.

use std::io::Write;

/// Text from outside (names, errors) made safe for a terminal: control and invisible characters become `\u{fffd}`, line
/// breaks become spaces.
pub fn clean(text: &str) -> String {
    let safe = |c: char| match c {
        '\n' | '\r' | '\t' => ' ',
        c if hidden(c) => '\u{fffd}',
        c => c,
    };
    text.chars().map(safe).collect()
}

/// As [`clean`] for text of several lines, which stay apart: every line after the first is indented, so that none can pass for a
/// message of its own.
pub fn message(text: &str) -> String {
    text.trim_end().split('\n').map(clean).collect::<Vec<_>>().join("\n  ")
}

/// What the program prints, whole lines of it: as [`clean`], but line breaks and tabs stay, and where `colours` are welcome those
/// of our own tables.
pub fn screen(text: &str, colours: bool) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let colour = rest.strip_prefix("\u{1b}[").filter(|_| colours).and_then(|tail| {
            let end = tail.find(|c: char| !c.is_ascii_digit() && c != ';')?;
            tail[end..].starts_with('m').then_some(end + 3)
        });
        let taken = colour.unwrap_or(c.len_utf8());
        match c {
            '\n' | '\t' => out.push(c),
            _ if colour.is_some() => out.push_str(&rest[..taken]),
            c if hidden(c) => out.push('\u{fffd}'),
            c => out.push(c),
        }
        rest = &rest[taken..];
    }
    out
}

/// Characters that act on a terminal, or that hide or turn round what stands beside them.
fn hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// What a command leaves for stdout: text as [`screen`], and JSON, as a whole or in single lines, as [`plain_json`].
pub fn output(text: &str, colours: bool) -> String {
    let is_json =
        |text: &str| text.starts_with(['{', '[']) && serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok();
    if is_json(text) {
        return plain_json(text);
    }
    text.split_inclusive('\n')
        .map(|line| if is_json(line) { plain_json(line) } else { screen(line, colours) })
        .collect()
}

/// JSON in which everything is escaped that [`clean`] would replace, so that nothing of it is lost.
pub fn plain_json(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c != '\n' && hidden(c) {
            true => c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| out.push_str(&format!("\\u{unit:04x}"))),
            false => out.push(c),
        }
    }
    out
}

/// Says something on stderr; nobody listening is no error.
pub fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{}", message(text));
}

/// Text without what XML 1.0 forbids even when escaped.
pub fn printable(text: &str) -> String {
    let forbidden = |c: char| (c.is_control() && c != '\n' && c != '\t') || matches!(c, '\u{fffe}' | '\u{ffff}');
    text.replace(forbidden, "\u{fffd}")
}

/// Text made safe inside XML and HTML, in content and in quoted attributes.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in printable(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// A figure with as many digits as a reader can use: three or so, never an exponent.
pub fn figure(value: f64) -> String {
    match value.abs() {
        v if !v.is_finite() => value.to_string(),
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// [`figure`], and a dash for what was not measured or cannot be told.
pub fn show(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_string(), figure)
}

/// `1 video`, `3 videos`.
pub fn plural(n: usize, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

/// A word as a POSIX shell takes it.
pub fn shell_word(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_string()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// This moment as the clock has it, also one before 1970, where chrono's own function panics.
pub fn utc() -> chrono::DateTime<chrono::Utc> {
    std::time::SystemTime::now().into()
}

/// This moment as RFC 3339 in UTC, to the second.
pub fn now() -> String {
    utc().to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_acts_on_a_terminal() {
        let hostile = "a\u{1b}]0;title\u{7}\u{9b}31m\u{202e}b\rc\u{feff}\u{e0041}";
        for shown in [clean(hostile), message(hostile), screen(hostile, false), screen(hostile, true)] {
            assert!(!shown.contains(hidden), "{shown:?}");
        }
        let table = "\u{1b}[1;32mok\u{1b}[0m\t1\n\u{1b}[2J";
        assert_eq!(screen(table, true), "\u{1b}[1;32mok\u{1b}[0m\t1\n\u{fffd}[2J");
        assert_eq!(screen(table, false), "\u{fffd}[1;32mok\u{fffd}[0m\t1\n\u{fffd}[2J");
        assert_eq!(message("one\nerror: two\n"), "one\n  error: two");
        let line = serde_json::to_string(&[hostile]).unwrap();
        for json in [output(&line, true), output(&format!("a table\n{line}\n"), true)] {
            let line = json.lines().last().unwrap();
            assert!(!line.contains(hidden), "{line}");
            assert_eq!(serde_json::from_str::<Vec<String>>(line).unwrap(), [hostile]);
        }
    }

    #[test]
    fn commands_survive_a_shell() {
        assert_eq!(shell_word("--models"), "--models");
        assert_eq!(shell_word("a b"), "'a b'");
        assert_eq!(shell_word("it's"), r"'it'\''s'");
        assert_eq!(shell_word(""), "''");
        assert_eq!(shell_word("$(rm)"), "'$(rm)'");
    }
}
