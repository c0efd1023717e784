/* All three directions of a convolution of one or two sides on a CPU, and so matrix products, in single precision.

   Numbers lie as (images, rows, columns, channels), kernels as (rows, columns, channels / groups, filters). For a row of
   the kernel the numbers that it meets are neighbours in memory, so that no patches have to be copied: a convolution is a
   matrix product whose left rows overlap. What a thread works on is first copied with its padding into memory that stays
   in its cache. */
#ifndef TALLY_CONVOLUTION_H
#define TALLY_CONVOLUTION_H

#include "windows.h"
#include "winograd.h"

/* -- the kernel, packed -------------------------------------------------------------------------------------------- */

/* Pack filters for task `number`: for each number that a place meets, the weights of a block of vectors side by side. */
static void pack(void *with, long number) {
    const struct weights *w = with;
    long each = parts_of(w->width, BLOCK), group = number / each, first = number % each * BLOCK;
    float *to = w->packed + (group * w->width + first) * w->depth;
    for (long f = first, block; f < least(first + BLOCK, w->width); f += block) {
        block = widest((w->width - f) / LANES) * LANES;
        long kept = least(block, w->filters - f);
        for (long h = 0; h < w->taps_h; h++)
            for (long v = 0; v < w->taps_w; v++) {
                const float *from = w->kernel + (w->from_h + h * w->by_h) * w->tap_h +
                                    (w->from_w + v * w->by_w) * w->tap_w + group * w->group + f * w->filter;
                for (long c = 0; c < w->channels; c++, to += block, from += w->channel) {
                    if (w->filter == 1) memcpy(to, from, kept * sizeof(float));
                    else
                        for (long i = 0; i < kept; i++) to[i] = from[i * w->filter];
                    if (kept < block) memset(to + kept, 0, (block - kept) * sizeof(float));
                }
            }
    }
}

/* The same for a kernel whose every channel meets itself alone: for each tap the weights of all channels side by side. */
static void pack_taps(const struct weights *w, long channels) {
    float *to = w->packed;
    for (long h = 0; h < w->taps_h; h++)
        for (long v = 0; v < w->taps_w; v++, to += w->width) {
            const float *from = w->kernel + (w->from_h + h * w->by_h) * w->tap_h + (w->from_w + v * w->by_w) * w->tap_w;
            memcpy(to, from, channels * sizeof(float));
            memset(to + channels, 0, (w->width - channels) * sizeof(float));
        }
}

/* -- input to output, and back ------------------------------------------------------------------------------------- */

/* Add up runs [run, run + count), from number `from` on, for one block of filters at every place. */
static void slide_panel(const struct slide *s, const float *copy, const long *at, const long *to, long places, long run,
                        long count, long from, long length, const float *packed, long vectors, float *y, long last) {
    const struct windows *w = &s->windows;
    long tiles = parts_of(places, tallest(vectors));
    for (long tile = 0, p = 0; tile < tiles; tile++) {
        long height = (places - p) / (tiles - tile);
        slide_tiles[vectors][height](copy + from, at + p, w->starts + run, count, length, packed, y, to + p, last,
                                     run > 0 || from > 0);
        p += height;
    }
}

/* Finish `places` of a matrix of outputs where they are. */
static void finish_places(const struct finish *with, float *y, long places, long filters) {
    for (long p = 0; p < places; p++, y += filters)
        for (long f = 0, kept; f < filters; f += LANES) {
            kept = least(LANES, filters - f);
            put(y + f, finished(with, some_of(y + f, kept), f, kept), kept);
        }
}

/* Finish an even number of rows of places, two by two. */
static void finish_pooled(const struct finish *with, const float *y, long rows, long cols, long filters, float *to) {
    for (long row = 0; row < rows; row += 2, y += 2 * cols * filters)
        for (long col = 0; col < cols; col += 2, to += filters)
            for (long f = 0, kept; f < filters; f += LANES) {
                kept = least(LANES, filters - f);
                vector scale = some_of(with->scale + f, kept), shift = some_of(with->shift + f, kept), four[4];
                UNROLLED for (int i = 0; i < 4; i++)
                    four[i] = some_of(y + ((i / 2) * cols + col + i % 2) * filters + f, kept) * scale + shift;
                put(to + f, between(with, larger(larger(four[0], four[1]), larger(four[2], four[3]))), kept);
            }
}

