//! How do a graph's edges change where what crosses them is copied? A frame goes in as bytes, which are a quarter of the
//! floats that the graph takes; what the tracking loop checks of every object comes out as one small tensor, so that scores
//! and pointers need not leave the device. The graph between the edges stays as it is.

use super::build;
use super::dtype::{Dimension, ElementType};
use super::model::{Model, ValueInfo, value_info};
use super::wire::{FieldReader, OnnxError, error, put_bytes};

/// Input that takes the place of the image: `[1, 3, size, size]`, u8.
pub const PIXELS: &str = "jetbench_pixels";
/// Output with one row per object, f32.
pub const REPORT: &str = "jetbench_report";

/// A change at an edge.
#[derive(Clone, Debug, PartialEq)]
pub enum Edge {
    /// The input of this name takes 8-bit samples under the name [`PIXELS`]; these are the values that the graph sees for the
    /// samples 0 to 255 of each channel.
    Pixels(&'static str, Vec<[f32; 256]>),
    /// Output [`REPORT`] has the named outputs of shape `[objects, 1]` side by side, then, of the last name, the sum of the
    /// absolute values of each row: it is finite if and only if they all are, unless they are too large to be added up.
    Report(&'static [&'static str], Option<&'static str>),
    /// The states are chosen anew, object by object: see [`Gate`].
    Gate(Gate),
}

/// When does a frame change an object's memory? A prompted one always, a tracked one when max(0, 2σ(score) − 1) × IoU is above
/// the threshold; else the states stay as they were. That is SAM 3's filter of memories, whose exception for the last frame `last` makes.
#[derive(Clone, Debug, PartialEq)]
pub struct Gate {
    /// Each state as input and as output of the graph.
    pub states: &'static [(&'static str, &'static str)],
    /// Input with the object score, a logit, `[objects, 1]`.
    pub score: &'static str,
    /// Input that is added: the predicted IoU, `[objects, 1]`.
    pub iou: &'static str,
    /// Input that is 1 on prompted frames, else 0, `[objects]`.
    pub is_prompt: &'static str,
    /// Up to here a tracked frame changes nothing.
    pub threshold: f32,
    /// Does the graph also give out each state as it is with this frame, whatever that is worth? Under the name [`Gate::last`].
    pub last: bool,
}

impl Gate {
    /// Name of the state `after` as it is with the last frame.
    pub fn last(after: &str) -> String {
        format!("jetbench_{after}_made")
    }
}

impl Model<'_> {
    /// The whole model file with a changed edge.
    ///
    /// # Errors
    /// The graph has no such input or output, or one of another type or shape.
    pub fn with_edge(&self, edge: &Edge) -> Result<Vec<u8>, OnnxError> {
        if self
            .nodes
            .iter()
            .any(|node| node.inputs.iter().chain(&node.outputs).any(|name| name.starts_with("jetbench_")))
        {
            return error("names that begin with `jetbench_` are taken".to_string());
        }
        match edge {
            Edge::Pixels(image, levels) => self.with_pixels(image, levels),
            Edge::Report(columns, pointer) => self.with_report(columns, *pointer),
            Edge::Gate(gate) => self.with_gate(gate),
        }
    }

