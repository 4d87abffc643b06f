use super::*;
use crate::onnx::Dimension;
use crate::onnx::build::{model, node, value_info, value_info_of};

/// Axes of what each object has.
fn of_each(rest: [i64; 2]) -> Vec<Dimension> {
    std::iter::once(Dimension::Dynamic("objects".into())).chain(rest.map(Dimension::Size)).collect()
}

/// One head of `n` queries, of which objects have their own or share them, and `n` keys of each object.
fn one_head(n: i64, own: bool, scale: f32) -> Vec<u8> {
    model(9, 18, &fields_of_one_head(n, own, scale))
}

fn fields_of_one_head(n: i64, own: bool, scale: f32) -> Vec<(u32, Vec<u8>)> {
    let batch = if own { Dimension::Dynamic("objects".into()) } else { Dimension::Size(1) };
    let f32 = ElementType::F32;
    vec![
        (1, node("MatMul", &["queries", "attention.keys"], &["scores"], &[])),
        (1, node("Mul", &["scores", "scale"], &["scaled"], &[])),
        (1, node("Add", &["scaled", "bias"], &["biased"], &[])),
        (1, node("Softmax", &["biased"], &["weights"], &[("axis", -1)])),
        (1, node("MatMul", &["weights", "values"], &["y"], &[])),
        (5, build::initializer("scale", f32, &[1], &scale.to_le_bytes())),
        (11, value_info_of("queries", f32, &[batch, Dimension::Size(n), Dimension::Size(16)])),
        (11, value_info_of("attention.keys", f32, &of_each([16, n]))),
        (11, value_info_of("bias", f32, &of_each([1, n]))),
        (11, value_info_of("values", f32, &of_each([n, 16]))),
        (12, value_info_of("y", f32, &of_each([n, 16]))),
    ]
}

/// Shapes that go into ONNX's operator, for two objects.
fn inputs_of(file: &[u8]) -> Option<Vec<Vec<i64>>> {
    let attended = Attention::Standard { spread: false }.of(file).unwrap()?;
    let changed = Model::parse(&attended.bytes).unwrap();
    let mut shapes = Shapes::new(&changed, &|_| Some(2));
    changed.nodes.iter().for_each(|node| assert!(shapes.infer(node)));
    let attention = changed.nodes.iter().find(|node| node.op == "Attention").unwrap();
    Some(attention.inputs.iter().map(|name| shapes.get(name).unwrap().to_vec()).collect())
}

#[test]
fn one_large_head_stays_one() {
    let large = vec![vec![2, 1, 4096, 16], vec![2, 1, 4096, 16], vec![2, 1, 4096, 16], vec![2, 1, 1, 4096]];
    for own in [true, false] {
        assert_eq!(inputs_of(&one_head(4096, own, 0.5)).unwrap(), large);
        let halves = inputs_of(&one_head(4094, own, 0.5)).unwrap();
        assert_eq!((&halves[0], &halves[1]), (&vec![2, 2, 2047, 16], &vec![2, 1, 4094, 16]));
        assert_eq!(inputs_of(&one_head(4095, own, 0.5)), None, "an odd number has no halves");
    }
}

#[test]
fn scales_that_the_operators_cannot_have_are_left_alone() {
    for (scale, taken) in [(0.5, true), (0.0, false), (-0.5, false), (f32::INFINITY, false)] {
        assert_eq!(inputs_of(&one_head(4096, true, scale)).is_some(), taken, "{scale}");
    }
    // ONNX Runtime's own operator takes a bias as more channels, which a scale would change.
    assert!(Attention::Fused.of(&one_head(4096, true, 0.5)).unwrap().is_none());
    let strips = Attention::Strips(2048).of(&one_head(4096, true, 0.5)).unwrap().unwrap();
    let ops: Vec<_> = Model::parse(&strips.bytes).unwrap().nodes.iter().map(|node| node.op.to_string()).collect();
    let strip = ["MatMul", "Mul", "Add", "Softmax", "MatMul"];
    assert_eq!(ops, [&["Split"], &strip[..], &strip, &["Concat"]].concat());
}

#[test]
fn graphs_of_other_forms_stay_as_they_are() {
    let f32 = ElementType::F32;
    let taken = |how: Attention, fields: &[(u32, Vec<u8>)]| how.of(&model(9, 18, fields)).unwrap().is_some();
    let ways = [Attention::Standard { spread: false }, Attention::Strips(2048)];
    let plain = fields_of_one_head(4096, true, 0.5);
    ways.iter().for_each(|how| assert!(taken(*how, &plain)));
    // Keys that objects share, whose queries are their own.
    let mut shared_keys = plain.clone();
    for (place, name, shape) in
        [(7, "attention.keys", [1, 16, 4096]), (8, "bias", [1, 1, 4096]), (9, "values", [1, 4096, 16])]
    {
        shared_keys[place].1 = value_info(name, f32, &shape);
    }
    assert!(!taken(ways[0], &shared_keys));
    // A constant of rank 4 makes the scores' rank 4, too.
    let mut wide_scale = plain.clone();
    wide_scale[5].1 = build::initializer("scale", f32, &[1, 1, 1, 1], &0.5f32.to_le_bytes());
    // A sub-graph may read any value of the graph.
    let (mut inner, mut branch, mut choice) = (Vec::new(), Vec::new(), node("If", &["bias"], &["chosen"], &[]));
    put_bytes(&mut inner, 1, &node("Identity", &["scores"], &["seen"], &[]));
    put_bytes(&mut branch, 1, b"then_branch");
    put_bytes(&mut branch, 6, &inner);
    put_bytes(&mut choice, 5, &branch);
    let mut with_branch = plain.clone();
    with_branch.insert(5, (1, choice));
    for how in ways {
        assert!(!taken(how, &wide_scale), "{how}");
        assert!(!taken(how, &with_branch), "{how}");
    }
}