/* How the outputs from filter f on are finished, if they are: in `room`. */
static const struct finish *finish_from(const struct finish *all, long f, struct finish *room) {
    if (all == NULL) return NULL;
    *room = *all;
    room->scale += f, room->shift += f;
    return room;
}

/* All groups and filters at these places. */
static void slide_groups(const struct slide *s, const float *copy, const long *at, const long *to, long places, float *all) {
    const struct windows *w = &s->windows;
    const float *packed = s->packed;
    for (long group = 0; group < s->groups; group++)
        for (long f = 0, block; f < s->width; f += block) {
            long vectors = widest((s->width - f) / LANES), left = least(vectors * LANES, s->filters - f);
            block = vectors * LANES;
            float *y = all + group * s->filters + f;
            const float *x = copy + group * w->each;
            long at_most = PANEL / block;
            if (w->runs == 0) slide_panel(s, x, at, to, places, 0, 0, 0, 0, packed, vectors, y, left - block + LANES);
            else if (w->length <= at_most)
                for (long run = 0, count; run < w->runs; run += count) {
                    count = least(at_most / w->length, w->runs - run);
                    slide_panel(s, x, at, to, places, run, count, 0, w->length, packed + run * w->length * block, vectors,
                                y, left - block + LANES);
                }
            else
                for (long run = 0; run < w->runs; run++)
                    for (long from = 0, length; from < w->length; from += length) {
                        length = least(at_most, w->length - from);
                        slide_panel(s, x, at, to, places, run, 1, from, length,
                                    packed + (run * w->length + from) * block, vectors, y, left - block + LANES);
                    }
            packed += w->runs * w->length * block;
        }
}

/* The same where every channel is a group. */
static void slide_channels(const struct slide *s, const float *copy, const long *at, const long *to, long places, float *y) {
    const struct windows *w = &s->windows;
    struct finish from;
    for (long c = 0, vectors; c < s->width; c += vectors * LANES) {
        const struct finish *finish = s->finish != NULL && s->finish->pools ? NULL : finish_from(s->finish, c, &from);
        vectors = widest((s->width - c) / LANES);
        long last = least(vectors * LANES, s->groups - c) - (vectors - 1) * LANES, tiles = parts_of(places, tallest(vectors));
        for (long tile = 0, p = 0; tile < tiles; tile++) {
            long height = (places - p) / (tiles - tile);
            channel_tiles[vectors][height](copy + c, at + p, w->starts, w->runs, s->packed + c, s->width, y + c, to + p, last,
                                           finish);
            p += height;
        }
    }
}

static void slide_rows(void *with, long number) {
    struct slide *s = with;
    const struct windows *w = &s->windows;
    long first = number * s->at_once, last = least(first + s->at_once, w->images * w->rows);
    long places = (last - first) * w->cols;
    float *copy = memory_for(PADDED, (copied_rows(w, s->at_once) * w->wide * w->x_c + LANES) * sizeof(float));
    long *at = memory_for(PLACES, 2 * s->at_once * w->cols * sizeof(long)), *to = at + places;
    /* Outputs that are pooled pass through memory of the thread. */
    long all = s->groups * s->filters, pools = s->finish != NULL && s->finish->pools;
    float *passing = pools ? memory_for(POINTED, s->at_once * w->cols * all * sizeof(float)) : s->y;
    if (copy == NULL || at == NULL || passing == NULL) {
        atomic_store(&s->failed, 1);
        return;
    }
    gather(w, first, last, copy, at);
    for (long p = 0, row = first; row < last; row++)
        for (long col = 0; col < w->cols; col++, p++)
            to[p] = pools ? p * all : row / w->rows * s->y_image + row % w->rows * s->y_row + col * s->y_col;

    int by_channel = is_by_channel(w, s->groups, s->filters);
    (by_channel ? slide_channels : slide_groups)(s, copy, at, to, places, passing);
    if (pools) finish_pooled(s->finish, passing, last - first, w->cols, all, s->y + first / 2 * (w->cols / 2) * all);
    else if (s->finish != NULL && !by_channel) finish_places(s->finish, s->y + first * w->cols * all, places, all);
}

