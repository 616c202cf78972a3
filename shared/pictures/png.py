"""Turn an SVG into a PNG with the font that is shipped here: without one, text would silently vanish."""

from __future__ import annotations

from pathlib import Path

FONT = Path(__file__).resolve().parent / "fonts" / "DejaVuSans.ttf"


def png_of(svg: str) -> bytes:
    """Return the picture at its own size; the machine's fonts are not looked at, so it is the same everywhere.

    Raises:
        ValueError: it is no SVG that can be drawn.
    """
    import resvg_py

    return bytes(
        resvg_py.svg_to_bytes(
            svg_string=svg,
            skip_system_fonts=True,
            font_files=[str(FONT)],
            font_family="DejaVu Sans",
            sans_serif_family="DejaVu Sans",
        )
    )
