/* The inner loops: tiles of sums that stay in the processor's registers while products are added to them. */
#ifndef TALLY_TILES_H
#define TALLY_TILES_H

#include <string.h>

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

/* y[r * down + f] = the sum over k of x[r * pitch + k] * w[k, f], for `tiles` times R rows r one after the other. */
typedef void product_tile(const float *x, long pitch, long length, const float *w, float *y, long down, long last,
                          long tiles);

#define PRODUCT_TILE(R, V)                                                                                      \
    static void product_##R##_##V(const float *x, long pitch, long length, const float *w, float *y, long down, \
                                  long last, long tiles) {                                                      \
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
            UNROLLED for (int r = 0; r < R; r++) {                                                              \
                UNROLLED for (int v = 0; v < V - 1; v++) *(vector *)(y + r * down + v * LANES) = sums[r][v];    \
                put(y + r * down + (V - 1) * LANES, sums[r][V - 1], last);                                      \
            }                                                                                                   \
        }                                                                                                       \
    }

#define UP_TO_6(TILE, V) TILE(1, V) TILE(2, V) TILE(3, V) TILE(4, V) TILE(5, V) TILE(6, V)
#define UP_TO_8(TILE, V) UP_TO_6(TILE, V) TILE(7, V) TILE(8, V)
#define NAMES_TO_6(KIND, V) {0, KIND##_1_##V, KIND##_2_##V, KIND##_3_##V, KIND##_4_##V, KIND##_5_##V, KIND##_6_##V}
#define NAMES_TO_8(KIND, V)                                                                                     \
    {0,            KIND##_1_##V, KIND##_2_##V, KIND##_3_##V, KIND##_4_##V, KIND##_5_##V, KIND##_6_##V, KIND##_7_##V,  \
     KIND##_8_##V}

UP_TO_8(SLIDE_TILE, 1)
UP_TO_8(WEIGH_TILE, 1)
UP_TO_8(PRODUCT_TILE, 1)
#if MOST_VECTORS == 4
UP_TO_8(SLIDE_TILE, 2)
UP_TO_8(WEIGH_TILE, 2)
UP_TO_8(PRODUCT_TILE, 2)
UP_TO_6(SLIDE_TILE, 4)
UP_TO_6(WEIGH_TILE, 4)
UP_TO_6(PRODUCT_TILE, 4)
static slide_tile *const slide_tiles[5][MOST_PLACES + 1] = {
    {0}, NAMES_TO_8(slide, 1), NAMES_TO_8(slide, 2), {0}, NAMES_TO_6(slide, 4)};
static weigh_tile *const weigh_tiles[5][MOST_PLACES + 1] = {
    {0}, NAMES_TO_8(weigh, 1), NAMES_TO_8(weigh, 2), {0}, NAMES_TO_6(weigh, 4)};
static product_tile *const product_tiles[5][MOST_PLACES + 1] = {
    {0}, NAMES_TO_8(product, 1), NAMES_TO_8(product, 2), {0}, NAMES_TO_6(product, 4)};
#else
UP_TO_6(SLIDE_TILE, 2)
UP_TO_6(WEIGH_TILE, 2)
UP_TO_6(PRODUCT_TILE, 2)
static slide_tile *const slide_tiles[3][MOST_PLACES + 1] = {{0}, NAMES_TO_8(slide, 1), NAMES_TO_6(slide, 2)};
static weigh_tile *const weigh_tiles[3][MOST_PLACES + 1] = {{0}, NAMES_TO_8(weigh, 1), NAMES_TO_6(weigh, 2)};
static product_tile *const product_tiles[3][MOST_PLACES + 1] = {{0}, NAMES_TO_8(product, 1), NAMES_TO_6(product, 2)};
#endif

/* Rows of x, `pitch` apart, times packed weights of so many vectors, to rows of y, `down` apart. */
static void multiply(const float *x, long pitch, long length, const float *w, long vectors, float *y, long down, long last,
                     long rows) {
    long tiles = (rows + tallest(vectors) - 1) / tallest(vectors), height = rows / tiles, taller = rows % tiles;
    if (taller > 0) product_tiles[vectors][height + 1](x, pitch, length, w, y, down, last, taller);
    long done = taller * (height + 1);
    product_tiles[vectors][height](x + done * pitch, pitch, length, w, y + done * down, down, last, tiles - taller);
}

#endif
