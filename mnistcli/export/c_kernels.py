"""The C functions that layers call, as text: each works along one row."""

from __future__ import annotations

import re

from mnistcli.export.graph import Activation, Window
from mnistcli.export.integer import LOGIT_BITS, T_BITS, T_MOST


def add_row(window: Window, *, integers: bool) -> tuple[str, str]:
    """Return name and text of the function that adds one row of a kernel to a channel's sums.

    A whole window is one expression, and a few windows are a loop of fixed length: gcc -O2 makes
    vectors of it.
    """
    kernel, step, padding = window.kernel[1], window.stride[1], window.padding[1]
    suffix = f"{kernel}" + f"_step_{step}" * (step > 1) + f"_pad_{padding}" * (padding > 0)
    rest = kernel - padding
    whole = f"(in_width - {rest})" + f" / {step}" * (step > 1) + " + 1"
    words = {
        "suffix": suffix, "kernel": kernel, "first": -(-padding // step), "few": 4,
        "number": "float", "value": "float", "weight": "float",
        "zeros": "", "zero": "", "pass": "", "set": "", "advance": "",
        "place": _place("x", "k", step, padding), "term": "weight[k] * in[place]",
        "last": f"in_width < {rest} ? 0 : {whole}" if padding else "width",
    }  # fmt: skip
    if integers:
        words |= {
            "few": 8, "number": "int32_t", "value": "uint8_t", "weight": "int8_t",
            "zeros": "const uint8_t *zeros, ", "zero": "int32_t zero, ", "pass": "zero, ",
            "set": "const int32_t zero = *zeros;\n        ", "advance": ", ++zeros",
            "term": "weight[k] * (in[place] - zero)",
        }  # fmt: skip
    for name, x in (("window", "x"), ("one_of_few", "x + n")):
        terms = [f"weight[{k}] * {_read(_place(x, str(k), step, padding), integers)}"
                 for k in range(kernel)]  # fmt: skip
        words[name] = " +\n                    ".join(
            " + ".join(terms[start : start + 2]) for start in range(0, kernel, 2)
        )
    text = _EDGE + _ROW if padding else re.sub(r".*\n.*add_edge.*\n", "", _ROW)
    return f"add_row_{suffix}", text.format_map(words)


def _place(x: str, k: str, step: int, padding: int) -> str:
    """Return the column that column k of the window at x reads."""
    start = x if step == 1 else f"{step} * ({x})"
    if not k.isdecimal():
        return f"{start} + {k} - {padding}"
    offset = int(k) - padding
    return f"{start} {'-' if offset < 0 else '+'} {abs(offset)}" if offset else start


def _read(place: str, integers: bool) -> str:
    return f"(in[{place}] - zero)" if integers else f"in[{place}]"


_EDGE = """\
/* Adds to one sum what lies inside the map of the window at x. */
static void add_edge_{suffix}({number} *sum, const {value} *in, {zero}const {weight} *weight,
    int x, int in_width)
{{
    for (int k = 0; k < {kernel}; ++k) {{
        const int place = {place};
        if (place >= 0 && place < in_width)
            *sum += {term};
    }}
}}

"""

_ROW = """\
/* Adds one row of a kernel of {kernel} columns, over some channels, to one channel's sums. */
static void add_row_{suffix}({number} *restrict sum, const {value} *restrict in,
    {zeros}const {weight} *restrict weight, int channels, int in_width, int width)
{{
    const int last = {last};
    for (; channels > 0; --channels, in += in_width, weight += {kernel}{advance}) {{
        {set}int x = 0;
        for (; x < {first} && x < width; ++x)
            add_edge_{suffix}(sum + x, in, {pass}weight, x, in_width);
        for (; x + {few} <= last; x += {few})
            for (int n = 0; n < {few}; ++n)
                sum[x + n] += {one_of_few};
        for (; x < last; ++x)
            sum[x] += {window};
        for (; x < width; ++x)
            add_edge_{suffix}(sum + x, in, {pass}weight, x, in_width);
    }}
}}
"""


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
static void {name}({out} *out, const int32_t *sum, int width,
    int32_t multiplier, int shift, int32_t zero, int32_t least, int32_t most)
{{
    for (int x = 0; x < width; ++x) {{
        const int32_t q = zero + shifted((int64_t)sum[x] * multiplier, shift);
        out[x] = ({out})(q < least ? least : q > most ? most : q);
    }}
}}
"""

HARDSWISH = f"""\
/* t * clip(t + 3, 0, 6) / 6, where t = sum * multiplier / 2^shift is in units of 2^-{T_BITS}. */
static void {{name}}({{out}} *out, const int32_t *sum, int width,
    int32_t multiplier, int shift, int32_t second, int second_shift, int32_t zero, int32_t most)
{{{{
    const int32_t three = (int32_t)3 << {T_BITS}, far = {T_MOST};
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
