/* The stepwise decoder of image tokens: integer Transformer and range decoder in one loop.
 *
 * It knows no files and no scenarios. `exact.py` computes the same integers in numpy and is what
 * this is tested against, bit for bit; `coding/range_coder.py` is the mirror of `decode_symbol`.
 *
 * The same bits come out of every compiler and processor because every sum is one of integers that
 * a certificate keeps inside 32 bits, and because a float32 product is followed by a rounding and
 * never by an addition: neither the order of a sum nor a fused multiply-add can change a result.
 *
 * Built as the extension `shared_protocol.entropy._kernel` (stable ABI). With
 * KERNEL_WITHOUT_PYTHON only the decoder itself is left, for programs that replay recorded streams
 * on other processors.
 */

#ifndef KERNEL_WITHOUT_PYTHON
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>
#endif

#include <float.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifdef __FAST_MATH__
#error "fast-math changes results: build without -ffast-math; numpy serves where this is not built"
#endif
#if defined(FLT_EVAL_METHOD) && FLT_EVAL_METHOD != 0
#error "float32 products must be rounded to float32; numpy serves where this is not built"
#endif

#if defined(_MSC_VER)
#define INLINE static __forceinline
#elif defined(__GNUC__)
#define INLINE static inline __attribute__((always_inline))
#else
#define INLINE static inline
#endif

/* One file for all x86-64 processors: the loader picks a version of each hot function. Compilers
 * and C libraries that cannot do so build one plain version, which gives the same integers. */
#if !defined(__x86_64__) || !defined(__GLIBC__) || !defined(__GNUC__) || defined(__AVX2__) || \
    (defined(__clang__) && __clang_major__ < 16)
#define CLONES
#define TARGETS "plain"
#elif defined(__clang__) || __GNUC__ < 12
#define CLONES __attribute__((target_clones("avx2", "default")))
#define TARGETS "AVX2, plain"
#else
#define CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#define TARGETS "AVX-512, AVX2, plain"
#endif

#define KERNEL_VERSION 1 /* of the arguments of `decode`; native.py asks for the same */

/* The constants of config.py and range_coder.py; native.py compares them when it loads this. */
#define ACTIVATION_MAX 127
#define RESIDUAL_MAX 32767
#define ATTENTION_SUM 256
#define FREQUENCY_SUM (1 << 21)
#define GELU_HALF 1023
#define SLOTS 9
#define TOP_BITS 56
#define BOTTOM ((int64_t)1 << 48)
#define VIRTUAL_BYTES 16

static const int NEIGHBOURS[SLOTS - 1][2] = {
    {-1, -1}, {-1, 0}, {-1, 1}, {0, -1}, {0, 1}, {1, -1}, {1, 0}, {1, 1},
};

enum { OK = 0, TRUNCATED = 1 };

/* Sizes as EntropyConfig names them, and the lengths of the two tables of exponentials. */
typedef struct {
    int32_t width, layers, heads, hidden, code_width, low_width, side;
    int32_t high_size, low_size, code_rows, kinds, score_entries, logit_entries;
} Sizes;
#define SIZE_FIELDS 13

typedef struct {
    const int8_t *weight;
    const float *scale;
    const int32_t *bias; /* or NULL */
} Matrix;

typedef struct {
    Sizes size;
    const int8_t *codes;
    Matrix join;
    const int16_t *rows, *columns, *kinds;
    const double *norms;
    Matrix qkv, out, up, down; /* all layers, one after another */
    const float *score_scale, *mix_scale;
    const int8_t *gelu;
    const int32_t *score_exp;
    Matrix high, low_in, low_out;
    const int32_t *given;
    const int8_t *low_gelu;
    const int32_t *logit_exp;
} Model;

/* One stream that is being decoded. */
typedef struct {
    const uint8_t *data;
    int64_t length;
    int64_t code, range, position; /* of the range decoder; brought up to date */
    const int32_t *places;         /* (count, 2) row and column of each target */
    int32_t count, kind, previous; /* previous: code table row before the first target */
    int32_t *board;                /* (height + 2, board_width) code table rows, with a border */
    int32_t board_width;
    int8_t *keys, *values; /* (layers, heads, capacity, head width), filled up to start */
    int32_t capacity, start;
    int32_t *codes;  /* (count,) the result */
    int64_t *record; /* (count, 2, larger alphabet) every frequency, or NULL */
    int32_t status;
} Lane;

