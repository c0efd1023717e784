/* The inner loops: tiles of sums that stay in the processor's registers while products are added to them. */
#ifndef TALLY_TILES_H
#define TALLY_TILES_H

#include <string.h>
#if defined(__AVX512F__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
#define LANES 16
#elif defined(__AVX__)
#define LANES 8
#else
#define LANES 4
#endif

/* With 32 registers 24 hold sums, 4 weights and one a number of the input; with 16 it is 12, 2 and 1. */
#if defined(__AVX512F__) || defined(__aarch64__)
#define MOST_VECTORS 4
#else
#define MOST_VECTORS 2
#endif
#define MOST_PLACES 8

typedef float vector __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int integers __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

#define UNROLLED _Pragma("GCC unroll 16")

/* A vector of which `count` numbers are there, and are written; all if it has no more. */
#if defined(__AVX512F__)
#define FIRST(count) ((__mmask16)((1u << (count)) - 1))
static inline vector some_of(const float *from, long count) {
    return count >= LANES ? *(const vector *)from : (vector)_mm512_maskz_loadu_ps(FIRST(count), from);
}

static inline void put(float *to, vector numbers, long count) {
    if (count >= LANES) *(vector *)to = numbers;
    else _mm512_mask_storeu_ps(to, FIRST(count), (__m512)numbers);
}
#else
static inline vector some_of(const float *from, long count) {
    if (count >= LANES) return *(const vector *)from;
    float rest[LANES] = {0};
    memcpy(rest, from, count * sizeof(float));
    return *(vector *)rest;
}

static inline void put(float *to, vector numbers, long count) {
    if (count >= LANES) *(vector *)to = numbers;
    else memcpy(to, &numbers, count * sizeof(float));
}
#endif

/* What becomes of each output y: y * scale + shift of its filter, kept between low and high, and, if it pools, the largest
   of each two by two. NaN stays NaN. */
struct finish {
    const float *scale, *shift;
    float low, high;
    int pools;
};

static inline vector larger(vector a, vector b) {
    integers is_a = (a > b) | (a != a);
    return (vector)((is_a & (integers)a) | (~is_a & (integers)b));
}

static inline vector between(const struct finish *f, vector y) {
    vector low = (vector){0} + f->low, high = (vector){0} + f->high;
    integers is_low = y < low, is_high = y > high;
    y = (vector)((is_low & (integers)low) | (~is_low & (integers)y));
    return (vector)((is_high & (integers)high) | (~is_high & (integers)y));
}

/* A vector of outputs of the filters from f on, finished. */
static inline vector finished(const struct finish *with, vector y, long f, long count) {
    return between(with, y * some_of(with->scale + f, count) + some_of(with->shift + f, count));
}

/* How many places a tile has at most, whose sums are so many vectors wide. */
static inline long tallest(long vectors) {
    if (MOST_VECTORS == 2) return vectors == 2 ? 6 : MOST_PLACES;
    return vectors == 4 ? 6 : MOST_PLACES;
}

/* How many vectors wide the next tile is when so many are left. */
static inline long widest(long left) {
    return left >= MOST_VECTORS ? MOST_VECTORS : left >= 2 ? 2 : 1;
}

/* y[to[p] + f] = the sum over runs r and k of x[at[p] + runs[r] + k] * w[r, k, f], for the R places p of a tile.

   w: packed, V vectors for each k. last: how many numbers of the last vector are wanted. adds: whether y holds a part
   of the sum already. */
typedef void slide_tile(const float *x, const long *at, const long *runs, long count, long length, const float *w,
                        float *y, const long *to, long last, int adds);

