//! The same schedule as a line for cron, where there is no systemd.

use super::ScheduledJob;
use super::units::told;

/// The line for `crontab -e`; `None` where cron cannot say it.
pub(super) fn crontab(job: &ScheduledJob) -> Option<String> {
    let when = cron(&job.meta.on_calendar)?;
    let quote = |word: &str| crate::text::shell_word(word).replace('%', "\\%");
    let environment: Vec<String> = job.environment.iter().map(|(k, v)| format!("{k}={}", quote(v))).collect();
    let words: Vec<String> = job.words.iter().map(|w| quote(w)).collect();
    let directory = quote(&job.directory.to_string_lossy());
    let command = [environment, words].concat().join(" ");
    let run = match &job.on_failure {
        None => format!("{command} --quiet"),
        Some(failure) => {
            let told = told(&job.meta).map(|(name, value)| format!("{name}={}", quote(&value))).join(" ");
            format!("{{ {command} --quiet || {told} sh -c {}; }}", quote(failure))
        }
    };
    Some(format!("{when} cd {directory} && {run}"))
}

/// systemd's calendar as cron's five fields, for the forms that both have: `hourly`, `daily`, `weekly`, `monthly`,
/// `[days] [*-*-D] HH:MM[:00]`.
fn cron(expression: &str) -> Option<String> {
    match expression.trim() {
        "hourly" => return Some("0 * * * *".into()),
        "daily" => return Some("0 0 * * *".into()),
        "weekly" => return Some("0 0 * * 1".into()),
        "monthly" => return Some("0 0 1 * *".into()),
        _ => {}
    }
    let (mut days, mut day, mut time) = ("*".to_string(), "*".to_string(), None);
    for word in expression.split_whitespace() {
        if word.contains(':') {
            let parts: Vec<&str> = word.split(':').collect();
            let number = |text: &str, below: u32| text.parse::<u32>().ok().filter(|n| *n < below);
            match parts.as_slice() {
                [hour, minute] | [hour, minute, "00"] => {
                    let hour = if *hour == "*" { "*".to_string() } else { number(hour, 24)?.to_string() };
                    time = Some((hour, number(minute, 60)?));
                }
                _ => return None,
            }
        } else if let Some(date) = word.strip_prefix("*-*-") {
            day = if date == "*" {
                "*".into()
            } else {
                date.parse::<u32>().ok().filter(|d| (1..=31).contains(d))?.to_string()
            };
        } else {
            const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
            let number = |d: &str| DAYS.iter().position(|n| d.to_ascii_lowercase().starts_with(n)).map(|p| p + 1);
            let parts = word.split(',').map(|part| match part.split_once("..") {
                Some((from, to)) => Some(format!("{}-{}", number(from)?, number(to)?)),
                None => Some(number(part)?.to_string()),
            });
            days = parts.collect::<Option<Vec<_>>>()?.join(",");
        }
    }
    let (hour, minute) = time?;
    // cron runs when either day matches where both are given; systemd when both do.
    (days == "*" || day == "*").then(|| format!("{minute} {hour} {day} * {days}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calendars_become_cron_lines_where_cron_can_say_them() {
        let said: Vec<String> = [
            "*-*-* 02:00",
            "02:30:00",
            "Mon..Fri *-*-* 22:15",
            "Sat,Sun 04:00",
            "*-*-01 03:00",
            "*:15",
            "daily",
            "weekly",
            "Mon *-*-01 03:00",
            "*-*-* 02:00:30",
            "2027-01-01 00:00",
            "*-*-* 0/2:00",
        ]
        .iter()
        .map(|c| format!("{c} = {}", cron(c).unwrap_or_else(|| "no".into())))
        .collect();
        insta::assert_snapshot!(said.join("\n"), @r"
        *-*-* 02:00 = 0 2 * * *
        02:30:00 = 30 2 * * *
        Mon..Fri *-*-* 22:15 = 15 22 * * 1-5
        Sat,Sun 04:00 = 0 4 * * 6,7
        *-*-01 03:00 = 0 3 1 * *
        *:15 = 15 * * * *
        daily = 0 0 * * *
        weekly = 0 0 * * 1
        Mon *-*-01 03:00 = no
        *-*-* 02:00:30 = no
        2027-01-01 00:00 = no
        *-*-* 0/2:00 = no
        ");
    }
}