/* What is computed for one lane at one step. */
typedef struct {
    int32_t *residual, *sums, *steps, *scores;
    int16_t *joined, *normed, *qkv, *mixed, *inner, *low;
    int64_t *frequency;
    int32_t high;
} Work;

/* Arithmetic ---------------------------------------------------------------------------------- */

INLINE int32_t requantise(int32_t total, float scale, int32_t limit) {
    float value = rintf((float)total * scale);
    float edge = (float)limit;
    value = value > edge ? edge : value;
    value = value < -edge ? -edge : value;
    return (int32_t)value;
}

INLINE int32_t dot(const int8_t *row, const int16_t *x, int32_t length) {
    int32_t total = 0;
    for (int32_t k = 0; k < length; k++) total += (int32_t)(int16_t)row[k] * (int32_t)x[k];
    return total;
}

/* sums[r] = weight[r] . x (+ bias[r]) for all rows, of one lane. */
CLONES
static void multiply(const int8_t *weight, const int32_t *bias, int32_t rows, int32_t length,
                     const int16_t *x, int32_t *sums) {
    for (int32_t r = 0; r < rows; r++) sums[r] = dot(weight + (size_t)r * length, x, length);
    if (bias)
        for (int32_t r = 0; r < rows; r++) sums[r] += bias[r];
}

/* The same for four lanes at once: a row of weights is read and widened once for all of them. */
CLONES
static void multiply4(const int8_t *weight, const int32_t *bias, int32_t rows, int32_t length,
                      const int16_t *const x[4], int32_t *const sums[4]) {
    const int16_t *a = x[0], *b = x[1], *c = x[2], *d = x[3];
    for (int32_t r = 0; r < rows; r++) {
        const int8_t *row = weight + (size_t)r * length;
        int32_t s = 0, t = 0, u = 0, v = 0;
        for (int32_t k = 0; k < length; k++) {
            int32_t w = (int16_t)row[k];
            s += w * (int32_t)a[k];
            t += w * (int32_t)b[k];
            u += w * (int32_t)c[k];
            v += w * (int32_t)d[k];
        }
        int32_t more = bias ? bias[r] : 0;
        sums[0][r] = s + more, sums[1][r] = t + more;
        sums[2][r] = u + more, sums[3][r] = v + more;
    }
}

CLONES
static void round_to16(const int32_t *sums, const float *scale, int32_t limit, int32_t rows,
                       int16_t *out) {
    for (int32_t r = 0; r < rows; r++) out[r] = (int16_t)requantise(sums[r], scale[r], limit);
}

CLONES
static void round_and_add(const int32_t *sums, const float *scale, int32_t rows,
                          int32_t *residual) {
    for (int32_t r = 0; r < rows; r++) {
        int32_t value = residual[r] + requantise(sums[r], scale[r], RESIDUAL_MAX);
        value = value > RESIDUAL_MAX ? RESIDUAL_MAX : value;
        residual[r] = value < -RESIDUAL_MAX ? -RESIDUAL_MAX : value;
    }
}

CLONES
static void normalise(const int32_t *residual, double numerator, int32_t width, int16_t *out) {
    int64_t total = 0;
    for (int32_t k = 0; k < width; k++) total += (int64_t)residual[k] * residual[k];
    float factor = (float)(numerator / sqrt((double)(total > 1 ? total : 1)));
    for (int32_t k = 0; k < width; k++)
        out[k] = (int16_t)requantise(residual[k], factor, ACTIVATION_MAX);
}

