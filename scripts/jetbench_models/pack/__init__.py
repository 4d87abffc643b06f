"""What a pack holds and how it is run, without torch: half-precision graphs, golden references, the tracking loop."""

DTYPES = ("fp32", "fp16", "bf16")
