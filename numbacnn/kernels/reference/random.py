"""Counter-based random numbers: the same draws on every device."""

import numpy as np

LOW, SHIFT = np.uint64(2**32 - 1), np.uint64(32)
FACTORS = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
WEYL = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)


def philox(counter, key):
    """Philox 4×32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3", section 3.3).

    counter: four arrays or numbers, key: two numbers, all below 2³². Returns four words of 32 bits for each counter, on
    a new first axis, as uint64.
    """
    c = list(np.broadcast_arrays(*(np.asarray(word, np.uint64) for word in counter)))
    k = [np.uint64(word) for word in key]
    for _ in range(10):
        a, b = FACTORS[0] * c[0], FACTORS[1] * c[2]
        c = [b >> SHIFT ^ c[1] ^ k[0], b & LOW, a >> SHIFT ^ c[3] ^ k[1], a & LOW]
        k = [k[0] + WEYL[0] & LOW, k[1] + WEYL[1] & LOW]
    return np.stack(c)


def halves(seed):
    """Split a seed of 64 bits into a key of two words."""
    return np.uint64(seed) & LOW, np.uint64(seed) >> SHIFT