/* One attention head over `count` keys and values; softmax is a table of integers. */
CLONES
static void attend(const int16_t *query, const int8_t *keys, const int8_t *values, int32_t count,
                   int32_t width, float scale, float multiplier, const int32_t *table,
                   int32_t entries, int32_t *scores, int32_t *sums, int16_t *out) {
    for (int32_t j = 0; j < count; j++) scores[j] = dot(keys + (size_t)j * width, query, width);
    int32_t best = INT32_MIN;
    for (int32_t j = 0; j < count; j++) {
        scores[j] = (int32_t)rintf((float)scores[j] * scale);
        best = scores[j] > best ? scores[j] : best;
    }
    int32_t total = 0;
    for (int32_t j = 0; j < count; j++) {
        int32_t below = best - scores[j];
        scores[j] = table[below < entries - 1 ? below : entries - 1];
        total += scores[j];
    }
    float factor = (float)ATTENTION_SUM / (float)total;
    for (int32_t j = 0; j < count; j++) scores[j] = (int32_t)rintf((float)scores[j] * factor);
    memset(sums, 0, (size_t)width * sizeof *sums);
    for (int32_t j = 0; j < count; j++) {
        int32_t share = scores[j];
        if (share == 0) continue;
        const int8_t *value = values + (size_t)j * width;
        for (int32_t k = 0; k < width; k++) sums[k] += share * (int32_t)value[k];
    }
    for (int32_t k = 0; k < width; k++)
        out[k] = (int16_t)requantise(sums[k], multiplier, ACTIVATION_MAX);
}

/* Sums of logits to frequencies of at least 1; returns their sum. */
CLONES
static int64_t frequencies(const int32_t *sums, const float *scale, int32_t size,
                           const int32_t *table, int32_t entries, int32_t *steps,
                           int64_t *frequency) {
    int32_t best = INT32_MIN;
    for (int32_t r = 0; r < size; r++) {
        steps[r] = (int32_t)rintf((float)sums[r] * scale[r]);
        best = steps[r] > best ? steps[r] : best;
    }
    int64_t shares = 0;
    for (int32_t r = 0; r < size; r++) {
        int32_t below = best - steps[r];
        steps[r] = table[below < entries - 1 ? below : entries - 1];
        shares += steps[r];
    }
    double factor = (double)FREQUENCY_SUM / (double)shares;
    int64_t total = 0;
    for (int32_t r = 0; r < size; r++) {
        frequency[r] = (int64_t)rint((double)steps[r] * factor) + 1;
        total += frequency[r];
    }
    return total;
}

/* The range decoder ---------------------------------------------------------------------------- */

/* The next symbol; -1 where the stream has ended too early. */
static int32_t decode_symbol(Lane *lane, const int64_t *table, int32_t size, int64_t total) {
    int64_t share = lane->range / total;
    int64_t target = lane->code / share;
    if (target > total - 1) target = total - 1;
    int32_t symbol = 0;
    int64_t start = 0;
    while (symbol < size - 1 && start + table[symbol] <= target) start += table[symbol++];
    lane->code -= share * start;
    if (start + table[symbol] == total)
        lane->range -= share * start;
    else
        lane->range = share * table[symbol];
    while (lane->range <= BOTTOM) {
        int64_t byte = lane->position < lane->length ? lane->data[lane->position] : 0;
        lane->position++;
        if (lane->position - lane->length > VIRTUAL_BYTES) return -1;
        lane->code = (lane->code << 8) | byte;
        lane->range <<= 8;
    }
    return symbol;
}

/* One step of all lanes -------------------------------------------------------------------------- */

/* Which of a lane's arrays a product reads. */
typedef enum { FROM_JOINED, FROM_NORMED, FROM_MIXED, FROM_INNER, FROM_LOW } Source;

INLINE const int16_t *source_of(const Work *work, Source source) {
    switch (source) {
    case FROM_JOINED: return work->joined;
    case FROM_NORMED: return work->normed;
    case FROM_MIXED: return work->mixed;
    case FROM_INNER: return work->inner;
    default: return work->low;
    }
}

/* Fill `sums` of every lane with the product of `matrix` and what `source` names. */
static void product(const Matrix *matrix, int32_t layer, int32_t rows, int32_t length,
                    Source source, Work *const *work, int32_t lanes) {
    const int8_t *weight = matrix->weight + (size_t)layer * rows * length;
    const int32_t *bias = matrix->bias ? matrix->bias + (size_t)layer * rows : NULL;
    int32_t i = 0;
    for (; i + 4 <= lanes; i += 4) {
        const int16_t *x[4];
        int32_t *sums[4];
        for (int32_t j = 0; j < 4; j++) {
            x[j] = source_of(work[i + j], source);
            sums[j] = work[i + j]->sums;
        }
        multiply4(weight, bias, rows, length, x, sums);
    }
    for (; i < lanes; i++)
        multiply(weight, bias, rows, length, source_of(work[i], source), work[i]->sums);
}

