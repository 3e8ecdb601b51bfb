"""The C++ of a program: vector types of any width, and a loop over tiles of rows."""
from __future__ import annotations

import itertools
import re
from typing import Dict, Iterator, List, Tuple, Union

import torch

from happo_gpu.lanes.program import FLOAT, KINDS, MASK, Function, Loop, Place, Program, Region

# Rows of a tile, a multiple of every width. Where a row of intermediate values is as long as those of layers of 128, a tile of 64 would leave the
# caches of a core, and half of it, with more rows of a product at once, takes a twentieth less time.
_TILE, _LONG_TILE, _LONG = 64, 32, 512

_C_TYPES = {torch.float32: "float", torch.int64: "int64_t", torch.int32: "int32_t", torch.bool: "uint8_t"}

# Vectors are GCC's own, so one text serves every processor; loops over W become one instruction. Functions
# after Cephes' single precision: within 2 units in the last place, sine and cosine (reduced in three parts, as Cody and Waite do) up to |x| of some thousands,
# logarithms from the smallest normal number on, remainders of finite numbers.
_HEAD = """
#include <math.h>
#include <stdint.h>
#include <string.h>
#ifdef _OPENMP
#include <omp.h>
#endif
#if defined(__AVX512F__)
#define W 16
#elif defined(__AVX__)
#define W 8
#else
#define W 4
#endif
#define UNROLLED _Pragma("GCC unroll 16")
typedef float F __attribute__((vector_size(4 * W)));
typedef int32_t I __attribute__((vector_size(4 * W)));
#define ALL (~I{})
#define NONE (I{})
static inline F f(float x) { return x - F{}; }
static inline I n(int32_t x) { return x - I{}; }
template <class O> static inline F each_(O of, F x) { F y; for (int k = 0; k < W; ++k) y[k] = of(x[k]); return y; }
template <class O> static inline F each_(O of, F x, F y) { F z; for (int k = 0; k < W; ++k) z[k] = of(x[k], y[k]); return z; }
static inline F pick_(const float *table, int width, int height, I row) {  // a row below zero counts from the end; none beyond either end
  F y;
  for (int k = 0; k < W; ++k) { const int r = row[k] < 0 ? row[k] + height : row[k]; y[k] = table[(r < 0 ? 0 : r < height ? r : height - 1) * width]; }
  return y;
}
static inline F sqrt_(F x) { F y; for (int k = 0; k < W; ++k) y[k] = __builtin_sqrtf(x[k]); return y; }
static inline F floor_(F x) { F y; for (int k = 0; k < W; ++k) y[k] = __builtin_floorf(x[k]); return y; }
static inline F round_(F x) { F y; for (int k = 0; k < W; ++k) y[k] = __builtin_rintf(x[k]); return y; }
static inline F abs_(F x) { return (F)((I)x & n(0x7fffffff)); }
static inline F copysign_(F x, F sign) { return (F)(((I)x & n(0x7fffffff)) | ((I)sign & ~n(0x7fffffff))); }
static inline F sign_(F x) { return x > 0.0f ? f(1.0f) : x < 0.0f ? f(-1.0f) : f(0.0f); }
static inline F larger_(F x, F y) { return ((x > y) | (x != x)) ? x : y; }  // what is not a number stays
static inline F smaller_(F x, F y) { return ((x < y) | (x != x)) ? x : y; }
static inline F remainder_(F x, F y) { return x - floor_(x / y) * y; }
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
static inline F exp_(F x) {
  const F y = x < -104.0f ? f(-104.0f) : x > 89.0f ? f(89.0f) : x, k = round_(y * f(1.44269504f));
  const F r = (y - k * f(0.693359375f)) - k * f(-2.12194440e-4f);
  F p = f(1.9875691500e-4f) * r + f(1.3981999507e-3f);
  p = p * r + f(8.3334519073e-3f); p = p * r + f(4.1665795894e-2f); p = p * r + f(1.6666665459e-1f); p = p * r + f(5.0000001201e-1f);
  const I power = __builtin_convertvector(k, I), half = power >> 1;  // 2^128 is no number, though e^88.7 is one
  return (p * r * r + r + f(1.0f)) * (F)((half + 127) << 23) * (F)((power - half + 127) << 23);
}
static inline F log_(F x) {
  const I bits = (I)x, low = (F)((bits & 0x007fffff) | 0x3f000000) < 0.70710678f;
  const F half = (F)((bits & 0x007fffff) | 0x3f000000), k = __builtin_convertvector((bits >> 23) - 126 + low, F);
  const F m = (low ? half + half : half) - f(1.0f), q = m * m;
  F p = f(7.0376836292e-2f) * m - f(1.1514610310e-1f);
  p = p * m + f(1.1676998740e-1f); p = p * m - f(1.2420140846e-1f); p = p * m + f(1.4249322787e-1f); p = p * m - f(1.6668057665e-1f);
  p = p * m + f(2.0000714765e-1f); p = p * m - f(2.4999993993e-1f); p = p * m + f(3.3333331174e-1f);
  const F y = m + (p * m * q + k * f(-2.12194440e-4f) - f(0.5f) * q) + k * f(0.693359375f);
  return x > 0.0f ? (x == INFINITY ? x : y) : x == 0.0f ? f(-INFINITY) : f(NAN);
}
static inline F tanh_(F x) {
  const F q = x * x, size = abs_(x), e = exp_(f(-2.0f) * size);
  F p = f(-5.70498872745e-3f) * q + f(2.06390887954e-2f);
  p = p * q - f(5.37397155531e-2f); p = p * q + f(1.33314422036e-1f); p = p * q - f(3.33332819422e-1f);
  return size < 0.625f ? p * q * x + x : copysign_((f(1.0f) - e) / (f(1.0f) + e), x);
}
template <class R, class S> static inline void take(R *__restrict row, const S *__restrict from, long stride, long count) {
  if (count == T) for (long i = 0; i < T; ++i) row[i] = (R)from[i * stride];
  else for (long i = 0; i < T; ++i) row[i] = (R)from[(i < count ? i : count - 1) * stride];
}
template <class R, class S> static inline void give(const R *__restrict row, S *__restrict to, long stride, long count) {
  if (count == T) for (long i = 0; i < T; ++i) to[i * stride] = (S)row[i];
  else for (long i = 0; i < count; ++i) to[i * stride] = (S)row[i];
}
"""

