/* What a kernel meets: windows over an input, copied with their padding, and where the weights of a kernel lie. */
#ifndef TALLY_WINDOWS_H
#define TALLY_WINDOWS_H

#include <stdint.h>

#include "team.h"
#include "tiles.h"

/* Where the kernel goes; in the order in which the program's attribute has it. */
struct geometry {
    int64_t images, in_h, in_w, in_c, out_h, out_w, out_c, size_h, size_w, stride_h, stride_w, gap_h, gap_w, top, left,
        groups, pools; /* whether only the largest of two by two outputs is kept, when they are finished */
};

enum {
    NEAR = 48 * 1024,        /* numbers of an input that a thread copies at a time: 192 kB, a part of its cache */
    PANEL = 96 * 1024,       /* numbers of a kernel that stay in the cache while places pass */
    MANY_PLACES = 1024,      /* places in a task, at most, unless one row has more */
    WORTH_SHARING = 1 << 20, /* multiplications below which waking another thread costs more than it saves */
    WORTH_SPREADING = 1 << 16, /* numbers below which the same holds of copying them */
    BLOCK = MOST_VECTORS * LANES, /* filters that are packed side by side, at most */
    SUMMED = 64,             /* rows of a kernel's cotangent that are added up in one task */
    MOST_SUMS = 1 << 27,     /* numbers in which threads add up parts of a kernel's cotangent: 512 MB */
};

static long least(long a, long b) { return a < b ? a : b; }
static long most(long a, long b) { return a > b ? a : b; }
static long parts_of(long whole, long part) { return (whole + part - 1) / part; }

/* Windows over an input: `rows` by `cols` places in each image, from each of which the kernel's taps reach on. */
struct windows {
    const float *x;
    long images, x_h, x_w, x_c;
    long rows, cols;
    long step_h, step_w, taps_h, taps_w, gap_h, gap_w, top, left;
    long wide;               /* columns of the padded copy */
    long each;               /* channels of a group */
    long runs, length;       /* the numbers a place meets lie in so many runs of such a length */
    long *starts;            /* where each run starts, from the place on */
};

static void find_runs(struct windows *w, long groups, long *starts) {
    int merged = w->gap_w == 1 && groups == 1;
    w->wide = (w->cols - 1) * w->step_w + (w->taps_w > 0 ? (w->taps_w - 1) * w->gap_w : 0) + 1;
    w->each = w->x_c / groups;
    w->runs = merged ? w->taps_h : w->taps_h * w->taps_w;
    w->length = merged ? w->taps_w * w->x_c : w->each;
    w->starts = starts;
    for (long run = 0; run < w->runs; run++) {
        long h = merged ? run : run / w->taps_w, v = merged ? 0 : run % w->taps_w;
        starts[run] = (h * w->gap_h * w->wide + v * w->gap_w) * w->x_c;
    }
}

/* Whether every channel meets a kernel of its own. */
static int is_by_channel(const struct windows *w, long groups, long filters) {
    return groups > 1 && groups == w->x_c && filters == 1;
}

static long reach(const struct windows *w) { return w->taps_h > 0 ? (w->taps_h - 1) * w->gap_h + 1 : 1; }

/* How many rows the padded copy for so many rows of places has, at most. */
static long copied_rows(const struct windows *w, long rows) {
    return rows * w->step_h + (rows / w->rows + 2) * reach(w);
}

/* Rows of places, of all images counted through, that a thread takes at once. */
static long rows_at_once(const struct windows *w, long threads, long places) {
    long total = w->images * w->rows;
    long rows = most(1, least(NEAR / (w->wide * w->x_c * w->step_h), places / w->cols));
    rows = least(rows, parts_of(total, threads > 1 ? 4 * threads : 1));
    if (w->cols == 1 && rows > MOST_PLACES) rows = rows / MOST_PLACES * MOST_PLACES;
    return rows;
}

