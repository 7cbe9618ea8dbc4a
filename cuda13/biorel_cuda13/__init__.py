"""biorel's extension, built for NVIDIA GPUs. Use the package ``biorel``, which finds it by itself."""
