/* Where a device sits in its machine. */
#ifndef GPU_PLACE_H
#define GPU_PLACE_H

/* The NUMA node of a PCI device such as "0000:41:00.0", -1 where the system does not say. */
int gpu_place_numa_node(const char *pci_bus_id);

#endif