/* The residual stream of the target at `step`: what stands around it, and where it is. */
static void join_neighbours(const Model *m, const Lane *lane, int32_t step, Work *work) {
    int32_t width = m->size.code_width;
    const int32_t *place = lane->places + 2 * (size_t)step;
    for (int32_t slot = 0; slot < SLOTS; slot++) {
        int32_t code = lane->previous;
        if (slot > 0) {
            int32_t row = place[0] + 1 + NEIGHBOURS[slot - 1][0];
            int32_t column = place[1] + 1 + NEIGHBOURS[slot - 1][1];
            code = lane->board[(size_t)row * lane->board_width + column];
        }
        const int8_t *entry = m->codes + (size_t)code * width;
        for (int32_t k = 0; k < width; k++) work->joined[slot * width + k] = entry[k];
    }
}

static void add_place(const Model *m, const Lane *lane, int32_t step, Work *work) {
    const int32_t *place = lane->places + 2 * (size_t)step;
    int32_t width = m->size.width, last = m->size.side - 1;
    /* Grids larger than any in training share the last row and column. */
    const int16_t *row = m->rows + (size_t)(place[0] < last ? place[0] : last) * width;
    const int16_t *column = m->columns + (size_t)(place[1] < last ? place[1] : last) * width;
    const int16_t *kind = m->kinds + (size_t)lane->kind * width;
    for (int32_t k = 0; k < width; k++)
        work->residual[k] = (int32_t)row[k] + column[k] + kind[k];
    /* The place goes in first: a sum of integers does not mind. */
    round_and_add(work->sums, m->join.scale, width, work->residual);
}

static void mix(const Model *m, Lane *lane, int32_t layer, int32_t at, Work *work) {
    int32_t width = m->size.width, heads = m->size.heads, head = width / heads;
    const float *scale = m->qkv.scale + (size_t)layer * 3 * width;
    round_to16(work->sums, scale, ACTIVATION_MAX, 3 * width, work->qkv);
    for (int32_t h = 0; h < heads; h++) {
        size_t first = ((size_t)layer * heads + h) * lane->capacity;
        int8_t *keys = lane->keys + first * head, *values = lane->values + first * head;
        for (int32_t k = 0; k < head; k++) {
            keys[(size_t)at * head + k] = (int8_t)work->qkv[width + h * head + k];
            values[(size_t)at * head + k] = (int8_t)work->qkv[2 * width + h * head + k];
        }
        attend(work->qkv + h * head, keys, values, at + 1, head,
               m->score_scale[layer * heads + h], m->mix_scale[layer], m->score_exp,
               m->size.score_entries, work->scores, work->sums, work->mixed + h * head);
    }
}

static void block(const Model *m, int32_t layer, int32_t step, Lane *const *lanes,
                  Work *const *work, int32_t count) {
    int32_t width = m->size.width, hidden = m->size.hidden;
    for (int32_t i = 0; i < count; i++)
        normalise(work[i]->residual, m->norms[2 * layer], width, work[i]->normed);
    product(&m->qkv, layer, 3 * width, width, FROM_NORMED, work, count);
    for (int32_t i = 0; i < count; i++) mix(m, lanes[i], layer, lanes[i]->start + step, work[i]);
    product(&m->out, layer, width, width, FROM_MIXED, work, count);
    for (int32_t i = 0; i < count; i++) {
        round_and_add(work[i]->sums, m->out.scale + (size_t)layer * width, width,
                      work[i]->residual);
        normalise(work[i]->residual, m->norms[2 * layer + 1], width, work[i]->normed);
    }
    product(&m->up, layer, hidden, width, FROM_NORMED, work, count);
    const int8_t *gelu = m->gelu + (size_t)layer * (2 * GELU_HALF + 1) + GELU_HALF;
    for (int32_t i = 0; i < count; i++) {
        int16_t *inner = work[i]->inner;
        round_to16(work[i]->sums, m->up.scale + (size_t)layer * hidden, GELU_HALF, hidden, inner);
        for (int32_t k = 0; k < hidden; k++) inner[k] = gelu[inner[k]];
    }
    product(&m->down, layer, width, hidden, FROM_INNER, work, count);
    for (int32_t i = 0; i < count; i++)
        round_and_add(work[i]->sums, m->down.scale + (size_t)layer * width, width,
                      work[i]->residual);
}

