"""Methods that treat every environment alike, compiled to one C++ loop over environments.

A compiler of tensor programs makes one loop for each group of operations and keeps what they hand on in memory. Here
the whole method is one body: what it computes on the way stays in registers, SIMD lanes hold neighbouring environments, and
a tile of environments goes through all the loops over time (happo_gpu.loops) while its state lies in the first-level cache.

    trace   runs a method once, without data, and writes down what becomes of one environment's numbers
    ops     what each torch operation means for them
    source  the C++ of a trace
    kernel  builds, keeps, loads and runs it
"""
