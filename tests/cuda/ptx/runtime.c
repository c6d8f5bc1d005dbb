/* Runs the blocks of a grid, one after another, and checks what their threads do.

The threads of a block are fibers: each runs until it waits at a barrier or for its warp, and then the next one runs, in
the given order. Every access to memory is checked for bounds and alignment, and for races: two accesses of a launch
conflict if they are by different threads, one of them writes, and no barrier is between them; threads of different
blocks never wait for each other. Reads of shared memory that no thread has written are reported too. Memory that is
accessed both in words and in bytes is only checked among words and among bytes.

Errors are lines kind|line of the PTX|block and thread|detail. */
#define _GNU_SOURCE
#include "runtime.h"
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

enum { READY, AT_BARRIER, AT_PRODUCT, DONE };
enum { FORWARD, REVERSED, RANDOM };
#define ARENA (8ull << 30)     /* bytes of addresses of global memory; only what is used takes memory */
#define SHARED (256u << 10)    /* bytes of addresses of shared memory */
#define STACK (192u << 10)     /* bytes of a fiber */
#define GAP 256                /* bytes between arrays, which no access may touch */

typedef struct { uint32_t launch, thread, epoch; } Access;
typedef struct { Access write, read; uint8_t more_threads, more_blocks; } Shadow; /* the last write, and reads since */

static uint8_t *arena, *allocated;      /* global memory, and whether each of its bytes is allocated */
static Shadow *of_words, *of_bytes;     /* of global memory */
static uint64_t used = GAP;
static uint8_t *shared_memory, *written; /* shared memory, and whether each of its bytes has been written */
static Shadow *of_shared;
static uint64_t array_start[MAX_ARRAYS], array_size[MAX_ARRAYS];
static int arrays;

static Thread *threads, *running;
static uint32_t block_size, room; /* threads of a block; for how many there are stacks */
static uint8_t *stacks;
static void *scheduler;
static void (*kernel)(Thread *);
static uint32_t launch = 1, epoch = 1; /* an epoch ends at each barrier */
static char errors[1 << 16];
static int error_bytes, error_count;
static uint64_t accesses, barriers, products;
static uint8_t nothing[64]; /* what an access that is out of bounds reads or writes instead */
typedef struct { uint32_t words[6]; float sums[4]; } Operands;
static Operands *operands; /* of two products in turn, for each thread */