/* Frequencies from `sums`, and the symbol that they decode to; -1 when the stream is cut. */
static int32_t read_symbol(const Model *m, Lane *lane, int32_t step, int32_t part,
                           const Matrix *head, int32_t size, Work *work) {
    int64_t total = frequencies(work->sums, head->scale, size, m->logit_exp,
                                m->size.logit_entries, work->steps, work->frequency);
    if (lane->record) {
        int32_t most = m->size.high_size > m->size.low_size ? m->size.high_size : m->size.low_size;
        memcpy(lane->record + ((size_t)step * 2 + part) * most, work->frequency,
               (size_t)size * sizeof *work->frequency);
    }
    return decode_symbol(lane, work->frequency, size, total);
}

/* A code is its high part, then its low part given the high one: two short tables. */
static void head(const Model *m, int32_t step, Lane *const *lanes, Work *const *work,
                 int32_t count) {
    const Sizes *s = &m->size;
    for (int32_t i = 0; i < count; i++)
        normalise(work[i]->residual, m->norms[2 * s->layers], s->width, work[i]->normed);
    product(&m->high, 0, s->high_size, s->width, FROM_NORMED, work, count);
    for (int32_t i = 0; i < count; i++)
        work[i]->high = read_symbol(m, lanes[i], step, 0, &m->high, s->high_size, work[i]);
    product(&m->low_in, 0, s->low_width, s->width, FROM_NORMED, work, count);
    const int8_t *gelu = m->low_gelu + GELU_HALF;
    for (int32_t i = 0; i < count; i++) {
        int16_t *low = work[i]->low;
        const int32_t *given =
            m->given + (size_t)(work[i]->high < 0 ? 0 : work[i]->high) * s->low_width;
        for (int32_t r = 0; r < s->low_width; r++) work[i]->sums[r] += given[r];
        round_to16(work[i]->sums, m->low_in.scale, GELU_HALF, s->low_width, low);
        for (int32_t r = 0; r < s->low_width; r++) low[r] = gelu[low[r]];
    }
    product(&m->low_out, 0, s->low_size, s->low_width, FROM_LOW, work, count);
    for (int32_t i = 0; i < count; i++) {
        Lane *lane = lanes[i];
        int32_t low = -1;
        if (work[i]->high >= 0)
            low = read_symbol(m, lane, step, 1, &m->low_out, s->low_size, work[i]);
        if (low < 0) {
            lane->status = TRUNCATED;
            continue;
        }
        const int32_t *place = lane->places + 2 * (size_t)step;
        lane->previous = work[i]->high * s->low_size + low;
        lane->codes[step] = lane->previous;
        lane->board[(size_t)(place[0] + 1) * lane->board_width + place[1] + 1] = lane->previous;
    }
}

/* Working memory --------------------------------------------------------------------------------- */

static int32_t largest(int32_t a, int32_t b) { return a > b ? a : b; }

static size_t rounded(size_t bytes) { return (bytes + 63) / 64 * 64; }

static void *taken(char *space, size_t *offset, size_t bytes) {
    void *here = space ? space + *offset : NULL;
    *offset += rounded(bytes);
    return here;
}

/* Lay out one lane's arrays from `space` on; with NULL only the bytes are counted. */
static size_t place_work(const Sizes *s, int32_t capacity, char *space, Work *work) {
    size_t at = 0;
    int32_t alphabet = largest(s->high_size, s->low_size);
    int32_t rows = largest(largest(3 * s->width, s->hidden), largest(s->low_width, alphabet));
    work->residual = taken(space, &at, (size_t)s->width * 4);
    work->sums = taken(space, &at, (size_t)rows * 4);
    work->steps = taken(space, &at, (size_t)alphabet * 4);
    work->scores = taken(space, &at, (size_t)capacity * 4);
    work->joined = taken(space, &at, (size_t)SLOTS * s->code_width * 2);
    work->normed = taken(space, &at, (size_t)s->width * 2);
    work->qkv = taken(space, &at, (size_t)s->width * 6);
    work->mixed = taken(space, &at, (size_t)s->width * 2);
    work->inner = taken(space, &at, (size_t)s->hidden * 2);
    work->low = taken(space, &at, (size_t)s->low_width * 2);
    work->frequency = taken(space, &at, (size_t)alphabet * 8);
    return at;
}

