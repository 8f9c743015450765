/* hipRTC in a child process: the library may abort, and takes LLVM's time and memory with it. */
#ifndef GPU_HIP_COMPILE_H
#define GPU_HIP_COMPILE_H

#include "gpu/rtc.h"

/* As rtc_compile, in a child that is given `timeout_ms`. DEVICE when the child ended otherwise than
 * by a reply, TIMEOUT when it did not reply in time. Any thread. */
llcuda_status hip_compile_in_child(const struct rtc_api *api,
                                   const struct gpu_compile_request *request, const char *arch,
                                   uint32_t timeout_ms, struct buffer *binary, struct buffer *log,
                                   struct llcuda_error *error);

#endif
