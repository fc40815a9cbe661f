//! Generates the code of each candidate from Myriad's real schema. Needs `protoc` (only here).
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let proto = PathBuf::from("../../wire/proto/myriad.proto");
    let folder = PathBuf::from("../../wire/proto");
    println!("cargo:rerun-if-changed={}", proto.display());
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    for name in ["prost", "prost_bytes", "buffa", "quick"] {
        std::fs::create_dir_all(out.join(name))?;
    }
    prost_build::Config::new()
        .out_dir(out.join("prost"))
        .compile_protos(&[&proto], &[&folder])?;
    prost_build::Config::new()
        .bytes(["."])
        .out_dir(out.join("prost_bytes"))
        .compile_protos(&[&proto], &[&folder])?;
    buffa_build::Config::new()
        .files(&[&proto])
        .includes(&[&folder])
        .out_dir(out.join("buffa"))
        .generate_views(true)
        .preserve_unknown_fields(false)
        .include_file("buffa_include.rs")
        .compile()?;
    let quick =
        pb_rs::ConfigBuilder::new(&[proto], None, Some(&out.join("quick")), &[folder])?
            .headers(false)
            .build();
    pb_rs::types::FileDescriptor::run(&quick)?;
    Ok(())
}
