"""Methods that treat every row alike, compiled to one C++ loop over rows: environments of a simulator, samples of a minibatch.

A compiler of tensor programs makes one loop for each group of operations and keeps what they hand on in memory. Here
the whole method is one body: what it computes on the way stays in registers, SIMD lanes hold neighbouring rows, and
a tile of rows goes through everything, loops over time (happo_gpu.loops) and layers of networks, while it lies in the nearest caches.

    program  statements in order, and the memory that they work on
    trace    runs a method once, without data, and writes the program of it
    ops      what each torch operation means for one row: of one number at a time, in place, drawn at random
    views, sums, expressions   likewise: what picks and joins, what adds and chooses, how numbers are written
    memory   whether a program uses each number in memory in one way
    source   the C++ of a program
    kernel   builds, keeps, loads and runs it
    chain    several kernels in turn, over and over
    gather   rows of a table in another order
"""
