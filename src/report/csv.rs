//! What stands in the CSV files that others script against? Each file is a [`CsvTable`] of columns: name, unit, meaning,
//! and how a row gives the value; `docs/results.md` is written from the same tables. Names are a contract: they never
//! change, and new ones are only added at the end. Floats are written with the fewest digits that read back to the same
//! bits, and a quantity that was not measured is an empty field, never 0.

mod community;
mod found;
mod labels;
mod run;

use std::fmt::Display;

pub use community::*;
pub use found::*;
pub use labels::*;
pub use run::*;

/// A column of a file whose rows are made of `R`.
pub struct CsvColumn<R> {
    /// Name in the header.
    pub name: &'static str,
    /// Unit; empty for names, words and counts.
    pub unit: &'static str,
    /// What it says, for `docs/results.md`.
    pub meaning: &'static str,
    /// When its field is empty, for the same; empty: never.
    pub empty: &'static str,
    /// The field of a row.
    pub get: fn(&R) -> String,
}

/// A CSV file.
pub struct CsvTable<R> {
    /// Name of the file, or the flag that writes it.
    pub file: &'static str,
    /// What a row is, for `docs/results.md`.
    pub row: &'static str,
    /// Columns in their order.
    pub columns: Vec<CsvColumn<R>>,
}

impl<R> CsvTable<R> {
    /// The file: header and rows.
    pub fn file(&self, rows: impl IntoIterator<Item = R>) -> Vec<u8> {
        [self.header(), self.rows(rows)].concat()
    }

    /// The line of names.
    pub fn header(&self) -> Vec<u8> {
        write(std::iter::once(self.columns.iter().map(|column| column.name.to_string()).collect()))
    }

    /// The rows alone.
    pub fn rows(&self, rows: impl IntoIterator<Item = R>) -> Vec<u8> {
        write(rows.into_iter().map(|row| self.columns.iter().map(|column| (column.get)(&row)).collect()))
    }
}

/// Every field of every file goes through [`inert`].
fn write(rows: impl Iterator<Item = Vec<String>>) -> Vec<u8> {
    let mut writer = ::csv::Writer::from_writer(Vec::new());
    rows.for_each(|row| {
        writer.write_record(row.into_iter().map(inert)).expect("memory takes all, and every row has all columns");
    });
    writer.into_inner().expect("memory takes all")
}

/// One line of a file whose columns are not ours to say.
pub(crate) fn line(fields: impl IntoIterator<Item = String>) -> Vec<u8> {
    write(std::iter::once(fields.into_iter().collect()))
}

/// A field that no spreadsheet takes for a formula: text that begins like one, or with the mark itself, gets a `'` in front.
/// Numbers stay as they are, negative ones too. [`restore`] takes the mark away again.
fn inert(field: String) -> String {
    let begins = |c: char| matches!(c, '=' | '+' | '-' | '@' | '\t' | '\r' | '\n' | '\'' | '＝' | '＋' | '－' | '＠');
    match field.starts_with(begins) && field.parse::<f64>().is_err() {
        true => format!("'{field}"),
        false => field,
    }
}

/// The field as it was before it was written.
pub fn restore(field: &str) -> &str {
    field.strip_prefix('\'').unwrap_or(field)
}

/// A value as text; Rust writes floats with the fewest digits that read back to the same bits, without an exponent.
pub(crate) fn value(value: impl Display) -> String {
    value.to_string()
}

/// An empty field for what was not measured.
pub(crate) fn maybe(measured: Option<impl Display>) -> String {
    measured.map_or_else(String::new, value)
}

/// Columns of a file of `$entry`s, each as `name, unit, meaning[, when empty] => field;`. With `cell;` first, after those
/// that name the entry's cell.
macro_rules! columns {
    ($entry:ty; cell; $($rest:tt)*) => {
        $crate::report::csv::columns! {
            $entry;
            "model", "", "model tag" => |r| value(&r.cell.model);
            "dtype", "", "requested precision" => |r| value(r.cell.dtype);
            "device", "", "requested device, which is the one used" => |r| value(&r.cell.device);
            $($rest)*
        }
    };
    ($entry:ty; $($name:literal, $unit:literal, $meaning:literal $(, $empty:expr)? => $get:expr;)*) => {
        vec![$($crate::report::csv::CsvColumn::<$entry> {
            name: $name, unit: $unit, meaning: $meaning, empty: [$($empty,)? ""][0], get: $get,
        }),*]
    };
}
pub(crate) use columns;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn spreadsheets_run_nothing() {
        for (field, written) in [
            ("=cmd|'/c calc'!A0", "'=cmd|'/c calc'!A0"),
            ("@SUM(A1)", "'@SUM(A1)"),
            ("+1+1", "'+1+1"),
            ("-2+3", "'-2+3"),
            ("\t=1", "'\t=1"),
            ("\r=1", "'\r=1"),
            ("＝1+1", "'＝1+1"),
            ("'quoted", "''quoted"),
            ("-12.5", "-12.5"),
            ("-1e-7", "-1e-7"),
            ("bear", "bear"),
            ("", ""),
            ("a=b", "a=b"),
        ] {
            assert_eq!(inert(field.to_string()), written);
        }
    }

    proptest! {
        #[test]
        fn what_was_written_is_read_back(field in "[=+@'\t -]{0,3}[a-z0-9.=+-]{0,4}") {
            let written = line([field.clone(), "last".to_string()]);
            let mut reader = ::csv::ReaderBuilder::new().has_headers(false).from_reader(written.as_slice());
            let row = reader.records().next().unwrap().unwrap();
            prop_assert_eq!(restore(&row[0]), field.as_str());
        }
    }
}
