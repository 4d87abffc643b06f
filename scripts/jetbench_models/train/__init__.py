"""How the miniature models are trained and scored."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")     # before torch is imported: one thread per training process
