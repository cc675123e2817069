"""Peak memory of ``detect`` on a large pyramid, in a process of its own; on Linux.

    python benchmarks/memory.py                 # 16,384 x 16,384 px, all of it tissue: minutes
    python benchmarks/memory.py --tissue 3      # the same, tissue in 3 x 3 of 32 x 32 tiles

The slide repeats one tile of synthetic tissue, so that it is made in seconds.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from rich.console import Console

TILE_PX = 512
MPP = 0.25
WHITE = 243

# VmHWM begins anew in a child, while ru_maxrss would count what its parent held.
MEASURE = """
import sys
from nucliseg_qp.cli import run
code = run(sys.argv[1:])
with open("/proc/self/status") as status:
    peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
print(f"peak {peak / 1024:.0f} MB", file=sys.stderr)
sys.exit(code)
"""


def tissue_tile(folder: Path) -> np.ndarray:
    """Give 512 x 512 px of synthetic tissue, about 100 nuclei."""
    from nucliseg_qp.images.slide import open_slide
    from nucliseg_qp.training.slides import write_slide

    path = folder / "tissue.ome.tif"
    write_slide(path, TILE_PX, TILE_PX, MPP, 11, 400.0)
    with open_slide(path) as slide:
        return slide.read_region((0, 0), 0, (TILE_PX, TILE_PX))


def write_large(path: Path, size_px: int, tissue_tiles: int) -> None:
    """Write a pyramid of JPEG tiles, tissue in the middle ``tissue_tiles`` x ``tissue_tiles``."""
    import tifffile

    tissue = tissue_tile(path.parent)
    with tifffile.TiffWriter(path, bigtiff=True, ome=True) as tiff:
        for level in range(4):
            side = size_px >> (2 * level)
            about = {"axes": "YXS", "PhysicalSizeX": MPP, "PhysicalSizeY": MPP}
            tiff.write(
                tiles(tissue, side, 4**level, size_px, tissue_tiles),
                shape=(side, side, 3),
                dtype=np.uint8,
                tile=(TILE_PX, TILE_PX),
                photometric="ycbcr",
                subsampling=(1, 1),
                compression="jpeg",
                subifds=3 if level == 0 else None,
                subfiletype=1 if level else 0,
                metadata=about if level == 0 else None,
            )


def tiles(
    tissue: np.ndarray, side_px: int, factor: int, size_px: int, tissue_tiles: int
) -> Iterator[bytes]:
    """Give the encoded tiles of one level, row by row."""
    import cv2
    import imagecodecs

    first = (size_px // TILE_PX - tissue_tiles) // 2 * TILE_PX // factor
    last = first + tissue_tiles * TILE_PX // factor
    small = cv2.resize(tissue, None, fx=1 / factor, fy=1 / factor, interpolation=cv2.INTER_AREA)
    pattern = np.tile(small, (factor, factor, 1))
    number = -(-side_px // TILE_PX)
    known: dict[tuple[int, int, int, int], bytes] = {}
    for top in range(0, number * TILE_PX, TILE_PX):
        for left in range(0, number * TILE_PX, TILE_PX):
            low = max(first - top, 0), max(first - left, 0)
            high = max(last - top, 0), max(last - left, 0)
            key = tuple(min(edge, TILE_PX) for edge in (*low, *high))
            if key not in known:
                image = np.full((TILE_PX, TILE_PX, 3), WHITE, np.uint8)
                rows, columns = slice(key[0], key[2]), slice(key[1], key[3])
                image[rows, columns] = pattern[rows, columns]
                known[key] = imagecodecs.jpeg8_encode(
                    image, level=90, colorspace="RGB", outcolorspace="YCBCR", subsampling="444"
                )
            yield known[key]


def peak_mb(arguments: list[str]) -> tuple[int, float, str]:
    """Run the command line in a child; give exit code, peak memory in MB and what it said."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *arguments], capture_output=True, text=True, check=False
    )
    found = re.search(r"peak (\d+) MB", done.stderr)
    peak = float(found[1]) if found else float("nan")
    return done.returncode, peak, done.stdout + done.stderr


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=16_384, help="side of the slide in px")
    parser.add_argument("--tissue", type=int, help="side of the tissue in tiles of 512 px")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.ome.tif"
        write_large(path, args.size, args.tissue or args.size // TILE_PX)
        code, peak, said = peak_mb(["detect", str(path), "-o", str(Path(folder) / "out")])
    Console().print(said)
    Console().print(f"{args.size} px a side: peak memory {peak:.0f} MB, exit code {code}")


if __name__ == "__main__":
    main()
