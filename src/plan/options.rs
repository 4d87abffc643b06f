//! Which options does a runner get? From what was asked for over what its pack takes to what the plan settles by itself.

use jetbench_runners::options::{OVERLAPS, PIPELINE, TABLE, check_together, find};
use jetbench_runners::packs::PackInfo;
use jetbench_runners::types::{Admitted, DroppedOption, Options, PromptKind};

use crate::exit::{Error, nearest};
use crate::plan::resolve::Cell;
use crate::plan::scenario::Scenario;
use crate::plan::settings::Settings;

/// What the runner of a cell is given: the options that were asked for and admitted, and those the plan settles.
pub fn given(settings: &Settings, cell: &Cell) -> Options {
    let dropped = |name: &str| cell.admitted.dropped.iter().any(|d| d.name == name);
    let mut options = settings.options.clone();
    options.extra.retain(|name, _| !dropped(name));
    let settled = cell.admitted.passed.iter().filter(|(name, _)| [OVERLAPS, PIPELINE].contains(&name.as_str()));
    options.extra.extend(settled.cloned());
    options.threads = options.threads.filter(|_| !dropped("threads"));
    options.spinning = options.spinning.filter(|_| !dropped("spinning"));
    options
}

/// Can the options of a cell go together, and with its precision, device and machine? Test packs have options of their own.
///
/// # Errors
/// They cannot: which one, and what is expected.
pub(super) fn check(settings: &Settings, cell: &Cell) -> Result<(), Error> {
    if !cell.pack.hidden {
        check_together(cell.device, cell.dtype, &given(settings, cell))?;
    }
    Ok(())
}

/// The options that the runner gets and those it does not; clicks are an option of points prompts.
pub(super) fn admit(pack: &PackInfo, settings: &Settings, prompt: PromptKind) -> Admitted {
    let mut admitted = pack.capabilities.admit(&settings.options);
    for dropped in &mut admitted.dropped {
        let known = || pack.capabilities.options.iter().map(String::as_str).chain(TABLE.iter().map(|o| o.name));
        if find(&dropped.name).is_none()
            && !pack.capabilities.refused.contains_key(&dropped.name)
            && let Some(near) = nearest(&dropped.name, known())
            // Names of options are alike anyway: the usual nearness would take `graphs` for `overlaps`.
            && strsim::jaro_winkler(&dropped.name, near) > 0.8
        {
            dropped.reason.push_str(&format!("; did you mean `{near}`?"));
        }
    }
    if prompt == PromptKind::Points && settings.clicks > 1 {
        let given = clicks(pack, settings);
        if given > 1 {
            admitted.passed.push(("clicks".into(), given.to_string()));
        }
        if given < settings.clicks {
            admitted.dropped.push(DroppedOption {
                name: "clicks".into(),
                value: settings.clicks.to_string(),
                reason: format!("this pack takes at most {given} clicks per object; {given} are given"),
            });
        }
    }
    admit_pipeline(&mut admitted, pack, settings.scenario);
    admitted
}

/// Where throughput counts, a runner that gains by beginning with the next frame beside this one does so unless told otherwise; where
/// frames come one at a time there is no next one.
fn admit_pipeline(admitted: &mut Admitted, pack: &PackInfo, scenario: Scenario) {
    if !pack.capabilities.options.iter().any(|o| o == PIPELINE) {
        return;
    }
    let given = admitted.passed.iter().position(|(name, _)| name == PIPELINE);
    match (scenario, given) {
        (Scenario::Offline, None) => {
            let ahead = if pack.capabilities.works_ahead { "on" } else { "off" };
            admitted.passed.push((PIPELINE.to_string(), ahead.to_string()));
        }
        (Scenario::SingleStream | Scenario::Realtime, Some(at)) => {
            let (name, value) = admitted.passed.remove(at);
            let reason = format!("only in the scenario offline; in {scenario} no frame is there before its turn");
            admitted.dropped.push(DroppedOption { name, value, reason });
        }
        _ => {}
    }
}

/// Clicks per object that this pack is given.
pub fn clicks(pack: &PackInfo, settings: &Settings) -> usize {
    settings.clicks.min(pack.capabilities.max_points.max(1) as usize)
}

/// Such data is scored on label maps: who gets a pixel that two objects claim is the model's to say.
pub(super) fn exclude(cell: &mut Cell, settings: &Settings) {
    let takes = cell.pack.capabilities.options.iter().any(|o| o == OVERLAPS);
    if takes && !settings.options.extra.contains_key(OVERLAPS) {
        cell.admitted.passed.push((OVERLAPS.to_string(), "exclusive".to_string()));
    }
}

/// Was it asked for that a pixel stays with every object that claims it?
pub fn keeps_overlaps(cell: &Cell) -> bool {
    cell.admitted.value(OVERLAPS) == Some("keep")
}

#[cfg(test)]
mod tests {
    use jetbench_runners::types::Capabilities;

    use super::*;

    #[test]
    fn frames_are_encoded_ahead_where_that_pays_or_was_asked_for() {
        let pack = |works_ahead: bool, known: bool| PackInfo {
            test_model_of: None,
            dir: "p".into(),
            id: "p".into(),
            family: "mock".into(),
            description: String::new(),
            licence: String::new(),
            digest: String::new(),
            capabilities: Capabilities {
                prompts: Vec::new(),
                dtypes: Vec::new(),
                options: known.then(|| PIPELINE.to_string()).into_iter().collect(),
                max_objects: None,
                max_points: 1,
                works_ahead,
                refused: Default::default(),
            },
            classes: Vec::new(),
            panoptic: Default::default(),
            detects: false,
            hidden: false,
        };
        let passed = |pack: PackInfo, scenario: Scenario, given: Option<&str>| {
            let passed = given.map(|value| (PIPELINE.to_string(), value.to_string()));
            let mut admitted = Admitted { passed: passed.into_iter().collect(), ..Admitted::default() };
            admit_pipeline(&mut admitted, &pack, scenario);
            (admitted.passed.first().map(|(_, value)| value.clone()), admitted.dropped.len())
        };
        let said = |value: &str| Some(value.to_string());
        assert_eq!(passed(pack(true, true), Scenario::Offline, None), (said("on"), 0));
        assert_eq!(passed(pack(false, true), Scenario::Offline, None), (said("off"), 0));
        assert_eq!(passed(pack(false, true), Scenario::Offline, Some("on")), (said("on"), 0));
        assert_eq!(passed(pack(true, true), Scenario::Offline, Some("off")), (said("off"), 0));
        assert_eq!(passed(pack(true, false), Scenario::Offline, None), (None, 0));
        assert_eq!(passed(pack(true, true), Scenario::SingleStream, Some("on")), (None, 1));
        assert_eq!(passed(pack(true, true), Scenario::SingleStream, None), (None, 0));
    }
}
