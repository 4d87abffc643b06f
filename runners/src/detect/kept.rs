//! Which of a detector's rows come down from a device? Only as many as tracks can live, those with the highest logits, in one small tensor
//! that two graphs of this program's own make beside the detector. They suffice where the least of them is no detection any more; on
//! other frames, and where any number is none, all rows are read, so that no result depends on where it was picked.

use ort::memory::Allocator;
use ort::session::IoBinding;

use super::Detection;
use super::boxes::{corners, sigmoid};
use super::contract::{PRED_BOXES, Signature};
use crate::host::runtime::Runtime;
use crate::host::session::{GraphSession, failed};
use crate::host::settings::SessionSettings;
use crate::host::tensor::{FloatTensor, input, output, tensor};
use crate::onnx::{ElementType, build};
use crate::runner::RunnerError;
use crate::types::Device;

/// Name of the graph that picks rows, and of its output.
pub const KEPT: &str = "kept_detections";
/// Name of the graph that all rows are read through.
const ALL: &str = "all_detections";
const LOGITS: &str = "logits";
/// File format and operator set of both graphs. CUDA has had kernels for all their operators in this set since 1.18, by its lists.
const IR: i64 = 8;
const OPSET: i64 = 17;
const ALL_OUTPUTS: [&str; 2] = ["all_logits", "all_boxes"];
/// Sum of the absolute values of logits and boxes below which no corner of a box can be infinite (widths and heights have 32 bits).
const SOUND: f32 = (1u64 << 60) as f32;
/// How far below the score that counts a row must be for those behind it to be below, too: some steps of an f32, because no `exp`
/// promises that a lower logit never has the higher score.
const NEAR: f64 = 1e-6;

/// What is wanted of a frame.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Keep {
    /// Score from which a detection counts.
    pub score: f64,
    /// Rows that come down at a time.
    pub rows: usize,
}

/// What the picking graph takes and gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sizes {
    queries: usize,
    classes: usize,
    rows: usize,
}

impl Sizes {
    /// Values of a row: its place, the logit of its best class, its box, and minus the number of the class where there are several.
    fn width(&self) -> usize {
        if self.classes > 1 { 7 } else { 6 }
    }

    /// Values that come down: the rows, then the sum of all absolute values.
    fn values(&self) -> usize {
        self.rows * self.width() + 1
    }
}

/// The rows of a detector of layout `raw`, on the device. Fields are dropped in order: bindings and tensors go before the sessions.
pub struct Kept {
    pick: IoBinding,
    read: IoBinding,
    values: FloatTensor,
    logits: FloatTensor,
    boxes: FloatTensor,
    picker: GraphSession,
    reader: GraphSession,
    sizes: Sizes,
    score: f64,
}

impl Kept {
    /// Loads the graphs on the device of `detector` and binds its outputs there; `logits` and `boxes` are the tensors on the host that all
    /// rows are read into. `None` where nothing is gained: picked rows would be no less than all, or every score counts.
    ///
    /// # Errors
    /// As [`GraphSession::open_built`].
    pub fn new(
        keep: Keep,
        signature: &Signature,
        settings: &SessionSettings,
        runtime: &Runtime,
        detector: (&GraphSession, &mut IoBinding),
        [logits, boxes]: [&mut FloatTensor; 2],
    ) -> Result<Option<Kept>, RunnerError> {
        let (queries, classes) = (signature.queries, signature.classes);
        let sizes = Sizes { queries, classes, rows: keep.rows.clamp(1, queries) };
        if sizes.values() >= queries * (classes + 4) || keep.score <= NEAR {
            return Ok(None);
        }
        let (graph, outputs) = detector;
        let [device, host] = [settings.device, Device::Cpu].map(|place| graph.device_allocator(place));
        let mut kept = Kept::load(keep, sizes, settings, runtime, &device?, &host?)?;
        output(outputs, signature.logits, &mut kept.logits)?;
        output(outputs, PRED_BOXES, &mut kept.boxes)?;
        output(&mut kept.read, ALL_OUTPUTS[0], logits)?;
        output(&mut kept.read, ALL_OUTPUTS[1], boxes)?;
        Ok(Some(kept))
    }