#define SLIDE_TILE(R, V)                                                                                        \
    static void slide_##R##_##V(const float *x, const long *at, const long *runs, long count, long length,      \
                                const float *w, float *y, const long *to, long last, int adds) {                \
        vector sums[R][V];                                                                                      \
        const float *from[R];                                                                                   \
        UNROLLED for (int r = 0; r < R; r++) {                                                                  \
            UNROLLED for (int v = 0; v < V; v++) sums[r][v] = (vector){0};                                      \
        }                                                                                                       \
        if (adds) {                                                                                             \
            UNROLLED for (int r = 0; r < R; r++) {                                                              \
                UNROLLED for (int v = 0; v < V - 1; v++) sums[r][v] = *(vector *)(y + to[r] + v * LANES);       \
                sums[r][V - 1] = some_of(y + to[r] + (V - 1) * LANES, last);                                    \
            }                                                                                                   \
        }                                                                                                       \
        for (long run = 0; run < count; run++) {                                                                \
            UNROLLED for (int r = 0; r < R; r++) from[r] = x + at[r] + runs[run];                               \
            _Pragma("GCC unroll 2") for (long k = 0; k < length; k++) {                                         \
                vector weights[V];                                                                              \
                UNROLLED for (int v = 0; v < V; v++) weights[v] = *(const vector *)(w + (k * V + v) * LANES);   \
                UNROLLED for (int r = 0; r < R; r++) {                                                          \
                    float one = from[r][k];                                                                     \
                    UNROLLED for (int v = 0; v < V; v++) sums[r][v] += one * weights[v];                        \
                }                                                                                               \
            }                                                                                                   \
            w += length * V * LANES;                                                                            \
        }                                                                                                       \
        UNROLLED for (int r = 0; r < R; r++) {                                                                  \
            UNROLLED for (int v = 0; v < V - 1; v++) *(vector *)(y + to[r] + v * LANES) = sums[r][v];           \
            put(y + to[r] + (V - 1) * LANES, sums[r][V - 1], last);                                             \
        }                                                                                                       \
    }

/* sums[k * pitch + f] += the sum over places p of x[at[p] + k] * y[to[p] + f], for the R numbers k of a tile. */
typedef void weigh_tile(const float *x, const long *at, const float *y, const long *to, long places, float *sums,
                        long pitch);

#define WEIGH_TILE(R, V)                                                                                        \
    static void weigh_##R##_##V(const float *x, const long *at, const float *y, const long *to, long places,    \
                                float *sums, long pitch) {                                                      \
        vector parts[R][V];                                                                                     \
        UNROLLED for (int r = 0; r < R; r++) {                                                                  \
            UNROLLED for (int v = 0; v < V; v++) parts[r][v] = *(vector *)(sums + r * pitch + v * LANES);       \
        }                                                                                                       \
        for (long p = 0; p < places; p++) {                                                                     \
            const float *numbers = x + at[p], *others = y + to[p];                                              \
            vector many[V];                                                                                     \
            UNROLLED for (int v = 0; v < V; v++) many[v] = *(const vector *)(others + v * LANES);               \
            UNROLLED for (int r = 0; r < R; r++) {                                                              \
                float one = numbers[r];                                                                         \
                UNROLLED for (int v = 0; v < V; v++) parts[r][v] += one * many[v];                              \
            }                                                                                                   \
        }                                                                                                       \
        UNROLLED for (int r = 0; r < R; r++) {                                                                  \
            UNROLLED for (int v = 0; v < V; v++) *(vector *)(sums + r * pitch + v * LANES) = parts[r][v];       \
        }                                                                                                       \
    }

/* y[r * down + f] = the sum over k of x[r * pitch + k] * w[k, f], for `tiles` times R rows r one after the other.

   finish: what is done with the sums, for the first of these filters on; NULL for nothing. */
typedef void product_tile(const float *x, long pitch, long length, const float *w, float *y, long down, long last,
                          long tiles, const struct finish *finish);

