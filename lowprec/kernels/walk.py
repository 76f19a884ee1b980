"""How a loop goes through a tensor: what it is told of runs and segments, and where a run starts."""

# Rows of `outer`, one column for each dimension outside the run.
SIZE, X_STRIDE, OUT_STRIDE, INDEX_STRIDE, GROUP_STRIDE, TILE_SIZE = range(6)
# Entries of `run`, which describes the innermost dimension.
(LENGTH, SEGMENT, SEGMENTS, X_STEP, OUT_STEP, INDEX_STEP, INDEX_OFFSET, GROUP_SIZE, GROUP_STEP) = range(9)


def locate(outer, number):
    """Where a run starts: offsets into x and out, the index of its first element, its group."""
    x_at, out_at, index_at, group_at = 0, 0, 0, 0
    for d in range(len(outer[SIZE]) - 1, -1, -1):
        i = number % outer[SIZE][d]
        number //= outer[SIZE][d]
        x_at += i * outer[X_STRIDE][d]
        out_at += i * outer[OUT_STRIDE][d]
        index_at += i * outer[INDEX_STRIDE][d]
        group_at += i // outer[TILE_SIZE][d] * outer[GROUP_STRIDE][d]
    return x_at, out_at, index_at, group_at
