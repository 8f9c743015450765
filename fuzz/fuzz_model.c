/* A GGUF file to a plan: metadata, shapes, checks; then its costs and its listing. Weights are not
 * read beyond rotary divisors, since every bit pattern of them is a number. */
#include "fuzz.h"

#include <stdlib.h>

#include "model/model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct llcuda_error error = {0};
    struct model_source *source;
    if (model_source_open_memory(data, size, &source, &error)) {
        return 0;
    }
    struct plan *plan;
    struct model_info info;
    llcuda_status status = model_plan_build(source, &plan, &info, &error);
    if (status) {
        if (error.status != status || error.message[0] == '\0') {
            abort();
        }
    } else {
        struct buffer text = {0};
        plan_dump(plan, &text);
        struct plan_cost cost = plan_step_cost(plan, 7, 1000, 3, DTYPE_F16);
        if (cost.weight_bytes == 0 || info.parameter_count == 0 || plan->layer_count == 0) {
            abort();
        }
        buffer_deinit(&text);
        plan_destroy(plan);
    }
    model_source_close(source);
    return 0;
}
