"""Pictures to an mp4 or GIF file, whole or not at all."""
from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import Iterator, Optional

import numpy as np

from happo_gpu.config import ConfigError

FPS = 25  # unless a film says otherwise


def check_packages(suffix: str) -> None:
    """Raises ConfigError where a file of this kind cannot be written here."""
    if suffix not in (".mp4", ".gif"):
        raise ConfigError(f"a video named *{suffix} is not known; write a name that ends in .mp4 or .gif")
    try:
        import matplotlib.backends.backend_agg  # noqa: F401

        if suffix == ".mp4":
            import imageio_ffmpeg

            imageio_ffmpeg.get_ffmpeg_exe()
    except ImportError as error:
        raise ConfigError(f"videos need the package {error.name}; write pip install -e '.[video]'") from error
    except RuntimeError as error:  # the package without its program
        raise ConfigError("videos need ffmpeg; write pip install --force-reinstall imageio-ffmpeg") from error


def write(path: Path, pictures: Iterator[np.ndarray], colours: Optional[np.ndarray] = None, fps: float = FPS) -> int:
    """Writes an mp4 or GIF, whole or not at all; returns the number of pictures.

    ``colours`` (C, 3) uint8, C <= 256, are a GIF's; without them it takes those of its first picture.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.stem}.part{path.suffix}")
    try:
        count = write_gif(partial, pictures, colours, fps) if path.suffix == ".gif" else write_mp4(partial, pictures, fps)
        os.replace(str(partial), str(path))
    finally:
        if partial.exists():
            partial.unlink()
    print(f"=> writing '{path}'", flush=True)
    return count


def write_mp4(path: Path, pictures: Iterator[np.ndarray], fps: float) -> int:
    import imageio_ffmpeg

    first = next(pictures)
    size = (first.shape[1], first.shape[0])
    # veryfast: half the default's time for files of the same size, as the pictures are plain
    writer = imageio_ffmpeg.write_frames(str(path), size, pix_fmt_in="rgba", fps=fps, quality=8,
                                         output_params=["-preset", "veryfast"])
    writer.send(None)
    count = 0
    try:
        for picture in itertools.chain([first], pictures):
            writer.send(picture.tobytes())
            count += 1
    finally:
        writer.close()
    return count


def write_gif(path: Path, pictures: Iterator[np.ndarray], colours: Optional[np.ndarray], fps: float) -> int:
    from PIL import Image

    first, count = next(pictures), itertools.count()
    if colours is None:
        palette = Image.fromarray(first[:, :, :3]).quantize(255)
    else:
        palette = Image.new("P", (1, 1))
        palette.putpalette(colours.tobytes())
    images = (Image.fromarray(picture[:, :, :3]).quantize(palette=palette, dither=Image.Dither.NONE)
              for picture, _ in zip(itertools.chain([first], pictures), count))
    next(images).save(str(path), save_all=True, append_images=images, duration=round(1000 / fps), loop=0)
    return next(count)
