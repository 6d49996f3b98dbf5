//! Generates the message types of `proto/` and the descriptors for reflection, without a system `protoc`.

use std::fmt::Write as _;
use std::path::Path;

use prost::Message as _;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = protox::compile(
        [
            "inference.proto",
            "health.proto",
            "reflection.proto",
            "reflection_v1alpha.proto",
        ],
        ["proto"],
    )?;
    let out = std::env::var("OUT_DIR")?;
    let mut descriptors = String::from("[\n");
    for file in &files.file {
        let package = file.package();
        let mut symbols = Vec::new();
        for service in &file.service {
            symbols.push(format!("{package}.{}", service.name()));
            let methods = service.method.iter();
            symbols.extend(methods.map(|method| format!("{package}.{}.{}", service.name(), method.name())));
        }
        let messages = file
            .message_type
            .iter()
            .map(|message| (package.to_owned(), message));
        let mut messages: Vec<_> = messages.collect();
        let enums = file.enum_type.iter();
        symbols.extend(enums.map(|kind| format!("{package}.{}", kind.name())));
        while let Some((scope, message)) = messages.pop() {
            let name = format!("{scope}.{}", message.name());
            let enums = message.enum_type.iter();
            symbols.extend(enums.map(|kind| format!("{name}.{}", kind.name())));
            messages.extend(message.nested_type.iter().map(|nested| (name.clone(), nested)));
            symbols.push(name);
        }
        let services = file.service.iter();
        let services: Vec<String> = services
            .map(|service| format!("{package}.{}", service.name()))
            .collect();
        writeln!(
            descriptors,
            "File {{ name: {:?}, imports: &{:?}, services: &{services:?}, symbols: &{symbols:?}, descriptor: &{:?} }},",
            file.name(),
            file.dependency,
            file.encode_to_vec(),
        )?;
    }
    descriptors.push_str("]\n");
    std::fs::write(Path::new(&out).join("descriptors.rs"), descriptors)?;
    prost_build::Config::new()
        // `Bytes` fields are slices of the received body.
        .bytes(["."])
        .compile_fds(files)?;
    Ok(())
}
