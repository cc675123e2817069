"""The size a compressed tile claims, read before a decoder allocates what it claims."""

from __future__ import annotations

__all__ = ["JPEG_2000", "claimed_pixels"]

JPEG = frozenset({7})
JPEG_2000 = frozenset({33003, 33004, 33005, 34712})
"""Values of TIFF's Compression tag: Aperio's two, Kakadu's and the usual one."""

_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_ALONE = frozenset({0x01, *range(0xD0, 0xD9)})
_FAR_TOO_MANY = 1 << 62


def claimed_pixels(data: bytes, compression: int) -> int | None:
    """Give the number of pixels the header of a tile claims.

    Parameters
    ----------
    data : bytes
        The compressed tile.
    compression : int
        TIFF's Compression tag.

    Returns
    -------
    int or None
        None for a compression whose decoder stops at the tile's size by itself; a number beyond
        any tile when the header cannot be understood.
    """
    if compression in JPEG:
        return _jpeg_pixels(data)
    if compression in JPEG_2000:
        return _jpeg_2000_pixels(data)
    return None


def _jpeg_pixels(data: bytes) -> int:
    # ITU-T T.81: markers FF xx, each but the lone ones with a length of two bytes.
    place = 2
    while place + 9 <= len(data):
        if data[place] != 0xFF:
            return _FAR_TOO_MANY
        marker = data[place + 1]
        if marker == 0xFF:
            place += 1
        elif marker in _ALONE:
            place += 2
        elif marker in _FRAMES:
            height = int.from_bytes(data[place + 5 : place + 7], "big")
            return height * int.from_bytes(data[place + 7 : place + 9], "big")
        else:
            place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    return _FAR_TOO_MANY


def _jpeg_2000_pixels(data: bytes) -> int:
    # ITU-T T.800: start of codestream, then the SIZ segment with the size of the image.
    place = data.find(b"\xff\x4f\xff\x51", 0, 4096)
    if place < 0 or place + 24 > len(data):
        return _FAR_TOO_MANY
    width, height, left, top = (
        int.from_bytes(data[start : start + 4], "big") for start in range(place + 8, place + 24, 4)
    )
    return max(0, width - left) * max(0, height - top)
