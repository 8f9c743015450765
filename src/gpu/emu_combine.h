/* What the lanes of an emulated warp make together of the words that each has put in. */
#ifndef GPU_EMU_COMBINE_H
#define GPU_EMU_COMBINE_H

#include <stdbool.h>

#include "gpu/emu_abi.h"

/* Reads the words of all 32 lanes and fills the tile: see emu_abi.h. */
void emu_combine_words(struct emu_mailbox *, enum emu_combine);

#endif