/* The same where places are rows of a matrix. */
static void slide_matrix(void *with, long number) {
    const struct slide *s = with;
    const struct windows *w = &s->windows;
    long first = number * s->at_once, places = least(s->at_once, w->images * w->rows * w->cols - first);
    struct finish from;
    for (long f = 0, block; f < s->width; f += block) {
        long vectors = widest((s->width - f) / LANES), left = least(vectors * LANES, s->filters - f);
        block = vectors * LANES;
        multiply(w->x + first * w->x_c, w->x_c, w->x_c, s->packed + f * w->x_c, vectors, s->y + first * s->filters + f,
                 s->filters, left - block + LANES, places, finish_from(s->finish, f, &from));
    }
}

/* Slide with these weights; whether there was memory for it. */
static int slide(XLA_FFI_CallFrame *call, struct slide *s, struct weights *weights) {
    struct windows *w = &s->windows;
    s->rows = w->rows, s->cols = w->cols;
    if (is_worth_turning(w, s->groups, s->filters)) return slide_by_points(call, s, weights);
    long threads = team_size(call), rows = w->images * w->rows;
    int by_channel = is_by_channel(w, s->groups, s->filters);
    weights->depth = weights->taps_h * weights->taps_w * weights->channels;
    weights->width = s->width = parts_of(by_channel ? s->groups : s->filters, LANES) * LANES;
    long numbers = (by_channel ? 1 : s->groups) * weights->depth * weights->width;
    char *memory = memory_for(PACKED, numbers * sizeof(float) + (w->taps_h * w->taps_w + 1) * sizeof(long));
    if (memory == NULL) return 0;
    weights->packed = (float *)memory;
    s->packed = weights->packed;
    find_runs(w, s->groups, (long *)(memory + numbers * sizeof(float)));
    if ((double)rows * w->cols * numbers < WORTH_SHARING) threads = 1;
    if (by_channel) pack_taps(weights, s->groups);
    else share(call, numbers < WORTH_SPREADING ? 1 : threads, s->groups * parts_of(s->width, BLOCK), pack, weights);
    atomic_init(&s->failed, 0);
    int pools = s->finish != NULL && s->finish->pools;
    if (is_plain(w, s->groups) && s->y_col == s->filters && w->x_c * BLOCK <= PANEL && !pools) {
        long places = rows * w->cols, numbers_of_place = s->finish == NULL ? w->x_c : w->x_c + s->filters;
        s->at_once = least(most(MOST_PLACES, NEAR / numbers_of_place), parts_of(places, threads > 1 ? 4 * threads : 1));
        share(call, threads, parts_of(places, s->at_once), slide_matrix, s);
        return 1;
    }
    s->at_once = rows_at_once(w, threads, MANY_PLACES);
    if (pools) s->at_once = (s->at_once + 1) / 2 * 2;
    share(call, threads, parts_of(rows, s->at_once), slide_rows, s);
    return !atomic_load(&s->failed);
}

static int forwards(XLA_FFI_CallFrame *call, const struct geometry *g, const float *x, const float *kernel,
                    const struct finish *finish, float *y) {
    struct slide s = {
        .finish = finish,
        .windows = {.x = x, .images = g->images, .x_h = g->in_h, .x_w = g->in_w, .x_c = g->in_c, .rows = g->out_h,
                    .cols = g->out_w, .step_h = g->stride_h, .step_w = g->stride_w, .taps_h = g->size_h,
                    .taps_w = g->size_w, .gap_h = g->gap_h, .gap_w = g->gap_w, .top = g->top, .left = g->left},
        .y = y, .y_image = g->out_h * g->out_w * g->out_c, .y_row = g->out_w * g->out_c, .y_col = g->out_c,
        .groups = g->groups, .filters = g->out_c / g->groups};
    long each = g->in_c / g->groups;
    struct weights weights = {.kernel = kernel, .taps_h = g->size_h, .taps_w = g->size_w, .by_h = 1, .by_w = 1,
                              .tap_h = g->size_w * each * g->out_c, .tap_w = each * g->out_c, .channel = g->out_c,
                              .filter = 1, .group = s.filters, .channels = each, .filters = s.filters};
    if (finish != NULL && finish->pools) { /* what has no partner on its side is in no result */
        s.windows.rows -= s.windows.rows % 2, s.windows.cols -= s.windows.cols % 2;
        s.y_image = s.windows.rows / 2 * (s.windows.cols / 2) * g->out_c;
        s.y_row = s.windows.cols / 2 * g->out_c;
    }
    return slide(call, &s, &weights);
}

