//! With the feature `cuda`: compiles the kernels, and says how to link NVIDIA's libraries. Otherwise nothing.
//!
//! `make cuda` sets up what is needed: nvcc on PATH, and CUDA_HOME with the libraries, both from NVIDIA's packages on PyPI.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

const KERNELS: &str = "src/ops/cuda/kernels";
/// Machine code for Ampere and Hopper, and PTX that the driver compiles for what came after.
const CODE: [&str; 3] = ["arch=compute_80,code=sm_80", "arch=compute_90,code=sm_90", "arch=compute_80,code=compute_80"];
/// What candle and we link, by the name that their packages give the file.
const LIBRARIES: [(&str, &str); 5] = [
    ("libcublas.so", "libcublas.so.13"),
    ("libcublasLt.so", "libcublasLt.so.13"),
    ("libcudart.so", "libcudart.so.13"),
    ("libcurand.so", "libcurand.so.10"),
    ("libnvrtc.so", "libnvrtc.so.13"),
];
/// Where pip puts those libraries, seen from the extension in its own package.
const INSTALLED: &str = "$ORIGIN/../nvidia/cu13/lib";

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if env::var_os("CARGO_FEATURE_CUDA").is_some() {
        let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
        compile_kernels(&out);
        link(&out);
    }
}

/// `OUT_DIR/kernels.fatbin`. A kernel that needs more registers than there are is an error: it would be slow for reasons
/// that nobody sees.
fn compile_kernels(out: &Path) {
    println!("cargo:rerun-if-changed={KERNELS}");
    let mut nvcc = Command::new("nvcc");
    nvcc.args(["-fatbin", "-std=c++17", "-O3", "-Xptxas", "-v", "-o"]).arg(out.join("kernels.fatbin"));
    for code in CODE {
        nvcc.args(["-gencode", code]);
    }
    let source = Path::new(KERNELS).join("all.cu");
    let output = nvcc.arg(&source).output().unwrap_or_else(|error| {
        panic!(
            "nvcc cannot be run ({error}): the feature `cuda` needs it. `make cuda` installs it from PyPI and sets PATH"
        )
    });
    let report = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "nvcc failed on {}:\n{report}", source.display());
    // ptxas: "Compiling entry function 'NAME' for 'sm_90'", then "... N bytes spill stores, N bytes spill loads".
    let mut kernel = "";
    for line in report.lines() {
        if let Some(name) = line.split("Compiling entry function ").nth(1) {
            kernel = name;
        }
        let spills = line.contains("bytes spill") && !line.contains(", 0 bytes spill stores, 0 bytes spill loads");
        assert!(!spills, "kernel {kernel} spills registers: {line}");
    }
    fs::write(out.join("kernels.txt"), report.as_bytes()).expect("OUT_DIR can be written");
}

/// The packages have no unversioned names, which the linker wants, and no libcuda, which comes with the driver: a stub
/// stands in for it while linking.
fn link(out: &Path) {
    println!("cargo:rerun-if-env-changed=CUDA_HOME");
    println!("cargo:rerun-if-changed=cuda13/stub.c");
    let home = env::var_os("CUDA_HOME").map(PathBuf::from);
    let home = home.expect("CUDA_HOME must name the folder of the CUDA toolkit; `make cuda` sets it");
    let links = out.join("link");
    let _ = fs::remove_dir_all(&links);
    fs::create_dir_all(&links).expect("OUT_DIR can be written");
    for (name, file) in LIBRARIES {
        let library =
            ["lib", "lib64"].map(|folder| home.join(folder).join(file)).into_iter().find(|path| path.exists());
        let library = library.unwrap_or_else(|| panic!("{file} is in neither lib nor lib64 of {}", home.display()));
        #[cfg(unix)]
        std::os::unix::fs::symlink(library, links.join(name)).expect("OUT_DIR can be written");
        #[cfg(not(unix))]
        panic!("the feature `cuda` is for Linux: {name}, {}", library.display());
    }
    let mut compiler = Command::new(env::var_os("CC").unwrap_or_else(|| "cc".into()));
    compiler
        .args(["-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", "cuda13/stub.c", "-o"])
        .arg(links.join("libcuda.so"));
    let status = compiler.status().expect("a C compiler can be run");
    assert!(status.success(), "the stub of libcuda could not be compiled");
    println!("cargo:rustc-link-search=native={}", links.display());
    // Tests find the libraries through LD_LIBRARY_PATH, so that they also run on another machine.
    println!("cargo:rustc-link-arg-cdylib=-Wl,-rpath,{INSTALLED}");
}
