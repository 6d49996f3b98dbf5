//! Generates the message types of `proto/`, without a system `protoc`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = protox::compile(["inference.proto", "health.proto"], ["proto"])?;
    prost_build::Config::new()
        // `Bytes` fields are slices of the received body.
        .bytes(["."])
        .compile_fds(files)?;
    Ok(())
}
