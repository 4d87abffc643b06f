//! From a run's record to files and text for readers. One exporter per format, each a pure function of the record: the
//! same record always gives the same bytes, nothing is printed, nothing is read from elsewhere.

pub mod csv;
pub mod plot;
pub mod png;
pub mod scene;
pub mod table;