/* One side of the way back: the places of the input that are `phase` beyond a multiple of the stride, and their taps. */
struct phase {
    long first, places, start, taps, before;
};

static struct phase phase_of(long phase, long stride, long size, long gap, long pad, long in) {
    struct phase p;
    p.taps = phase < size ? parts_of(size - phase, stride) : 0;
    p.first = pad > phase ? parts_of(pad - phase, stride) : -((phase - pad) / stride);
    p.start = stride * p.first + phase - pad;
    p.places = p.start < in ? (in - 1 - p.start) / stride + 1 : 0;
    p.before = (p.taps > 0 ? (p.taps - 1) * gap : 0) - p.first;
    return p;
}

/* From a cotangent of the output to that of the input. Of inputs that are a stride apart each meets the same taps. */
static int backwards(XLA_FFI_CallFrame *call, const struct geometry *g, const float *ct, const float *kernel, float *x) {
    long each = g->in_c / g->groups, filters = g->out_c / g->groups;
    for (long i = 0; i < g->stride_h; i++)
        for (long j = 0; j < g->stride_w; j++) {
            struct phase h = phase_of(i, g->stride_h, g->size_h, g->gap_h, g->top, g->in_h);
            struct phase v = phase_of(j, g->stride_w, g->size_w, g->gap_w, g->left, g->in_w);
            if (h.places == 0 || v.places == 0) continue;
            if (h.taps == 0 || v.taps == 0) h.taps = v.taps = 0;
            struct slide s = {
                .windows = {.x = ct, .images = g->images, .x_h = g->out_h, .x_w = g->out_w, .x_c = g->out_c,
                            .rows = h.places, .cols = v.places, .step_h = 1, .step_w = 1, .taps_h = h.taps,
                            .taps_w = v.taps, .gap_h = g->gap_h, .gap_w = g->gap_w, .top = h.before, .left = v.before},
                .y = x + (h.start * g->in_w + v.start) * g->in_c, .y_image = g->in_h * g->in_w * g->in_c,
                .y_row = g->stride_h * g->in_w * g->in_c, .y_col = g->stride_w * g->in_c, .groups = g->groups,
                .filters = each};
            struct weights weights = {
                .kernel = kernel, .taps_h = h.taps, .taps_w = v.taps, .from_h = i + (h.taps - 1) * g->stride_h,
                .by_h = -g->stride_h, .from_w = j + (v.taps - 1) * g->stride_w, .by_w = -g->stride_w,
                .tap_h = g->size_w * each * g->out_c, .tap_w = each * g->out_c, .channel = 1, .filter = g->out_c,
                .group = filters, .channels = filters, .filters = each};
            if (!slide(call, &s, &weights)) return 0;
        }
    return 1;
}

/* -- to the kernel's cotangent ------------------------------------------------------------------------------------- */

static void weigh_channels(const struct weigh *s, const float *copy, const long *at, const float *ct, const long *to,
                           long places, float *sums) {
    const struct windows *w = &s->windows;
    for (long c = 0, vectors; c < s->width; c += vectors * LANES) {
        vectors = least(2, widest((s->width - c) / LANES));
        long tiles = parts_of(w->runs, tallest(vectors));
        for (long tile = 0, tap = 0; tile < tiles; tile++) {
            long height = (w->runs - tap) / (tiles - tile);
            tap_tiles[vectors][height](copy + c, at, w->starts + tap, ct + c, to, places, sums + tap * s->width + c, s->width);
            tap += height;
        }
    }
}

/* The sums over a part of all rows of places. Which rows are a part does not depend on which thread is free, so that the
   result is the same to the last bit in every run. */
