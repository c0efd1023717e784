/* Convolution with a kernel of 3 by 3 in steps of 1 by Winograd's minimal filtering F(2×2, 3×3).

   Four neighbouring outputs meet a tile of 4 by 4 inputs. Tile and kernel are turned into 16 points each, sums of a few of
   their numbers; at every point their product, summed over the channels, is one matrix product for all tiles; and four sums
   of the 16 results are the outputs. That takes 16 multiplications where the kernel itself takes 36. The other directions
   are the same with the turns transposed. Lavin and Gray, Fast Algorithms for Convolutional Neural Networks, 2015. */
#ifndef TALLY_WINOGRAD_H
#define TALLY_WINOGRAD_H

#include "windows.h"

enum {
    POINTS = 16,
    TURNED = 128 * 1024, /* numbers of turned tiles that a thread has at a time: 512 kB, half of its cache */
    FEWEST = 16,         /* channels and filters below which turning costs more than it saves */
    ENOUGH = 32,         /* tiles below which turning the kernel does */
};

static int is_worth_turning(const struct windows *w, long groups, long filters) {
    return groups == 1 && w->taps_h == 3 && w->taps_w == 3 && w->step_h == 1 && w->step_w == 1 && w->gap_h == 1 &&
           w->gap_w == 1 && w->x_c >= FEWEST && filters >= FEWEST &&
           w->images * parts_of(w->rows, 2) * parts_of(w->cols, 2) >= ENOUGH;
}

/* The tiles that the windows of two by two places share. */
static struct windows tiles_of(const struct windows *w) {
    static long start = 0;
    struct windows t = *w;
    t.rows = parts_of(w->rows, 2);
    t.cols = parts_of(w->cols, 2);
    t.step_h = t.step_w = 2;
    t.taps_h = t.taps_w = 4;
    t.wide = 2 * t.cols + 2;
    t.each = t.length = w->x_c;
    t.runs = 1;
    t.starts = &start;
    return t;
}

/* Rows of tiles that a thread takes at once, with so many numbers at each point of a tile. */
static long tile_rows_at_once(const struct windows *t, long threads, long numbers) {
    long rows = most(1, TURNED / (POINTS * numbers) / t->cols);
    return least(rows, parts_of(t->images * t->rows, threads > 1 ? 4 * threads : 1));
}

/* Planes of the points of some tiles lie a vector further apart than they need, so that the same place of all of them is
   not in the same lines of the cache. */
static long plane_of(long tiles, long pitch) { return tiles * pitch + LANES; }

/* -- the turns: from numbers `d[4][4]` and the like to points ------------------------------------------------------ */

#define TURN_INPUT(to, a, b, c, d) to[0] = a - c, to[1] = b + c, to[2] = c - b, to[3] = b - d
#define TURN_OUTPUT(to, a, b, c, d) to[0] = a + b + c, to[1] = b - c - d
#define TURN_COTANGENT(to, a, b) to[0] = a, to[1] = a + b, to[2] = a - b, to[3] = -b
#define TURN_KERNEL(to, a, b, c) to[0] = a, to[1] = 0.5f * (a + c) + 0.5f * b, to[2] = 0.5f * (a + c) - 0.5f * b, to[3] = c
#define TURN_SUMS(to, a, b, c, d) to[0] = a + 0.5f * (b + c), to[1] = 0.5f * (b - c), to[2] = 0.5f * (b + c) + d

/* Turn the tiles at these places of a padded copy; a point of a tile has `pitch` channels. */
static void turn_inputs(const struct windows *t, const float *copy, const long *at, long places, long pitch, long plane,
                        float *turned) {
    long line = t->wide * t->x_c;
    for (long p = 0; p < places; p++)
        for (long c = 0; c < t->x_c; c += LANES) {
            const float *x = copy + at[p] + c;
            float *to = turned + p * pitch + c;
            vector half[4][4];
            UNROLLED for (int j = 0; j < 4; j++) {
                vector down[4], d[4];
                UNROLLED for (int i = 0; i < 4; i++) d[i] = *(const vector *)(x + i * line + j * t->x_c);
                TURN_INPUT(down, d[0], d[1], d[2], d[3]);
                UNROLLED for (int i = 0; i < 4; i++) half[i][j] = down[i];
            }
            UNROLLED for (int i = 0; i < 4; i++) {
                vector points[4];
                TURN_INPUT(points, half[i][0], half[i][1], half[i][2], half[i][3]);
                UNROLLED for (int j = 0; j < 4; j++) *(vector *)(to + (4 * i + j) * plane) = points[j];
            }
        }
}

