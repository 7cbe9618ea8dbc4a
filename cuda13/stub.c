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

NO_DEVICE(cuCtxDestroy_v2)
NO_DEVICE(cuCtxGetCurrent)
NO_DEVICE(cuCtxSetCurrent)
NO_DEVICE(cuCtxSetFlags)
NO_DEVICE(cuCtxSynchronize)
NO_DEVICE(cuDeviceGet)
NO_DEVICE(cuDeviceGetAttribute)
NO_DEVICE(cuDeviceGetCount)
NO_DEVICE(cuDeviceGetMemPool)
NO_DEVICE(cuDeviceGetName)
NO_DEVICE(cuDevicePrimaryCtxRelease_v2)
NO_DEVICE(cuDevicePrimaryCtxRetain)
NO_DEVICE(cuDeviceTotalMem_v2)
NO_DEVICE(cuEventCreate)
NO_DEVICE(cuEventDestroy_v2)
NO_DEVICE(cuEventRecord)
NO_DEVICE(cuEventSynchronize)
NO_DEVICE(cuFuncSetAttribute)
NO_DEVICE(cuGetErrorString)
NO_DEVICE(cuInit)
NO_DEVICE(cuLaunchKernel)
NO_DEVICE(cuMemAllocAsync)
NO_DEVICE(cuMemAlloc_v2)
NO_DEVICE(cuMemFreeAsync)
NO_DEVICE(cuMemFreeHost)
NO_DEVICE(cuMemFree_v2)
NO_DEVICE(cuMemGetInfo_v2)
NO_DEVICE(cuMemHostAlloc)
NO_DEVICE(cuMemPoolSetAttribute)
NO_DEVICE(cuMemPoolTrimTo)
NO_DEVICE(cuMemcpyDtoDAsync_v2)
NO_DEVICE(cuMemcpyDtoHAsync_v2)
NO_DEVICE(cuMemcpyHtoDAsync_v2)
NO_DEVICE(cuMemcpyPeerAsync)
NO_DEVICE(cuMemsetD8Async)
NO_DEVICE(cuModuleGetFunction)
NO_DEVICE(cuModuleLoad)
NO_DEVICE(cuModuleLoadData)
NO_DEVICE(cuModuleUnload)
NO_DEVICE(cuStreamCreate)
NO_DEVICE(cuStreamDestroy_v2)
NO_DEVICE(cuStreamIsCapturing)
NO_DEVICE(cuStreamSynchronize)
NO_DEVICE(cuStreamWaitEvent)