static void *reserve(uint64_t size) {
    void *found = mmap(0, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (found == MAP_FAILED) { perror("mmap"); abort(); }
    return found;
}

static void start(void) {
    if (arena) return;
    arena = reserve(ARENA), allocated = reserve(ARENA);
    of_words = reserve(ARENA / 4 * sizeof(Shadow)), of_bytes = reserve(ARENA * sizeof(Shadow));
    shared_memory = reserve(SHARED), written = reserve(SHARED), of_shared = reserve(SHARED * sizeof(Shadow));
}

/* -- global memory ------------------------------------------------------------------------------------------------ */

uint64_t allocate(uint64_t size) {
    start();
    uint64_t at = (used + 511) & ~511ull;
    if (at + size + GAP > ARENA) return 0;
    used = at + size + GAP;
    memset(allocated + at, 1, size);
    return (uint64_t)(arena + at);
}

static void discard(void *first, void *end) {
    uint64_t from = ((uint64_t)first + 4095) & ~4095ull, to = (uint64_t)end & ~4095ull;
    if (to > from) madvise((void *)from, to - from, MADV_DONTNEED);
}

void release(uint64_t address, uint64_t size) {
    uint64_t at = address - (uint64_t)arena;
    memset(allocated + at, 0, size);
    discard(arena + at, arena + at + size);
    discard(of_words + at / 4, of_words + (at + size) / 4);
    discard(of_bytes + at, of_bytes + at + size);
}

/* -- checks ------------------------------------------------------------------------------------------------------- */

void report(Thread *t, const char *kind, int line, uint64_t detail) {
    error_count++;
    if (error_bytes > (int)sizeof errors - 256) return;
    error_bytes += snprintf(errors + error_bytes, 256, "%s|line %d|block %u,%u,%u thread %u,%u,%u|%llx\n", kind, line,
        t->ctaid[0], t->ctaid[1], t->ctaid[2], t->tid[0], t->tid[1], t->tid[2], (unsigned long long)detail);
}

static int conflicts(Thread *t, Access *other, int several) {
    if (other->launch != launch) return 0;
    if (other->thread / block_size != t->block) return 1;
    return other->epoch == epoch && (several || other->thread != t->number);
}

static void check_race(Thread *t, Shadow *s, int writes, int line, const char *what[2], uint64_t detail) {
    Access now = {launch, t->number, epoch};
    if (conflicts(t, &s->write, 0)) report(t, what[writes], line, detail);
    if (writes) {
        if (s->read.launch == launch && (s->more_blocks || conflicts(t, &s->read, s->more_threads)))
            report(t, what[2], line, detail);
        s->write = now;
    } else if (s->read.launch != launch) {
        s->read = now, s->more_threads = s->more_blocks = 0;
    } else if (s->read.thread / block_size != t->block) {
        s->more_blocks = 1;
    } else if (s->read.epoch != epoch) {
        s->read = now, s->more_threads = 0;
    } else if (s->read.thread != t->number) {
        s->more_threads = 1;
    }
}

static void *global_memory(Thread *t, uint64_t at, int size, int count, int writes, int line) {
    static const char *races[] = {"global race: read after write", "global race: write after write", "global race: write after read"};
    int valid = 1, total = size * count;
    for (int i = 0; i < total; i++) valid &= allocated[at + i];
    if (!valid) {
        report(t, writes ? "global write out of bounds" : "global read out of bounds", line, at);
        return nothing;
    }
    for (int i = 0; i < total; i += size)
        for (int j = 0; j < (size == 8 ? 8 : 4); j += 4)
            check_race(t, size < 4 ? of_bytes + at + i : of_words + (at + i + j) / 4, writes, line, races, at + i);
    return arena + at;
}

static void *block_memory(Thread *t, uint64_t at, int size, int count, int writes, int line) {
    static const char *races[] = {"shared race: read after write", "shared race: write after write", "shared race: write after read"};
    int valid = 0, total = size * count;
    for (int i = 0; i < arrays; i++) valid |= at >= array_start[i] && at + total <= array_start[i] + array_size[i];
    if (!valid) {
        report(t, writes ? "shared write out of bounds" : "shared read out of bounds", line, at);
        return nothing;
    }
    for (int i = 0; i < total; i += size) {
        if (writes) written[at + i] = 1;
        else if (!written[at + i]) report(t, "shared read of uninitialized memory", line, at + i);
        Shadow *s = of_shared + at + i; /* other blocks have other shared memory */
        if (s->write.thread / block_size != t->block) s->write.launch = 0;
        if (s->read.thread / block_size != t->block) s->read.launch = 0;
        check_race(t, s, writes, line, races, at + i);
    }
    return shared_memory + at;
}

void *memory(Thread *t, uint64_t address, int size, int count, int writes, int line) {
    accesses++;
    if (address % (size * count)) report(t, "misaligned access", line, address);
    uint64_t in_arena = address - (uint64_t)arena, in_shared = address - (uint64_t)shared_memory;
    if (in_arena < ARENA - 64) return global_memory(t, in_arena, size, count, writes, line);
    if (in_shared < SHARED - 64) return block_memory(t, in_shared, size, count, writes, line);
    report(t, writes ? "global write out of bounds" : "global read out of bounds", line, address);
    return nothing;
}

/* -- fibers: x86-64 with the System V calling convention ---------------------------------------------------------- */

void switch_stack(void **save, void *load);
__asm__(".globl switch_stack\nswitch_stack:\n"
        "push %rbp\npush %rbx\npush %r12\npush %r13\npush %r14\npush %r15\n"
        "mov %rsp,(%rdi)\nmov %rsi,%rsp\n"
        "pop %r15\npop %r14\npop %r13\npop %r12\npop %rbx\npop %rbp\nret\n");

static void wait_in(Thread *t, int state, int line) {
    t->state = state, t->line = line;
    switch_stack(&t->stack, scheduler);
}

static void run_fiber(void) {
    Thread *t = running;
    kernel(t);
    wait_in(t, DONE, 0);
    abort();
}

static void prepare_fiber(Thread *t, uint32_t i) {
    uint64_t *top = (uint64_t *)(stacks + (uint64_t)(i + 1) * STACK - 64);
    *--top = 0;
    *--top = (uint64_t)run_fiber;
    for (int k = 0; k < 6; k++) *--top = 0;
    t->stack = top;
}

void barrier(Thread *t, int line) {
    barriers++;
    wait_in(t, AT_BARRIER, line);
}

/* -- matrix products, exact and rounded once; the layout of fragments is that of the PTX ISA ---------------------- */

void matrix_product(Thread *t, int kind, const uint32_t *words, const float *sums, float *d, int line) {
    products++;
    Operands *warp = operands + (t->products++ & 1) * room + t->lane / 32 * 32;
    int lane = t->lane % 32, group = lane / 4, position = lane % 4, width = kind == TF32 ? 8 : 16;
    memcpy(warp[lane].words, words, sizeof warp->words);
    memcpy(warp[lane].sums, sums, sizeof warp->sums);
    wait_in(t, AT_PRODUCT, line);
    for (int i = 0; i < 4; i++) {
        int row = i < 2 ? group : group + 8, column = position * 2 + i % 2;
        double total = 0;
        for (int k = 0; k < width; k++) {
            int word = kind == TF32 ? k : k / 2; /* of 8; bf16 has k and k + 1 in a word */
            uint32_t a = warp[row % 8 * 4 + word % 4].words[(row >= 8) + 2 * (word >= 4)];
            uint32_t b = warp[column * 4 + word % 4].words[4 + (word >= 4)];
            if (kind == BF16) a = k % 2 ? a & 0xffff0000u : a << 16, b = k % 2 ? b & 0xffff0000u : b << 16;
            total += (double)float_of(a) * float_of(b);
        }
        d[i] = (float)(total + warp[lane].sums[i]);
    }
}

/* -- blocks ------------------------------------------------------------------------------------------------------- */

static uint32_t drawn(void) { /* xorshift */
    static uint64_t state = 88172645463325252ull;
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return state >> 32;
}

static void make_room(uint32_t wanted) {
    if (wanted <= room) return;
    if (stacks) munmap(stacks, (uint64_t)room * STACK);
    room = (wanted + 31) / 32 * 32;
    stacks = reserve((uint64_t)room * STACK);
    free(threads), free(operands);
    threads = calloc(room, sizeof(Thread)), operands = calloc(2 * room, sizeof(Operands));
}

static void lay_out_arrays(int n, const uint32_t *sizes) {
    uint64_t at = GAP;
    arrays = n;
    for (int i = 0; i < n; i++, at += array_size[i - 1] + GAP)
        array_start[i] = at = (at + GAP - 1) & ~(uint64_t)(GAP - 1), array_size[i] = sizes[i];
    if (at > SHARED) abort();
}

static void begin_block(uint64_t number, const uint32_t *grid, const uint32_t *block, const uint8_t *parameters) {
    for (int i = 0; i < arrays; i++) {
        memset(shared_memory + array_start[i], 0xff, array_size[i]);
        memset(written + array_start[i], 0, array_size[i]);
    }
    for (uint32_t i = 0; i < block_size; i++) {
        Thread *t = threads + i;
        memset(t, 0, sizeof *t);
        t->lane = i, t->block = number, t->number = number * block_size + i, t->parameters = parameters;
        t->tid[0] = i % block[0], t->tid[1] = i / block[0] % block[1], t->tid[2] = i / block[0] / block[1];
        t->ctaid[0] = number % grid[0], t->ctaid[1] = number / grid[0] % grid[1], t->ctaid[2] = number / grid[0] / grid[1];
        memcpy(t->ntid, block, sizeof t->ntid), memcpy(t->nctaid, grid, sizeof t->nctaid);
        for (int k = 0; k < arrays; k++) t->shared[k] = (uint64_t)shared_memory + array_start[k];
    }
}

/* Continue warps whose threads all wait at the same product. Returns whether there were any. */
static int continue_warps(void) {
    int found = 0;
    for (uint32_t first = 0; first < block_size; first += 32) {
        int waiting = 0, together = 1, line = -1;
        for (uint32_t i = first; i < first + 32 && i < block_size; i++) {
            if (threads[i].state != AT_PRODUCT) continue;
            waiting++;
            if (line < 0) line = threads[i].line;
            together &= line == threads[i].line;
        }
        if (!waiting) continue;
        if (waiting < 32 || !together) report(threads + first, "matrix product without the whole warp", line, waiting);
        for (uint32_t i = first; i < first + 32 && i < block_size; i++)
            if (threads[i].state == AT_PRODUCT) threads[i].state = READY;
        found = 1;
    }
    return found;
}

static void pass_barrier(uint32_t done) {
    int line = -1;
    for (uint32_t i = 0; i < block_size; i++) {
        Thread *t = threads + i;
        if (t->state != AT_BARRIER) continue;
        if (line < 0) {
            line = t->line;
            if (done) report(t, "barrier that some threads do not reach", line, done);
        } else if (line != t->line) {
            report(t, "threads wait at different barriers", t->line, line);
            line = t->line;
        }
        t->state = READY;
    }
    epoch++;
}

static void run_block(const uint32_t *order) {
    for (uint32_t i = 0; i < block_size; i++) prepare_fiber(threads + i, i);
    for (;;) {
        for (uint32_t i = 0; i < block_size; i++) {
            running = threads + order[i];
            if (running->state == READY) switch_stack(&scheduler, running->stack);
        }
        uint32_t done = 0;
        for (uint32_t i = 0; i < block_size; i++) done += threads[i].state == DONE;
        if (done == block_size) return;
        if (!continue_warps()) pass_barrier(done);
    }
}

static void order_threads(uint32_t *order, int how) {
    for (uint32_t i = 0; i < block_size; i++) order[i] = how == REVERSED ? block_size - 1 - i : i;
    for (uint32_t i = block_size; how == RANDOM && i > 1; i--) {
        uint32_t j = drawn() % i, moved = order[i - 1];
        order[i - 1] = order[j], order[j] = moved;
    }
}

/* Run a grid, and return the number of errors. ``waits``: whether threads wait for each other, so that they need to be
   fibers; ``how``: the order of threads and blocks. */
int run_grid(void (*function)(Thread *), const uint8_t *parameters, const uint32_t *grid, const uint32_t *block, int n,
             const uint32_t *sizes, int waits, int how) {
    start();
    kernel = function, block_size = block[0] * block[1] * block[2], error_bytes = error_count = 0, errors[0] = 0;
    make_room(block_size);
    lay_out_arrays(n, sizes);
    launch++;
    uint64_t blocks = (uint64_t)grid[0] * grid[1] * grid[2], first = how == RANDOM ? drawn() % blocks : 0;
    uint32_t *order = malloc(block_size * sizeof *order);
    for (uint64_t i = 0; i < blocks; i++) {
        begin_block(how == REVERSED ? blocks - 1 - i : (i + first) % blocks, grid, block, parameters);
        order_threads(order, how);
        epoch++;
        if (waits) run_block(order);
        else for (uint32_t k = 0; k < block_size; k++) kernel(threads + order[k]);
    }
    free(order);
    return error_count;
}

const char *error_text(void) { return errors; }

void statistics(uint64_t *found) { found[0] = accesses, found[1] = barriers, found[2] = products; }

/* -- arithmetic that is rounded in a given direction -------------------------------------------------------------- */

#define ROUNDED(NAME, TYPE, FMA)                                                      \
    __attribute__((noinline)) TYPE NAME(int direction, char operation, TYPE a, TYPE b, TYPE c) { \
        int before = fegetround();                                                    \
        fesetround(direction);                                                        \
        volatile TYPE x = a, y = b, z = c, result;                                    \
        switch (operation) {                                                          \
            case '+': result = x + y; break;                                          \
            case '-': result = x - y; break;                                          \
            case '*': result = x * y; break;                                          \
            default: result = FMA(x, y, z);                                           \
        }                                                                             \
        fesetround(before);                                                           \
        return result;                                                                \
    }
ROUNDED(rounded_f32, float, fmaf)
ROUNDED(rounded_f64, double, fma)
