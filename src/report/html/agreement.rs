//! How alike the masks of two cells are, or a cell's own on the way there and on the way back.

use maud::{Markup, html};

use super::shell::grid;
use crate::results::record::{AgreementRecord, RunRecord};
use crate::text::clean;

/// The section; nothing where there is nothing to say.
pub(super) fn section(run: &RunRecord) -> Markup {
    let row = |a: &AgreementRecord| {
        let names = [&a.first, &a.second, &a.video, &a.object].map(|name| clean(name));
        let figures = [a.frames.to_string(), format!("{:.3}", a.mean_iou), format!("{:.1} %", 100.0 * a.below_half)];
        names.into_iter().chain(figures).collect()
    };
    let titles = ["cell", "other cell", "video", "object", "frames", "mean IoU", "frames below 0.5"];
    let caption = "Intersection over union of the masks, frame by frame; two empty masks agree";
    html! {
        @if !run.agreement.is_empty() {
            h2 { "Agreement between cells" }
            p { "This is no accuracy: without ground truth nobody knows which of two masks is right, and two that agree can both be wrong. "
                "“Backward in time” is the same cell, from the last frame to the first, prompted with its own last mask." }
            (grid(caption, &titles, 4, run.agreement.iter().map(row)))
        }
    }
}