#define PRODUCT_TILE(R, V)                                                                                      \
    static void product_##R##_##V(const float *x, long pitch, long length, const float *w, float *y, long down, \
                                  long last, long tiles, const struct finish *finish) {                         \
        for (; tiles > 0; tiles--, x += R * pitch, y += R * down) {                                             \
            vector sums[R][V];                                                                                  \
            UNROLLED for (int r = 0; r < R; r++) {                                                              \
                UNROLLED for (int v = 0; v < V; v++) sums[r][v] = (vector){0};                                  \
            }                                                                                                   \
            _Pragma("GCC unroll 2") for (long k = 0; k < length; k++) {                                         \
                vector weights[V];                                                                              \
                UNROLLED for (int v = 0; v < V; v++) weights[v] = *(const vector *)(w + (k * V + v) * LANES);   \
                UNROLLED for (int r = 0; r < R; r++) {                                                          \
                    float one = x[r * pitch + k];                                                               \
                    UNROLLED for (int v = 0; v < V; v++) sums[r][v] += one * weights[v];                        \
                }                                                                                               \
            }                                                                                                   \
            if (finish != NULL) {                                                                               \
                UNROLLED for (int v = 0; v < V; v++) {                                                          \
                    long count = v == V - 1 ? last : LANES;                                                     \
                    UNROLLED for (int r = 0; r < R; r++) sums[r][v] = finished(finish, sums[r][v], v * LANES, count); \
                }                                                                                               \
            }                                                                                                   \
            UNROLLED for (int r = 0; r < R; r++) {                                                              \
                UNROLLED for (int v = 0; v < V - 1; v++) *(vector *)(y + r * down + v * LANES) = sums[r][v];    \
                put(y + r * down + (V - 1) * LANES, sums[r][V - 1], last);                                      \
            }                                                                                                   \
        }                                                                                                       \
    }

/* y[to[p] + c] = the sum over taps t of x[at[p] + taps[t] + c] * w[t * pitch + c], for the R places p of a tile. */
typedef void channel_tile(const float *x, const long *at, const long *taps, long count, const float *w, long pitch, float *y,
                          const long *to, long last, const struct finish *finish);

#define CHANNEL_TILE(R, V)                                                                                      \
    static void channel_##R##_##V(const float *x, const long *at, const long *taps, long count, const float *w, \
                                  long pitch, float *y, const long *to, long last,                              \
                                  const struct finish *finish) {                                                \
        vector sums[R][V];                                                                                      \
        const float *from[R];                                                                                   \
        UNROLLED for (int r = 0; r < R; r++) {                                                                  \
            from[r] = x + at[r];                                                                                \
            UNROLLED for (int v = 0; v < V; v++) sums[r][v] = (vector){0};                                      \
        }                                                                                                       \
        for (long t = 0; t < count; t++, w += pitch) {                                                          \
            UNROLLED for (int r = 0; r < R; r++) {                                                              \
                UNROLLED for (int v = 0; v < V; v++)                                                            \
                    sums[r][v] += *(const vector *)(from[r] + taps[t] + v * LANES) * *(const vector *)(w + v * LANES); \
            }                                                                                                   \
        }                                                                                                       \
        if (finish != NULL) {                                                                                   \
            UNROLLED for (int v = 0; v < V; v++) {                                                              \
                long count = v == V - 1 ? last : LANES;                                                         \
                UNROLLED for (int r = 0; r < R; r++) sums[r][v] = finished(finish, sums[r][v], v * LANES, count); \
            }                                                                                                   \
        }                                                                                                       \
        UNROLLED for (int r = 0; r < R; r++) {                                                                  \
            UNROLLED for (int v = 0; v < V - 1; v++) *(vector *)(y + to[r] + v * LANES) = sums[r][v];           \
            put(y + to[r] + (V - 1) * LANES, sums[r][V - 1], last);                                             \
        }                                                                                                       \
    }

/* sums[t * pitch + c] += the sum over places p of x[at[p] + taps[t] + c] * y[to[p] + c], for the R taps t of a tile. */
typedef void tap_tile(const float *x, const long *at, const long *taps, const float *y, const long *to, long places,
                      float *sums, long pitch);

