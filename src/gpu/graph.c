/* Owns the graphs of steps: which shapes were captured, and when a captured one is run. The first
 * step of a shape is launched plainly, which also lets the vendor's library choose its algorithms;
 * the second captures. At most GPU_GRAPHS_MAX graphs stay, the least recently used one goes. One
 * thread. Knows nothing of what is captured. */
#include <string.h>

#include "gpu/model.h"

/* Longer steps hide the launches by themselves. */
#define GRAPH_ROWS_MAX 512u

static struct gpu_graph_entry *find(struct gpu_model *model)
{
    for (uint32_t i = 0; i < model->graph_count; i++) {
        if (memcmp(&model->graphs[i].shape, &model->shape, sizeof model->shape) == 0) {
            return &model->graphs[i];
        }
    }
    return NULL;
}

/* An entry for the shape, without a graph yet. */
static struct gpu_graph_entry *add(struct gpu_model *model)
{
    struct gpu_graph_entry *entry = &model->graphs[0];
    if (model->graph_count < GPU_GRAPHS_MAX) {
        entry = &model->graphs[model->graph_count++];
    } else {
        for (uint32_t i = 1; i < GPU_GRAPHS_MAX; i++) {
            entry = model->graphs[i].last_used < entry->last_used ? &model->graphs[i] : entry;
        }
        model->driver->graph_destroy(model->driver, entry->graph);
    }
    *entry = (struct gpu_graph_entry){.shape = model->shape};
    return entry;
}

static llcuda_status capture(struct gpu_model *model, struct gpu_graph **graph,
                             struct llcuda_error *error)
{
    struct gpu_driver *driver = model->driver;
    llcuda_status status = driver->capture_begin(driver, model->stream, error);
    if (status != LLCUDA_OK) {
        return status;
    }
    status = gpu_step_launch(model, error);
    /* A stream that captures must be ended in any case. */
    struct llcuda_error ignored;
    *graph = NULL;
    llcuda_status ended =
        driver->capture_end(driver, model->stream, graph, status == LLCUDA_OK ? error : &ignored);
    if (status == LLCUDA_OK && ended == LLCUDA_OK) {
        return LLCUDA_OK;
    }
    if (ended == LLCUDA_OK) {
        driver->graph_destroy(driver, *graph);
    }
    *graph = NULL;
    return status == LLCUDA_OK ? ended : status;
}

llcuda_status gpu_step_graph(struct gpu_model *model, struct llcuda_error *error)
{
    if (model->device->options.no_graphs || model->shape.rows > GRAPH_ROWS_MAX) {
        return gpu_step_launch(model, error);
    }
    struct gpu_graph_entry *entry = find(model);
    if (!entry) {
        entry = add(model);
        entry->last_used = model->step_count;
        return gpu_step_launch(model, error);
    }
    entry->last_used = model->step_count;
    if (!entry->graph) {
        llcuda_status status = capture(model, &entry->graph, error);
        if (status != LLCUDA_OK) {
            return status;
        }
    }
    return model->driver->graph_launch(model->driver, model->stream, entry->graph, error);
}

void gpu_graphs_release(struct gpu_model *model)
{
    for (uint32_t i = 0; i < model->graph_count; i++) {
        model->driver->graph_destroy(model->driver, model->graphs[i].graph);
    }
    model->graph_count = 0;
}
