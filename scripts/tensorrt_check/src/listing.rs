//! Which layers has the engine, and of which types? The engine's own inspector needs a GPU; with detailed profiling verbosity the builder
//! prints the same listing to its log:
//!
//! ```text
//! Layers:
//! Name: Conv_0_myl0_5, LayerType: correlation, Inputs: [ { Name: x, Dimensions: [1,2], Datatype: Half, … }], Constants: [ … ],
//!     Outputs: [ { Name: y, …, Datatype: Half, … }], TacticName: …, StreamId: 0, Metadata: [ONNX Layer: Conv_0]
//!
//! I/O Tensors:
//! …
//! ```
//!
//! (one layer per line).

use std::collections::{BTreeMap, BTreeSet};

use crate::row::ByType;

/// Kind of layer -> layers by types of outputs. Layers without an output are left out. None where the message is no listing.
pub fn layers(message: &str) -> Option<BTreeMap<String, ByType>> {
    let listing = message.strip_prefix("Layers:\n")?.split("\n\n").next()?;
    let mut kinds: BTreeMap<String, ByType> = BTreeMap::new();
    for line in listing.lines() {
        let kind = line.split_once(", LayerType: ")?.1.split(',').next()?;
        let outputs = line.split_once(", Outputs: [")?.1.split("], TacticName:").next()?;
        let types: BTreeSet<&str> =
            outputs.split("Datatype: ").skip(1).filter_map(|rest| rest.split(',').next()).map(type_name).collect();
        if !types.is_empty() {
            let types = Vec::from_iter(types).join("+");
            *kinds.entry(kind.to_string()).or_default().entry(types).or_default() += 1;
        }
    }
    Some(kinds)
}

/// Our word for a type of the listing, or of the bindings; an unknown one stays as it is.
pub fn type_name(theirs: &str) -> &str {
    match theirs {
        "Float" | "kFLOAT" => "fp32",
        "Half" | "kHALF" => "fp16",
        "BFloat16" | "kBF16" => "bf16",
        "Int32" | "kINT32" => "i32",
        "Int64" | "kINT64" => "i64",
        "Bool" | "kBOOL" => "bool",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTING: &str = "Layers:
Name: s0, LayerType: shape_call, Inputs: [], Constants: [], Outputs: [], TacticName: , StreamId: 0, Metadata: 
Name: c, LayerType: correlation, Inputs: [ { Name: x, Dimensions: [-1,2], Strides: [2,1], Datatype: Half, Format: (NHWC) Channel major }], Constants: [ { Name: w, Datatype: Float, Format: r }], Outputs: [ { Name: y, Datatype: Half, Format: r }], TacticName: t, StreamId: 0, Metadata: [ONNX Layer: Conv_0]
Name: k, LayerType: kgen, Inputs: [], Constants: [], Outputs: [ { Name: p, Datatype: Half, Format: r }, { Name: q, Datatype: Float, Format: r }], TacticName: , StreamId: 0, Metadata: 
Name: l, LayerType: kgen, Inputs: [], Constants: [], Outputs: [ { Name: q, Datatype: Float, Format: r }], TacticName: , StreamId: 0, Metadata: 

I/O Tensors:
 Name: x, IOMode: Input, DataType: Float";

    #[test]
    fn layers_are_counted_by_types_of_outputs() {
        let kinds = layers(LISTING).unwrap();
        assert_eq!(Vec::from_iter(kinds.keys()), ["correlation", "kgen"], "no output, no layer");
        assert_eq!(kinds["correlation"], ByType::from([("fp16".to_string(), 1)]), "constants do not count");
        assert_eq!(kinds["kgen"], ByType::from([("fp16+fp32".to_string(), 1), ("fp32".to_string(), 1)]));
    }

    #[test]
    fn other_messages_are_no_listing() {
        assert_eq!(layers("Total Weights Memory: 7040 bytes"), None);
        assert_eq!(layers("Layers:\nsomething else"), None, "a new form of the listing is not counted wrongly");
    }
}
