"""Write SVG: shapes in, one text out. Everything that comes from outside passes through `escape`, here only. Pure."""

from __future__ import annotations

from shared.alerts.wording import sanitize

FONT_FAMILY = "DejaVu Sans"
_DRAWN = (
    (0x20, 0x7E), (0xA0, 0x24F), (0x370, 0x3FF), (0x400, 0x45F), (0x2010, 0x2027), (0x2030, 0x2033),
    (0x20AC, 0x20AC), (0x20BF, 0x20BF), (0x2190, 0x2193), (0x2206, 0x2206), (0x2212, 0x2212), (0x2248, 0x2248),
    (0x2264, 0x2265), (0x25A0, 0x25A1), (0x25B2, 0x25B2), (0x25BC, 0x25BC), (0x25CF, 0x25CF),
)  # fmt: skip


def drawable(text: object, limit: int = 80) -> str:
    """Return text that the font can draw: a sign that it lacks becomes a box, instead of vanishing silently."""
    return "".join(sign if any(a <= ord(sign) <= b for a, b in _DRAWN) else "□" for sign in sanitize(text, limit))


def escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")


class Svg:
    """A picture of fixed size; later shapes lie over earlier ones."""

    def __init__(self, width: int, height: int, background: str) -> None:
        self.width, self.height = width, height
        self._shapes = [f'<rect width="{width}" height="{height}" fill="{escape(background)}"/>']

    def rect(self, x: float, y: float, width: float, height: float, fill: str, *, opacity: float = 1.0) -> None:
        seen = "" if opacity == 1.0 else f' fill-opacity="{opacity:g}"'
        box = f'x="{n(x)}" y="{n(y)}" width="{n(max(width, 0.0))}" height="{n(max(height, 0.0))}"'
        self._shapes.append(f'<rect {box} fill="{escape(fill)}"{seen}/>')

    def line(
        self, x1: float, y1: float, x2: float, y2: float, stroke: str, *, width: float = 1.0, dash: str = ""
    ) -> None:
        dashed = f' stroke-dasharray="{escape(dash)}"' if dash else ""
        ends = f'x1="{n(x1)}" y1="{n(y1)}" x2="{n(x2)}" y2="{n(y2)}"'
        self._shapes.append(f'<line {ends} stroke="{escape(stroke)}" stroke-width="{n(width)}"{dashed}/>')

    def polyline(self, points: list[tuple[float, float]], stroke: str, *, width: float = 1.5, dash: str = "") -> None:
        if len(points) > 1:
            dashed = f' stroke-dasharray="{escape(dash)}"' if dash else ""
            path = " ".join(f"{n(x)},{n(y)}" for x, y in points)
            self._shapes.append(
                f'<polyline points="{path}" fill="none" stroke="{escape(stroke)}" stroke-width="{n(width)}"{dashed}/>'
            )

    def polygon(self, points: list[tuple[float, float]], fill: str) -> None:
        path = " ".join(f"{n(x)},{n(y)}" for x, y in points)
        self._shapes.append(f'<polygon points="{path}" fill="{escape(fill)}"/>')

    def text(
        self, x: float, y: float, words: object, fill: str, *, size: float = 12, anchor: str = "start", limit: int = 80,
        halo: str = "",
    ) -> None:  # fmt: skip
        """Write words with their baseline at y; a `halo` of the ground's colour keeps them readable over shapes."""
        shown = escape(drawable(words, limit))
        around = f' paint-order="stroke" stroke="{escape(halo)}" stroke-width="4"' if halo else ""
        self._shapes.append(
            f'<text x="{n(x)}" y="{n(y)}" font-size="{n(size)}" text-anchor="{escape(anchor)}" '
            f'fill="{escape(fill)}"{around}>{shown}</text>'
        )

    def finish(self, label: object) -> str:
        """Return the document; `label` is what a screen reader says."""
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" '
            f'width="{self.width}" height="{self.height}" font-family="{FONT_FAMILY}, sans-serif" role="img">'
            f"<title>{escape(drawable(label, 200))}</title>{''.join(self._shapes)}</svg>"
        )


def n(value: float) -> str:
    """Return a coordinate with at most two decimals."""
    return f"{value:.2f}".rstrip("0").rstrip(".")
