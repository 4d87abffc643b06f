//! What does a person see, and what does a program?

use std::fmt;

use comfy_table::presets::ASCII_MARKDOWN;
use comfy_table::{CellAlignment, Table};
use serde::Serialize;

use crate::arguments::Target;
use crate::compiler::Libraries;
use crate::pack::LeftOut;
use crate::row::{ByType, Refusal, Row, Step};

/// Number of the form of `--json`.
const SCHEMA: u32 = 1;
/// Characters of a refusal that the table's reader sees; `--json` has all.
const WORDS: usize = 500;

/// Everything that was found. `--json` prints it as it is; [`fmt::Display`] is the table.
#[derive(Debug, Serialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The compiler and its version.
    pub compiler: String,
    /// What was built for, `sm_86`.
    pub target: String,
    /// Least, best and most objects of the profiles.
    pub objects: [u16; 3],
    /// Nothing was built, graphs were only parsed.
    pub parse_only: bool,
    /// Every graph.
    pub graphs: Vec<Row>,
    /// What of the packs was not looked at.
    pub left_out: Vec<LeftOut>,
    /// How many graphs were refused.
    pub refused: usize,
    /// None was.
    pub pass: bool,
}

impl Report {
    pub fn new(libraries: &Libraries, target: &Target, graphs: Vec<Row>, left_out: Vec<LeftOut>) -> Report {
        let refused = graphs.iter().filter(|row| row.outcome.refusal.is_some()).count();
        Report {
            schema: SCHEMA,
            compiler: format!("TensorRT for RTX {}", libraries.version),
            target: format!("sm_{}", target.compute_capability),
            objects: [1, target.opt_objects, target.max_objects],
            parse_only: target.parse_only,
            graphs,
            left_out,
            refused,
            pass: refused == 0,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [least, best, most] = self.objects;
        let done = if self.parse_only { "parsed" } else { "built" };
        write!(f, "{}, {}, profile {least}, {best}, {most} objects", self.compiler, self.target)?;
        let changed: Vec<usize> = self.graphs.iter().filter_map(|row| row.outcome.attentions).collect();
        if !changed.is_empty() {
            let all: usize = changed.iter().sum();
            let graphs = self.graphs.len();
            write!(f, ", {all} attentions by ONNX's Attention, in {} of {graphs} graphs", changed.len())?;
        }
        writeln!(f, "\n")?;
        writeln!(f, "{}\n", table(&self.graphs, self.parse_only))?;
        for left in &self.left_out {
            writeln!(f, "left out: {} {}: {}", left.pack, left.what, left.reason)?;
        }
        for row in &self.graphs {
            if let Some(refusal) = &row.outcome.refusal {
                writeln!(f, "REFUSED {} {} {}: {}", row.pack, row.dtype, row.graph, refusal_text(refusal))?;
            }
        }
        let all = self.graphs.len();
        writeln!(f, "{} of {all} graphs {done}, {} refused", all - self.refused, self.refused)
    }
}

/// The Markdown table.
fn table(rows: &[Row], parse_only: bool) -> Table {
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN);
    let mut header = vec!["pack", "graph", "dtype", "layers", "their types", "s"];
    if !parse_only {
        header = vec!["pack", "graph", "dtype", "layers", "engine MB", "weights MB", "scratch MB", "s"];
        header.extend(["engine layers by output", "products by output"]);
    }
    let numbers = if parse_only { 3..4 } else { 3..8 };
    table.set_header(header);
    for row in rows {
        table.add_row(cells(row, parse_only));
    }
    for column in numbers {
        table.column_mut(column).expect("the header has it").set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn cells(row: &Row, parse_only: bool) -> Vec<String> {
    let mut cells = vec![row.pack.clone(), row.graph.clone(), row.dtype.clone()];
    let network = row.outcome.network.as_ref();
    cells.push(network.map(|n| n.layers.to_string()).unwrap_or_default());
    if parse_only {
        cells.push(network.map(|n| types_text(&n.output_types)).unwrap_or_default());
        cells.push(network.map(|n| format!("{:.2}", n.parse_seconds)).unwrap_or_default());
    } else if let Some(engine) = &row.outcome.engine {
        let megabytes = |bytes: u64| format!("{:.1}", bytes as f64 / 1e6);
        cells.push(megabytes(engine.bytes));
        cells.extend([engine.weight_bytes, engine.activation_bytes].map(|b| b.map(megabytes).unwrap_or_default()));
        cells.push(format!("{:.1}", engine.build_seconds));
        let types = engine.output_types().map(|(all, products)| [types_text(&all), types_text(&products)]);
        cells.extend(types.unwrap_or_default());
    }
    if let Some(refusal) = &row.outcome.refusal {
        cells.push(format!("refused: {}", step_name(refusal.step)));
    }
    cells
}

/// `bf16 10, fp32 2`, most frequent first.
fn types_text(types: &ByType) -> String {
    let mut list: Vec<_> = types.iter().collect();
    list.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    list.iter().map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>().join(", ")
}

fn step_name(step: Step) -> &'static str {
    match step {
        Step::Parse => "parse",
        Step::Build => "build",
        Step::Crash => "crash",
    }
}

/// Step, node and operator, the compiler's words.
fn refusal_text(refusal: &Refusal) -> String {
    let node = match &refusal.node {
        Some(node) => format!("node {} ({}): ", node.name, node.op),
        None => String::new(),
    };
    let mut words: String = refusal.text.chars().take(WORDS).collect();
    if words.len() < refusal.text.len() {
        words.push('…');
    }
    format!("{}: {node}{words}", step_name(refusal.step))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::{Engine, Network, Node, Outcome};

    fn report(refusal: Option<Refusal>) -> Report {
        let network =
            Network { layers: 12, output_types: ByType::from([("fp32".to_string(), 12)]), parse_seconds: 0.2 };
        let engine = Engine { bytes: 1_250_000, weight_bytes: Some(50_000), build_seconds: 0.5, ..Engine::default() };
        let outcome = Outcome {
            attentions: None,
            network: Some(network),
            engine: refusal.is_none().then_some(engine),
            refusal,
            peak_memory_bytes: None,
        };
        let row = Row { pack: "p".to_string(), graph: "g".to_string(), dtype: "bf16".to_string(), outcome };
        let refused = usize::from(row.outcome.refusal.is_some());
        let left =
            LeftOut { pack: "p".to_string(), what: "g (g.cpu.onnx)".to_string(), reason: "for the CPU".to_string() };
        Report {
            schema: SCHEMA,
            compiler: "TensorRT for RTX 1.7.1".to_string(),
            target: "sm_86".to_string(),
            objects: [1, 1, 8],
            parse_only: false,
            graphs: vec![row],
            left_out: vec![left],
            refused,
            pass: refused == 0,
        }
    }

    #[test]
    fn a_built_graph_is_a_row_of_markdown() {
        let text = report(None).to_string();
        assert!(text.contains("left out: p g (g.cpu.onnx): for the CPU"), "{text}");
        assert!(text.ends_with("1 of 1 graphs built, 0 refused\n"), "{text}");
        let row = text.lines().find(|line| line.starts_with("| p ")).unwrap();
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        assert_eq!(
            cells,
            ["", "p", "g", "bf16", "12", "1.2", "0.1", "", "0.5", "", "", ""],
            "what is not known is empty"
        );
    }

    #[test]
    fn changed_attentions_are_said() {
        let mut report = report(None);
        assert!(report.to_string().starts_with("TensorRT for RTX 1.7.1, sm_86, profile 1, 1, 8 objects\n"));
        report.graphs[0].outcome.attentions = Some(4);
        let said = "profile 1, 1, 8 objects, 4 attentions by ONNX's Attention, in 1 of 1 graphs\n";
        assert!(report.to_string().contains(said), "{report}");
    }

    #[test]
    fn a_refusal_has_node_operator_and_words() {
        let node = Some(Node { name: "ConvTranspose_2".to_string(), op: "ConvTranspose".to_string() });
        let text = "x".repeat(WORDS + 1);
        let text = report(Some(Refusal { step: Step::Build, node, text })).to_string();
        let line = text.lines().find(|line| line.starts_with("REFUSED")).unwrap();
        assert!(line.starts_with("REFUSED p bf16 g: build: node ConvTranspose_2 (ConvTranspose): xxx"), "{line}");
        assert!(line.ends_with("x…"), "{line}");
        assert!(text.ends_with("0 of 1 graphs built, 1 refused\n"), "{text}");
    }

    #[test]
    fn types_stand_in_order_of_their_number() {
        let types = ByType::from([("bf16".to_string(), 2), ("fp32".to_string(), 10)]);
        assert_eq!(types_text(&types), "fp32 10, bf16 2");
    }
}
