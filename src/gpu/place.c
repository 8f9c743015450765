/* Reads a device's place from Linux's /sys. Any thread, keeps nothing. */
#include "gpu/place.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

int gpu_place_numa_node(const char *pci_bus_id)
{
    char path[96];
    char text[16] = "";
    int node = 0;
    int length = snprintf(path, sizeof path, "/sys/bus/pci/devices/%s/numa_node", pci_bus_id);
    if (!*pci_bus_id || length < 0 || (size_t)length >= sizeof path) {
        return -1;
    }
    /* /sys writes letters of a place small, vendors write them large. */
    for (char *at = path; *at; at++) {
        *at = *at >= 'A' && *at <= 'F' ? (char)(*at - 'A' + 'a') : *at;
    }
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0) {
        return -1;
    }
    ssize_t bytes = read(descriptor, text, sizeof text - 1);
    close(descriptor);
    for (ssize_t i = 0; i < bytes && text[i] >= '0' && text[i] <= '9' && node < 10000; i++) {
        node = node * 10 + (text[i] - '0');
    }
    return bytes > 0 && text[0] >= '0' && text[0] <= '9' ? node : -1;
}
