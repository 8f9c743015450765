/* The words by which a person names devices. Which of them exist is the engine's business. */
#ifndef DEVICE_SPEC_H
#define DEVICE_SPEC_H

#include "base/error.h"
#include "base/view.h"

enum device_kind {
    DEVICE_AUTO, /* the best there is */
    DEVICE_CPU,
    DEVICE_CUDA,
    DEVICE_HIP,
    DEVICE_EMU /* GPU kernels on the CPU, for tests */
};

#define DEVICE_SPEC_INDEX_MAX 64u

struct device_spec {
    enum device_kind kind;
    uint32_t count; /* 0: all, or the first, as the engine sees fit */
    uint32_t indices[DEVICE_SPEC_INDEX_MAX];
};

/* Reads "auto", "cpu", "cuda", "cuda:0,1", "hip:0", "emu". Empty text is "auto". Errors:
 * INVALID_ARGUMENT with a sentence that names the accepted forms. */
llcuda_status device_spec_parse(struct text_view text, struct device_spec *spec,
                                struct llcuda_error *error);

/* "cpu", "cuda" … */
const char *device_kind_name(enum device_kind kind);

#endif
