/* What an adapter says of its operations: any JSON, read whole or refused. */
#include "fuzz.h"

#include <math.h>
#include <stdlib.h>

#include "bench/operations.h"

/* What was accepted adds up to the whole, and says nothing that cannot be. */
static void check_test(double ns, const struct operation_time *operations)
{
    double sum = 0;
    for (int o = 0; o < OPERATION_COUNT; o++) {
        const struct operation_time *operation = &operations[o];
        sum += operation->ns;
        if (!(operation->ns >= 0) || !isfinite(operation->times) ||
            operation->with >> OPERATION_OTHER || operation->with & 1u << o) {
            abort();
        }
    }
    if (!(ns > 0) || !(fabs(sum - ns) <= ns * 2e-6 + 2000)) {
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct config_analysis asked = {.profile_prompt = 32, .profile_generate = 4};
    struct json_document *document = NULL;
    struct operation_answer answer;
    struct llcuda_error error = {0};
    if (json_parse(text_view_make((const char *)data, size), NULL, &document, NULL)) {
        return 0;
    }
    if (operations_read(json_root(document), &asked, &answer, &error) == LLCUDA_OK) {
        for (int t = 0; t < OPERATION_TEST_COUNT; t++) {
            check_test(answer.tests[t].ns, answer.tests[t].operations);
        }
    } else if (error.message[0] == 0) {
        abort(); /* a refusal says why */
    }
    json_destroy(document);
    return 0;
}