/* Decode all lanes side by side, as far as each goes. Returns 0 when memory is out. */
static int decode_lanes(const Model *m, Lane *lanes, int32_t count) {
    int32_t steps = 0, capacity = 1;
    for (int32_t i = 0; i < count; i++) {
        steps = largest(steps, lanes[i].count);
        capacity = largest(capacity, lanes[i].capacity);
        lanes[i].status = OK;
    }
    Work unplaced;
    size_t each = place_work(&m->size, capacity, NULL, &unplaced);
    char *space = malloc(each * (size_t)count + 64);
    Work *work = malloc(sizeof *work * (size_t)count);
    Work **working = malloc(sizeof *working * (size_t)count);
    Lane **active = malloc(sizeof *active * (size_t)count);
    int ready = space && work && working && active;
    for (int32_t i = 0; ready && i < count; i++) {
        char *first = space + (64 - (uintptr_t)space % 64) % 64;
        place_work(&m->size, capacity, first + each * (size_t)i, &work[i]);
    }
    for (int32_t step = 0; ready && step < steps; step++) {
        int32_t left = 0;
        for (int32_t i = 0; i < count; i++)
            if (step < lanes[i].count && lanes[i].status == OK) {
                active[left] = &lanes[i];
                working[left++] = &work[i];
            }
        for (int32_t i = 0; i < left; i++) join_neighbours(m, active[i], step, working[i]);
        product(&m->join, 0, m->size.width, SLOTS * m->size.code_width, FROM_JOINED, working, left);
        for (int32_t i = 0; i < left; i++) add_place(m, active[i], step, working[i]);
        for (int32_t layer = 0; layer < m->size.layers; layer++)
            block(m, layer, step, active, working, left);
        head(m, step, active, working, left);
    }
    free(space), free(work), free(working), free(active);
    return ready;
}

/* Weights as one block of memory ------------------------------------------------------------------ */

static const void *next(const char *base, size_t *offset, size_t bytes) {
    const void *here = base + *offset;
    *offset = rounded(*offset + bytes);
    return here;
}

static Matrix next_matrix(const char *base, size_t *offset, size_t rows, size_t length, int bias) {
    Matrix matrix;
    matrix.weight = next(base, offset, rows * length);
    matrix.scale = next(base, offset, rows * 4);
    matrix.bias = bias ? next(base, offset, rows * 4) : NULL;
    return matrix;
}

/* Point into `base`, where native.py has put the arrays one after another, each at a multiple of
 * 64 bytes. Returns how many bytes they take. */
static size_t place_model(Model *m, const char *base) {
    const Sizes *s = &m->size;
    size_t at = 0, width = s->width, layers = s->layers, table = 2 * GELU_HALF + 1;
    m->codes = next(base, &at, (size_t)s->code_rows * s->code_width);
    m->join = next_matrix(base, &at, width, (size_t)SLOTS * s->code_width, 0);
    m->rows = next(base, &at, s->side * width * 2);
    m->columns = next(base, &at, s->side * width * 2);
    m->kinds = next(base, &at, s->kinds * width * 2);
    m->norms = next(base, &at, (2 * layers + 1) * 8);
    m->qkv = next_matrix(base, &at, layers * 3 * width, width, 0);
    m->score_scale = next(base, &at, layers * s->heads * 4);
    m->mix_scale = next(base, &at, layers * 4);
    m->out = next_matrix(base, &at, layers * width, width, 0);
    m->up = next_matrix(base, &at, layers * s->hidden, width, 1);
    m->gelu = next(base, &at, layers * table);
    m->down = next_matrix(base, &at, layers * width, s->hidden, 0);
    m->score_exp = next(base, &at, (size_t)s->score_entries * 4);
    m->high = next_matrix(base, &at, s->high_size, width, 1);
    m->low_in = next_matrix(base, &at, s->low_width, width, 1);
    m->given = next(base, &at, (size_t)s->high_size * s->low_width * 4);
    m->low_gelu = next(base, &at, table);
    m->low_out = next_matrix(base, &at, s->low_size, s->low_width, 1);
    m->logit_exp = next(base, &at, (size_t)s->logit_entries * 4);
    return at;
}

