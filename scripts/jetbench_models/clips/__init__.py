"""What is drawn: synthetic clips with exact ground truth, prompts derived from masks, data sets made of such clips."""

KINDS = ("points", "bbox", "mask")      # of prompts
