"""How the functions that chapter `coverage` looks at are called.

Where a function asks about its argument or writes to it, the example goes on to use what comes
of that. `x` is a vector of four numbers between 0 and 1, `m` a symmetric positive definite matrix.
"""

from __future__ import annotations

from typing import Final

TEMPLATES: Final = (
    *("f(x)", "f(m)", "f(x, x[::-1] + 0.12)", "f(m, m @ m)", "f(x, 1)", "f(x, 2.0)", "f([x, x])"),
    *("f(2.5, x)", "f(x, [1, 2])", "f(m, 0)", "f(m, 0, 1)", "f(x > 0.4, x)", "f(x, x, x)"),
    *("f(2, 1.5, x)", "f(1, 2, x)", "f(2, 3, 1.5, x)", "f(1.0, 2.0, 3.0, x)", "f(-x)"),
    *("f(2.0, 0.5, 1.0, x)", "f(0, 1, 0.5, x + 1)", "f(0, 1, 0.5, 2.1, x)", "f(x, (2, 2))"),
    *("f(0, 1, 0.5, 2.1, x + 1)", "f(2.0, 3.0, 0.1, x)"),
)
"""Tried in this order for a function that is not named below."""

CALLS: Final = {
    "np.apply_along_axis": "np.apply_along_axis(lambda row: row.sum() ** 2, 0, m)",
    "np.apply_over_axes": "np.apply_over_axes(np.sum, m, [0, 1])",
    "np.acosh": "np.acosh(x + 1)",
    "np.arccosh": "np.arccosh(x + 1)",
    **{
        f"np.{name}": f"np.{name}(x)"
        for name in ("array", "asarray", "asanyarray", "ascontiguousarray", "asfortranarray")
    },
    "np.asarray_chkfinite": "np.asarray_chkfinite(x)",
    "np.bitwise_and": "np.bitwise_and(x > 0.25, x < 0.6) * x",
    "np.bitwise_invert": "np.bitwise_invert(x > 0.25) * x",
    "np.bitwise_not": "np.bitwise_not(x > 0.25) * x",
    "np.bitwise_or": "np.bitwise_or(x > 0.6, x < 0.25) * x",
    "np.bitwise_xor": "np.bitwise_xor(x > 0.25, x < 0.6) * x",
    "np.invert": "np.invert(x > 0.25) * x",
    "np.vsplit": "np.vsplit(m, 3)",
    "np.astype": "np.astype(x, np.float64)",
    "np.bincount": "np.bincount([0, 1, 1, 2], x)",
    "np.broadcast_to": "np.broadcast_to(x, (2, 4))",
    "np.choose": "np.choose([0, 1, 1, 0], [x, x * x])",
    "np.clip": "np.clip(x, 0.25, 0.6)",
    "np.convolve": "np.convolve(x, [1.0, 2.0])",
    "np.copyto": "y = x * 1; np.copyto(y, x * x); y",
    "np.corrcoef": "np.corrcoef(m)",
    "np.cross": "np.cross(m, [1.0, 2.0, 3.0])",
    "np.digitize": "np.digitize(x, [0.25, 0.6])",
    "np.dsplit": "np.dsplit(x.reshape(1, 2, 2), 2)",
    "np.einsum": "np.einsum('ij,jk', m, m)",
    "np.einsum_path": "len(np.einsum_path('ij,jk', m, m)[0]) * m",
    "np.empty_like": "y = np.empty_like(x); y[:] = x; y",
    "np.extract": "np.extract(x > 0.25, x)",
    "np.fill_diagonal": "y = m * 1; np.fill_diagonal(y, m[0, 0]); y",
    "np.frexp": "np.frexp(x)[0]",
    "np.full_like": "np.full_like(x, x[0])",
    "np.geomspace": "np.geomspace(x[0], x[1], 5)",
    "np.heaviside": "np.heaviside(x - 1, 0.5)",
    "np.histogram": "np.histogram(x)[1]",
    "np.histogram2d": "np.histogram2d(x, x)[1]",
    "np.insert": "np.insert(x, 1, x[0])",
    "np.interp": "np.interp(x, [0.0, 0.5, 1.0], [1.0, 3.0, 2.0])",
    "np.isneginf": "np.isneginf(x)",
    "np.isposinf": "np.isposinf(x)",
    "np.ldexp": "np.ldexp(x, 2)",
    "np.lexsort": "np.lexsort([x, x])",
    "np.linspace": "np.linspace(x[0], x[1], 5)",
    "np.logspace": "np.logspace(x[0], x[1], 5)",
    "np.pad": "np.pad(x, 1)",
    "np.percentile": "np.percentile(x, 30)",
    "np.nanpercentile": "np.nanpercentile(x, 30)",
    "np.quantile": "np.quantile(x, 0.3)",
    "np.nanquantile": "np.nanquantile(x, 0.3)",
    "np.piecewise": "np.piecewise(x, [x < 0.5, x >= 0.5], [np.square, np.exp])",
    "np.place": "y = x * 1; np.place(y, x < 0.25, [7.0]); y",
    "np.polyfit": "np.polyfit(x, x * x * x, 1)",
    "np.put": "y = x * 1; np.put(y, [1], x[0]); y",
    "np.put_along_axis": "y = m * 1; np.put_along_axis(y, np.zeros((3, 1), int), m[:, :1], 1); y",
    "np.putmask": "y = x * 1; np.putmask(y, x > 0.5, x * x); y",
    "np.roll": "np.roll(x, 1)",
    "np.searchsorted": "np.searchsorted([0.25, 0.6], x)",
    "np.select": "np.select([x > 0.6, x > 0.4], [x * x, 3 * x], 1.0)",
    "np.take_along_axis": "np.take_along_axis(m, np.zeros((3, 1), int), 1)",
    "np.trim_zeros": "np.trim_zeros(np.concatenate([[0.0], x, [0.0]]))",
    "np.unravel_index": "np.unravel_index(2, x.shape)[0] * x",
    "np.where": "np.where(x > 0.5, x * x, x)",
    "np.linalg.cross": "np.linalg.cross(m, [1.0, 2.0, 3.0])",
    "np.linalg.eig": "np.linalg.eig(m)[0]",
    "np.linalg.eigh": "np.linalg.eigh(m + m.T)",
    "np.linalg.lstsq": "np.linalg.lstsq(m, [1.0, 2.0, 3.0])[0]",
    "np.linalg.matrix_power": "np.linalg.matrix_power(m, 3)",
    "np.linalg.multi_dot": "np.linalg.multi_dot([m, m, m])",
    "np.linalg.qr": "np.linalg.qr(m)",
    "np.linalg.solve": "np.linalg.solve(m, [1.0, 2.0, 3.0])",
    "np.linalg.svd": "np.linalg.svd(m + np.triu(m))",
    "np.linalg.tensorinv": "np.linalg.tensorinv(m, ind=1)",
    "np.linalg.tensorsolve": "np.linalg.tensorsolve(m, [1.0, 2.0, 3.0])",
    "np.fft.fftn": "np.fft.fftn(m)",
    "scipy.special.betainc": "scipy.special.betainc(2.5, 1.5, x)",
    "scipy.special.gammainc": "scipy.special.gammainc(2.5, x)",
    "scipy.special.gammaincc": "scipy.special.gammaincc(2.5, x)",
    "scipy.special.iv": "scipy.special.iv(1.5, x)",
    "scipy.special.ive": "scipy.special.ive(1.5, x)",
    "scipy.special.jn": "scipy.special.jn(2, x)",
    "scipy.special.jv": "scipy.special.jv(1.5, x)",
    "scipy.special.expn": "scipy.special.expn(2, x)",
    "scipy.special.kn": "scipy.special.kn(2, x)",
    "scipy.special.kv": "scipy.special.kv(1.5, x)",
    "scipy.special.yn": "scipy.special.yn(2, x)",
    "scipy.special.yv": "scipy.special.yv(1.5, x)",
}

NOT_OF_VALUES: Final = frozenset(
    f"np.{name}"
    for name in (
        *("array2string", "array_repr", "array_str", "save", "savetxt", "savez"),
        *("savez_compressed", "can_cast", "common_type", "min_scalar_type", "result_type"),
        *("busday_count", "busday_offset", "is_busday", "datetime_as_string", "isnat"),
        *("packbits", "unpackbits", "ravel_multi_index", "bitwise_count", "left_shift"),
        *("right_shift", "bitwise_left_shift", "bitwise_right_shift", "gcd", "lcm"),
    )
)
"""Functions that take no real numbers, or give none: of types, text, files, dates and bits."""
