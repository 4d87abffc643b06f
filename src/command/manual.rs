//! `jetbench completions` and `jetbench man`: texts about the program itself, from the structs of the command line, so
//! that they cannot fall behind.

use std::path::Path;

use clap::Command;
use clap_complete::env::Shells;
use clap_mangen::Man;

use crate::cli::complete::Shell;
use crate::cli::shown;
use crate::exit::{Error, Outcome};
use crate::results::store;

/// Bash takes `objects=loop` for three words. This joins them before the program is asked, and takes what stands before the
/// `=`, which bash keeps, off the answers.
const BASH_EQUALS: &str = r#"
_jetbench() {
    local -a joined=()
    local word at=0 glued=
    for word in "${COMP_WORDS[@]:0:COMP_CWORD+1}"; do
        if [[ -n $glued || $word == =* && ${#joined[@]} -gt 0 ]]; then
            joined[at-1]+=$word
        else
            joined[at++]=$word
        fi
        glued=
        [[ $word == *= ]] && glued=1
    done
    local -a COMP_WORDS=("${joined[@]}")
    local COMP_CWORD=$((at - 1))
    word=${joined[at-1]}
    _clap_complete_jetbench "$1" "$word" "$3"
    if [[ $word == *=* && $COMP_WORDBREAKS == *=* ]]; then
        COMPREPLY=("${COMPREPLY[@]#"${word%"${word##*=}"}"}")
    fi
}
complete -o nospace -o bashdefault -F _jetbench jetbench
"#;

/// The few lines by which a shell asks this program for completions.
///
/// # Errors
/// They cannot be written to memory, which does not happen.
pub fn completions(shell: Shell) -> Result<Outcome, Error> {
    let name = clap::ValueEnum::to_possible_value(&shell).expect("no shell is hidden").get_name().to_string();
    let shells = Shells::builtins();
    let asked = shells.completer(&name).ok_or_else(|| Error::Usage(format!("{name} cannot be completed")))?;
    let mut bytes = Vec::new();
    asked.write_registration("COMPLETE", "jetbench", "jetbench", "jetbench", &mut bytes).map_err(fault)?;
    if shell == Shell::Bash {
        bytes.extend_from_slice(BASH_EQUALS.as_bytes());
    }
    Ok(Outcome::ok(String::from_utf8_lossy(&bytes).into_owned()))
}

/// One page with all commands; or with `dir`, a page for the program and one for each command, nested ones included.
///
/// # Errors
/// A page cannot be written: exit 3.
pub fn man(dir: Option<&Path>) -> Result<Outcome, Error> {
    let mut program = shown();
    program.build();
    let mut all = Vec::new();
    visible(&program, &mut all);
    let Some(dir) = dir else {
        let mut bytes = Vec::new();
        Man::new(program.clone()).render(&mut bytes).map_err(fault)?;
        for command in all.iter().skip(1) {
            let title = command.get_display_name().unwrap_or(command.get_name()).replace('-', " ");
            bytes.extend_from_slice(format!(".SH \"{}\"\n", title.to_uppercase()).as_bytes());
            let page = Man::new((*command).clone());
            page.render_description_section(&mut bytes).map_err(fault)?;
            page.render_options_section(&mut bytes).map_err(fault)?;
        }
        return Ok(Outcome::ok(String::from_utf8_lossy(&bytes).into_owned()));
    };
    for command in &all {
        let page = Man::new((*command).clone());
        let mut bytes = Vec::new();
        page.render(&mut bytes).map_err(fault)?;
        store::write_atomic(&dir.join(page.get_filename()), &bytes)
            .map_err(|e| Error::Environment(format!("cannot write man pages to {}: {e}", dir.display())))?;
    }
    Ok(Outcome::ok(format!("{} pages in {}\n", all.len(), dir.display())))
}

fn fault(error: std::io::Error) -> Error {
    Error::Environment(error.to_string())
}

/// The command and every command below it that is shown, parents first.
fn visible<'c>(command: &'c Command, found: &mut Vec<&'c Command>) {
    found.push(command);
    let below = command.get_subcommands().filter(|c| !c.is_hide_set() && c.get_name() != "help");
    below.for_each(|c| visible(c, found));
}
