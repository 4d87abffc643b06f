//! What do the words and figures of a report mean? In a few lines, for those who meet them for the first time.

use maud::{Markup, html};

/// Word and meaning, in the order in which a reader meets them.
const WORDS: [(&str, &str); 12] = [
    ("cell", "One model with one prompt kind, one precision and one device: a row of the table."),
    (
        "verdict",
        "May the figures be quoted? valid: every rule held. invalid: a rule was broken (fallback to another device, throttling, \
         latency that never settled, missing videos); the figures stand in parentheses. failed: there is no figure. interrupted: \
         broken off from outside.",
    ),
    (
        "disturbed",
        "Valid, but other programs, stalls, drift or outliers interfered: the figures may be quoted, a quieter run may give others.",
    ),
    ("J", "Region similarity: overlap of predicted and true mask, intersection over union, 0 to 100."),
    ("F", "Boundary accuracy: how well the contours agree within a small tolerance, 0 to 100."),
    ("J&F", "The mean of J and F, over the frames and objects that the dataset's protocol counts."),
    (
        "FPS wall, FPS model",
        "Frames over wall time, decoding included; frames over their summed latency, without decoding.",
    ),
    (
        "p50, p95, p99, max",
        "Latency of one frame with all its objects, from RGB bytes to masks in host memory: 50, 95 or 99 % of the frames took at \
         most this long; the slowest took max. No frame is left out.",
    ),
    (
        "95 % interval",
        "Where the figure would lie for other videos of the same kind: whole videos are drawn anew 2,000 times.",
    ),
    (
        "precision requested, actual",
        "What --dtype asked for, and what each graph computed in, with evidence. Emulated: the device has no \
         kernels of that precision; operands are rounded to it and sums kept in fp32, so scores are those of the precision, speed is \
         not.",
    ),
    (
        "memory",
        "Where CPU and GPU share memory (Jetson), the model's need is how far the system's available memory fell (peak system); \
         Pss is the worker's own part, without what a driver holds for the GPU. A GPU with memory of its own has a column. Never \
         add two of them.",
    ),
    ("a dash", "It was not measured, or too few frames tell it. It is not zero."),
];

/// Documents of the program that say more.
const DOCUMENTS: [(&str, &str); 4] = [
    ("docs/measuring.md", "every rule and how each figure is made"),
    ("docs/trust.md", "what cannot corrupt a figure, with the test behind it"),
    ("docs/results.md", "every file and column beside this page"),
    ("docs/glossary.md", "all terms"),
];

pub(super) fn section() -> Markup {
    html! {
        h2 { "Understanding this report" }
        dl { @for (word, meaning) in WORDS { dt { (word) } dd { (meaning) } } }
        p.under {
            "More, in the documents of jetbench: "
            @for (i, (file, what)) in DOCUMENTS.iter().enumerate() {
                @if i > 0 { "; " }
                code { (file) } " (" (what) ")"
            }
            "."
        }
    }
}
