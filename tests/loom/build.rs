//! Compiles this package, and no dependency of it, with `cfg(loom)`.

fn main() {
    println!("cargo::rustc-cfg=loom");
    println!("cargo::rerun-if-changed=build.rs");
}