static void weigh_part(void *with, long number) {
    struct weigh *s = with;
    const struct windows *w = &s->windows;
    long rows = w->images * w->rows, end = rows * (number + 1) / s->parts;
    long line = w->cols * s->groups * s->filters;
    float *sums = s->sums + number * s->groups * s->depth * s->width;
    float *copy = memory_for(PADDED, (copied_rows(w, s->at_once) * w->wide * w->x_c + LANES) * sizeof(float));
    long *at = memory_for(PLACES, 2 * s->at_once * w->cols * sizeof(long));
    float *others = NULL;
    /* A vector that reaches beyond the last number of the array is read from a copy that has room behind it. */
    if (s->filters % LANES) others = memory_for(OTHERS, (s->at_once * line + LANES) * sizeof(float));
    if (copy == NULL || at == NULL || (s->filters % LANES && others == NULL)) {
        atomic_store(&s->failed, 1);
        return;
    }
    if (others != NULL) memset(others, 0, (s->at_once * line + LANES) * sizeof(float));
    memset(sums, 0, s->groups * s->depth * s->width * sizeof(float));
    for (long row = rows * number / s->parts; row < end; row += s->at_once) {
        long count = least(s->at_once, end - row), places = count * w->cols;
        const float *ct = s->ct + row * line;
        gather(w, row, row + count, copy, at);
        for (long p = 0; p < places; p++) at[places + p] = p * s->groups * s->filters;
        if (others != NULL) ct = memcpy(others, ct, count * line * sizeof(float));
        (s->by_channel ? weigh_channels : weigh_block)(s, copy, at, ct, at + places, places, sums);
    }
}

/* Add the parts up for some rows of the kernel's cotangent. */
static void add_parts(void *with, long number) {
    const struct weigh *s = with;
    for (long k = number * SUMMED; k < least((number + 1) * SUMMED, s->depth); k++)
        for (long group = 0; group < s->groups; group++) {
            float *to = s->kernel + (k * s->groups + group) * s->filters;
            const float *from = s->sums + (group * s->depth + k) * s->width;
            memcpy(to, from, s->filters * sizeof(float));
            for (long part = 1; part < s->parts; part++) {
                from += s->groups * s->depth * s->width;
                for (long f = 0; f < s->filters; f++) to[f] += from[f];
            }
        }
}

static int to_kernel(XLA_FFI_CallFrame *call, const struct geometry *g, const float *x, const float *ct, float *kernel) {
    struct weigh s = {
        .windows = {.x = x, .images = g->images, .x_h = g->in_h, .x_w = g->in_w, .x_c = g->in_c, .rows = g->out_h,
                    .cols = g->out_w, .step_h = g->stride_h, .step_w = g->stride_w, .taps_h = g->size_h,
                    .taps_w = g->size_w, .gap_h = g->gap_h, .gap_w = g->gap_w, .top = g->top, .left = g->left},
        .ct = ct, .kernel = kernel, .rows = g->out_h, .cols = g->out_w, .groups = g->groups,
        .filters = g->out_c / g->groups};
    s.by_channel = is_by_channel(&s.windows, s.groups, s.filters);
    if (s.by_channel) s.groups = 1, s.filters = g->out_c;
    s.width = parts_of(s.filters, LANES) * LANES;
    if (is_worth_turning(&s.windows, g->groups, s.filters)) return weigh_by_points(call, &s);
    long threads = team_size(call), rows = g->images * g->out_h;
    s.depth = g->size_h * g->size_w * (g->in_c / g->groups);
    long numbers = s.groups * s.depth * s.width;
    if ((double)rows * g->out_w * numbers < WORTH_SHARING) threads = 1;
    s.parts = least(least(threads, rows), most(1, MOST_SUMS / numbers));
    size_t bytes = s.parts * numbers * sizeof(float);
    char *memory = memory_for(PACKED, bytes + g->size_h * g->size_w * sizeof(long));
    if (memory == NULL) return 0;
    s.sums = (float *)memory;
    find_runs(&s.windows, g->groups, (long *)(memory + bytes));
    s.at_once = least(rows_at_once(&s.windows, 1, MANY_PLACES / 2), parts_of(rows, s.parts));
    atomic_init(&s.failed, 0);
    share(call, threads, s.parts, weigh_part, &s);
    if (atomic_load(&s.failed)) return 0;
    share(call, numbers < WORTH_SPREADING ? 1 : threads, parts_of(s.depth, SUMMED), add_parts, &s);
    return 1;
}

#endif
