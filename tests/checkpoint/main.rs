//! Weight files: every format, names, element types, and everything that can be wrong with one.

mod corrupt;
mod formats;
mod malicious;
mod safetensors;
