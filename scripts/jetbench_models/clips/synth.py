"""Synthetic video-object-segmentation clips with exact ground truth.

The miniature models are trained and tested on nothing but these drawings: textured shapes that move, turn, scale, hide
behind a bar, leave the frame, vanish or have a look-alike, over a textured background seen by a jittering camera.
Everything is a pure function of the random generator that is passed in; held-out clips differ in seeds and in the bank
of textures. Drawing works on 8-bit images and costs about a millisecond per 256 x 256 frame.
"""
from __future__ import annotations

import math
from dataclasses import dataclass, field

import cv2
import numpy as np

cv2.setNumThreads(0)

TEXTURE = 160        # side of a texture tile in pixels
VISIBLE_MIN = 0.004  # smallest share of the frame that an object must cover to be prompted
FloatArray = np.ndarray
Generator = np.random.Generator


# --------------------------------------------------------------------------------------------------------- textures
def _value_noise(rng: Generator, cells: int) -> FloatArray:
    grid = rng.random((cells, cells, 3), dtype=np.float32)
    return cv2.resize(grid, (TEXTURE, TEXTURE), interpolation=cv2.INTER_CUBIC) - 0.5


def _texture(rng: Generator) -> FloatArray:
    """float32 [TEXTURE, TEXTURE, 3], roughly zero mean and within -0.5..0.5."""
    kind = int(rng.integers(0, 8))
    y, x = np.mgrid[0:TEXTURE, 0:TEXTURE].astype(np.float32) / TEXTURE
    tint: FloatArray = rng.uniform(-1, 1, 3).astype(np.float32)
    tile: FloatArray
    if kind == 0:      # flat
        tile = np.zeros((TEXTURE, TEXTURE, 3), np.float32)
    elif kind == 1:    # gradient
        angle = rng.uniform(0, 2 * math.pi)
        tile = ((x - 0.5) * math.cos(angle) + (y - 0.5) * math.sin(angle))[..., None] * tint
    elif kind == 2:    # clouds
        tile = _value_noise(rng, int(rng.integers(2, 6)))
    elif kind == 3:    # clouds with detail
        tile = 0.6 * _value_noise(rng, int(rng.integers(3, 8))) + 0.4 * _value_noise(rng, int(rng.integers(12, 40)))
    elif kind == 4:    # stripes, smooth or sharp
        angle, frequency = rng.uniform(0, math.pi), rng.uniform(2, 12)
        wave = np.sin(2 * math.pi * frequency * (x * math.cos(angle) + y * math.sin(angle)) + rng.uniform(0, 6))
        tile = 0.3 * (np.sign(wave) if rng.random() < 0.5 else wave)[..., None] * tint
    elif kind == 5:    # checks
        frequency = rng.uniform(2, 7)
        wave = np.sign(np.sin(2 * math.pi * frequency * x) * np.sin(2 * math.pi * frequency * y))
        tile = 0.3 * wave[..., None] * tint
    elif kind == 6:    # speckle
        tile = 0.25 * rng.standard_normal((TEXTURE, TEXTURE, 3), dtype=np.float32)
        tile = cv2.GaussianBlur(tile, (0, 0), rng.uniform(0.7, 2.0))
    else:
        tile = _dots(rng)
    return np.ascontiguousarray(tile, np.float32)


def _dots(rng: Generator) -> FloatArray:
    tile = np.zeros((TEXTURE, TEXTURE, 3), np.float32)
    for _ in range(int(rng.integers(8, 40))):
        centre = (int(rng.integers(0, TEXTURE)), int(rng.integers(0, TEXTURE)))
        cv2.circle(tile, centre, int(rng.integers(3, 18)), tuple(float(v) for v in rng.uniform(-0.5, 0.5, 3)), -1)
    return tile


