"""The released checkpoints: where each is published, what it weighs, and what exporting it costs.

Meta publishes no digests beside its files. Those here are the digests under which the hub stores the same files; projects that
fetched them from either address report the same ones, and the same sizes. They could not be compared with the files from here.
EfficientTAM's authors publish on the hub alone; sizes and digests of ``_1`` and ``_2`` are not known here. SAM 3 is published behind a
form: ``get`` takes it from a folder or a mirror. D-FINE's authors publish no digests either; those of n, s and m are what several projects
found at the official address, and one of them at the hub, too; of l and x neither size nor digest is known here.
"""
from __future__ import annotations

from dataclasses import dataclass

OFFICIAL_20 = "https://dl.fbaipublicfiles.com/segment_anything_2/072824"
OFFICIAL_21 = "https://dl.fbaipublicfiles.com/segment_anything_2/092824"
EDGETAM = "https://github.com/facebookresearch/EdgeTAM/raw/7711e012a30a2402c4eaab637bdb00a521302c91/checkpoints"
HUB = "https://huggingface.co"
SAM3 = "facebook/sam3"
EFFICIENTTAM = "yunyangx/efficient-track-anything"
DFINE = "https://github.com/Peterande/storage/releases/download/dfinev1.0"
DFINE_HUB = "Peterande/D-FINE"


@dataclass(frozen=True)
class Cost:
    """What an export of all three data types took here, at 1024 px with one thread on a Xeon, random weights. ``reference``: length and
    prompts of the golden clip."""

    cpu_minutes: float      # of the exporter alone
    memory_mib: int         # its peak
    pack_mb: float
    reference: str


@dataclass(frozen=True)
class Release:
    """One checkpoint. ``revision``: commit of the hub's repository that has this file; "main" where none is known here.
    ``sha256``: None where none is published, then the first download is trusted and recorded."""

    name: str
    title: str
    file: str
    official: str           # address of the folder
    repository: str         # on the hub
    revision: str
    size: int | None        # bytes; None where it is not known here
    sha256: str | None
    parameters: float       # millions
    cost: Cost | None = None
    licence: str = "Apache-2.0"
    terms: str = "https://www.apache.org/licenses/LICENSE-2.0"
    gated: bool = False     # its publisher gives it to whoever has signed a form
    beside: float = 0.0     # millions of parameters that the file holds and the model does not have
    detects: bool = False   # a detector: it takes no prompts

    def hub_address(self, endpoint: str) -> str:
        return f"{endpoint.rstrip('/')}/{self.repository}/resolve/{self.revision}/{self.file}"

    @property
    def official_address(self) -> str:
        return f"{self.official}/{self.file}"

    @property
    def download(self) -> float:
        """Bytes of the file, estimated from the number of parameters where its size is not known."""
        return self.size or 4e6 * (self.parameters + self.beside)

    @property
    def megabytes(self) -> str:
        return f"{self.download / 1e6:.1f} MB" if self.size else f"about {self.download / 1e6:.0f} MB"


def _sam2(version: str, size: str, revision: str, byte_count: int, sha256: str, parameters: float, cost: Cost | None = None) -> Release:
    stem = "sam2.1" if version == "2.1" else "sam2"
    return Release(f"{stem}_{size}", f"SAM {version} {size.replace('_', ' ')}", f"{stem}_hiera_{size}.pt",
                   OFFICIAL_21 if version == "2.1" else OFFICIAL_20, f"facebook/{stem}-hiera-{size.replace('_', '-')}",
                   revision, byte_count, sha256, parameters, cost)


def _efficienttam(size: str, form: str = "", byte_count: int | None = None, sha256: str | None = None) -> Release:
    stem = f"efficienttam_{size}{form}"
    return Release(stem, f"EfficientTAM {size.capitalize()}{form.replace('_', ' ')}", f"{stem}.pt", f"{HUB}/{EFFICIENTTAM}/resolve/main",
                   EFFICIENTTAM, "main", byte_count, sha256, {"ti": 17.9, "s": 34.1}[size])


def _dfine(size: str, parameters: float, beside: float, byte_count: int | None = None, sha256: str | None = None) -> Release:
    """Trained on COCO alone. ``beside``: statistics of batch norms and what else the official file holds."""
    return Release(f"dfine_{size}", f"D-FINE {size.upper()}", f"dfine_{size}_coco.pth", DFINE, DFINE_HUB,
                   "a5f35932343b83c470bfe8659b439108080e6206", byte_count, sha256, parameters, beside=beside, detects=True)


