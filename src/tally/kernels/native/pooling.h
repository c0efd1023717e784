/* The largest of each window, and back to where it was. */
#ifndef TALLY_POOLING_H
#define TALLY_POOLING_H

#include <math.h>

#include "windows.h"

struct pooling {
    const struct geometry *g;
    const float *x, *y, *ct;
    float *to;
    long at_once;
};

/* The taps of a window at place `at` of one side that lie in an array of `side`. */
static long first_tap(long start) { return start < 0 ? -start : 0; }
static long end_tap(long start, long size, long side) { return most(0, least(size, side - start)); }

static void find_largest(void *with, long number) {
    const struct pooling *s = with;
    const struct geometry *g = s->g;
    long line = g->in_w * g->in_c, last = least((number + 1) * s->at_once, g->images * g->out_h);
    for (long row = number * s->at_once; row < last; row++) {
        const float *image = s->x + row / g->out_h * g->in_h * line;
        long top = row % g->out_h * g->stride_h - g->top;
        for (long col = 0; col < g->out_w; col++) {
            long left = col * g->stride_w - g->left;
            float *to = s->to + (row * g->out_w + col) * g->out_c;
            for (long c = 0; c < g->in_c; c += LANES) {
                long kept = least(LANES, g->in_c - c);
                vector best = (vector){0} - INFINITY;
                for (long h = first_tap(top); h < end_tap(top, g->size_h, g->in_h); h++)
                    for (long v = first_tap(left); v < end_tap(left, g->size_w, g->in_w); v++)
                        best = larger(some_of(image + (top + h) * line + (left + v) * g->in_c + c, kept), best);
                put(to + c, best, kept);
            }
        }
    }
}

/* Hand the number of each window of an image to the first place that holds the largest; to the last one where none does,
   for NaN. Places beyond the array hold what is less than everything. */
static void hand_to_first(void *with, long image) {
    const struct pooling *s = with;
    const struct geometry *g = s->g;
    long line = g->in_w * g->in_c, numbers = g->in_h * line;
    const float *x = s->x + image * numbers;
    float *to = s->to + image * numbers;
    memset(to, 0, numbers * sizeof(float));
    for (long row = 0; row < g->out_h; row++)
        for (long col = 0; col < g->out_w; col++) {
            long top = row * g->stride_h - g->top, left = col * g->stride_w - g->left;
            long place = ((image * g->out_h + row) * g->out_w + col) * g->out_c;
            for (long c = 0; c < g->in_c; c += LANES) {
                long kept = least(LANES, g->in_c - c);
                vector y = some_of(s->y + place + c, kept), ct = some_of(s->ct + place + c, kept);
                integers open = ~(integers){0}, lowest = y == (vector){0} - INFINITY;
                for (long h = 0; h < g->size_h; h++)
                    for (long v = 0; v < g->size_w; v++) {
                        int is_last = h == g->size_h - 1 && v == g->size_w - 1;
                        if (top + h < 0 || top + h >= g->in_h || left + v < 0 || left + v >= g->in_w) {
                            open &= ~lowest;
                            continue;
                        }
                        long at = (top + h) * line + (left + v) * g->in_c + c;
                        integers here = open;
                        if (!is_last) here &= some_of(x + at, kept) == y;
                        open &= ~here;
                        put(to + at, some_of(to + at, kept) + (vector)(here & (integers)ct), kept);
                    }
            }
        }
}

static int pool(XLA_FFI_CallFrame *call, const struct geometry *g, const float *x, float *y) {
    struct pooling s = {.g = g, .x = x, .to = y};
    long rows = g->images * g->out_h, numbers = rows * g->out_w * g->in_c, threads = team_size(call);
    if (numbers * g->size_h * g->size_w < WORTH_SHARING) threads = 1;
    s.at_once = parts_of(rows, 4 * threads);
    share(call, threads, parts_of(rows, s.at_once), find_largest, &s);
    return 1;
}

static int pool_back(XLA_FFI_CallFrame *call, const struct geometry *g, const float *x, const float *y, const float *ct,
                     float *to) {
    struct pooling s = {.g = g, .x = x, .y = y, .ct = ct, .to = to};
    long numbers = g->images * g->out_h * g->out_w * g->in_c, threads = team_size(call);
    if (numbers * g->size_h * g->size_w < WORTH_SHARING) threads = 1;
    share(call, threads, g->images, hand_to_first, &s);
    return 1;
}

#endif