class TextureBank:
    """A fixed set of textures and sensor-noise tiles. Training uses seed 7, the detector 7 to 61, DVIS-DAQ 7 to 62; any other seed is
    unseen material."""

    def __init__(self, seed: int, size: int = 256, dotted: float = 0.0):
        """``dotted``: share of grounds that are dots whatever else the bank holds."""
        rng = np.random.default_rng(seed)
        self.tiles = [_texture(rng) for _ in range(size)]
        self.noise = rng.standard_normal((4, 640, 640), dtype=np.float32)
        self.share, self.dots = dotted, [_dots(rng) for _ in range(size // 4 if dotted else 0)]

    def tile(self, rng: Generator) -> FloatArray:
        tile = self.tiles[int(rng.integers(0, len(self.tiles)))]
        return tile[:, :, ::-1] if rng.random() < 0.5 else tile

    def ground(self, rng: Generator) -> FloatArray:
        if self.dots and rng.random() < self.share:
            return self.dots[int(rng.integers(0, len(self.dots)))]
        return self.tile(rng)


def _colour(rng: Generator) -> FloatArray:
    return rng.uniform(0.05, 0.95, 3).astype(np.float32)


def _colour_away(rng: Generator, others: list[tuple[FloatArray, float]]) -> FloatArray:
    """Random colour at least the given distance (largest channel difference) from every other one, if one is found."""
    best, best_margin = _colour(rng), -1.0
    for _ in range(24):
        colour = _colour(rng)
        margin = min((float(np.abs(colour - other).max()) - gap for other, gap in others), default=0.0)
        if margin > best_margin:
            best, best_margin = colour, margin
        if margin >= 0:
            break
    return best


def paint(tile: FloatArray, contrast: float, colour: FloatArray) -> np.ndarray:
    return np.clip((tile * contrast + colour) * 255, 0, 255).astype(np.uint8)


# ---------------------------------------------------------------------------------------------------------- objects
OUTLINES = ("ellipse", "rectangle", "polygon", "star", "blob")


def _outline(rng: Generator) -> FloatArray:
    return outline_of(int(rng.integers(0, len(OUTLINES))), rng)


def outline_of(kind: int, rng: Generator) -> FloatArray:
    """Closed polygon float32 [n, 2] of about unit radius around the origin; ``kind``: its place in ``OUTLINES``."""
    if kind == 1:      # rectangle
        h = rng.uniform(0.4, 1)
        return (np.array([[-1, -h], [1, -h], [1, h], [-1, h]]) * 0.85).astype(np.float32)
    if kind == 2:      # irregular polygon
        n = int(rng.integers(3, 7))
        angle = np.linspace(0, 2 * math.pi, n, endpoint=False) + rng.uniform(-0.25, 0.25, n)
        return np.stack([np.cos(angle), np.sin(angle)], 1).astype(np.float32)
    n = int(rng.integers(4, 7)) * 2 if kind == 3 else 48
    angle = np.linspace(0, 2 * math.pi, n, endpoint=False)
    if kind == 0:      # ellipse
        return np.stack([np.cos(angle), np.sin(angle) * rng.uniform(0.45, 1)], 1).astype(np.float32)
    if kind == 3:      # star
        radius = np.where(np.arange(n) % 2 == 0, 1.0, rng.uniform(0.5, 0.75))
    else:              # smooth blob
        radius = np.ones(n)
        for k in (2, 3, 4, 5):
            radius += rng.normal(0, 0.32 / k) * np.cos(k * angle + rng.uniform(0, 2 * math.pi))
        radius = np.clip(radius, 0.35, 1.5)
        radius /= radius.max()
    return np.stack([np.cos(angle) * radius, np.sin(angle) * radius], 1).astype(np.float32)


@dataclass
class Body:
    """One moving shape. Positions, velocities and radii are in pixels, per frame; angles in degrees."""

    outline: FloatArray
    tile: FloatArray
    contrast: float
    colour: FloatArray
    radius: float
    position: FloatArray
    velocity: FloatArray
    acceleration: FloatArray
    angle: float
    spin: float
    growth: float
    bounces: bool
    wobble: float
    phase: float
    scale: float = 1.0
    pixels: np.ndarray | None = None     # painted tile, uint8
    away: FloatArray = field(default_factory=lambda: np.zeros(2))   # offset that takes a leaving body out of the frame

    def advance(self, rng: Generator, frame: FloatArray) -> None:
        """One time step inside a frame of size (width, height)."""
        unit = float(frame.min())
        if rng.random() < 0.15:
            self.acceleration = rng.normal(0, 0.15, 2) * (float(np.linalg.norm(self.velocity)) + 0.004 * unit)
        self.velocity = self.velocity + 0.5 * self.acceleration
        speed = float(np.linalg.norm(self.velocity))
        if speed > 0.06 * unit:
            self.velocity *= 0.06 * unit / speed
        self.position = self.position + self.velocity
        if self.bounces:
            for i in (0, 1):
                if (self.position[i] < 0.08 * frame[i] and self.velocity[i] < 0) or \
                        (self.position[i] > 0.92 * frame[i] and self.velocity[i] > 0):
                    self.velocity[i] *= -1
                    self.acceleration[i] *= -1
        elif np.any(self.position < -0.35 * frame) or np.any(self.position > 1.35 * frame):   # turns back
            self.velocity = (0.5 * frame - self.position) * 0.04
            self.acceleration = np.zeros(2)
        self.angle += self.spin
        self.phase += 0.35
        self.scale *= 1 + self.growth
        if not 0.55 < self.scale < 1.7:
            self.scale = min(max(self.scale, 0.55), 1.7)
            self.growth *= -1

    def draw(self, image: np.ndarray, labels: np.ndarray, label: int) -> None:
        """Blends the body into ``image`` uint8 [H, W, 3] and writes ``label`` where it covers ``labels`` [H, W]."""
        height, width = labels.shape
        cos, sin = math.cos(math.radians(self.angle)), math.sin(math.radians(self.angle))
        size, centre = self.radius * self.scale, self.position + self.away
        stretch = self.wobble * math.sin(self.phase)
        corners = self.outline * np.array([size * (1 + stretch), size * (1 - stretch)], np.float32)
        corners = corners @ np.array([[cos, sin], [-sin, cos]], np.float32) + centre.astype(np.float32)
        low, high = np.floor(corners.min(0)).astype(int) - 1, np.ceil(corners.max(0)).astype(int) + 2
        x0, y0, x1, y1 = max(low[0], 0), max(low[1], 0), min(high[0], width), min(high[1], height)
        if x1 <= x0 or y1 <= y0:
            return
        cover = np.zeros((y1 - y0, x1 - x0), np.uint8)
        cv2.fillPoly(cover, [np.round((corners - [x0, y0]) * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
        zoom = TEXTURE / (2.3 * size)   # texture pixels per image pixel
        matrix = np.array([[cos * zoom, sin * zoom, 0], [-sin * zoom, cos * zoom, 0]])
        matrix[:, 2] = TEXTURE / 2 - matrix[:, :2] @ (centre - [x0, y0])
        assert self.pixels is not None, "make_clip paints every body"
        skin = cv2.warpAffine(self.pixels, matrix, (x1 - x0, y1 - y0),
                              flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REFLECT)
        region = image[y0:y1, x0:x1]
        weight = (cover.astype(np.int16) + (cover > 127))[..., None]   # 0..256
        region += ((skin.astype(np.int16) - region) * weight.astype(np.int32) >> 8).astype(np.uint8)
        labels[y0:y1, x0:x1][cover > 127] = label


def random_body(rng: Generator, bank: TextureBank, frame: FloatArray, speed: float, low: float, high: float) -> Body:
    """A body somewhere in a frame of size (width, height), its radius ``low`` to ``high`` of the shorter side."""
    unit = float(frame.min())
    heading, pace = rng.uniform(0, 2 * math.pi), min(abs(rng.normal(0, 1)), 3.0) * speed * unit
    return Body(outline=_outline(rng), tile=bank.tile(rng), contrast=rng.uniform(0.15, 0.7), colour=_colour(rng),
                radius=unit * rng.uniform(low, high), position=rng.uniform(0.15, 0.85, 2) * frame,
                velocity=np.array([math.cos(heading), math.sin(heading)]) * pace,
                acceleration=rng.normal(0, 0.15, 2) * speed * unit, angle=rng.uniform(0, 360),
                spin=rng.normal(0, 4) if rng.random() < 0.7 else 0.0,
                growth=rng.normal(0, 0.012) if rng.random() < 0.6 else 0.0, bounces=bool(rng.random() < 0.75),
                wobble=rng.uniform(0, 0.12) if rng.random() < 0.4 else 0.0, phase=rng.uniform(0, 2 * math.pi))


# ------------------------------------------------------------------------------------------------------------ clips
@dataclass(frozen=True)
class Script:
    """Events of a clip that is not left to chance. Frame ranges are half open and belong to an object index."""

    objects: int = 1
    lookalike: bool = False                                              # object 1 copies object 0
    hidden: dict[int, tuple[int, int]] = field(default_factory=dict)     # not drawn; from frame 0 on = appears late
    leaves: dict[int, tuple[int, int]] = field(default_factory=dict)     # moves out of the frame and comes back
    behind_bar: bool = False                                             # object 0 passes behind a standing bar


@dataclass(frozen=True)
class Mode:
    """What the random part of a clip may contain. ``events`` = chance that an object is absent for a while."""

    objects: tuple[int, int]
    lookalike: float
    occluder: float
    speed: tuple[float, float]      # share of the frame's shorter side per frame
    apart: bool = True              # starting positions do not overlap
    strides: int = 1                # frames are up to this many time steps apart
    events: float = 0.0


MODES: dict[str, Mode] = {
    "train": Mode((1, 4), 0.35, 0.25, (0.004, 0.022), apart=False, strides=2),
    "pairs": Mode((2, 4), 0.75, 0.35, (0.004, 0.022), strides=2),    # training clips that resemble "hard"
    "easy": Mode((1, 1), 0.0, 0.0, (0.012, 0.012)),
    "hard": Mode((2, 4), 0.7, 0.5, (0.014, 0.014)),
    "gone": Mode((2, 2), 0.0, 0.0, (0.010, 0.010)),                  # object 0 is absent in the middle of the clip
    "script": Mode((1, 1), 0.0, 0.0, (0.008, 0.008)),
}


def _absence(body: Body, frame: FloatArray, span: tuple[int, int], t: int) -> FloatArray:
    """Offset at frame ``t`` of a body that is fully outside during ``span`` and slides there and back."""
    edge = np.array([-body.position[0], frame[0] - body.position[0], -body.position[1], frame[1] - body.position[1]])
    side = int(np.abs(edge).argmin())
    reach = edge[side] + math.copysign(body.radius * body.scale * 1.3, edge[side])
    slide = 5.0   # frames that the way out takes
    share = min(max((t - span[0] + slide) / slide, 0.0), 1.0, max((span[1] - 1 + slide - t) / slide, 0.0))
    return np.array([reach * share, 0.0]) if side < 2 else np.array([0.0, reach * share])


def _targets(rng: Generator, bank: TextureBank, size: FloatArray, count: int, *, speed: float, lookalike: bool, apart: bool,
             easier: float, ground: FloatArray) -> list[Body]:
    """The bodies that are tracked. ``ground``: colour that they stand out from; ``easier``: 0..1, by how much more they do."""
    bodies: list[Body] = []
    for i in range(count):
        body = random_body(rng, bank, size, speed, 0.10, 0.25 if count > 1 else 0.32)
        if i == 1 and lookalike:
            first = bodies[0]
            body.outline = first.outline if rng.random() < 0.6 else body.outline
            body.tile, body.contrast = first.tile, first.contrast
            body.colour = np.clip(first.colour + rng.normal(0, 0.05, 3), 0, 1).astype(np.float32)
            body.radius = first.radius * rng.uniform(0.75, 1.3)
        else:
            body.colour = _colour_away(rng, [(ground, 0.25 + 0.25 * easier)] + [(b.colour, 0.2 + 0.2 * easier) for b in bodies])
        for _ in range(30 if apart else 0):
            if all(np.linalg.norm(body.position - b.position) > 0.95 * (body.radius + b.radius) for b in bodies):
                break
            body.position = rng.uniform(0.1, 0.9, 2) * size
        bodies.append(body)
    return bodies


def _moving_bar(rng: Generator, bank: TextureBank, size: FloatArray, speed: float, ground: FloatArray) -> Body:
    """A bar in front of everything."""
    bar = random_body(rng, bank, size, 0.5 * speed, 0.3, 0.6)
    bar.outline, bar.wobble = np.array([[-1, -0.12], [1, -0.12], [1, 0.12], [-1, 0.12]], np.float32), 0.0
    bar.colour = _colour_away(rng, [(ground, 0.25)])
    return bar


def _standing_bar(rng: Generator, bank: TextureBank, size: FloatArray, first: Body, frames: int, ground: FloatArray) -> Body:
    """A bar from top to bottom, and ``first`` sent behind it from left to right."""
    (width, height), unit = size, float(size.min())
    first.radius = min(first.radius, 0.15 * unit)
    first.position = np.array([0.14 * width, rng.uniform(0.35, 0.65) * height])
    first.velocity = np.array([0.72 * width / max(frames - 1, 1), 0.0])
    first.acceleration, first.growth, first.wobble = np.zeros(2), 0.0, 0.0
    bar = random_body(rng, bank, size, 0.0, 0.3, 0.3)
    half = 1.15 * first.radius
    bar.outline = np.array([[-half, -2 * unit], [half, -2 * unit], [half, 2 * unit], [-half, 2 * unit]], np.float32)
    bar.outline, bar.radius = bar.outline / (2 * unit), 2 * unit
    bar.position, bar.velocity = 0.5 * size, np.zeros(2)
    bar.acceleration, bar.angle, bar.spin, bar.growth, bar.wobble = np.zeros(2), 0.0, 0.0, 0.0, 0.0
    bar.colour = _colour_away(rng, [(ground, 0.25), (first.colour, 0.25)])
    return bar


Spans = dict[int, tuple[int, int]]      # object -> half open range of frames


def _absences(rng: Generator, mode: str, events: float, script: Script | None, frames: int, targets: int) -> tuple[Spans, Spans]:
    """(when which body is not drawn, when which body is outside the frame)"""
    hidden, leaves = (dict(script.hidden), dict(script.leaves)) if script else ({}, {})
    if mode == "gone":
        (hidden if rng.random() < 0.5 else leaves)[0] = (frames // 3, frames // 3 + max(frames // 5, 1))
    elif events and frames > 2:
        for i in range(targets):
            if rng.random() < events:
                start = int(rng.integers(1, frames))
                (hidden if rng.random() < 0.6 else leaves)[i] = (start, start + int(rng.integers(1, frames)))
    return hidden, leaves


class _Camera:
    """View of the ground, and what the sensor does to an image. Drawn from ``rng`` once per clip."""

    def __init__(self, rng: Generator, size: FloatArray, setup: Mode):
        unit = float(size.min())
        zoom, turn = rng.uniform(0.5, 1.1) * TEXTURE / unit * 0.9, math.radians(rng.uniform(0, 360))
        self.view = np.array([[math.cos(turn) * zoom, math.sin(turn) * zoom], [-math.sin(turn) * zoom, math.cos(turn) * zoom]])
        self.place, self.pan, self.jitter = np.zeros(2), rng.normal(0, 0.006, 2) * unit, rng.uniform(0, 0.004) * unit
        self.stride = int(rng.integers(1, setup.strides + 1))       # time steps from one frame to the next
        self.noise = rng.uniform(0, 0.03) * 255 if rng.random() < 0.7 else 0.0
        self.blur = rng.uniform(0.4, 1.0) if rng.random() < 0.25 else 0.0
        self.gain, self.drift = rng.uniform(0.85, 1.15), rng.normal(0, 0.005)
        self.size = size

    def ground(self, rng: Generator, ground: np.ndarray) -> np.ndarray:
        """The ground as this frame sees it, uint8 [H, W, 3]."""
        offset = self.place + rng.normal(0, 1, 2) * self.jitter + TEXTURE / 2 - self.view @ (self.size / 2)
        width, height = (int(n) for n in self.size)
        return cv2.warpAffine(ground, np.column_stack([self.view, offset]), (width, height),
                              flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REFLECT)

    def expose(self, rng: Generator, bank: TextureBank, image: np.ndarray, t: int) -> np.ndarray:
        """Blur, brightness and noise of frame ``t``."""
        if self.blur:
            image = cv2.GaussianBlur(image, (0, 0), self.blur)
        image = cv2.convertScaleAbs(image, alpha=max(self.gain + self.drift * t, 0.0))
        return grain(rng, bank, image, self.noise) if self.noise else image


def make_clip(rng: Generator, frames: int, height: int, width: int, mode: str = "train", **more) -> tuple[np.ndarray, np.ndarray]:
    """``draw_clip`` without the outlines."""
    return draw_clip(rng, frames, height, width, mode, **more)[:2]


def draw_clip(rng: Generator, frames: int, height: int, width: int, mode: str = "train", *, bank: TextureBank,
              difficulty: float = 1.0, events: float = 0.0,
              script: Script | None = None) -> tuple[np.ndarray, np.ndarray, list[FloatArray]]:
    """Draws one clip.

    Args:
        rng: source of every random choice.
        frames, height, width: size of the clip; the frame need not be square.
        mode: key of ``MODES``; ``script`` (with mode "script") fixes the number of objects and their events instead.
        bank: textures.
        difficulty: 0..1, scales texture contrast and, inversely, the colour gaps (curriculum).
        events: chance per object of being absent for a while (training modes).
    Returns:
        frames uint8 [T, H, W, 3] RGB, visible-pixel masks uint8 [objects, T, H, W] of 0/1, and each object's outline.
    """
    setup, size = MODES[mode], np.array([width, height], np.float64)
    count = script.objects if script else int(rng.integers(setup.objects[0], setup.objects[1] + 1))
    if difficulty < 0.5 and mode == "train":
        count = max(count, 2)     # with one object on a plain ground the prompt could be ignored
    speed = rng.uniform(*setup.speed)
    lookalike = script.lookalike if script else bool(rng.random() < setup.lookalike * difficulty)
    ground_tile, ground_colour = bank.ground(rng), _colour(rng)
    bodies = _targets(rng, bank, size, count, speed=speed, lookalike=lookalike, apart=setup.apart, easier=1.0 - difficulty,
                      ground=ground_colour)
    if not script and rng.random() < setup.occluder:      # never a target
        bodies.append(_moving_bar(rng, bank, size, speed, ground_colour))
    if script and script.behind_bar:
        bodies.append(_standing_bar(rng, bank, size, bodies[0], frames, ground_colour))
    for body in bodies:
        body.pixels = paint(body.tile, body.contrast * difficulty, body.colour)
    ground = paint(ground_tile, rng.uniform(0.1, 0.6) * difficulty, ground_colour)
    hidden, leaves = _absences(rng, mode, events, script, frames, count)
    camera = _Camera(rng, size, setup)
    order = np.arange(len(bodies))
    if len(bodies) == count:
        rng.shuffle(order)

    images = np.empty((frames, height, width, 3), np.uint8)
    masks = np.zeros((count, frames, height, width), np.uint8)
    for t in range(frames):
        image = camera.ground(rng, ground)
        labels = np.zeros((height, width), np.uint8)
        for i in order.tolist():
            body = bodies[i]
            if i in leaves:
                body.away = _absence(body, size, leaves[i], t)
            if not (i in hidden and hidden[i][0] <= t < hidden[i][1]):
                body.draw(image, labels, i + 1)
        images[t] = camera.expose(rng, bank, image, t)
        for i in range(count):
            np.equal(labels, i + 1, out=masks[i, t].view(bool))
        for _ in range(camera.stride):
            camera.place = camera.place + camera.pan
            for body in bodies:
                body.advance(rng, size)
    return images, masks, [body.outline for body in bodies[:count]]


def grain(rng: Generator, bank: TextureBank, image: np.ndarray, sigma: float) -> np.ndarray:
    """Adds grey sensor noise of ``sigma`` levels, cut from a random place of the bank's noise."""
    height, width = image.shape[:2]
    sheet = bank.noise[int(rng.integers(0, len(bank.noise)))]
    if height > sheet.shape[0] // 2 or width > sheet.shape[1] // 2:
        sheet = cv2.resize(sheet, (2 * width, 2 * height))
    y, x = int(rng.integers(0, sheet.shape[0] - height + 1)), int(rng.integers(0, sheet.shape[1] - width + 1))
    grey = (sheet[y:y + height, x:x + width] * sigma).astype(np.int16)
    return cv2.add(image, cv2.merge([grey, grey, grey]), dtype=cv2.CV_8U)


# ---------------------------------------------------------------------------------------------------------- prompts
@dataclass(frozen=True)
class Prompt:
    """One object prompt in pixels of its frame. ``labels``: 1 inside, 0 outside, 2/3 = box corners; a mask has none."""

    kind: str                # "point" | "two" | "box" | "mask"
    points: np.ndarray       # float32 [n, 2], x and y
    labels: np.ndarray       # int64 [n]


PROMPT_SHARES = {"point": 0.42, "box": 0.30, "two": 0.05, "mask": 0.23}


def depth_map(mask: np.ndarray) -> FloatArray:
    """Euclidean distance of every mask pixel to the nearest pixel outside (beyond the frame counts as outside)."""
    return cv2.distanceTransform(np.pad(mask, 1), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]


def deepest_pixel(mask: np.ndarray) -> tuple[int, int]:
    """(x, y) of the pixel farthest inside the mask; ties go to the smallest row, then the smallest column."""
    y, x = np.unravel_index(int(depth_map(mask).argmax()), mask.shape)
    return int(x), int(y)


def tight_box(mask: np.ndarray) -> tuple[int, int, int, int]:
    """(x0, y0, x1, y1): smallest and largest column and row of the mask, in pixels, inclusive."""
    ys, xs = np.nonzero(mask)
    return int(xs.min()), int(ys.min()), int(xs.max()), int(ys.max())


def exact_prompt(mask: np.ndarray, kind: str) -> Prompt:
    """The prompt that the benchmark derives from a mask: its deepest pixel, its tight box or the mask itself."""
    if kind == "mask":
        return Prompt(kind, np.zeros((0, 2), np.float32), np.zeros(0, np.int64))
    if kind == "box":
        return Prompt(kind, np.array(tight_box(mask), np.float32).reshape(2, 2), np.array([2, 3]))
    return Prompt(kind, np.array([deepest_pixel(mask)], np.float32), np.array([1]))


def random_prompt(rng: Generator, mask: np.ndarray) -> Prompt:
    """Training prompt: half of the clicks and boxes as in ``exact_prompt``, the others scattered."""
    kind = str(rng.choice(list(PROMPT_SHARES), p=list(PROMPT_SHARES.values())))
    if kind == "mask" or (kind != "two" and rng.random() < 0.5):
        return exact_prompt(mask, kind)
    height, width = mask.shape
    if kind == "box":
        box = np.array(tight_box(mask), np.float32)
        sides = np.tile([box[2] - box[0], box[3] - box[1]], 2)
        box = np.clip(box + rng.normal(0, 0.04, 4) * sides, 0, np.array([width, height] * 2) - 1)
        return Prompt(kind, box.reshape(2, 2).astype(np.float32), np.array([2, 3]))
    depth = depth_map(mask)
    ys, xs = np.nonzero(depth > depth.max() * rng.uniform(0.2, 0.7))
    j = int(rng.integers(0, len(ys)))
    points, labels = [[xs[j], ys[j]]], [1]
    if kind == "two":
        outside = cv2.dilate(mask, np.ones((5, 5), np.uint8)) == 0
        negative = rng.random() < 0.5 and outside.any()
        if negative:
            ys, xs = np.nonzero(outside)
        j = int(rng.integers(0, len(ys)))
        points.append([xs[j], ys[j]])
        labels.append(0 if negative else 1)
    return Prompt(kind, np.array(points, np.float32), np.array(labels))


# ---------------------------------------------------------------------------------------------------------- batches
@dataclass(frozen=True)
class Batch:
    """``clips`` clips with ``per_clip`` prompted objects each; the objects of clip b are rows b*per_clip and on."""

    frames: np.ndarray     # uint8 [B, T, S, S, 3]
    masks: np.ndarray      # uint8 [B*K, T, S, S], 0/1
    labels: np.ndarray     # uint8 [B, T, S, S], 0 = ground, i = object i (for the dense auxiliary loss)
    prompts: list[Prompt]  # B*K, on frame 0


def make_batch(rng: Generator, *, clips: int, frames: int, size: int, per_clip: int, bank: TextureBank,
               difficulty: float, pairs: float, events: float) -> Batch:
    """Random training batch. 80 % of the clips have the given ``difficulty``, the others any; ``pairs`` = share of
    clips with look-alike pairs, ``events`` = chance per object of vanishing for a while."""
    images: list[np.ndarray] = []
    targets, labels, prompts = [], [], []
    while len(images) < clips:
        level = difficulty if rng.random() < 0.8 else float(rng.random())
        mode = "pairs" if rng.random() < pairs else "train"
        clip, masks = make_clip(rng, frames, size, size, mode, bank=bank, difficulty=level, events=events)
        usable = np.flatnonzero(masks[:, 0].sum((1, 2)) >= VISIBLE_MIN * size * size)
        if len(usable) == 0:
            continue
        images.append(clip)
        labels.append((masks * np.arange(1, len(masks) + 1, dtype=np.uint8)[:, None, None, None]).sum(0, np.uint8))
        for i in np.resize(rng.permutation(usable), per_clip):
            targets.append(masks[i])
            prompts.append(random_prompt(rng, masks[i, 0]))
    return Batch(np.stack(images), np.stack(targets), np.stack(labels), prompts)