# Matrix products: sums in registers, of PANEL rows of the left matrix and two vectors of the right one: twelve of 16 registers, or twice that
# of 32. The left one's numbers lie PACKED panel by panel, or as columns of a tile do.
_PRODUCTS = """
#if defined(__AVX512F__) || defined(__aarch64__)
#define PANEL (T < 64 ? 12 : 8)
#else
#define PANEL 6
#endif
#define BROAD (2 * W)
static long broad(long width) { return (width + BROAD - 1) / BROAD * BROAD; }
static inline void pack(const float *__restrict from, long row_step, long column_step, long M, long K, float *__restrict to) {
  for (long m = 0; m < M; m += PANEL) {
    const long rows = M - m < PANEL ? M - m : PANEL;
    if (rows == PANEL) for (long k = 0; k < K; ++k, to += PANEL) UNROLLED for (long i = 0; i < PANEL; ++i) to[i] = from[(m + i) * row_step + k * column_step];
    else for (long k = 0; k < K; ++k) for (long i = 0; i < rows; ++i) *to++ = from[(m + i) * row_step + k * column_step];
  }
}
template <int R, bool PACKED> static inline void panel(long K, const float *left, const float *right, float *out, long width, bool add) {
  for (long at = 0; at < width; at += BROAD) {
    F sum[R][2];
    UNROLLED for (int i = 0; i < R; ++i) UNROLLED for (int j = 0; j < 2; ++j) sum[i][j] = add ? *(const F *)(out + i * width + at + j * W) : F{};
    const float *a = left, *b = right + at;
    for (long k = 0; k < K; ++k, a += PACKED ? R : 1, b += width) {
      const F first = *(const F *)b, second = *(const F *)(b + W);
      UNROLLED for (int i = 0; i < R; ++i) { const F x = f(a[PACKED ? i : i * T]); sum[i][0] += x * first; sum[i][1] += x * second; }
    }
    UNROLLED for (int i = 0; i < R; ++i) UNROLLED for (int j = 0; j < 2; ++j) *(F *)(out + i * width + at + j * W) = sum[i][j];
  }
}
template <int M, bool PACKED> static void panels(long K, const float *left, const float *right, float *out, long width, bool add) {
  for (long m = 0; m + PANEL <= M; m += PANEL, left += PACKED ? PANEL * K : PANEL * T, out += PANEL * width)
    panel<PANEL, PACKED>(K, left, right, out, width, add);
  if (M % PANEL) panel<M % PANEL ? M % PANEL : 1, PACKED>(K, left, right, out, width, add);
}
template <int M> static void multiply(F (*out)[T / W], const float *packed, long K, const F (*columns)[T / W]) {
  panels<M, true>(K, packed, (const float *)columns, (float *)out, T, false);
}
static inline void turn(F *v) {  // W vectors of W numbers: rows become columns, in log2(W) perfect shuffles
  I low, high;
  for (int k = 0; k < W; ++k) { low[k] = k / 2 + k % 2 * W; high[k] = low[k] + W / 2; }
  F u[W];
  UNROLLED for (int width = 1; width < W; width *= 2) {
    UNROLLED for (int i = 0; i < W / 2; ++i) {
      u[2 * i] = __builtin_shuffle(v[i], v[i + W / 2], low);
      u[2 * i + 1] = __builtin_shuffle(v[i], v[i + W / 2], high);
    }
    UNROLLED for (int i = 0; i < W; ++i) v[i] = u[i];
  }
}
static inline void total(const float *own, long size, int team, long M, long K, float *to) {  // of what each thread has summed
  for (long m = 0; m < M; ++m, own += broad(K), to += K)
    for (long k = 0; k < K; k += W) {
      F sum = *(const F *)(own + k);
      for (int t = 1; t < team; ++t) sum += *(const F *)(own + t * size + k);
      memcpy(to + k, &sum, sizeof(float) * (K - k < W ? K - k : W));
    }
}
template <int M> static void outer(float *sums, long K, const F (*left)[T / W], const F (*right)[T / W], long count, float *turned) {
  const long width = broad(K);
  for (long k = 0; k < width; k += W)
    for (long t = 0; t * W < count; ++t) {
      F v[W];
      UNROLLED for (int i = 0; i < W; ++i) v[i] = k + i < K ? right[k + i][t] : F{};
      turn(v);
      UNROLLED for (int i = 0; i < W; ++i) *(F *)(turned + (t * W + i) * width + k) = v[i];
    }
  panels<M, false>(count, (const float *)left, turned, sums, width, true);
}
"""


