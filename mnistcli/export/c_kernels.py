"""The C functions that layers call, as text: each works along one row."""

from __future__ import annotations

from mnistcli.export.graph import Activation, Window
from mnistcli.export.integer import LOGIT_BITS, T_BITS, T_MOST


def add_row(window: Window, *, integers: bool) -> tuple[str, str]:
    """Return name and text of the function that adds one row of a kernel to a channel's sums."""
    kernel, stride, padding = window.kernel[1], window.stride[1], window.padding[1]
    name = f"add_row_{kernel}" + (f"_step_{stride}" if stride > 1 else "")
    name += f"_pad_{padding}" if padding else ""
    number, value, weight = ("int32_t", "uint8_t", "int8_t") if integers else ("float",) * 3
    zero = "const uint8_t *zero, " if integers else ""
    place = f"{'x' if stride == 1 else f'{stride} * x'}{' + k' if kernel > 1 else ''}"
    place += f" - {padding}" if padding else ""
    read = f"({number})in[{place}] - *zero" if integers else f"in[{place}]"
    read = f"({read})" if integers else read
    first, last = "0", "width"
    bounds = ""
    if padding:
        gap = f"{padding} - k" if kernel > 1 else str(padding)
        ceiling = f" + {stride - 1}" if stride > 1 else ""
        start = f"({gap}{ceiling}) / {stride}" if stride > 1 else gap
        room = f"in_width + {gap}"
        stop = f"({room} + {stride - 1}) / {stride}" if stride > 1 else room
        bounds = f"""
            const int first = {gap} > 0 ? {start} : 0;
            const int stop = {room} > 0 ? {stop} : 0;
            const int last = stop < width ? stop : width;"""
        first, last = "first", "last"
    advance = "in += in_width, ++zero" if integers else "in += in_width"
    return (
        name,
        f"""\
/* Adds one row of a kernel of {kernel} columns, over some channels, to one channel's sums. */
static void {name}({number} *sum, const {value} *in, {zero}const {weight} *weight,
    int channels, int in_width, int width)
{{
    for (; channels > 0; --channels, {advance}) {{
        for (int k = 0; k < {kernel}; ++k) {{
            const {number} factor = *weight++;{bounds}
            for (int x = {first}; x < {last}; ++x)
                sum[x] += factor * {read};
        }}
    }}
}}
""",
    )


FILL = """\
static void fill({number} *sum, {number} value, int width)
{{
    for (int x = 0; x < width; ++x)
        sum[x] = value;
}}
"""

MAX_ROW = """\
/* Takes one row into the maxima of windows; `start` says that it is their first. */
static void max_row({value} *out, const {value} *in, int start, int kernel, int stride, int width)
{{
    for (int x = 0; x < width; ++x, in += stride) {{
        {value} most = start ? in[0] : out[x];
        for (int k = 0; k < kernel; ++k)
            most = in[k] > most ? in[k] : most;
        out[x] = most;
    }}
}}
"""

MEAN_ROW = """\
/* Adds one row to the sums of windows. */
static void mean_row({number} *sum, const {value} *in, {zero}int kernel, int stride, int width)
{{
    for (int x = 0; x < width; ++x, in += stride)
        for (int k = 0; k < kernel; ++k)
            sum[x] += in[k]{minus};
}}
"""

ACTIVATIONS: dict[Activation, str] = {
    "relu": """\
static void relu(float *out, int width)
{
    for (int x = 0; x < width; ++x)
        out[x] = out[x] > 0 ? out[x] : 0;
}
""",
    "relu6": """\
static void relu6(float *out, int width)
{
    for (int x = 0; x < width; ++x)
        out[x] = out[x] < 0 ? 0 : out[x] > 6 ? 6 : out[x];
}
""",
    "hardswish": """\
static void hardswish(float *out, int width)
{
    for (int x = 0; x < width; ++x) {
        const float gate = out[x] + 3 < 0 ? 0 : out[x] > 3 ? 6 : out[x] + 3;
        out[x] = out[x] * gate / 6;
    }
}
""",
}

SHIFTED = """\
/* v / 2^bits, rounded to the nearest, halves up. C99 leaves open how a negative number is shifted:
   its complement is not negative. */
static int32_t shifted(int64_t v, int bits)
{
    v += (int64_t)1 << (bits - 1);
    return (int32_t)(v >= 0 ? v >> bits : ~(~v >> bits));
}
"""

FINISH = """\
/* zero + sum * multiplier / 2^shift, from `least` to `most`. */
static void {name}({out} *out, const int32_t *sum, int width, int multiplier, int shift,
    int zero, int least, int most)
{{
    for (int x = 0; x < width; ++x) {{
        const int32_t q = zero + shifted((int64_t)sum[x] * multiplier, shift);
        out[x] = ({out})(q < least ? least : q > most ? most : q);
    }}
}}
"""

HARDSWISH = f"""\
/* t * clip(t + 3, 0, 6) / 6, where t = sum * multiplier / 2^shift is in units of 2^-{T_BITS}. */
static void {{name}}({{out}} *out, const int32_t *sum, int width, int multiplier, int shift,
    int second, int second_shift, int zero, int most)
{{{{
    const int32_t three = 3 << {T_BITS}, far = {T_MOST};
    for (int x = 0; x < width; ++x) {{{{
        int32_t t = shifted((int64_t)sum[x] * multiplier, shift), gate, q;
        t = t < -far ? -far : t > far ? far : t;
        gate = t < -three ? 0 : t > three ? 2 * three : t + three;
        q = shifted((int64_t)t * gate, {T_BITS});
        q = zero + shifted((int64_t)q * second, second_shift);
        out[x] = ({{out}})(q < {{least}} ? {{least}} : q > most ? most : q);
    }}}}
}}}}
"""

ROUNDING = f"""\
   Integers alone: a number q of a map stands for (q - zero) * step, with a zero and a step for
   each channel; the picture's zero is 33. A layer adds up (q - zero) * weight in 32 bits, starting
   from its bias; multiplies the sum by a 16-bit multiplier in 64 bits; and shifts it right, which
   rounds to the nearest, halves up. The result is clipped to 0 ... 255. Scores are not clipped:
   they are the logits in units of 2^-{LOGIT_BITS}.
"""
