/* Each operation as XLA calls it: arrays of single precision, and a geometry of whole numbers. */
#include "convolution.h"
#include "pooling.h"

typedef int operation(XLA_FFI_CallFrame *, const struct geometry *);

static XLA_FFI_Error *complain(XLA_FFI_CallFrame *call, XLA_FFI_Error_Code code, const char *message) {
    XLA_FFI_Error_Create_Args ask = {
        .struct_size = XLA_FFI_Error_Create_Args_STRUCT_SIZE, .message = message, .errc = code};
    return call->api->XLA_FFI_Error_Create(&ask);
}

static XLA_FFI_Error *answer(XLA_FFI_CallFrame *call, operation *compute, long arguments) {
    for (XLA_FFI_Extension_Base *more = call->extension_start; more != NULL; more = more->next)
        if (more->type == XLA_FFI_Extension_Metadata) {
            XLA_FFI_Metadata *metadata = ((XLA_FFI_Metadata_Extension *)more)->metadata;
            metadata->api_version.major_version = XLA_FFI_API_MAJOR;
            metadata->api_version.minor_version = XLA_FFI_API_MINOR;
            return NULL;
        }
    const XLA_FFI_Array *geometry = call->attrs.attrs[0];
    int fits = call->args.size == arguments && geometry->size * sizeof(int64_t) == sizeof(struct geometry);
    for (long i = 0; fits && i < arguments; i++)
        fits = ((const XLA_FFI_Buffer *)call->args.args[i])->dtype == XLA_FFI_DataType_F32;
    if (!fits) return complain(call, XLA_FFI_Error_Code_INVALID_ARGUMENT, "arguments are arrays of float32 and a geometry");
    int is_done = compute(call, geometry->data);
    let_much_go(PACKED);
    if (!is_done) return complain(call, XLA_FFI_Error_Code_RESOURCE_EXHAUSTED, "no memory is left for an operation in C");
    return NULL;
}

static const float *given(XLA_FFI_CallFrame *call, long i) { return ((const XLA_FFI_Buffer *)call->args.args[i])->data; }
static float *result(XLA_FFI_CallFrame *call) { return ((const XLA_FFI_Buffer *)call->rets.rets[0])->data; }

static int output(XLA_FFI_CallFrame *call, const struct geometry *g) {
    return forwards(call, g, given(call, 0), given(call, 1), NULL, result(call));
}

static int output_finished(XLA_FFI_CallFrame *call, const struct geometry *g) {
    const float *bounds = given(call, 4);
    struct finish finish = {
        .scale = given(call, 2), .shift = given(call, 3), .low = bounds[0], .high = bounds[1], .pools = g->pools};
    return forwards(call, g, given(call, 0), given(call, 1), &finish, result(call));
}

static int input(XLA_FFI_CallFrame *call, const struct geometry *g) {
    return backwards(call, g, given(call, 0), given(call, 1), result(call));
}

static int kernel(XLA_FFI_CallFrame *call, const struct geometry *g) {
    return to_kernel(call, g, given(call, 0), given(call, 1), result(call));
}

static int largest(XLA_FFI_CallFrame *call, const struct geometry *g) { return pool(call, g, given(call, 0), result(call)); }

static int first(XLA_FFI_CallFrame *call, const struct geometry *g) {
    return pool_back(call, g, given(call, 0), given(call, 1), given(call, 2), result(call));
}

/* input, kernel -> output of a convolution */
XLA_FFI_Error *tally_output(XLA_FFI_CallFrame *call) { return answer(call, output, 2); }
/* input, kernel, scale and shift of each filter, two bounds -> output of a convolution, finished */
XLA_FFI_Error *tally_finished(XLA_FFI_CallFrame *call) { return answer(call, output_finished, 5); }
/* cotangent of the output, kernel -> cotangent of the input */
XLA_FFI_Error *tally_input(XLA_FFI_CallFrame *call) { return answer(call, input, 2); }
/* input, cotangent of the output -> cotangent of the kernel */
XLA_FFI_Error *tally_kernel(XLA_FFI_CallFrame *call) { return answer(call, kernel, 2); }
/* input -> the largest of each window */
XLA_FFI_Error *tally_largest(XLA_FFI_CallFrame *call) { return answer(call, largest, 1); }
/* input, the largest of each window, a number for each window -> these, each where its largest was first */
XLA_FFI_Error *tally_first(XLA_FFI_CallFrame *call) { return answer(call, first, 3); }