    /// Each sample is looked up in a table of its channel: on every provider the very values that the host would compute.
    fn with_pixels(&self, image: &str, levels: &[[f32; 256]]) -> Result<Vec<u8>, OnnxError> {
        let channels = i64::try_from(levels.len()).unwrap_or_default();
        let fixed = |info: &ValueInfo<'_>| -> Option<Vec<i64>> {
            let axes = info.shape.as_ref()?.iter();
            let sizes: Option<Vec<i64>> =
                axes.map(|axis| if let Dimension::Size(n) = axis { Some(*n) } else { None }).collect();
            sizes.filter(|s| info.dtype == Some(ElementType::F32) && s.len() == 4 && s[..2] == [1, channels])
        };
        let Some(shape) = self.inputs.iter().find(|input| input.name == image).and_then(fixed) else {
            return error(format!("input `{image}` is not f32 of a fixed shape [1, {channels}, height, width]"));
        };
        let table: Vec<u8> = levels.iter().flatten().flat_map(|level| level.to_le_bytes()).collect();
        let rows: Vec<u8> = (0..levels.len()).flat_map(|c| (c as i32 * 256).to_le_bytes()).collect();
        let mut graph = Vec::with_capacity(self.graph_bytes.len() + table.len() + 1024);
        for node in [
            // TensorRT takes bytes into floats only.
            build::node("Cast", &[PIXELS], &["jetbench_samples"], &[("to", ElementType::F32.0)]),
            build::node("Cast", &["jetbench_samples"], &["jetbench_levels"], &[("to", ElementType::I32.0)]),
            build::node("Add", &["jetbench_levels", "jetbench_rows"], &["jetbench_places"], &[]),
            build::node("Gather", &["jetbench_table", "jetbench_places"], &[image], &[("axis", 0)]),
        ] {
            put_bytes(&mut graph, 1, &node);
        }
        for field in FieldReader::new("the graph", self.graph_bytes) {
            let field = field?;
            let is_image = field.number == 11 && value_info(field.bytes("an input")?)?.name == image;
            if !is_image {
                graph.extend_from_slice(field.raw);
            }
        }
        let count = channels * 256;
        put_bytes(&mut graph, 5, &build::initializer("jetbench_table", ElementType::F32, &[count], &table));
        put_bytes(&mut graph, 5, &build::initializer("jetbench_rows", ElementType::I32, &[1, channels, 1, 1], &rows));
        put_bytes(&mut graph, 11, &build::value_info(PIXELS, ElementType::U8, &shape));
        self.with_graph(&graph)
    }

    fn with_report(&self, columns: &[&str], pointer: Option<&str>) -> Result<Vec<u8>, OnnxError> {
        let output = |name: &str| {
            let found =
                self.outputs.iter().find(|output| output.name == name && output.dtype == Some(ElementType::F32));
            found.and_then(|output| match output.shape.as_deref() {
                Some([objects, Dimension::Size(width)]) => Some((objects.clone(), *width)),
                _ => None,
            })
        };
        let mut parts = columns.to_vec();
        let mut graph = self.graph_bytes.to_vec();
        let mut objects = None;
        for name in columns {
            match output(name) {
                Some((axis, 1)) => objects = Some(axis),
                _ => return error(format!("output `{name}` is not f32 of shape [objects, 1]")),
            }
        }
        if let Some(name) = pointer {
            let Some((_, width)) = output(name) else {
                return error(format!("output `{name}` is not f32 of shape [objects, channels]"));
            };
            let ones: Vec<u8> = (0..width).flat_map(|_| 1f32.to_le_bytes()).collect();
            put_bytes(&mut graph, 1, &build::node("Abs", &[name], &["jetbench_sizes"], &[]));
            put_bytes(
                &mut graph,
                1,
                &build::node("MatMul", &["jetbench_sizes", "jetbench_ones"], &["jetbench_sum"], &[]),
            );
            put_bytes(&mut graph, 5, &build::initializer("jetbench_ones", ElementType::F32, &[width, 1], &ones));
            parts.push("jetbench_sum");
        }
        let Some(objects) = objects else { return error("a report needs a column".to_string()) };
        put_bytes(&mut graph, 1, &build::node("Concat", &parts, &[REPORT], &[("axis", 1)]));
        let shape = [objects, Dimension::Size(parts.len() as i64)];
        put_bytes(&mut graph, 12, &build::value_info_of(REPORT, ElementType::F32, &shape));
        self.with_graph(&graph)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(outputs: &[(&str, &[i64])]) -> Vec<u8> {
        let mut fields = vec![
            (1, build::node("Identity", &["image"], &["features"], &[])),
            (11, build::value_info("image", ElementType::F32, &[1, 3, 2, 2])),
        ];
        fields.extend(outputs.iter().map(|(name, shape)| (12, build::value_info(name, ElementType::F32, shape))));
        build::model(8, 17, &fields)
    }

    #[test]
    fn a_frame_goes_in_as_bytes() {
        let bytes = graph(&[("features", &[1, 3, 2, 2])]);
        let levels = vec![[0.5; 256]; 3];
        let changed = Model::parse(&bytes).unwrap().with_edge(&Edge::Pixels("image", levels.clone())).unwrap();
        let model = Model::parse(&changed).unwrap();
        let inputs: Vec<_> = model.inputs.iter().map(|i| (i.name, i.dtype)).collect();
        assert_eq!(inputs, [(PIXELS, Some(ElementType::U8))]);
        let ops: Vec<&str> = model.nodes.iter().map(|n| n.op).collect();
        assert_eq!(ops, ["Cast", "Cast", "Add", "Gather", "Identity"], "a node stands after those that it needs");
        let again = model.with_edge(&Edge::Pixels("image", levels.clone())).unwrap_err();
        assert!(again.to_string().contains("taken"), "{again}");
        for (image, levels) in [("picture", levels), ("image", vec![[0.5; 256]; 4])] {
            let refused = Model::parse(&bytes).unwrap().with_edge(&Edge::Pixels(image, levels)).unwrap_err();
            assert!(refused.to_string().contains(image), "{refused}");
        }
    }

    #[test]
    fn results_come_out_side_by_side() {
        let bytes = graph(&[("score", &[4, 1]), ("iou", &[4, 1]), ("pointer", &[4, 8])]);
        let model = Model::parse(&bytes).unwrap();
        let changed = model.with_edge(&Edge::Report(&["score", "iou"], Some("pointer"))).unwrap();
        let with = Model::parse(&changed).unwrap();
        let report = with.outputs.iter().find(|o| o.name == REPORT).unwrap();
        assert_eq!(report.shape.as_deref(), Some(&[Dimension::Size(4), Dimension::Size(3)][..]));
        assert_eq!(with.outputs.len(), 4, "the others stay");
        for edge in [Edge::Report(&["pointer"], None), Edge::Report(&["score"], Some("none")), Edge::Report(&[], None)]
        {
            assert!(model.with_edge(&edge).is_err(), "{edge:?}");
        }
    }
}
