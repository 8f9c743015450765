/* Compiling with a vendor's run-time compiler: NVRTC, or hipRTC, which has its shape. */
#ifndef GPU_RTC_H
#define GPU_RTC_H

#include "gpu/cuda_api.h"
#include "gpu/driver.h"

/* Compiles for `arch` with `options` and those of the request; appends to `binary` and `log` as
 * gpu_driver.compile does. BAD_FORMAT when the text does not compile. Any thread. */
llcuda_status rtc_compile(const struct rtc_api *api, const struct gpu_compile_request *request,
                          const char *arch, const char *const *options, uint32_t option_count,
                          struct buffer *binary, struct buffer *log, struct llcuda_error *error);

#endif