#[test]
fn new_names_begin_with_what_no_other_name_does() {
    let strips = Attention::Strips(2048).of(&one_head(4096, true, 0.5)).unwrap().unwrap();
    let model = Model::parse(&strips.bytes).unwrap();
    let made = model.nodes.iter().flat_map(|node| &node.outputs).filter(|name| **name != "y");
    assert!(made.clone().all(|name| name.starts_with("_attention.0.")), "{:?}", made.collect::<Vec<_>>());
}

/// One head of 300 queries that all objects share, and keys of each.
fn shared(opset: i64, half: ElementType, beside: Option<&str>) -> Vec<u8> {
    let mut graph = vec![
        (1, node("MatMul", &["queries", "keys"], &["scores"], &[])),
        (1, node("Cast", &["scores"], &["wide"], &[("to", ElementType::F32.0)])),
        (1, node("Add", &["wide", "bias"], &["biased"], &[])),
        (1, node("Softmax", &["biased"], &["weights"], &[("axis", -1)])),
        (1, node("Cast", &["weights"], &["narrow"], &[("to", half.0)])),
        (1, node("MatMul", &["narrow", "values"], &["y"], &[])),
        (11, value_info("queries", half, &[1, 300, 16])),
        (11, value_info_of("keys", half, &of_each([16, 300]))),
        (11, value_info_of("bias", ElementType::F32, &of_each([1, 300]))),
        (11, value_info_of("values", half, &of_each([300, 16]))),
        (12, value_info_of("y", half, &of_each([300, 16]))),
    ];
    graph.extend(beside.map(|op| (1, node(op, &["bias"], &["unused"], &[]))));
    model(9, opset, &graph)
}

#[test]
fn onnx_s_operator_keeps_types_and_raises_the_operator_set() {
    for (spread, rows) in [(false, "Reshape"), (true, "Expand")] {
        let file = shared(18, ElementType::BF16, None);
        let attended = Attention::Standard { spread }.of(&file).unwrap().unwrap();
        let changed = Model::parse(&attended.bytes).unwrap();
        assert_eq!((attended.changed, changed.opset()), (1, STANDARD_OPSET));
        assert_eq!(changed.opsets.iter().filter(|(domain, _)| domain.is_empty()).count(), 1);
        let gone = ["MatMul", "Softmax"];
        assert!(!changed.nodes.iter().any(|node| gone.contains(&node.op)));
        let attention = changed.nodes.iter().find(|node| node.op == "Attention").unwrap();
        assert!(attention.is_standard());
        let types = changed.types();
        assert!(attention.inputs.iter().chain(&attention.outputs).all(|name| types[name] == ElementType::BF16));
        // Of 300 queries half are a second head, which has the same keys.
        let mut shapes = Shapes::new(&changed, &|_| Some(2));
        changed.nodes.iter().for_each(|node| assert!(shapes.infer(node)));
        let found: Vec<_> = attention.inputs.iter().map(|name| shapes.get(name).unwrap().to_vec()).collect();
        let mask = vec![2, 1, if spread { 150 } else { 1 }, 300];
        assert_eq!(found, [vec![2, 2, 150, 16], vec![2, 1, 300, 16], vec![2, 1, 300, 16], mask]);
        assert_eq!(shapes.get("y").unwrap(), [2, 300, 16]);
        let maker = changed.nodes.iter().find(|node| node.outputs.contains(&attention.inputs[3])).unwrap();
        assert_eq!(maker.op, rows);
        // The precision's evidence counts it as a sum of products in the type of its operands.
        assert_eq!(changed.facts().share(ElementType::BF16), (1, 1));
    }
}

#[test]
fn graphs_that_the_operator_set_would_change_stay_as_they_are() {
    let onnx = Attention::Standard { spread: false };
    let changed = |file: &[u8]| onnx.of(file).unwrap().map(|attended| attended.changed);
    assert_eq!(changed(&shared(18, ElementType::F16, None)), Some(1));
    assert_eq!(changed(&shared(18, ElementType::F16, Some("Neg"))), Some(1));
    assert_eq!(changed(&shared(21, ElementType::F16, Some("GridSample"))), Some(1));
    for (opset, beside) in [(17, None), (24, None), (18, Some("GridSample")), (18, Some("GroupNormalization"))] {
        assert_eq!(changed(&shared(opset, ElementType::F16, beside)), None, "{opset} {beside:?}");
    }
}
