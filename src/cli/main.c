#include <stdio.h>

#include "build_config.h"

int main(void)
{
    puts("llcuda " LLCUDA_VERSION);
    return 0;
}
