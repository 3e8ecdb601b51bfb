"""The C++ of a program: vector types of any width, and a loop over tiles of environments."""
from __future__ import annotations

from typing import List, Union

import torch

from happo_gpu.lanes.program import FLOAT, KINDS, Function, Loop, Place, Program

TILE = 64  # environments; a multiple of every width. Their rows of Go1Push take 35 kB

_C_TYPES = {torch.float32: "float", torch.int64: "int64_t", torch.int32: "int32_t", torch.bool: "uint8_t"}

# Vectors are GCC's and Clang's own, so one text serves every processor; loops over W become one instruction. Sine and cosine:
# reduction to +-pi/4 in three parts (Cody and Waite), then Cephes' minimax polynomials; within 2 units in the last place to |x| of some thousands.
_HEAD = """
#include <math.h>
#include <stdint.h>
#if defined(__AVX512F__)
#define W 16
#elif defined(__AVX__)
#define W 8
#else
#define W 4
#endif
#define T %d
typedef float F __attribute__((vector_size(4 * W)));
typedef int32_t I __attribute__((vector_size(4 * W)));
#define ALL (~I{})
#define NONE (I{})
static inline F f(float x) { return F{} + x; }
static inline I n(int32_t x) { return I{} + x; }
template <class O> static inline F each_(O of, F x) { F y; for (int k = 0; k < W; ++k) y[k] = of(x[k]); return y; }
template <class O> static inline F each_(O of, F x, F y) { F z; for (int k = 0; k < W; ++k) z[k] = of(x[k], y[k]); return z; }
static inline F sqrt_(F x) { F y; for (int k = 0; k < W; ++k) y[k] = __builtin_sqrtf(x[k]); return y; }
static inline F floor_(F x) { F y; for (int k = 0; k < W; ++k) y[k] = __builtin_floorf(x[k]); return y; }
static inline F round_(F x) { F y; for (int k = 0; k < W; ++k) y[k] = __builtin_rintf(x[k]); return y; }
static inline F abs_(F x) { return (F)((I)x & n(0x7fffffff)); }
static inline F copysign_(F x, F sign) { return (F)(((I)x & n(0x7fffffff)) | ((I)sign & ~n(0x7fffffff))); }
static inline F remainder_(F x, F y) { return x - floor_(x / y) * y; }
static inline F pick_(const float *table, int width, I row) { F y; for (int k = 0; k < W; ++k) y[k] = table[row[k] * width]; return y; }
static inline I quarter_(F x, F *sine, F *cosine) {
  const F k = round_(x * f(0.63661977f));
  F r = x - k * f(1.5703125f); r = r - k * f(4.8375129699707e-4f); r = r - k * f(7.5497899548918821e-8f);
  const F q = r * r;
  *sine = ((f(-1.9515295891e-4f) * q + f(8.3321608736e-3f)) * q - f(1.6666654611e-1f)) * q * r + r;
  *cosine = ((f(2.443315711809948e-5f) * q - f(1.388731625493765e-3f)) * q + f(4.166664568298827e-2f)) * q * q - f(0.5f) * q + f(1.0f);
  return __builtin_convertvector(k, I);
}
static inline F sin_(F x) { F s, c; const I k = quarter_(x, &s, &c); return (F)((I)((k & 1) != 0 ? c : s) ^ ((k & 2) << 30)); }
static inline F cos_(F x) { F s, c; const I k = quarter_(x, &s, &c); return (F)((I)((k & 1) != 0 ? s : c) ^ (((k + 1) & 2) << 30)); }
template <class R, class S> static inline void take(R *row, const S *from, long stride, long count) {
  for (long i = 0; i < T; ++i) row[i] = (R)from[(i < count ? i : count - 1) * stride];
}
template <class R, class S> static inline void give(const R *row, S *to, long stride, long count) {
  for (long i = 0; i < count; ++i) to[i * stride] = (S)row[i];
}
""" % TILE


def source(program: Program) -> str:
    """``run(p, before, n, begin, end)`` works on tiles begin to end of n environments; p and before hold the storages' addresses.

    What belongs to no environment is read from ``before``, which nobody writes meanwhile, and written by the first tile alone.
    """
    functions: List[str] = []
    body = _calls(program.schedule, functions)
    rows = max(1, len(program.rows))
    lines = [_HEAD, *functions, 'extern "C" void run(void **p, void **before, long n, long begin, long end) {',
             "for (long tile = begin; tile < end; ++tile) {",
             "const long first = tile * T, count = n - first < T ? n - first : T;", f"F R[{rows}][T / W]; I J[{rows}][T / W];"]
    lines += [_taken(place, row) for place, row in program.rows.items() if row in program.loaded]
    lines += body
    lines += [_given(place, row) for place, row in program.rows.items() if row in program.stored]
    return "\n".join([*lines, "}", "}", ""])


def _calls(schedule: List[Union[Function, Loop]], functions: List[str]) -> List[str]:
    """What runs a schedule; adds the text of its functions to ``functions``."""
    lines = []
    for each in schedule:
        if isinstance(each, Loop):
            lines += [f"for (int times = 0; times < {each.times}; ++times) {{", *_calls(each.body, functions), "}"]
        else:
            name = f"part_{len(functions)}"
            functions.append("\n".join([f"static void {name}(void **p, F (*__restrict R)[T / W], I (*__restrict J)[T / W]) {{",
                                        "for (int i = 0; i < T / W; ++i) {", *each.lines, "}", "}"]))
            lines.append(f"{name}(p, R, J);")
    return lines


def _row(place: Place, row: int) -> str:
    return f"(float *)R[{row}]" if KINDS[place.dtype] == FLOAT else f"(int32_t *)J[{row}]"


def _memory(place: Place, pointers: str) -> str:
    return f"({_C_TYPES[place.dtype]} *){pointers}[{place.storage}] + {place.rows} * n + {place.offset} + first * {place.stride}"


def _taken(place: Place, row: int) -> str:
    return f"take({_row(place, row)}, {_memory(place, 'p' if place.stride else 'before')}, {place.stride}, count);"


def _given(place: Place, row: int) -> str:
    give = f"give({_row(place, row)}, {_memory(place, 'p')}, {place.stride}, {'count' if place.stride else '1'});"
    return give if place.stride else f"if (tile == 0) {give}"
