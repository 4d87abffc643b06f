//! What stands in the CSV files that others script against? Each file is a [`CsvTable`] of columns: name, unit, meaning,
//! and how a row gives the value; `docs/results.md` is written from the same tables. Names are a contract: they never
//! change, and new ones are only added at the end. Floats are written with the fewest digits that read back to the same
//! bits, and a quantity that was not measured is an empty field, never 0.

mod run;

use std::fmt::Display;

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

fn write(rows: impl Iterator<Item = Vec<String>>) -> Vec<u8> {
    let mut writer = ::csv::Writer::from_writer(Vec::new());
    rows.for_each(|row| writer.write_record(row).expect("memory takes all, and every row has all columns"));
    writer.into_inner().expect("memory takes all")
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
            "dtype", "", "precision asked for" => |r| value(r.cell.dtype);
            "device", "", "device asked for, and used" => |r| value(&r.cell.device);
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