/* Turn the points of the tiles in rows [first, last) back to outputs, for the filters from f on. */
static void turn_outputs(const struct slide *s, const float *points, long plane, long block, long first, long last,
                         long f) {
    const struct windows *t = &s->windows;
    for (long row = first; row < last; row++)
        for (long col = 0; col < t->cols; col++, points += block) {
            long i = 2 * (row % t->rows), j = 2 * col;
            long tile = s->finish != NULL && s->finish->pools ? 1 : 2; /* how many outputs of a side it leaves */
            float *y = s->y + row / t->rows * s->y_image + row % t->rows * tile * s->y_row + col * tile * s->y_col + f;
            for (long v = 0; v < block; v += LANES) {
                long kept = least(LANES, s->filters - f - v);
                vector half[2][4];
                UNROLLED for (int k = 0; k < 4; k++) {
                    vector down[2], m[4];
                    UNROLLED for (int h = 0; h < 4; h++) m[h] = *(const vector *)(points + (4 * h + k) * plane + v);
                    TURN_OUTPUT(down, m[0], m[1], m[2], m[3]);
                    half[0][k] = down[0], half[1][k] = down[1];
                }
                vector out[2][2];
                UNROLLED for (int h = 0; h < 2; h++) TURN_OUTPUT(out[h], half[h][0], half[h][1], half[h][2], half[h][3]);
                if (s->finish != NULL) {
                    vector scale = some_of(s->finish->scale + f + v, kept), shift = some_of(s->finish->shift + f + v, kept);
                    UNROLLED for (int h = 0; h < 2; h++) {
                        UNROLLED for (int k = 0; k < 2; k++) out[h][k] = out[h][k] * scale + shift;
                    }
                    if (s->finish->pools) {
                        vector best = larger(larger(out[0][0], out[0][1]), larger(out[1][0], out[1][1]));
                        put(y + v, between(s->finish, best), kept);
                        continue;
                    }
                    UNROLLED for (int h = 0; h < 2; h++) {
                        UNROLLED for (int k = 0; k < 2; k++) out[h][k] = between(s->finish, out[h][k]);
                    }
                }
                UNROLLED for (int h = 0; h < 2; h++) {
                    if (i + h >= s->rows) continue;
                    put(y + h * s->y_row + v, out[h][0], kept);
                    if (j + 1 < s->cols) put(y + h * s->y_row + s->y_col + v, out[h][1], kept);
                }
            }
        }
}

/* Turn and pack filters for task `number`: for each point and channel the weights of a block of vectors side by side. */
static void turn_kernel(void *with, long number) {
    const struct weights *w = with;
    long first = number * BLOCK;
    float *to = w->packed + first * w->depth;
    for (long f = first, block; f < least(first + BLOCK, w->width); f += block, to += w->depth * block) {
        block = widest((w->width - f) / LANES) * LANES;
        for (long c = 0; c < w->channels; c++)
            for (long v = 0; v < block; v += LANES) {
                long kept = least(LANES, w->filters - f - v);
                vector taps[3][3], half[4][3];
                UNROLLED for (int h = 0; h < 3; h++) {
                    UNROLLED for (int k = 0; k < 3; k++) {
                        const float *from = w->kernel + (w->from_h + h * w->by_h) * w->tap_h +
                                            (w->from_w + k * w->by_w) * w->tap_w + c * w->channel + (f + v) * w->filter;
                        if (w->filter == 1) taps[h][k] = some_of(from, kept);
                        else {
                            float many[LANES] = {0};
                            for (long i = 0; i < kept; i++) many[i] = from[i * w->filter];
                            taps[h][k] = *(vector *)many;
                        }
                    }
                }
                UNROLLED for (int k = 0; k < 3; k++) {
                    vector down[4];
                    TURN_KERNEL(down, taps[0][k], taps[1][k], taps[2][k]);
                    UNROLLED for (int i = 0; i < 4; i++) half[i][k] = down[i];
                }
                UNROLLED for (int i = 0; i < 4; i++) {
                    vector points[4];
                    TURN_KERNEL(points, half[i][0], half[i][1], half[i][2]);
                    UNROLLED for (int j = 0; j < 4; j++)
                        *(vector *)(to + ((4 * i + j) * w->channels + c) * block + v) = points[j];
                }
            }
    }
}

