//! `jetbench completions` and `jetbench man`: texts about the program itself, from the structs of the command line, so
//! that they cannot fall behind.

use clap::CommandFactory;

use crate::cli::Cli;
use crate::exit::{Error, Outcome};

/// Completions of a shell. The generators offer hidden commands too, so they are given a program without them.
pub fn completions(shell: clap_complete::Shell) -> Outcome {
    let whole = Cli::command();
    let mut shown = clap::Command::new("jetbench")
        .args(whole.get_arguments().cloned())
        .groups(whole.get_groups().cloned())
        .subcommands(whole.get_subcommands().filter(|command| !command.is_hide_set()).cloned());
    let mut bytes = Vec::new();
    clap_complete::generate(shell, &mut shown, "jetbench", &mut bytes);
    Outcome::ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The man page: the program, then every sub-command's flags.
///
/// # Errors
/// It cannot be written to memory, which does not happen.
pub fn man() -> Result<Outcome, Error> {
    let fault = |e: std::io::Error| Error::Environment(e.to_string());
    let mut command = Cli::command();
    command.build();
    let mut bytes = Vec::new();
    clap_mangen::Man::new(command.clone()).render(&mut bytes).map_err(fault)?;
    for sub in command.get_subcommands().filter(|c| !c.is_hide_set() && c.get_name() != "help") {
        let page = clap_mangen::Man::new(sub.clone());
        bytes.extend_from_slice(
            format!(".SH \"{}\"\n", sub.get_display_name().unwrap_or(sub.get_name()).to_uppercase()).as_bytes(),
        );
        page.render_description_section(&mut bytes).map_err(fault)?;
        page.render_options_section(&mut bytes).map_err(fault)?;
    }
    Ok(Outcome::ok(String::from_utf8_lossy(&bytes).into_owned()))
}