#define TAP_TILE(R, V)                                                                                          \
    static void tap_##R##_##V(const float *x, const long *at, const long *taps, const float *y, const long *to, \
                              long places, float *sums, long pitch) {                                           \
        vector parts[R][V];                                                                                     \
        UNROLLED for (int r = 0; r < R; r++) {                                                                  \
            UNROLLED for (int v = 0; v < V; v++) parts[r][v] = *(vector *)(sums + r * pitch + v * LANES);       \
        }                                                                                                       \
        for (long p = 0; p < places; p++) {                                                                     \
            vector many[V];                                                                                     \
            UNROLLED for (int v = 0; v < V; v++) many[v] = *(const vector *)(y + to[p] + v * LANES);            \
            UNROLLED for (int r = 0; r < R; r++) {                                                              \
                const float *numbers = x + at[p] + taps[r];                                                     \
                UNROLLED for (int v = 0; v < V; v++) parts[r][v] += *(const vector *)(numbers + v * LANES) * many[v]; \
            }                                                                                                   \
        }                                                                                                       \
        UNROLLED for (int r = 0; r < R; r++) {                                                                  \
            UNROLLED for (int v = 0; v < V; v++) *(vector *)(sums + r * pitch + v * LANES) = parts[r][v];       \
        }                                                                                                       \
    }

#define UP_TO_6(TILE, V) TILE(1, V) TILE(2, V) TILE(3, V) TILE(4, V) TILE(5, V) TILE(6, V)
#define UP_TO_8(TILE, V) UP_TO_6(TILE, V) TILE(7, V) TILE(8, V)
#define NAMES_TO_6(KIND, V) {0, KIND##_1_##V, KIND##_2_##V, KIND##_3_##V, KIND##_4_##V, KIND##_5_##V, KIND##_6_##V}
#define NAMES_TO_8(KIND, V)                                                                                     \
    {0,            KIND##_1_##V, KIND##_2_##V, KIND##_3_##V, KIND##_4_##V, KIND##_5_##V, KIND##_6_##V, KIND##_7_##V,  \
     KIND##_8_##V}

#if MOST_VECTORS == 4
#define ALL_TILES(TILE, KIND)                                                                                   \
    UP_TO_8(TILE, 1) UP_TO_8(TILE, 2) UP_TO_6(TILE, 4)                                                          \
    static KIND##_tile *const KIND##_tiles[5][MOST_PLACES + 1] = {                                              \
        {0}, NAMES_TO_8(KIND, 1), NAMES_TO_8(KIND, 2), {0}, NAMES_TO_6(KIND, 4)};
#else
#define ALL_TILES(TILE, KIND)                                                                                   \
    UP_TO_8(TILE, 1) UP_TO_6(TILE, 2)                                                                           \
    static KIND##_tile *const KIND##_tiles[3][MOST_PLACES + 1] = {{0}, NAMES_TO_8(KIND, 1), NAMES_TO_6(KIND, 2)};
#endif

ALL_TILES(SLIDE_TILE, slide)
ALL_TILES(WEIGH_TILE, weigh)
ALL_TILES(PRODUCT_TILE, product)
ALL_TILES(CHANNEL_TILE, channel)
ALL_TILES(TAP_TILE, tap)

/* Rows of x, `pitch` apart, times packed weights of so many vectors, to rows of y, `down` apart. */
static void multiply(const float *x, long pitch, long length, const float *w, long vectors, float *y, long down, long last,
                     long rows, const struct finish *finish) {
    long tiles = (rows + tallest(vectors) - 1) / tallest(vectors), height = rows / tiles, taller = rows % tiles;
    if (taller > 0) product_tiles[vectors][height + 1](x, pitch, length, w, y, down, last, taller, finish);
    long done = taller * (height + 1);
    product_tiles[vectors][height](x + done * pitch, pitch, length, w, y + done * down, down, last, tiles - taller,
                                   finish);
}

#endif
