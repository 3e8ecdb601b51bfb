"""Anti-aliased shapes on a picture of tiles, drawn without a display."""
from __future__ import annotations

import functools

import numpy as np

BORDER = "#C8C8C8"


class Canvas:
    """Anti-aliased shapes on one image of tiles.

    The renderer under matplotlib, without its figures: measured, a quarter of the time that Pillow takes at
    twice the resolution and shrunk. Text costs more than all shapes together, so each label is drawn once.
    """

    def __init__(self, columns: int, rows: int, tile: int) -> None:
        from matplotlib.backends.backend_agg import RendererAgg
        from matplotlib.transforms import IdentityTransform

        self._tile, self._rows = tile, rows
        self._renderer = RendererAgg(columns * tile, rows * tile, 72)
        self._identity = IdentityTransform()
        self.pixels = np.asarray(self._renderer.buffer_rgba())  # (H, W, 4) uint8, live
        self._words = self.pixels.view(np.uint32)[..., 0]  # (H, W): a pixel at a time is several times faster

    def open_tile(self, column: int, row: int, colour: str) -> None:
        """What follows is drawn in this tile only, which becomes blank."""
        from matplotlib.transforms import Bbox

        tile = self._tile
        self._left, self._top = column * tile, row * tile
        self._bottom = (self._rows - 1 - row) * tile  # the renderer's y points up
        self._context = self._renderer.new_gc()
        self._context.set_clip_rectangle(Bbox.from_bounds(self._left, self._bottom, tile, tile))
        inside = self._words[self._top: self._top + tile, self._left: self._left + tile]
        inside[...] = word(BORDER)
        inside[1:-1, 1:-1] = word(colour)

    def polygon(self, points: np.ndarray, fill: str, edge: str, width: float) -> None:
        """Points (P, 2) in px from the tile's lower left corner, x right and y up."""
        self._draw(np.concatenate((points, points[:1])), fill, edge, width)

    def line(self, points: np.ndarray, colour: str, width: float) -> None:
        self._draw(points, "", colour, width)

    def _draw(self, points: np.ndarray, fill: str, edge: str, width: float) -> None:
        from matplotlib.colors import to_rgba
        from matplotlib.path import Path as Outline

        self._context.set_foreground(edge)
        self._context.set_linewidth(width)
        face = to_rgba(fill) if fill else None
        self._renderer.draw_path(self._context, Outline(points + (self._left, self._bottom)), self._identity, face)

    def label(self, text: str, size: int) -> None:
        """Text in the tile's lower left corner."""
        ink = rendered(text, size)  # (h, w), 0 to 1
        low, left = self._top + self._tile - 6, self._left + 8
        under = self.pixels[low - ink.shape[0]: low, left: left + ink.shape[1], :3]
        under[...] = under * (1.0 - ink[: under.shape[0], : under.shape[1], None]) + 0.5


@functools.lru_cache(maxsize=16)
def word(colour: str) -> np.uint32:
    """An opaque colour as it lies in memory."""
    from matplotlib.colors import to_rgba

    return np.round(255.0 * np.array(to_rgba(colour))).astype(np.uint8).view(np.uint32)[0]


@functools.lru_cache(maxsize=1024)
def rendered(text: str, size: int) -> np.ndarray:
    """Coverage (h, w) of a line of text, ``size`` px high."""
    from matplotlib.backends.backend_agg import RendererAgg
    from matplotlib.font_manager import FontProperties

    renderer = RendererAgg((len(text) + 1) * size, 2 * size, 72)
    renderer.draw_text(renderer.new_gc(), 0, 1.5 * size, text, FontProperties(size=size), 0)
    return np.asarray(renderer.buffer_rgba())[:, :, 3].astype(np.float32) / 255.0
