"""How a model becomes a pack: graphs as torch modules, ONNX files, manifest, golden reference."""