def source(program: Program) -> str:
    """``run(p, before, n, threads, own, size)`` works on n rows; p and before hold the storages' addresses, own ``size`` floats of each thread.

    What belongs to no row is read from ``before``, which nobody writes meanwhile, and written by the first tile alone; ``room()``
    says how many floats a thread needs.
    """
    return _Writer(program).text()


class _Writer:
    def __init__(self, program: Program) -> None:
        self._program = program
        self._of_block = {block: place for place, block in program.places.items()}
        self._first, self._rows = _arranged(program)
        widest = max([outer.shape[1] for outer in program.outers] + [0])
        # What each thread has of its own, one after the other, in floats.
        self._sizes = [("X", f"{max(1, self._rows)} * T"), ("S", f"{program.num_slots} * W"), ("room", f"T * broad({widest})")]
        self._sizes += [(f"packed_{i}", f"{matrix.shape[0] * matrix.shape[1]}") for i, matrix in enumerate(program.matrices)]
        self._sizes += [(f"outer_{i}", f"{outer.shape[0]} * broad({outer.shape[1]})") for i, outer in enumerate(program.outers)]

    def text(self) -> str:
        program, functions = self._program, []
        body = self._calls(program.schedule, functions)
        lines = [f"#define T {_LONG_TILE if self._rows > _LONG else _TILE}", _HEAD, _PRODUCTS, *functions, *self._room(), *self._tiles(body), *self._end()]
        return "\n".join([*lines, ""])

    # -- functions ---------------------------------------------------------------------------

    def _calls(self, schedule: List[Union[Function, Loop]], functions: List[str]) -> List[str]:
        """What runs a schedule; adds the text of its functions to ``functions``."""
        lines = []
        for each in schedule:
            if isinstance(each, Loop):
                lines += [f"for (int times = 0; times < {each.times}; ++times) {{", *self._calls(each.body, functions), "}"]
            elif each.whole:
                lines.append(self._resolved(each.whole))
            elif each.lines:
                name = f"part_{len(functions)}"
                functions.append("\n".join([f"static void {name}(void **p, F (*__restrict X)[T / W], F *__restrict S, const I *V, long n_) {{",
                                            *self._loops(each), "}"]))
                lines.append(f"{name}(p, X, S, V, n);")
        return lines

    def _loops(self, function: Function) -> List[str]:
        rows = "for (int i = 0; i < T / W; ++i) {"
        lines = [self._resolved(line) for line in function.lines]
        if function.width == 1:
            return [rows, *lines, "}"]
        setup = [rows, *(self._resolved(line) for line in function.setup), "}"] if function.setup else []
        return [*setup, f"for (int j = 0; j < {function.width}; ++j)", rows, *lines, "}"]

    def _resolved(self, line: str) -> str:
        line = re.sub(r"\$(\d+)\$", lambda found: self._common(int(found[1]), "p"), line)
        return re.sub(r"@(\d+)@", lambda found: str(self._first[int(found[1])]), line)

    def _common(self, block: int, pointers: str) -> str:
        """A number that is one for all rows: from the tile if the method changes it, else from memory."""
        place = self._of_block[block]
        kind, column = KINDS[place.dtype], " + j" if place.width > 1 else ""
        if block in self._program.stored:
            return f"X[@{block}@{column}][i]" if kind == FLOAT else f"(I)X[@{block}@][i]" + (" != 0" if kind == MASK else "")
        steps = f" + j * {place.step}" if place.width > 1 else ""
        value = f"(({_C_TYPES[place.dtype]} *){pointers}[{place.storage}])[{place.offset}{steps}]"
        return f"f({value})" if kind == FLOAT else f"n((int32_t){value})" + (" != 0" if kind == MASK else "")

    # -- a thread ----------------------------------------------------------------------------

    def _room(self) -> List[str]:
        lines = ["#define ALIGNED(size) (((size) + 63) / 64 * 64)", 'extern "C" long room() {', "return 0"]
        return [*lines, *(f"+ ALIGNED({size})" for _, size in self._sizes), ";", "}"]

    def _tiles(self, body: List[str]) -> List[str]:
        program = self._program
        lines = ["static void work(void **p, void **before, long n, long begin, long end, float *own) {"]
        for name, size in self._sizes:
            kind = {"X": "F (*X)[T / W] = (F (*)[T / W])", "S": "F *S = (F *)"}.get(name, f"float *{name} = ")
            lines.append(f"{kind}own; own += ALIGNED({size});")
            if name == "S" or name.startswith("outer_"):
                lines.append(f"memset({name}, 0, sizeof(float) * ({size}));")
        lines += [f"pack((const float *)p[{matrix.storage}] + {matrix.offset}, {matrix.steps[0]}, {matrix.steps[1]}, {matrix.shape[0]}, "
                  f"{matrix.shape[1]}, packed_{i});" for i, matrix in enumerate(program.matrices)]
        lines += ["for (long tile = begin; tile < end; ++tile) {", "const long first = tile * T, count = n - first < T ? n - first : T;",
                  "I V[T / W]; for (long i = 0; i < T; ++i) ((int32_t *)V)[i] = -(i < count);"]
        places = [(place, block) for place, block in program.places.items() if place.stride or block in program.stored]
        for place, block in places:
            if block in program.loaded:
                lines += list(self._moved("take", place, block, "p" if place.stride else "before"))
        lines += body
        for place, block in places:
            if block in program.stored:
                lines += [line if place.stride else f"if (tile == 0) {line}" for line in self._moved("give", place, block, "p")]
        return [*lines, "}", "(void)S; (void)room;", "}"]

    def _moved(self, how: str, place: Place, block: int, pointers: str) -> Iterator[str]:
        kind = "float" if KINDS[place.dtype] == FLOAT else "int32_t"
        count = "count" if place.stride or how == "take" else "1"
        for j in range(place.width):
            row = f"({kind} *)X[{self._first[block] + j}]"
            memory = f"({_C_TYPES[place.dtype]} *){pointers}[{place.storage}] + {place.rows} * n + {place.offset + j * place.step} + first * {place.stride}"
            yield f"{how}({row}, {memory}, {place.stride}, {count});"

    # -- all threads -------------------------------------------------------------------------

    def _end(self) -> List[str]:
        program = self._program
        lines = ['extern "C" void run(void **p, void **before, long n, int threads, float *own, long size) {',
                 "const long tiles = (n + T - 1) / T;", "int team = 1;", "#ifdef _OPENMP", "#pragma omp parallel num_threads(threads)", "{",
                 "const long me = omp_get_thread_num(), all = omp_get_num_threads();", "if (me == 0) team = all;",
                 "work(p, before, n, tiles * me / all, tiles * (me + 1) / all, own + me * size);", "}", "#else",
                 "work(p, before, n, 0, tiles, own);", "#endif"]
        for storage, slot in program.sums:
            width = program.storages[storage].numel()
            lines.append(f"for (long k = 0; k < {width}; ++k) {{ float sum = 0.0f; for (int t = 0; t < team; ++t) for (int w = 0; w < W; ++w) "
                         f"sum += own[t * size + {self._offset('S')} + ({slot} + k) * W + w]; ((float *)p[{storage}])[k] = sum; }}")
        for i, outer in enumerate(program.outers):
            (M, K), at = outer.shape, self._offset(f"outer_{i}")
            lines.append(f"total(own + {at}, size, team, {M}, {K}, (float *)p[{outer.storage}]);")
        lines += [self._added(*transfer) for transfer in program.transfers]
        if program.end.lines or program.end_written:
            lines += ["const long n_ = n; (void)n_;", *(self._in_memory(line) for line in program.end.lines)]
            for cell in program.end_written.values():
                place = cell.place
                value = f"{cell.end_name}[0]" + (" & 1" if cell.kind == MASK else "")
                lines.append(f"(({_C_TYPES[place.dtype]} *)p[{place.storage}])[{place.offset}] = {value};")
        return [*lines, "}"]

    def _in_memory(self, line: str) -> str:
        return re.sub(r"\$(\d+)\$", lambda found: self._common(int(found[1]), "p"), line)

    def _offset(self, name: str) -> str:
        names = [each for each, _ in self._sizes]
        return " + ".join(["0", *(f"ALIGNED({size})" for _, size in self._sizes[: names.index(name)])])

    def _added(self, target: Region, source: Region) -> str:
        """Adds sums to something laid out in its own way."""
        axes = sorted(range(len(target.shape)), key=lambda axis: -target.steps[axis])  # neighbours last
        loops = "".join(f"for (long i{axis} = 0; i{axis} < {target.shape[axis]}; ++i{axis}) " for axis in axes)
        to, of = (" + ".join([str(each.offset), *(f"i{axis} * {step}" for axis, step in enumerate(each.steps))]) for each in (target, source))
        return f"{loops}((float *)p[{target.storage}])[{to}] += ((const float *)p[{source.storage}])[{of}];"


