/* All three directions of a convolution of one or two sides on a CPU, and so matrix products, in single precision.

   Numbers lie as (images, rows, columns, channels), kernels as (rows, columns, channels / groups, filters). For a row of
   the kernel the numbers that it meets are neighbours in memory, so that no patches have to be copied: a convolution is a
   matrix product whose left rows overlap. What a thread works on is first copied with its padding into memory that stays
   in its cache. */
#include "team.h"
#include "tiles.h"

/* Where the kernel goes; in the order in which the program's attribute has it. */
struct geometry {
    int64_t images, in_h, in_w, in_c, out_h, out_w, out_c, size_h, size_w, stride_h, stride_w, gap_h, gap_w, top, left,
        groups;
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

/* -- what a kernel meets ------------------------------------------------------------------------------------------- */

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

/* -- the kernel, packed -------------------------------------------------------------------------------------------- */

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

/* -- input to output, and back ------------------------------------------------------------------------------------- */

struct slide {
    struct windows windows;
    const float *packed;
    float *y;
    long y_image, y_row, y_col;
    long groups, filters, width;
    long at_once;
    atomic_int failed;
};

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

static void slide_rows(void *with, long number) {
    struct slide *s = with;
    const struct windows *w = &s->windows;
    long first = number * s->at_once, last = least(first + s->at_once, w->images * w->rows);
    long places = (last - first) * w->cols;
    float *copy = memory_for(PADDED, copied_rows(w, s->at_once) * w->wide * w->x_c * sizeof(float));
    long *at = memory_for(PLACES, 2 * s->at_once * w->cols * sizeof(long)), *to = at + places;
    if (copy == NULL || at == NULL) {
        atomic_store(&s->failed, 1);
        return;
    }
    gather(w, first, last, copy, at);
    for (long p = 0, row = first; row < last; row++)
        for (long col = 0; col < w->cols; col++)
            to[p++] = row / w->rows * s->y_image + row % w->rows * s->y_row + col * s->y_col;

    const float *packed = s->packed;
    for (long group = 0; group < s->groups; group++)
        for (long f = 0, block; f < s->width; f += block) {
            long vectors = widest((s->width - f) / LANES), left = least(vectors * LANES, s->filters - f);
            block = vectors * LANES;
            float *y = s->y + group * s->filters + f;
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

/* Slide with these weights; whether there was memory for it. */
static int slide(XLA_FFI_CallFrame *call, struct slide *s, struct weights *weights) {
    struct windows *w = &s->windows;
    long threads = team_size(call), rows = w->images * w->rows;
    weights->depth = weights->taps_h * weights->taps_w * weights->channels;
    weights->width = s->width = parts_of(s->filters, LANES) * LANES;
    long numbers = s->groups * weights->depth * weights->width;
    char *memory = memory_for(PACKED, numbers * sizeof(float) + (w->taps_h * w->taps_w + 1) * sizeof(long));
    if (memory == NULL) return 0;
    weights->packed = (float *)memory;
    s->packed = weights->packed;
    find_runs(w, s->groups, (long *)(memory + numbers * sizeof(float)));
    if ((double)rows * w->cols * numbers < WORTH_SHARING) threads = 1;
    share(call, numbers < WORTH_SPREADING ? 1 : threads, s->groups * parts_of(s->width, BLOCK), pack, weights);
    s->at_once = rows_at_once(w, threads, MANY_PLACES);
    atomic_init(&s->failed, 0);
    share(call, threads, parts_of(rows, s->at_once), slide_rows, s);
    return !atomic_load(&s->failed);
}

static int forwards(XLA_FFI_CallFrame *call, const struct geometry *g, const float *x, const float *kernel, float *y) {
    struct slide s = {
        .windows = {.x = x, .images = g->images, .x_h = g->in_h, .x_w = g->in_w, .x_c = g->in_c, .rows = g->out_h,
                    .cols = g->out_w, .step_h = g->stride_h, .step_w = g->stride_w, .taps_h = g->size_h,
                    .taps_w = g->size_w, .gap_h = g->gap_h, .gap_w = g->gap_w, .top = g->top, .left = g->left},
        .y = y, .y_image = g->out_h * g->out_w * g->out_c, .y_row = g->out_w * g->out_c, .y_col = g->out_c,
        .groups = g->groups, .filters = g->out_c / g->groups};
    long each = g->in_c / g->groups;
    struct weights weights = {.kernel = kernel, .taps_h = g->size_h, .taps_w = g->size_w, .by_h = 1, .by_w = 1,
                              .tap_h = g->size_w * each * g->out_c, .tap_w = each * g->out_c, .channel = g->out_c,
                              .filter = 1, .group = s.filters, .channels = each, .filters = s.filters};
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

struct weigh {
    struct windows windows;
    const float *ct;
    float *sums, *kernel;
    long groups, filters, width, depth;
    long at_once, parts;
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

/* The sums over a part of all rows of places. Which rows are a part does not depend on which thread is free, so that the
   result is the same to the last bit in every run. */
static void weigh_part(void *with, long number) {
    struct weigh *s = with;
    const struct windows *w = &s->windows;
    long rows = w->images * w->rows, end = rows * (number + 1) / s->parts;
    long line = w->cols * s->groups * s->filters;
    float *sums = s->sums + number * s->groups * s->depth * s->width;
    float *copy = memory_for(PADDED, copied_rows(w, s->at_once) * w->wide * w->x_c * sizeof(float));
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
        weigh_block(s, copy, at, ct, at + places, places, sums);
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
        .ct = ct, .kernel = kernel, .groups = g->groups, .filters = g->out_c / g->groups};
    long threads = team_size(call), rows = g->images * g->out_h;
    s.width = parts_of(s.filters, LANES) * LANES;
    s.depth = g->size_h * g->size_w * (g->in_c / g->groups);
    long numbers = s.groups * s.depth * s.width;
    if ((double)rows * g->out_w * numbers < WORTH_SHARING) threads = 1;
    s.parts = least(least(threads, rows), most(1, MOST_SUMS / numbers));
    size_t bytes = s.parts * numbers * sizeof(float);
    char *memory = memory_for(PACKED, bytes + g->size_h * g->size_w * sizeof(long));
    if (memory == NULL) return 0;
    s.sums = (float *)memory;
    find_runs(&s.windows, s.groups, (long *)(memory + bytes));
    s.at_once = least(rows_at_once(&s.windows, 1, MANY_PLACES / 2), parts_of(rows, s.parts));
    atomic_init(&s.failed, 0);
    share(call, threads, s.parts, weigh_part, &s);
    if (atomic_load(&s.failed)) return 0;
    share(call, numbers < WORTH_SPREADING ? 1 : threads, parts_of(s.depth, SUMMED), add_parts, &s);
    return 1;
}

/* -- as XLA calls it ----------------------------------------------------------------------------------------------- */

typedef int direction(XLA_FFI_CallFrame *, const struct geometry *, const float *, const float *, float *);

static XLA_FFI_Error *complain(XLA_FFI_CallFrame *call, XLA_FFI_Error_Code code, const char *message) {
    XLA_FFI_Error_Create_Args ask = {
        .struct_size = XLA_FFI_Error_Create_Args_STRUCT_SIZE, .message = message, .errc = code};
    return call->api->XLA_FFI_Error_Create(&ask);
}

static XLA_FFI_Error *answer(XLA_FFI_CallFrame *call, direction *compute) {
    for (XLA_FFI_Extension_Base *more = call->extension_start; more != NULL; more = more->next)
        if (more->type == XLA_FFI_Extension_Metadata) {
            XLA_FFI_Metadata *metadata = ((XLA_FFI_Metadata_Extension *)more)->metadata;
            metadata->api_version.major_version = XLA_FFI_API_MAJOR;
            metadata->api_version.minor_version = XLA_FFI_API_MINOR;
            return NULL;
        }
    const XLA_FFI_Buffer *left = call->args.args[0], *right = call->args.args[1], *result = call->rets.rets[0];
    const XLA_FFI_Array *geometry = call->attrs.attrs[0];
    if (left->dtype != XLA_FFI_DataType_F32 || right->dtype != XLA_FFI_DataType_F32 ||
        geometry->size * sizeof(int64_t) != sizeof(struct geometry))
        return complain(call, XLA_FFI_Error_Code_INVALID_ARGUMENT, "a convolution takes two arrays of float32");
    int is_done = compute(call, geometry->data, left->data, right->data, result->data);
    let_much_go(PACKED);
    if (!is_done)
        return complain(call, XLA_FFI_Error_Code_RESOURCE_EXHAUSTED, "no memory is left for a convolution");
    return NULL;
}

/* input, kernel -> output */
XLA_FFI_Error *tally_output(XLA_FFI_CallFrame *call) { return answer(call, forwards); }
/* cotangent of the output, kernel -> cotangent of the input */
XLA_FFI_Error *tally_input(XLA_FFI_CallFrame *call) { return answer(call, backwards); }
/* input, cotangent of the output -> cotangent of the kernel */
XLA_FFI_Error *tally_kernel(XLA_FFI_CallFrame *call) { return answer(call, to_kernel); }
