// What the tests load: the scheduler and all kernels.
#include "shim.cpp"
// The kernels last, unchanged.
#include "all.cu"
