/* A libcuda.so.1 for machines without NVIDIA's driver. The linker needs one, and the tests of what happens without a GPU
 * (cuda13/test_without_gpu.py) load it: every function says that there is no device. A function that is missing here is
 * an undefined symbol when the module is loaded; add its name.
 *
 * -DVERSION=12040 makes it a driver that supports CUDA 12.4. */
enum { CUDA_SUCCESS = 0, CUDA_ERROR_NO_DEVICE = 100 };

#define NO_DEVICE(name) \
    int name(void) { return CUDA_ERROR_NO_DEVICE; }

int cuDriverGetVersion(int* version) {
#ifdef VERSION
    *version = VERSION;
#else
    *version = 13000;
#endif
    return CUDA_SUCCESS;
}

