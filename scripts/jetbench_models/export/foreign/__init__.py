"""Packs from other people's ONNX exports: the onnx-community layout of SAM 2 (two graphs, image mode, no memory) and the
SAM2Export layout of SAM 2.0 (four graphs, whose memory is a list that the caller keeps).

``import`` and ``import-video`` turn a downloaded export into a pack: weights kept in a second file are put into the graph
file, so that one digest covers them, and ``pack.toml`` is written from what the files say about themselves. ``mini`` and
``mini-video`` make a small export of the same layout from random weights for jetbench's tests, with a reference: what a plain
Python loop computed for the first, transformers' video session for the second.

Example:
    python -m jetbench_models foreign import --vision vision_encoder.onnx --decoder prompt_encoder_mask_decoder.onnx \\
        --licence Apache-2.0 --source "onnx-community/sam2.1-hiera-tiny-ONNX" --out packs/sam2.1_tiny_image
    python -m jetbench_models foreign import-video --encoder image_encoder.onnx --attention memory_attention.onnx \\
        --decoder image_decoder.onnx --memory memory_encoder.onnx --licence Apache-2.0 --source "SAM2Export at …" --out packs/sam2_tiny_host
    python -m jetbench_models foreign mini --frames assets/golden/g0 --out runners/tests/data/sam2_image_mini
    python -m jetbench_models foreign mini-video --seed 14 --frames assets/golden/g0 --out runners/tests/data/sam2export_mini
"""
