"""What a pack holds and how it is run, without torch: half-precision graphs, golden references, the tracking loop."""
