#include "convert/items.h"
llcuda_status convert_items_hf(const struct model_source *source, struct convert_items *items,
                               struct llcuda_error *error)
{
    (void)source;
    (void)items;
    return error_set(error, LLCUDA_UNSUPPORTED, "folders");
}
