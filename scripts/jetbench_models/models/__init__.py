"""The models that packs are made of: architectures, weights, and transformers' video session as the source of truth.

Here are the numbers that SAM 2 and EdgeTAM share in every size, without torch.
"""

import os

from ..command import Refused

os.environ.setdefault("HF_HUB_OFFLINE", "1")      # before transformers is imported: nothing is fetched

PATCH = 16                # pixels per token of the coarsest map that the tracker uses; SAM 3 has its own
MAX_POINTERS = 16         # object pointers that the memory attention sees
NO_OBJECT = -1024.0       # mask logit that transformers writes where the object score is not positive
NOT_A_POINT, UNUSED_POINT, BOX_LABELS = -1, -10, (2, 3)     # labels of point slots; -10: there is no such slot
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]    # of ImageNet, which frames are normalised with
NORMALISED_WITH = {"sam3_tracker": ([0.5] * 3, [0.5] * 3)}    # family: mean and deviation, where others than ImageNet's


class DoesNotFit(Refused):
    """Weights, name and image size do not belong together; the text says what differs."""
