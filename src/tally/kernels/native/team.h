/* One piece of work shared by the threads of XLA's own pool, and memory that each thread keeps. */
#ifndef TALLY_TEAM_H
#define TALLY_TEAM_H

#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "xla/ffi/api/c_api.h"

typedef void task(void *with, long number);

/* Tasks that follow each other, in memory that no other thread writes to. */
struct range {
    atomic_long next;
    long end;
    char apart[48];
};

struct work {
    atomic_long done, holders;
    task *run;
    void *with;
    long helpers;
    struct range ranges[];
};

/* Run the tasks of one's own range, then what is left of the others'. */
static void take_part(struct work *work, long mine) {
    for (long i = 0; i <= work->helpers; i++) {
        struct range *range = &work->ranges[(mine + i) % (work->helpers + 1)];
        for (long number; (number = atomic_fetch_add(&range->next, 1)) < range->end;) {
            work->run(work->with, number);
            atomic_fetch_add(&work->done, 1);
        }
    }
}

static void let_go(struct work *work) {
    if (atomic_fetch_sub(&work->holders, 1) == 1) free(work);
}

/* Work and the number of a helper. */
struct part {
    struct work *work;
    long number;
};

static void help(void *with) {
    struct part *part = with;
    struct work *work = part->work;
    take_part(work, part->number);
    let_go(work);
}

static long team_size(XLA_FFI_CallFrame *call) {
    int64_t size = 1;
    XLA_FFI_ThreadPool_NumThreads_Args ask = {.struct_size = XLA_FFI_ThreadPool_NumThreads_Args_STRUCT_SIZE,
                                              .ctx = call->ctx,
                                              .num_threads = &size};
    XLA_FFI_Error *error = call->api->XLA_FFI_ThreadPool_NumThreads(&ask);
    if (error != NULL) {
        XLA_FFI_Error_Destroy_Args drop = {.struct_size = XLA_FFI_Error_Destroy_Args_STRUCT_SIZE, .error = error};
        call->api->XLA_FFI_Error_Destroy(&drop);
        return 1;
    }
    return size < 1 ? 1 : (long)size;
}

/* Run tasks 0, 1, ... on this thread and those of the pool that are free.

   Each thread begins with tasks of its own that follow each other: what the next operation reads, the same thread has
   mostly written. Whoever calls takes part and waits only for tasks that others have begun. So nothing hangs when all
   threads of the pool call this at once, and a helper that comes late finds nothing left and touches nothing of the
   caller's. */
static void share(XLA_FFI_CallFrame *call, long threads, long tasks, task *run, void *with) {
    long helpers = (threads < tasks ? threads : tasks) - 1;
    size_t bytes = sizeof(struct work) + (helpers + 1) * (sizeof(struct range) + sizeof(struct part));
    struct work *work = helpers > 0 ? malloc(bytes) : NULL;
    if (work == NULL) {
        for (long number = 0; number < tasks; number++) run(with, number);
        return;
    }
    atomic_init(&work->done, 0);
    atomic_init(&work->holders, helpers + 1);
    work->run = run;
    work->with = with;
    work->helpers = helpers;
    struct part *parts = (struct part *)&work->ranges[helpers + 1];
    for (long i = 0; i <= helpers; i++) {
        atomic_init(&work->ranges[i].next, tasks * i / (helpers + 1));
        work->ranges[i].end = tasks * (i + 1) / (helpers + 1);
        parts[i] = (struct part){work, i};
    }
    for (long helper = 1; helper <= helpers; helper++) {
        XLA_FFI_ThreadPool_Schedule_Args ask = {.struct_size = XLA_FFI_ThreadPool_Schedule_Args_STRUCT_SIZE,
                                                .ctx = call->ctx,
                                                .task = help,
                                                .data = &parts[helper]};
        XLA_FFI_Error *error = call->api->XLA_FFI_ThreadPool_Schedule(&ask);
        if (error != NULL) {
            XLA_FFI_Error_Destroy_Args drop = {.struct_size = XLA_FFI_Error_Destroy_Args_STRUCT_SIZE,
                                               .error = error};
            call->api->XLA_FFI_Error_Destroy(&drop);
            let_go(work);
        }
    }
    take_part(work, 0);
    for (long turns = 0; atomic_load(&work->done) < tasks; turns++)
        if (turns > 1000) sched_yield();
    let_go(work);
}

/* Memory of a thread, aligned to a page, with what it held before where it was large enough; NULL if there is no more. A
   thread has several kinds at once and keeps them. They are asked of the system and lie apart from the heap, where they
   would stand in the way of the large blocks that a step takes and gives back. */
enum kind { PACKED, PADDED, PLACES, OTHERS, POINTED, KINDS };
enum { KEPT = 1 << 26 }; /* bytes that a thread keeps of one kind, at most */

static _Thread_local struct {
    void *memory;
    size_t bytes;
} kept[KINDS];

static void let_go_of(enum kind kind) {
    if (kept[kind].bytes > 0) munmap(kept[kind].memory, kept[kind].bytes);
    kept[kind].memory = NULL;
    kept[kind].bytes = 0;
}

static void *memory_for(enum kind kind, size_t bytes) {
    if (kept[kind].bytes < bytes) {
        let_go_of(kind);
        size_t rounded = (bytes + bytes / 4 + 65535) / 65536 * 65536;
        void *memory = mmap(NULL, rounded, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANON, -1, 0);
        if (memory == MAP_FAILED) return NULL;
        kept[kind].memory = memory;
        kept[kind].bytes = rounded;
    }
    return kept[kind].memory;
}

/* Give back what only a very large kernel needs. */
static void let_much_go(enum kind kind) {
    if (kept[kind].bytes > KEPT) let_go_of(kind);
}

#endif
