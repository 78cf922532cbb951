"""Natural logarithms that are the same on every machine.

Vectorised log differs between CPUs by a last bit, and two workers would then disagree at an edge. So the
tables are computed by `decimal` (correctly rounded by its specification), and looking up uses + - x /.
"""

from decimal import Context, Decimal
from functools import cache

import numpy as np
import numpy.typing as npt

__all__ = ["half_life_factor", "ln", "ln_exact"]

_CONTEXT = Context(prec=25)
_STEPS = 1024
_LN2 = Decimal(2).ln(_CONTEXT)
_MANTISSA_LN = np.array(
    [float((1 + Decimal(i) / _STEPS).ln(_CONTEXT)) for i in range(_STEPS + 1)], np.float64
)


@cache
def ln_exact(value: float) -> float:
    """Ln of one number > 0, correctly rounded from 25 digits."""
    return float(Decimal(value).ln(_CONTEXT))


@cache
def half_life_factor(steps: int) -> float:
    """2 ** (-1 / steps): what remains after one of `steps` equal parts of a half-life."""
    return float((-_LN2 / steps).exp(_CONTEXT))


def ln(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Ln of numbers >= 1, shape kept, within 3e-7 (linear between 1,024 points an octave)."""
    mantissa, exponent = np.frexp(values)
    position = (mantissa * 2.0 - 1.0) * _STEPS
    index = np.minimum(position.astype(np.int64), _STEPS - 1)
    below = _MANTISSA_LN[index]
    interpolated = below + (_MANTISSA_LN[index + 1] - below) * (position - index)
    out: npt.NDArray[np.float64] = interpolated + (exponent - 1) * float(_LN2)
    return out
