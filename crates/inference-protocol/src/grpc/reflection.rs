//! The reflection service of gRPC: what it is asked, and the answers about the services of this crate.

use std::collections::BTreeSet;

use bytes::Bytes;

use self::messages::{
    ErrorResponse, ExtensionNumberResponse, FileDescriptorResponse, ListServiceResponse,
    ServerReflectionRequest, ServerReflectionResponse, ServiceResponse,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};
use crate::GrpcCode;

/// Messages of the package `grpc.reflection.v1`; those of `v1alpha` are the same.
#[allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    reason = "generated; `proto/reflection.proto` has the words"
)]
pub mod messages {
    include!(concat!(env!("OUT_DIR"), "/grpc.reflection.v1.rs"));
}

/// A file of `proto/`, described when this crate is built.
struct File {
    name: &'static str,
    imports: &'static [&'static str],
    services: &'static [&'static str],
    /// Services, methods, messages and enums, with their packages.
    symbols: &'static [&'static str],
    /// A serialized `FileDescriptorProto`.
    descriptor: &'static [u8],
}

static FILES: &[File] = &include!(concat!(env!("OUT_DIR"), "/descriptors.rs"));

/// Answers a request of the service.
pub fn answer(request: ServerReflectionRequest) -> ServerReflectionResponse {
    let response = match &request.message_request {
        Some(MessageRequest::ListServices(_)) => services(),
        Some(MessageRequest::FileByFilename(name)) => {
            described(FILES.iter().find(|file| file.name == name), "file", name)
        }
        Some(MessageRequest::FileContainingSymbol(symbol)) => {
            let file = FILES.iter().find(|file| file.symbols.contains(&symbol.as_str()));
            described(file, "symbol", symbol)
        }
        Some(MessageRequest::FileContainingExtension(extension)) => {
            described(None, "extension of", &extension.containing_type)
        }
        Some(MessageRequest::AllExtensionNumbersOfType(name)) => extensions(name),
        None => MessageResponse::ErrorResponse(ErrorResponse {
            error_code: GrpcCode::InvalidArgument.as_i32(),
            error_message: "the request asks for nothing".to_owned(),
        }),
    };
    ServerReflectionResponse {
        valid_host: request.host.clone(),
        original_request: Some(request),
        message_response: Some(response),
    }
}

fn services() -> MessageResponse {
    let names = FILES.iter().flat_map(|file| file.services);
    let service = |name: &&str| ServiceResponse {
        name: (*name).to_owned(),
    };
    MessageResponse::ListServicesResponse(ListServiceResponse {
        service: names.map(service).collect(),
    })
}

/// The file and everything that it imports.
fn described(file: Option<&'static File>, kind: &str, name: &str) -> MessageResponse {
    let Some(file) = file else {
        return unknown(kind, name);
    };
    let (mut wanted, mut seen) = (vec![file.name], BTreeSet::new());
    let mut file_descriptor_proto = Vec::new();
    while let Some(name) = wanted.pop() {
        let file = FILES.iter().find(|file| file.name == name && seen.insert(name));
        let Some(file) = file else { continue };
        file_descriptor_proto.push(Bytes::from_static(file.descriptor));
        wanted.extend(file.imports);
    }
    MessageResponse::FileDescriptorResponse(FileDescriptorResponse {
        file_descriptor_proto,
    })
}

/// No message here has extensions.
fn extensions(name: &str) -> MessageResponse {
    if FILES.iter().any(|file| file.symbols.contains(&name)) {
        MessageResponse::AllExtensionNumbersResponse(ExtensionNumberResponse {
            base_type_name: name.to_owned(),
            extension_number: Vec::new(),
        })
    } else {
        unknown("type", name)
    }
}

fn unknown(kind: &str, name: &str) -> MessageResponse {
    MessageResponse::ErrorResponse(ErrorResponse {
        error_code: GrpcCode::NotFound.as_i32(),
        error_message: format!("unknown {kind} `{name}`"),
    })
}

#[cfg(test)]
mod tests {
    use super::super::Method;
    use super::*;

    fn ask(request: MessageRequest) -> MessageResponse {
        let message_request = Some(request);
        let request = ServerReflectionRequest {
            message_request,
            ..ServerReflectionRequest::default()
        };
        answer(request).message_response.unwrap()
    }

    fn files(request: MessageRequest) -> usize {
        match ask(request) {
            MessageResponse::FileDescriptorResponse(files) => files.file_descriptor_proto.len(),
            MessageResponse::ErrorResponse(ErrorResponse { error_code: 5, .. }) => 0,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_rpc_is_described_and_nothing_else() {
        let described: BTreeSet<String> = FILES
            .iter()
            .flat_map(|file| {
                let is_method = |symbol: &&&str| {
                    let service = symbol.rsplit_once('.').map_or("", |(service, _)| service);
                    file.services.contains(&service)
                };
                file.symbols.iter().filter(is_method)
            })
            .map(|symbol| {
                let (service, method) = symbol.rsplit_once('.').unwrap();
                format!("/{service}/{method}")
            })
            .collect();
        let served = Method::ALL.map(|method| method.path().to_owned());
        assert_eq!(described, BTreeSet::from(served));
        let MessageResponse::ListServicesResponse(listed) = ask(MessageRequest::ListServices(String::new()))
        else {
            panic!("a list");
        };
        assert_eq!(listed.service.len(), 4);
    }

    #[test]
    fn symbols_are_found_with_what_their_files_import() {
        let symbol = |name: &str| MessageRequest::FileContainingSymbol(name.to_owned());
        for (name, expected) in [
            ("inference.GRPCInferenceService", 2),
            ("inference.GRPCInferenceService.ModelInfer", 2),
            ("inference.ModelInferRequest.InferInputTensor", 2),
            ("inference.ModelInstanceGroup.Kind", 1),
            ("grpc.health.v1.HealthCheckResponse.ServingStatus", 1),
            ("inference.Nothing", 0),
        ] {
            assert_eq!(files(symbol(name)), expected, "{name}");
        }
        assert_eq!(
            files(MessageRequest::FileByFilename("health.proto".to_owned())),
            1
        );
        assert_eq!(files(MessageRequest::FileByFilename("none.proto".to_owned())), 0);
        let MessageResponse::ErrorResponse(error) = answer(ServerReflectionRequest::default())
            .message_response
            .unwrap()
        else {
            panic!("an error");
        };
        assert_eq!(error.error_code, 3);
    }
}