RELEASES: dict[str, Release] = {release.name: release for release in (
    Release("edgetam", "EdgeTAM", "edgetam.pt", EDGETAM, "facebook/EdgeTAM", "14b1b75185fee05a4e4ee1c797b2761d035c7ccf", 56_116_523,
            "ed2d4850b8792c239689b043c47046ec239b6e808a3d9b6ae676c803fd8780df", 13.9,
            Cost(2.7, 2782, 124.5, "12 frames, clicks")),
    _sam2("2.1", "tiny", "de431c4043854a71d8101e17995dfe596bf101a5", 156_008_466,
          "7402e0d864fa82708a20fbd15bc84245c2f26dff0eb43a4b5b93452deb34be69", 38.9),
    _sam2("2.1", "small", "ee5bba1d82bb8749febdf90f45e84b687142ba03", 184_416_285,
          "6d1aa6f30de5c92224f8172114de081d104bbd23dd9dc5c58996f0cad5dc4d38", 46.0),
    _sam2("2.1", "base_plus", "b7320756a13354e7530a63935656d35b2f91a290", 323_606_802,
          "a2345aede8715ab1d5d31b4a509fb160c5a4af1970f199d9054ccfb746c004c5", 80.8),
    _sam2("2.1", "large", "665f8e2ad61cf5f53d65644ff27c8ee525124610", 898_083_611,
          "2647878d5dfa5098f2f8649825738a9345572bae2d4350a2468587ece47dd318", 224.4, Cost(8.0, 9216, 2700, "8 frames, one kind of prompt")),
    _sam2("2.0", "tiny", "7c218beaf0bb87874785f32b582f640134fc1c09", 155_906_050,
          "65b50056e05bcb13694174f51bb6da89c894b57b75ccdf0ba6352c597c5d1125", 38.9),
    _sam2("2.0", "small", "e080ada8afd19df5e165abe71b006edc7f4c3d4e", 184_309_650,
          "95949964d4e548409021d47b22712d5f1abf2564cc0c3c765ba599a24ac7dce3", 46.0),
    _sam2("2.0", "base_plus", "main", 323_493_298,
          "d0bb7f236400a49669ffdd1be617959a8b1d1065081789d7bbff88eded3a8071", 80.8),
    _sam2("2.0", "large", "e6a8e8809b8f1bfa2238b6d080f3d05cc76bd251", 897_952_466,
          "7442e4e9b732a508f80e141e7c2913437a3610ee0c77381a66658c3a445df87b", 224.4),
    _efficienttam("ti", "", 71_616_316, "acbb17b28cca1f860acee09c9ecb6efdb732080dc7a85a07292c31813175fa7d"),
    _efficienttam("ti", "_512x512", 71_620_052, "7d4d652a465f0081391050932f45d8a66768ccc99c8ea393ce8a5927e83f3b9b"),
    _efficienttam("ti", "_1"),
    _efficienttam("ti", "_2"),
    _efficienttam("s", "", 136_375_868, "2b572be30d9e96ee29c8d785fe157c6b079ede7d56fbc8a3671d4120e63c89cd"),
    _efficienttam("s", "_512x512", 136_379_145, "67b5840012737ed2c94a4cb8787c5c1b27b3a946045d2e602e65ef77230b6085"),
    _efficienttam("s", "_1"),
    _efficienttam("s", "_2"),
    # one file with the detector; 848 M are all parameters of SAM 3, by its README
    Release("sam3_tracker", "SAM 3's tracker", "model.safetensors", f"{HUB}/{SAM3}/resolve/main", SAM3, "main", None, None, 465.8,
            licence="SAM License", terms="https://github.com/facebookresearch/sam3/blob/main/LICENSE", gated=True, beside=848.0 - 465.8),
    _dfine("n", 3.8, 0.07, 15_489_558, "41973938d2784d38a9836990d805b8392855ebf611aba55f0f7add90e110744c"),
    _dfine("s", 10.3, 0.15, 41_841_422, "48a6c8cc43eb57186843f752e2e8461ddd3326e0d3c575e71e6e960844683e89"),
    _dfine("m", 19.6, 0.2, 79_108_938, "b44a7586bf490858c7b8bce9e44bd025cb88724df9a07a8deb3ae1c12e608195"),
    _dfine("l", 31.2, 0.3),
    _dfine("x", 62.6, 0.4),
)}
