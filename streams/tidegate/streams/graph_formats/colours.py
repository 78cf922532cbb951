"""Colours of levels, after Okabe and Ito's palette: told apart with every kind of colour blindness. They
never stand alone: the level is written beside them."""

from dataclasses import dataclass

__all__ = ["COLOURS", "Colour"]


@dataclass(frozen=True, slots=True)
class Colour:
    """Three colours as `#rrggbb`."""

    fill: str
    line: str
    text: str
    """On the fill."""


COLOURS = {
    "closed": Colour("#e3f4ee", "#007a59", "#10241d"),
    "degraded_1": Colour("#f7f1a6", "#8a7f00", "#221f00"),
    "degraded_2": Colour("#f6cd7c", "#a36f00", "#241800"),
    "half_open": Colour("#bfe1f6", "#0072b2", "#07202e"),
    "cooling": Colour("#ecc9dd", "#a04e7c", "#2b1020"),
    "open": Colour("#d55e00", "#7f3600", "#000000"),
    "forced_open": Colour("#7a2500", "#4a1500", "#ffffff"),
    "locked": Colour("#333333", "#000000", "#ffffff"),
}
"""By level."""
