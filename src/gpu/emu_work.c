/* Owns what streams of the emulated driver do: launches, copies, fills and matrix products, done
 * at once and in order, or kept in a graph while the stream is captured. Device addresses were
 * checked when the work was submitted; a graph checks its kernels' and copies' addresses no more,
 * as a real driver would not. */
#include <stdlib.h>
#include <string.h>

#include "gpu/emu_internal.h"
#include "tensor/dtype.h"

static float element(const char *data, enum dtype type, uint64_t index)
{
    uint16_t half;
    float value;
    if (type == DTYPE_F32) {
        memcpy(&value, data + index * 4, 4);
        return value;
    }
    memcpy(&half, data + index * 2, 2);
    return type == DTYPE_F16 ? float_from_f16(half) : float_from_bf16(half);
}

static void element_set(char *data, enum dtype type, uint64_t index, float value)
{
    if (type == DTYPE_F32) {
        memcpy(data + index * 4, &value, 4);
        return;
    }
    const uint16_t half = type == DTYPE_F16 ? float_to_f16(value) : float_to_bf16(value);
    memcpy(data + index * 2, &half, 2);
}

static void run_matmul(const struct emu_work *work)
{
    const struct gpu_matmul_shape *shape = &work->shape;
    for (uint32_t n = 0; n < shape->n; n++) {
        for (uint32_t row = 0; row < shape->rows; row++) {
            const uint64_t at = (uint64_t)n * shape->output_stride + row;
            float sum = 0;
            for (uint32_t column = 0; column < shape->columns; column++) {
                sum +=
                    element(work->from, shape->weight, (uint64_t)n * shape->columns + column) *
                    element(work->weight, shape->weight, (uint64_t)row * shape->columns + column);
            }
            if (shape->accumulate) {
                sum += element(work->to, shape->output, at);
            }
            element_set(work->to, shape->output, at, sum);
        }
    }
}

static llcuda_status run_launch(struct emu_driver *driver, const struct emu_work *work,
                                struct llcuda_error *error)
{
    const struct gpu_module *module = work->function->module;
    const struct emu_grid grid = {
        .name = work->function->kernel->name,
        .kernel = work->function->kernel,
        .module = module->table,
        .static_shared = module->table->shared_anchor() + module->shared_offset,
        .static_shared_bytes = module->shared_bytes,
        .launch = &work->launch,
        .arguments = work->arguments,
    };
    return emu_run(driver->runner, &grid, error);
}

static llcuda_status run_work(struct emu_driver *driver, const struct emu_work *work,
                              struct llcuda_error *error)
{
    switch (work->kind) {
    case EMU_LAUNCH:
        return run_launch(driver, work, error);
    case EMU_COPY:
        memmove(work->to, work->from, work->bytes);
        break;
    case EMU_FILL:
        memset(work->to, work->value, work->bytes);
        break;
    case EMU_MATMUL:
        run_matmul(work);
        break;
    }
    return LLCUDA_OK;
}

static llcuda_status keep(struct gpu_graph *graph, const struct emu_work *work,
                          struct llcuda_error *error)
{
    if (graph->count == graph->capacity) {
        const size_t capacity = graph->capacity ? graph->capacity * 2 : 64;
        struct emu_work *grown = realloc(graph->work, capacity * sizeof *grown);
        if (!grown) {
            return error_no_memory(error, "a graph", capacity * sizeof *grown);
        }
        graph->work = grown;
        graph->capacity = capacity;
    }
    graph->work[graph->count++] = *work;
    return LLCUDA_OK;
}

llcuda_status emu_submit(struct emu_driver *driver, struct gpu_stream *stream,
                         struct emu_work *work, struct llcuda_error *error)
{
    llcuda_status status;
    if (stream->capture) {
        status = keep(stream->capture, work, error);
        if (status == LLCUDA_OK) {
            work->arguments = NULL;
        }
    } else {
        status = run_work(driver, work, error);
        if (work->kind == EMU_LAUNCH) {
            emu_count(&driver->faults->launches, 1);
        }
    }
    free(work->arguments);
    work->arguments = NULL;
    return status;
}

llcuda_status emu_graph_run(struct emu_driver *driver, const struct gpu_graph *graph,
                            struct llcuda_error *error)
{
    for (size_t i = 0; i < graph->count; i++) {
        llcuda_status status = run_work(driver, &graph->work[i], error);
        if (status != LLCUDA_OK) {
            return status;
        }
    }
    return LLCUDA_OK;
}

void emu_graph_free(struct gpu_graph *graph)
{
    for (size_t i = 0; i < graph->count; i++) {
        free(graph->work[i].arguments);
    }
    free(graph->work);
    free(graph);
}