#ifndef KERNEL_WITHOUT_PYTHON

/* Python ------------------------------------------------------------------------------------------ */

#define BUFFERS 7

typedef struct {
    Py_buffer held[BUFFERS];
    int count;
} Buffers;

static void release(Buffers *buffers, Py_ssize_t lanes) {
    for (Py_ssize_t i = 0; i < lanes; i++)
        for (int j = 0; j < buffers[i].count; j++) PyBuffer_Release(&buffers[i].held[j]);
    free(buffers);
}

/* Whether a lane's buffers are as long as its numbers say; sets an error otherwise. */
static int fits(const Model *m, const Lane *lane, const Buffers *buffers) {
    const Sizes *s = &m->size;
    Py_ssize_t cache = (Py_ssize_t)s->layers * s->width * lane->capacity;
    Py_ssize_t most = largest(s->high_size, s->low_size);
    const Py_buffer *held = buffers->held;
    int good = lane->count >= 0 && lane->board_width >= 3 && lane->start >= 0 &&
               lane->capacity >= lane->count && lane->start <= lane->capacity - lane->count &&
               lane->kind >= 0 &&
               lane->kind < s->kinds && lane->previous >= 0 && lane->previous < s->code_rows &&
               lane->range > BOTTOM && lane->position >= 0 && held[3].len == cache &&
               held[4].len == cache && held[5].len == (Py_ssize_t)lane->count * 4 &&
               (!lane->record || held[6].len == lane->count * 2 * most * 8);
    Py_ssize_t cells = held[2].len / 4, rows = good ? cells / lane->board_width : 0;
    for (Py_ssize_t i = 0; good && i < cells; i++)
        good = lane->board[i] >= 0 && lane->board[i] < s->code_rows;
    for (int32_t i = 0; good && i < lane->count; i++) {
        int32_t row = lane->places[2 * i], column = lane->places[2 * i + 1];
        good = row >= 0 && row + 3 <= rows && column >= 0 && column + 3 <= lane->board_width;
    }
    if (!good) PyErr_SetString(PyExc_ValueError, "the arrays of a lane do not fit each other");
    return good;
}

/* One lane from (data, code, range, position, places, kind, previous, board, board width, keys,
 * values, capacity, start, codes, record or None). */
static int read_lane(const Model *m, PyObject *tuple, Lane *lane, Buffers *buffers) {
    Py_buffer *held = buffers->held;
    PyObject *record;
    long long code, range, position;
    if (!PyArg_ParseTuple(tuple, "y*LLLy*iiw*iw*w*iiw*O", &held[0], &code, &range, &position,
                          &held[1], &lane->kind, &lane->previous, &held[2], &lane->board_width,
                          &held[3], &held[4], &lane->capacity, &lane->start, &held[5], &record))
        return 0;
    buffers->count = 6;
    if (record != Py_None) {
        if (PyObject_GetBuffer(record, &held[6], PyBUF_WRITABLE) < 0) return 0;
        buffers->count = 7;
    }
    lane->data = held[0].buf, lane->length = held[0].len;
    lane->code = code, lane->range = range, lane->position = position;
    lane->places = held[1].buf, lane->count = (int32_t)(held[1].len / 8);
    lane->board = held[2].buf, lane->keys = held[3].buf, lane->values = held[4].buf;
    lane->codes = held[5].buf, lane->record = record == Py_None ? NULL : held[6].buf;
    return fits(m, lane, buffers);
}

static PyObject *results(const Lane *lanes, Py_ssize_t count) {
    PyObject *list = PyList_New(count);
    for (Py_ssize_t i = 0; list && i < count; i++) {
        const Lane *lane = &lanes[i];
        PyObject *one =
            Py_BuildValue("(LLLi)", (long long)lane->code, (long long)lane->range,
                          (long long)lane->position, (int)lane->status);
        if (!one || PyList_SetItem(list, i, one) < 0) {
            Py_DECREF(list);
            return NULL;
        }
    }
    return list;
}