    fn load(
        keep: Keep,
        sizes: Sizes,
        settings: &SessionSettings,
        runtime: &Runtime,
        device: &Allocator,
        host: &Allocator,
    ) -> Result<Kept, RunnerError> {
        let (queries, classes) = (sizes.queries as i64, sizes.classes as i64);
        let picker = GraphSession::open_built(KEPT, &picking(sizes), settings, runtime)?;
        let reader = GraphSession::open_built(ALL, &reading(sizes), settings, runtime)?;
        let mut values = tensor(host, &[sizes.values() as i64])?;
        let (logits, boxes) = (tensor(device, &[1, queries, classes])?, tensor(device, &[1, queries, 4])?);
        let (mut pick, mut read) = (picker.binding()?, reader.binding()?);
        for binding in [&mut pick, &mut read] {
            input(binding, LOGITS, &logits)?;
            input(binding, PRED_BOXES, &boxes)?;
        }
        output(&mut pick, KEPT, &mut values)?;
        Ok(Kept { pick, read, values, logits, boxes, picker, reader, sizes, score: keep.score })
    }

    /// In words, for the record.
    pub fn note(&self) -> String {
        let Sizes { queries, rows, .. } = self.sizes;
        format!(
            "detections: the best {rows} of {queries} rows are picked on the device; all are read where as many or more count"
        )
    }

    /// Bytes that come down on every frame.
    pub fn bytes(&self) -> u64 {
        4 * self.sizes.values() as u64
    }

    /// Time to load each graph, in milliseconds.
    pub fn load_ms(&self) -> [(String, f64); 2] {
        [&self.picker, &self.reader].map(|graph| (graph.name.clone(), graph.load_ms))
    }

    /// Its graphs.
    pub fn graphs(&mut self) -> [&mut GraphSession; 2] {
        [&mut self.picker, &mut self.reader]
    }

    /// The rows of the last frame that may be detections, as [`Rows::best`](super::boxes::Rows::best) gives them and in its order, beside
    /// others below the score. `false`: they are not all, or not sound; `found` is worth nothing, and all rows must be read.
    ///
    /// # Errors
    /// [`RunnerError::Inference`] when the device fails or gives a row that there is not.
    pub fn pick(&mut self, size: [u32; 2], found: &mut Vec<Detection>) -> Result<bool, RunnerError> {
        self.picker.run(&self.pick)?;
        let values = self.values.extract_tensor().1;
        picked(values, self.sizes, self.score, size, found)
    }

    /// Reads all rows of the last frame into the tensors on the host.
    ///
    /// # Errors
    /// [`RunnerError::Inference`] when the device fails.
    pub fn read(&mut self) -> Result<(), RunnerError> {
        self.reader.run(&self.read)
    }
}

/// See [`Kept::pick`].
fn picked(
    values: &[f32],
    sizes: Sizes,
    score: f64,
    size: [u32; 2],
    found: &mut Vec<Detection>,
) -> Result<bool, RunnerError> {
    found.clear();
    let Some((sum, values)) = values.split_last() else { return Ok(false) };
    if sum.is_nan() || *sum >= SOUND {
        return Ok(false);
    }
    let mut rows: Vec<&[f32]> = values.chunks_exact(sizes.width()).collect();
    let least = rows.iter().map(|row| row[1]).reduce(f32::min).unwrap_or(f32::NAN);
    let all = rows.len() == sizes.queries || f64::from(sigmoid(least)) < score - NEAR;
    if !all {
        return Ok(false);
    }
    rows.sort_by(|a, b| a[0].total_cmp(&b[0]));
    let places = rows.windows(2).all(|pair| pair[0][0] < pair[1][0]);
    for row in rows {
        let label = row.get(6).map_or(0.0, |minus| -minus);
        let there = |value: f32, below: usize| value >= 0.0 && value < below as f32 && value.fract() == 0.0;
        if !places || !there(row[0], sizes.queries) || !there(label, sizes.classes) {
            return Err(failed(KEPT, format!("it gave row {} with class {label}, which is wrong", row[0])));
        }
        found.push(Detection {
            bbox: corners([row[2], row[3], row[4], row[5]], size).map(f64::from),
            score: f64::from(sigmoid(row[1])),
            label: label as u32,
        });
    }
    Ok(true)
}

