/* Memory that ends where nothing is mapped: reading or writing one byte too far crashes, also in
 * vector code that no sanitizer sees. */
#ifndef GUARD_H
#define GUARD_H

#include <stdint.h>

#include "cpu/ops.h"

/* `bytes` bytes, the last of which is the last of its page. Aligned only as `bytes` allows: a
 * multiple of 64 gives 64. Fails the test without memory. */
void *guard_alloc(uint64_t bytes);
/* Takes what guard_alloc gave, with the same size. */
void guard_free(void *data, uint64_t bytes);

/* Whether this build and machine have a level; they are not all in a row. */
bool level_is_here(enum cpu_level level);

#endif
