/* The built-in model: models/demo/llcuda-demo-q8_0.gguf, put into the program's read-only data by
 * the assembler. The page cache holds it once however many programs run. */
#include "cli/open.h"

extern const unsigned char builtin_model_begin[];
extern const unsigned char builtin_model_end[];

__asm__(".pushsection .rodata, \"a\", %progbits\n"
        ".balign 4096\n"
        "builtin_model_begin:\n"
        ".incbin \"" LLCUDA_BUILTIN_MODEL "\"\n"
        "builtin_model_end:\n"
        ".balign 4096\n"
        ".popsection\n");

const void *builtin_model_data(void)
{
    return builtin_model_begin;
}

uint64_t builtin_model_bytes(void)
{
    return (uint64_t)(builtin_model_end - builtin_model_begin);
}