/// The graph that picks. Places of rows come from a constant, because not every provider turns the int64 of TopK into floats; the class is the
/// first of those with the largest logit, on every provider.
fn picking(sizes: Sizes) -> Vec<u8> {
    let (queries, classes) = (sizes.queries as i64, sizes.classes as i64);
    let largest = |of: &str, to: &str| {
        let mut node = build::node("ReduceMax", &[of], &[to], &[("keepdims", 1)]);
        build::put_integers(&mut node, "axes", &[2]);
        node
    };
    let mut columns = vec!["places", "best", PRED_BOXES];
    let mut nodes = vec![largest(LOGITS, "best")];
    if classes > 1 {
        nodes.push(build::node("GreaterOrEqual", &[LOGITS, "best"], &["is_best"], &[]));
        nodes.push(build::node("Where", &["is_best", "minus_class", "minus_classes"], &["candidates"], &[]));
        nodes.push(largest("candidates", "class"));
        columns.push("class");
    }
    nodes.extend([
        build::node("Concat", &columns, &["rows"], &[("axis", 2)]),
        build::node("Reshape", &["best", "flat"], &["scores"], &[]),
        build::node("TopK", &["scores", "count"], &["highest", "which"], &[("axis", 0)]),
        build::node("Gather", &["rows", "which"], &["picked"], &[("axis", 1)]),
        build::node("Reshape", &["picked", "flat"], &["values"], &[]),
        build::node("Abs", &[LOGITS], &["size_of_logits"], &[]),
        build::node("ReduceSum", &["size_of_logits"], &["sum_of_logits"], &[("keepdims", 1)]),
        build::node("Abs", &[PRED_BOXES], &["size_of_boxes"], &[]),
        build::node("ReduceSum", &["size_of_boxes"], &["sum_of_boxes"], &[("keepdims", 1)]),
        build::node("Add", &["sum_of_logits", "sum_of_boxes"], &["sum"], &[]),
        build::node("Reshape", &["sum", "flat"], &["check"], &[]),
        build::node("Concat", &["values", "check"], &[KEPT], &[("axis", 0)]),
    ]);
    let floats = |name: &str, dims: &[i64], values: &mut dyn Iterator<Item = f32>| {
        build::initializer(name, ElementType::F32, dims, &values.flat_map(f32::to_le_bytes).collect::<Vec<u8>>())
    };
    let integer = |name: &str, value: i64| build::initializer(name, ElementType::I64, &[1], &value.to_le_bytes());
    let mut fields: Vec<(u32, Vec<u8>)> = nodes.into_iter().map(|node| (1, node)).collect();
    fields.extend([
        (5, floats("places", &[1, queries, 1], &mut (0..sizes.queries).map(|place| place as f32))),
        (5, integer("flat", -1)),
        (5, integer("count", sizes.rows as i64)),
        (12, build::value_info(KEPT, ElementType::F32, &[sizes.values() as i64])),
    ]);
    if classes > 1 {
        let minus = |class: usize| -(class as f32);
        fields.push((5, floats("minus_class", &[1, 1, classes], &mut (0..sizes.classes).map(minus))));
        fields.push((5, floats("minus_classes", &[1], &mut [minus(sizes.classes)].into_iter())));
    }
    fields.extend(inputs(sizes));
    build::model(IR, OPSET, &fields)
}

