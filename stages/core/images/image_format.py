"""Detects the format of an encoded image from its first bytes."""

from __future__ import annotations

_BEGINNINGS = {
    "jpg": (0, b"\xff\xd8\xff"),
    "png": (0, b"\x89PNG\r\n\x1a\n"),
    "webp": (8, b"WEBP"),
    "bmp": (0, b"BM"),
    "gif": (0, b"GIF8"),
}


def extension(image: bytes | memoryview) -> str:
    r"""Return the usual file extension, without a dot; ``img`` if the format is unknown.

    >>> extension(b"\xff\xd8\xff\xe0..JFIF")
    'jpg'
    """
    head = bytes(image[:16])
    return next((name for name, (at, magic) in _BEGINNINGS.items() if head.startswith(magic, at)), "img")