static PyObject *decode_all(const Model *m, PyObject *tuples) {
    Py_ssize_t count = PyList_Size(tuples);
    Lane *lanes = calloc((size_t)count + 1, sizeof *lanes);
    Buffers *buffers = calloc((size_t)count + 1, sizeof *buffers);
    PyObject *result = NULL;
    int good = lanes && buffers;
    if (!good) PyErr_NoMemory();
    for (Py_ssize_t i = 0; good && i < count; i++)
        good = read_lane(m, PyList_GetItem(tuples, i), &lanes[i], &buffers[i]);
    if (good) {
        Py_BEGIN_ALLOW_THREADS
        good = decode_lanes(m, lanes, (int32_t)count);
        Py_END_ALLOW_THREADS
        result = good ? results(lanes, count) : PyErr_NoMemory();
    }
    if (buffers) release(buffers, count);
    free(lanes);
    return result;
}

/* Whether sizes are those of some model: nothing is divided by zero, no layer is empty. */
static int possible(const Sizes *s) {
    const int32_t *fields = &s->width;
    for (int i = 0; i < SIZE_FIELDS; i++)
        if (fields[i] < 1) return 0;
    return s->width % s->heads == 0;
}

static PyObject *decode(PyObject *self, PyObject *arguments) {
    (void)self;
    Model model;
    Py_buffer sizes, weights;
    PyObject *tuples, *result = NULL;
    if (!PyArg_ParseTuple(arguments, "y*y*O", &sizes, &weights, &tuples)) return NULL;
    if (!PyList_Check(tuples) || PyList_Size(tuples) > INT32_MAX)
        PyErr_SetString(PyExc_TypeError, "the lanes must be a list");
    else if (sizes.len != sizeof model.size)
        PyErr_SetString(PyExc_ValueError, "the sizes are not those of this kernel");
    else {
        memcpy(&model.size, sizes.buf, sizeof model.size);
        if (!possible(&model.size))
            PyErr_SetString(PyExc_ValueError, "the sizes are those of no model");
        else if (place_model(&model, weights.buf) != (size_t)weights.len)
            PyErr_SetString(PyExc_ValueError, "the weights are not as long as their sizes say");
        else
            result = decode_all(&model, tuples);
    }
    PyBuffer_Release(&sizes);
    PyBuffer_Release(&weights);
    return result;
}

static PyMethodDef METHODS[] = {
    {"decode", decode, METH_VARARGS,
     "decode(sizes, weights, lanes): decode every lane in place; see native.py."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef MODULE = {
    PyModuleDef_HEAD_INIT, "_kernel", "The stepwise decoder of image tokens; see native.py.", -1,
    METHODS, NULL, NULL, NULL, NULL,
};

/* What the whole file was compiled for, and this processor lacks; NULL if there is nothing. */
static const char *missing_instructions(void) {
#if defined(__x86_64__) && defined(__GNUC__)
    __builtin_cpu_init();
#ifdef __AVX512BW__
    if (!__builtin_cpu_supports("avx512bw")) return "AVX-512";
#endif
#ifdef __AVX2__
    if (!__builtin_cpu_supports("avx2")) return "AVX2";
#endif
#ifdef __FMA__
    if (!__builtin_cpu_supports("fma")) return "FMA";
#endif
#endif
    return NULL;
}

PyMODINIT_FUNC PyInit__kernel(void) {
    const char *missing = missing_instructions();
    if (missing) {
        PyErr_Format(PyExc_ImportError, "it was built for a processor with %s", missing);
        return NULL;
    }
    PyObject *module = PyModule_Create(&MODULE);
    if (!module) return NULL;
    PyObject *constants = Py_BuildValue(
        "(iiiiiiiLi)", ACTIVATION_MAX, RESIDUAL_MAX, ATTENTION_SUM, FREQUENCY_SUM, GELU_HALF,
        SLOTS, TOP_BITS, (long long)BOTTOM, VIRTUAL_BYTES);
    if (!constants || PyModule_AddObjectRef(module, "CONSTANTS", constants) < 0 ||
        PyModule_AddIntConstant(module, "VERSION", KERNEL_VERSION) < 0 ||
        PyModule_AddStringConstant(module, "TARGETS", TARGETS) < 0) {
        Py_XDECREF(constants);
        Py_DECREF(module);
        return NULL;
    }
    Py_DECREF(constants);
    return module;
}

#endif