/// The graph that hands on everything, in the shapes in which it comes.
fn reading(sizes: Sizes) -> Vec<u8> {
    let (queries, classes) = (sizes.queries as i64, sizes.classes as i64);
    let mut fields = Vec::new();
    for (name, output, width) in [(LOGITS, ALL_OUTPUTS[0], classes), (PRED_BOXES, ALL_OUTPUTS[1], 4)] {
        let (constant, shape) = (format!("shape_of_{name}"), [1, queries, width]);
        let raw: Vec<u8> = shape.iter().flat_map(|size| size.to_le_bytes()).collect();
        fields.push((1, build::node("Reshape", &[name, &constant], &[output], &[])));
        fields.push((5, build::initializer(&constant, ElementType::I64, &[3], &raw)));
        fields.push((12, build::value_info(output, ElementType::F32, &shape)));
    }
    fields.extend(inputs(sizes));
    build::model(IR, OPSET, &fields)
}

fn inputs(sizes: Sizes) -> [(u32, Vec<u8>); 2] {
    let (queries, classes) = (sizes.queries as i64, sizes.classes as i64);
    [
        (11, build::value_info(LOGITS, ElementType::F32, &[1, queries, classes])),
        (11, build::value_info(PRED_BOXES, ElementType::F32, &[1, queries, 4])),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::boxes::Rows;
    use super::super::tests::can_run;
    use super::*;
    use crate::associate::{Rules, select};
    use crate::types::{AssociationCounts, Dtype, Options};

    const SIZE: [u32; 2] = [640, 360];

    /// Numbers that a seed decides, 0 to 999.
    fn noise(seed: u64) -> impl FnMut() -> u64 {
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % 1000
        }
    }

    /// Logits of which `above` queries reach a score of 0.4, with many equal ones, and boxes.
    fn drawn(sizes: Sizes, above: usize, seed: u64) -> (Vec<f32>, Vec<f32>) {
        let mut next = noise(seed);
        let Sizes { queries, classes, .. } = sizes;
        let mut logits: Vec<f32> = (0..queries * classes).map(|_| -1.0 - (next() % 50) as f32 / 8.0).collect();
        for n in 0..above {
            // Distinct queries, spread over all; two classes share the largest logit where there are two.
            let query = n * (queries / above.max(1)) + next() as usize % (queries / above.max(1));
            let logit = (next() % 4) as f32 / 4.0;
            for class in [next() as usize % classes, next() as usize % classes] {
                logits[query * classes + class] = logit;
            }
        }
        (logits, (0..queries * 4).map(|_| next() as f32 / 1000.0).collect())
    }

    fn kept(sizes: Sizes) -> Kept {
        let options = Options { threads: Some(1), ..Options::default() };
        let settings = SessionSettings::new(Device::Cpu, Dtype::Fp32, &options).unwrap();
        let runtime = crate::host::runtime::load(None).unwrap();
        let (host, keep) = (Allocator::default(), Keep { score: 0.4, rows: sizes.rows });
        Kept::load(keep, sizes, &settings, runtime, &host, &host).unwrap()
    }

    /// What is picked of these rows; `None`: all must be read.
    fn pick(kept: &mut Kept, logits: &[f32], boxes: &[f32]) -> Option<Vec<Detection>> {
        kept.logits.extract_tensor_mut().1.copy_from_slice(logits);
        kept.boxes.extract_tensor_mut().1.copy_from_slice(boxes);
        let mut found = vec![Detection { bbox: [0.0; 4], score: 9.0, label: 9 }];
        kept.pick(SIZE, &mut found).unwrap().then_some(found)
    }

    /// What counts of them in a run.
    fn counted(mut all: Vec<Detection>) -> (Vec<Detection>, AssociationCounts) {
        let mut counts = AssociationCounts::default();
        select(&mut all, (SIZE[0], SIZE[1]), &Rules::default(), &mut counts);
        (all, counts)
    }

    const ALL_SIZES: [(usize, usize, usize); 4] = [(32, 1, 20), (300, 80, 20), (50, 2, 7), (20, 9, 20)];

    #[test]
    fn picked_rows_give_what_all_rows_give() {
        if !can_run("picked_rows_give_what_all_rows_give") {
            return;
        }
        for (queries, classes, rows) in ALL_SIZES {
            let sizes = Sizes { queries, classes, rows };
            let mut kept = kept(sizes);
            for seed in 0..12 {
                let above = [0, 1, rows - 1, rows.min(queries - 1)][seed as usize % 4];
                let (logits, boxes) = drawn(sizes, above, seed);
                let mut all = Vec::new();
                Rows { logits: &logits, boxes: &boxes, classes }.best(SIZE, &mut all);
                assert_eq!(all.iter().filter(|d| d.score >= 0.4).count(), above, "{sizes:?}, seed {seed}");
                let found = pick(&mut kept, &logits, &boxes);
                // With as many as come down it cannot be known that there are no more.
                assert_eq!(found.is_some(), above < rows || rows == queries, "{sizes:?}, seed {seed}");
                let Some(found) = found else { continue };
                let of_all = |d: &Detection| all.contains(d);
                assert!(found.len() == rows && found.iter().all(of_all), "{sizes:?}, seed {seed}: {found:?}");
                assert_eq!(counted(found), counted(all), "{sizes:?}, seed {seed}");
            }
        }
    }

    #[test]
    fn what_may_be_no_number_is_looked_at_whole() {
        if !can_run("what_may_be_no_number_is_looked_at_whole") {
            return;
        }
        for (queries, classes, rows) in ALL_SIZES {
            let sizes = Sizes { queries, classes, rows };
            let mut kept = kept(sizes);
            let (logits, boxes) = drawn(sizes, 3, 1);
            assert!(pick(&mut kept, &logits, &boxes).is_some());
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, -1e19] {
                for place in [0, logits.len() / 2, logits.len() - 1] {
                    let mut logits = logits.clone();
                    logits[place] = bad;
                    assert_eq!(pick(&mut kept, &logits, &boxes), None, "{bad} at logit {place} of {sizes:?}");
                }
                for place in [0, boxes.len() - 1] {
                    let mut boxes = boxes.clone();
                    boxes[place] = bad;
                    assert_eq!(pick(&mut kept, &logits, &boxes), None, "{bad} at place {place} of {sizes:?}");
                }
            }
            assert!(pick(&mut kept, &logits, &boxes).is_some(), "the next frame is sound again");
        }
    }

    #[test]
    fn a_row_that_there_is_not_is_refused() {
        let sizes = Sizes { queries: 9, classes: 3, rows: 2 };
        let read = |values: &[f32]| picked(values, sizes, 0.4, SIZE, &mut Vec::new());
        let row = |place: f32, logit: f32, minus: f32| vec![place, logit, 0.5, 0.5, 0.5, 0.5, minus];
        let with = |rows: [Vec<f32>; 2], sum: f32| read(&[rows.concat(), vec![sum]].concat());
        assert!(with([row(8.0, 1.0, -2.0), row(0.0, -3.0, -0.0)], 9.0).unwrap());
        assert!(!with([row(8.0, 1.0, -2.0), row(0.0, -3.0, -0.0)], f32::NAN).unwrap());
        // As near below the score as an exp may err.
        let near = (0.4f32 / 0.6).ln() - 1e-6;
        assert!(f64::from(sigmoid(near)) < 0.4 && !with([row(8.0, 1.0, -2.0), row(0.0, near, -0.0)], 9.0).unwrap());
        for (place, minus) in [(9.0, -0.0), (-1.0, -0.0), (0.5, -0.0), (0.0, -3.0), (0.0, 1.0), (8.0, -0.0)] {
            let text = with([row(8.0, 1.0, -2.0), row(place, -3.0, minus)], 9.0).unwrap_err().to_string();
            assert!(text.contains(KEPT) && text.contains("which is wrong"), "{place} {minus}: {text}");
        }
    }
}
