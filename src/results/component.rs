//! May this text be the name of one directory or file below the results? Records come from other machines, and what stands in
//! them is text: before any of it becomes part of a path it passes here.

use std::path::Path;

use crate::exit::Error;

/// Longest name, bytes: file systems allow 255, and suffixes are added.
const LONGEST: usize = 200;

/// What forbids `name` as one component of a path; `None`: it leads nowhere but one level down.
pub fn fault(name: &str) -> Option<&'static str> {
    match name {
        "" => Some("it is empty"),
        n if n.len() > LONGEST => Some("it is longer than 200 bytes"),
        n if n.starts_with('.') => Some("it begins with a dot"),
        n if n.contains(['/', '\\']) => Some("it holds a path separator"),
        n if n.chars().any(char::is_control) => Some("it holds a control character"),
        _ => None,
    }
}

/// Refuses a record in whose `field` stands what cannot be a directory's name.
///
/// # Errors
/// Names the file and the field; exit 2.
pub fn check(name: &str, file: &Path, field: &str) -> Result<(), Error> {
    let Some(fault) = fault(name) else { return Ok(()) };
    let shown: String = name.chars().take(80).collect();
    Err(Error::Usage(format!(
        "{}: {field} is {shown:?}, which cannot be the name of a directory: {fault}; the record is foreign or damaged",
        file.display()
    )))
}

#[cfg(test)]
mod tests {
    use super::fault;

    #[test]
    fn only_what_stays_one_level_down_is_a_name() {
        for good in ["intel-xeon-2.80ghz", "fleet", "20261121T093000Z-048213", "a b", "größe"] {
            assert_eq!(fault(good), None, "{good}");
        }
        for bad in ["", ".", "..", "../x", "a/b", "/etc", "a\\b", "a\nb", "\0", ".hidden", &"x".repeat(201)] {
            assert!(fault(bad).is_some(), "{bad:?}");
        }
    }
}
