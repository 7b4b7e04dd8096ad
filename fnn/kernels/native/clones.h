// A function compiled for several generations of processors, of which the loader takes the newest that fits.
#pragma once

#define FNN_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