def _arranged(program: Program) -> Tuple[Dict[int, int], int]:
    """The first row of each block in a tile, and how many rows there are; blocks that are never needed at once share theirs."""
    used: Dict[int, List[int]] = {}
    elsewhere = {block for place, block in program.places.items() if not place.stride and block not in program.stored}
    for time, each in enumerate(program.schedule):
        for block in _mentioned(each):
            if block not in elsewhere:
                used.setdefault(block, []).append(time)
    for place, block in program.places.items():
        if place.stride or block in program.stored:
            times = used.setdefault(block, [0])
            if block in program.loaded:
                times.append(-1)
            if block in program.stored:
                times += [0, len(program.schedule)]
    first, taken = {}, []  # taken: (row, width, first and last time)
    for block in sorted(used, key=lambda block: (min(used[block]), block)):
        begin, end, width = min(used[block]), max(used[block]), program.blocks[block]
        others = sorted((row, size) for row, size, since, until in taken if since <= end and begin <= until)
        row = 0
        for other, size in others:
            if other - row >= width:
                break
            row = max(row, other + size)
        first[block] = row
        taken.append((row, width, begin, end))
    return first, max((row + width for row, width, _, _ in taken), default=0)


def _mentioned(each: Union[Function, Loop]) -> Iterator[int]:
    if isinstance(each, Loop):
        yield from itertools.chain.from_iterable(_mentioned(inner) for inner in each.body)
        return
    for line in (*each.setup, *each.lines, each.whole):
        yield from (int(found) for found in re.findall(r"[@$](\d+)[@$]", line))