/* Turn the cotangents of the outputs of the tiles in rows [first, last); a point of a tile has `width` filters. */
static void turn_cotangents(const struct weigh *s, long first, long last, long plane, float *turned) {
    const struct windows *t = &s->windows;
    long line = s->cols * s->filters;
    for (long row = first; row < last; row++)
        for (long col = 0; col < t->cols; col++, turned += s->width) {
            long i = 2 * (row % t->rows), j = 2 * col;
            const float *ct = s->ct + (row / t->rows * s->rows + i) * line + j * s->filters;
            for (long f = 0; f < s->width; f += LANES) {
                long kept = least(LANES, s->filters - f);
                vector half[4][2];
                UNROLLED for (int k = 0; k < 2; k++) {
                    vector down[4], above = {0}, below = {0};
                    if (j + k < s->cols) {
                        above = some_of(ct + k * s->filters + f, kept);
                        if (i + 1 < s->rows) below = some_of(ct + line + k * s->filters + f, kept);
                    }
                    TURN_COTANGENT(down, above, below);
                    UNROLLED for (int h = 0; h < 4; h++) half[h][k] = down[h];
                }
                UNROLLED for (int h = 0; h < 4; h++) {
                    vector points[4];
                    TURN_COTANGENT(points, half[h][0], half[h][1]);
                    UNROLLED for (int k = 0; k < 4; k++) *(vector *)(turned + (4 * h + k) * plane + f) = points[k];
                }
            }
        }
}

/* -- input to output, and back ------------------------------------------------------------------------------------- */

static void slide_turned(void *with, long number) {
    struct slide *s = with;
    const struct windows *t = &s->windows;
    long first = number * s->at_once, last = least(first + s->at_once, t->images * t->rows);
    long places = (last - first) * t->cols, room = s->at_once * t->cols;
    long pitch = parts_of(t->x_c, LANES) * LANES, plane = plane_of(room, pitch);
    long products_plane = plane_of(room, least(s->width, BLOCK));
    float *copy = memory_for(PADDED, (copied_rows(t, s->at_once) * t->wide * t->x_c + LANES) * sizeof(float));
    long *at = memory_for(PLACES, room * sizeof(long));
    float *turned = memory_for(POINTED, POINTS * (plane + products_plane) * sizeof(float));
    if (copy == NULL || at == NULL || turned == NULL) {
        atomic_store(&s->failed, 1);
        return;
    }
    float *products = turned + POINTS * plane;
    gather(t, first, last, copy, at);
    turn_inputs(t, copy, at, places, pitch, plane, turned);
    const float *packed = s->packed;
    for (long f = 0, block; f < s->width; f += block) {
        long vectors = widest((s->width - f) / LANES);
        block = vectors * LANES;
        for (long point = 0; point < POINTS; point++, packed += t->x_c * block)
            multiply(turned + point * plane, pitch, t->x_c, packed, vectors, products + point * products_plane, block, LANES,
                     places, NULL);
        turn_outputs(s, products, products_plane, block, first, last, f);
    }
}

/* Slide with these weights, turned; whether there was memory for it. */
static int slide_by_points(XLA_FFI_CallFrame *call, struct slide *s, struct weights *weights) {
    long threads = team_size(call);
    s->windows = tiles_of(&s->windows);
    weights->depth = POINTS * weights->channels;
    weights->width = s->width = parts_of(s->filters, LANES) * LANES;
    long numbers = weights->depth * weights->width;
    s->packed = weights->packed = memory_for(PACKED, numbers * sizeof(float));
    if (weights->packed == NULL) return 0;
    long tile_rows = s->windows.images * s->windows.rows;
    if ((double)tile_rows * s->windows.cols * numbers < WORTH_SHARING) threads = 1;
    share(call, numbers < WORTH_SPREADING ? 1 : threads, parts_of(s->width, BLOCK), turn_kernel, weights);
    s->at_once = tile_rows_at_once(&s->windows, threads, s->windows.x_c + least(s->width, BLOCK));
    atomic_init(&s->failed, 0);
    share(call, threads, parts_of(tile_rows, s->at_once), slide_turned, s);
    return !atomic_load(&s->failed);
}

