/* `llcuda plan`: the memory that a model will take, before anything is loaded. */
#include "cli/open.h"

int command_plan(struct options *options)
{
    return console_usage(options->command, "not there yet");
}
