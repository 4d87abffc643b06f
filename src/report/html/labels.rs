//! What are the objects called?

use maud::{Markup, html};

use super::shell::{folded, grid};
use crate::results::record::{CellRecord, LabelSummary, ObjectLabelRecord};
use crate::text::plural;

/// The figures of a cell's labels, by name.
pub(super) fn fact(cell: &CellRecord) -> Option<(&'static str, String)> {
    let pack = &cell.labels.as_ref()?.pack;
    let summary = LabelSummary::of(&cell.sequences)?;
    Some(("labels", format!("{} {}", pack, crate::report::closing::label_words(&summary))))
}

/// Every object of a cell with its label, folded; nothing where there are no labels.
pub(super) fn objects(cell: &CellRecord) -> Markup {
    let number = |p: Option<f64>| p.map_or_else(|| "–".to_string(), |p| format!("{p:.2}"));
    let word = |w: &Option<String>| w.clone().unwrap_or_else(|| "–".to_string());
    let row = |video: &str, o: &ObjectLabelRecord| {
        let (first, second) = (number(o.probability), number(o.second_probability));
        vec![video.to_string(), o.object.clone(), word(&o.label), first, word(&o.second), second, o.crops.to_string()]
    };
    let rows: Vec<_> = (cell.sequences.iter())
        .flat_map(|s| s.labels.iter().flat_map(|labels| &labels.objects).map(|o| row(&s.video, o)))
        .collect();
    if rows.is_empty() {
        return Markup::default();
    }
    let titles = ["video", "object", "label", "probability", "second", "probability", "crops"];
    let title = format!("By label ({})", plural(rows.len(), "object", "objects"));
    let table = grid("Below a probability of 0.5, pictures call an object unlabelled", &titles, 3, rows);
    html! { (folded(&title, &table)) }
}
