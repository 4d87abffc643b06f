//! `--option KEY=VALUE` for the shell: what it offers and what the help says, from the runners' table. What is typed is
//! checked while planning, together with what a config file says.

use std::sync::LazyLock;

use clap::builder::{PossibleValue, StringValueParser, TypedValueParser};
use clap::{Arg, Command, Error};
use jetbench_runners::options::TABLE;

/// Takes any text; shells complete the words of the table.
#[derive(Clone)]
pub(super) struct OptionParser;

impl TypedValueParser for OptionParser {
    type Value = String;

    fn parse_ref(&self, command: &Command, arg: Option<&Arg>, value: &std::ffi::OsStr) -> Result<String, Error> {
        StringValueParser::new().parse_ref(command, arg, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(OFFERED.iter().map(|(word, help)| PossibleValue::new(word.as_str()).help(*help))))
    }
}

/// What a shell offers, with the option's line of help; where a value is open the user goes on after the `=`.
static OFFERED: LazyLock<Vec<(String, &str)>> = LazyLock::new(|| {
    let offered = TABLE.iter().flat_map(|option| {
        let open = (option.range().is_some() || option.words().is_empty()).then_some("");
        let values = option.words().into_iter().chain(open);
        values.map(|value| (format!("{}={value}", option.name), option.help)).collect::<Vec<_>>()
    });
    offered.collect()
});

/// One line for `--help`.
pub(super) fn help() -> String {
    let own: Vec<&str> = TABLE.iter().filter(|o| o.provider_key().is_none()).map(|option| option.name).collect();
    format!(
        "Option for the runner, by name (repeatable): {}, and those of the CUDA, TensorRT and WebGPU providers; `jetbench models --options` \
         explains them. An option that the runner does not know is dropped; this is shown and recorded",
        own.join(", ")
    )
}
