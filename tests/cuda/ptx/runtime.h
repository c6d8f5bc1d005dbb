/* What translated kernels call: memory accesses, barriers and matrix products, and arithmetic that C lacks. */
#include <fenv.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

enum { MAX_ARRAYS = 16 };

typedef struct {
    uint32_t tid[3], ntid[3], ctaid[3], nctaid[3];
    uint64_t shared[MAX_ARRAYS]; /* addresses of the arrays in shared memory */
    const uint8_t *parameters;
    uint32_t lane;   /* the thread's number in its block */
    uint32_t block;  /* the block's number */
    uint32_t number; /* the thread's number in the grid */
    uint32_t products;
    int state, line;
    void *stack;
} Thread;

enum { TF32, BF16 };

void report(Thread *t, const char *kind, int line, uint64_t detail);
void *memory(Thread *t, uint64_t address, int size, int count, int writes, int line);
/* The same, and before it reads from a constant of the module. */
#define ACCESS Thread *t, uint64_t at, int size, int count, int writes, int line
#define READ_FROM(array) \
    if (!writes && at >= (uint64_t)array && at + size * count <= (uint64_t)(array + sizeof array)) return (void *)at;
void barrier(Thread *t, int line);
void matrix_product(Thread *t, int kind, const uint32_t *words, const float *sums, float *d, int line);
float rounded_f32(int direction, char operation, float a, float b, float c);
double rounded_f64(int direction, char operation, double a, double b, double c);

static inline float float_of(uint32_t bits) { float x; memcpy(&x, &bits, 4); return x; }
static inline double double_of(uint64_t bits) { double x; memcpy(&x, &bits, 8); return x; }
static inline uint32_t bits_of_float(float x) { uint32_t bits; memcpy(&bits, &x, 4); return bits; }
static inline uint64_t bits_of_double(double x) { uint64_t bits; memcpy(&bits, &x, 8); return bits; }

static inline int64_t divided_s64(Thread *t, int64_t a, int64_t b, int line) {
    if (!b) report(t, "division by zero", line, 0);
    return !b ? -1 : b == -1 ? -(uint64_t)a : a / b;
}
static inline uint64_t divided_u64(Thread *t, uint64_t a, uint64_t b, int line) {
    if (!b) report(t, "division by zero", line, 0);
    return b ? a / b : -1;
}
static inline int64_t remainder_s64(Thread *t, int64_t a, int64_t b, int line) {
    if (!b) report(t, "division by zero", line, 0);
    return !b ? a : b == -1 ? 0 : a % b;
}
static inline uint64_t remainder_u64(Thread *t, uint64_t a, uint64_t b, int line) {
    if (!b) report(t, "division by zero", line, 0);
    return b ? a % b : a;
}

static inline uint32_t leading_zeros(uint32_t x) { return x ? __builtin_clz(x) : 32; }
static inline float saturated(float x) { return x > 0 ? (x < 1 ? x : 1) : 0; } /* NaN becomes 0 */

/* Conversions to integers clip, and NaN becomes 0. (PTX ISA, "cvt") */
static inline int64_t clipped(double x, double low, double high, int64_t least, int64_t most) {
    return x != x ? 0 : x <= low ? least : x >= high ? most : (int64_t)x;
}
static inline int64_t clipped_s64(double x) { return clipped(x, -0x1p63, 0x1p63, INT64_MIN, INT64_MAX); }
static inline int64_t clipped_s32(double x) { return clipped(x, -0x1p31, 0x1p31 - 1, INT32_MIN, INT32_MAX); }
static inline int64_t clipped_s16(double x) { return clipped(x, -0x1p15, 0x1p15 - 1, INT16_MIN, INT16_MAX); }
static inline int64_t clipped_u32(double x) { return clipped(x, 0, 0x1p32 - 1, 0, UINT32_MAX); }
static inline int64_t clipped_u16(double x) { return clipped(x, 0, 0x1p16 - 1, 0, UINT16_MAX); }
static inline int64_t clipped_u8(double x) { return clipped(x, 0, 0x1p8 - 1, 0, UINT8_MAX); }
static inline uint64_t clipped_u64(double x) { return !(x > 0) ? 0 : x >= 0x1p64 ? UINT64_MAX : (uint64_t)x; }

static inline float power_of_two(float x, int flushes) {
    if (flushes && fabsf(x) < 0x1p-126f) x = 0;
    float y = exp2f(x);
    return flushes && y < 0x1p-126f ? 0 : y;
}
/* rcp.approx.ftz.f64 has 20 bits of mantissa. */
static inline double approximate_reciprocal(double x) { return double_of(bits_of_double(1 / x) & ~0xffffffffull); }

static inline uint32_t rounded_to_tf32(float x) { /* ties away from zero */
    uint32_t bits = bits_of_float(x);
    return isfinite(x) ? (bits + 0x1000u) & 0xffffe000u : bits;
}
static inline uint32_t rounded_to_bf16(float x) { /* ties to even */
    uint32_t bits = bits_of_float(x);
    if (isnan(x)) return 0x7fff;
    return (bits + 0x7fffu + (bits >> 16 & 1)) >> 16;
}
