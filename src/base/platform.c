/* What every other file takes for granted about the machine, asserted once. */
#include <limits.h>
#include <stddef.h>
#include <stdint.h>

_Static_assert(CHAR_BIT == 8, "bytes have eight bits");
_Static_assert(sizeof(void *) == 8, "a 64-bit machine: model files are mapped whole");
_Static_assert(sizeof(float) == 4 && sizeof(double) == 8, "IEEE 754 floats");
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "model files are little-endian and are read in place");
_Static_assert((-1 >> 1) == -1, "right shifts of negative integers are arithmetic");