/* Whether places and numbers are the same, one after the other in memory, and so the input can stay where it is. */
static int is_plain(const struct windows *w, long groups) {
    return groups == 1 && w->taps_h == 1 && w->taps_w == 1 && w->step_h == 1 && w->step_w == 1 && w->top == 0 &&
           w->left == 0 && w->rows == w->x_h && w->cols == w->x_w;
}

static void copy_row(const struct windows *w, const float *image, long row, float *to) {
    long zeros = w->wide * w->x_c;
    if (row >= 0 && row < w->x_h) {
        long begin = least(most(w->left, 0), w->wide), end = most(begin, least(w->x_w + w->left, w->wide));
        memset(to, 0, begin * w->x_c * sizeof(float));
        memcpy(to + begin * w->x_c, image + (row * w->x_w + begin - w->left) * w->x_c,
               (end - begin) * w->x_c * sizeof(float));
        to += end * w->x_c;
        zeros = (w->wide - end) * w->x_c;
    }
    memset(to, 0, zeros * sizeof(float));
}

/* Copy what the rows [first, last) of places meet, and say where in the copy each place is. */
static void gather(const struct windows *w, long first, long last, float *copy, long *at) {
    long line = w->wide * w->x_c, copied = 0;
    for (long row = first; row < last;) {
        long image = row / w->rows, begin = row % w->rows, count = least(w->rows - begin, last - row);
        long lines = (count - 1) * w->step_h + reach(w);
        for (long i = 0; i < lines; i++)
            copy_row(w, w->x + image * w->x_h * w->x_w * w->x_c, begin * w->step_h - w->top + i,
                     copy + (copied + i) * line);
        for (long r = 0; r < count; r++)
            for (long col = 0; col < w->cols; col++)
                *at++ = (copied + r * w->step_h) * line + col * w->step_w * w->x_c;
        copied += lines;
        row += count;
    }
}

/* Where a weight is: taps may be counted backwards and in steps, channels and filters may change places. */
struct weights {
    const float *kernel;
    long taps_h, taps_w, from_h, by_h, from_w, by_w; /* tap (h, w) is the kernel's (from_h + h by_h, from_w + w by_w) */
    long tap_h, tap_w, channel, filter, group;       /* how far apart two of each lie */
    long channels, filters;                          /* of a group */
    long depth;                                      /* taps_h taps_w channels */
    long width;                                      /* filters, rounded up to whole vectors */
    float *packed;
};

/* A kernel sliding over windows, and where its outputs go. */
struct slide {
    struct windows windows;
    const struct finish *finish; /* NULL if outputs stay as they are */
    const float *packed;
    float *y;
    long y_image, y_row, y_col;
    long rows, cols;         /* of an output */
    long groups, filters, width;
    long at_once;
    atomic_int failed;
};

/* Windows and what came of them, to be summed up to a kernel's cotangent. */
struct weigh {
    struct windows windows;
    const float *ct;
    float *sums, *kernel;
    long rows, cols;         /* of an output */
    long groups, filters, width, depth;
    long at_once, parts;
    int by_channel;
    atomic_int failed;
};

static void weigh_block(const struct weigh *s, const float *copy, const long *at, const float *ct, const long *to,
                        long places, float *sums) {
    const struct windows *w = &s->windows;
    for (long group = 0; group < s->groups; group++, sums += s->depth * s->width)
        for (long f = 0, vectors; f < s->width; f += vectors * LANES) {
            vectors = widest((s->width - f) / LANES);
            long tiles = parts_of(w->length, tallest(vectors));
            for (long run = 0; run < w->runs; run++)
                for (long tile = 0, k = 0; tile < tiles; tile++) {
                    long height = (w->length - k) / (tiles - tile);
                    weigh_tiles[vectors][height](copy + group * w->each + w->starts[run] + k, at,
                                                 ct + group * s->filters + f, to, places,
                                                 sums + (run * w->length + k) * s->width + f, s->width);
                    k += height;
                }
        }
}

#endif