/* -- to the kernel's cotangent ------------------------------------------------------------------------------------- */

/* The sums at all points over a part of all rows of tiles, as for `weigh_part`. */
static void weigh_turned(void *with, long number) {
    struct weigh *s = with;
    const struct windows *t = &s->windows;
    long rows = t->images * t->rows, end = rows * (number + 1) / s->parts, room = s->at_once * t->cols;
    long pitch = parts_of(t->x_c, LANES) * LANES, plane = plane_of(room, pitch), ct_plane = plane_of(room, s->width);
    float *sums = s->sums + number * s->depth * s->width;
    float *copy = memory_for(PADDED, (copied_rows(t, s->at_once) * t->wide * t->x_c + LANES) * sizeof(float));
    long *at = memory_for(PLACES, 2 * room * sizeof(long)), *to = at + room;
    float *turned = memory_for(POINTED, POINTS * (plane + ct_plane) * sizeof(float));
    if (copy == NULL || at == NULL || turned == NULL) {
        atomic_store(&s->failed, 1);
        return;
    }
    float *cts = turned + POINTS * plane;
    memset(sums, 0, s->depth * s->width * sizeof(float));
    for (long row = rows * number / s->parts; row < end; row += s->at_once) {
        long last = least(row + s->at_once, end), places = (last - row) * t->cols;
        gather(t, row, last, copy, at);
        turn_inputs(t, copy, at, places, pitch, plane, turned);
        turn_cotangents(s, row, last, ct_plane, cts);
        for (long p = 0; p < places; p++) at[p] = p * pitch, to[p] = p * s->width;
        for (long point = 0; point < POINTS; point++)
            weigh_block(s, turned + point * plane, at, cts + point * ct_plane, to, places,
                        sums + point * t->x_c * s->width);
    }
}

/* Add the parts up for some channels, and turn the sums to the kernel's cotangent. */
static void add_turned(void *with, long number) {
    const struct weigh *s = with;
    long channels = s->windows.x_c, part_size = s->depth * s->width;
    for (long c = number * SUMMED; c < least((number + 1) * SUMMED, channels); c++)
        for (long f = 0; f < s->width; f += LANES) {
            vector half[3][4];
            UNROLLED for (int k = 0; k < 4; k++) {
                vector down[3], sums[4];
                UNROLLED for (int h = 0; h < 4; h++) {
                    const float *from = s->sums + ((4 * h + k) * channels + c) * s->width + f;
                    sums[h] = *(const vector *)from;
                    for (long part = 1; part < s->parts; part++) sums[h] += *(const vector *)(from + part * part_size);
                }
                TURN_SUMS(down, sums[0], sums[1], sums[2], sums[3]);
                UNROLLED for (int h = 0; h < 3; h++) half[h][k] = down[h];
            }
            UNROLLED for (int h = 0; h < 3; h++) {
                vector taps[3];
                TURN_SUMS(taps, half[h][0], half[h][1], half[h][2], half[h][3]);
                UNROLLED for (int k = 0; k < 3; k++)
                    put(s->kernel + ((3 * h + k) * channels + c) * s->filters + f, taps[k], least(LANES, s->filters - f));
            }
        }
}

/* The kernel's cotangent, summed up at the points; whether there was memory for it. */
static int weigh_by_points(XLA_FFI_CallFrame *call, struct weigh *s) {
    long threads = team_size(call);
    s->windows = tiles_of(&s->windows);
    s->depth = POINTS * s->windows.x_c;
    long rows = s->windows.images * s->windows.rows, numbers = s->depth * s->width;
    if ((double)rows * s->windows.cols * numbers < WORTH_SHARING) threads = 1;
    s->parts = least(least(threads, rows), most(1, MOST_SUMS / numbers));
    s->sums = memory_for(PACKED, s->parts * numbers * sizeof(float));
    if (s->sums == NULL) return 0;
    s->at_once = least(tile_rows_at_once(&s->windows, 1, s->windows.x_c + s->width), parts_of(rows, s->parts));
    atomic_init(&s->failed, 0);
    share(call, threads, s->parts, weigh_turned, s);
    if (atomic_load(&s->failed)) return 0;
    share(call, numbers < WORTH_SPREADING ? 1 : threads, parts_of(s->windows.x_c, SUMMED), add_turned, s);
    return 1;
}

#endif
