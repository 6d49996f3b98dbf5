//! RPCs and their paths.

/// An RPC that the protocol's servers have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    /// `inference.GRPCInferenceService/ServerLive`.
    ServerLive,
    /// `inference.GRPCInferenceService/ServerReady`.
    ServerReady,
    /// `inference.GRPCInferenceService/ModelReady`.
    ModelReady,
    /// `inference.GRPCInferenceService/ServerMetadata`.
    ServerMetadata,
    /// `inference.GRPCInferenceService/ModelMetadata`.
    ModelMetadata,
    /// `inference.GRPCInferenceService/ModelInfer`.
    ModelInfer,
    /// `inference.GRPCInferenceService/ModelStreamInfer`.
    ModelStreamInfer,
    /// `inference.GRPCInferenceService/ModelConfig`.
    ModelConfig,
    /// `inference.GRPCInferenceService/ModelStatistics`.
    ModelStatistics,
    /// `inference.GRPCInferenceService/RepositoryIndex`.
    RepositoryIndex,
    /// `inference.GRPCInferenceService/RepositoryModelLoad`.
    RepositoryModelLoad,
    /// `inference.GRPCInferenceService/RepositoryModelUnload`.
    RepositoryModelUnload,
    /// `inference.GRPCInferenceService/SystemSharedMemoryStatus`.
    SystemSharedMemoryStatus,
    /// `inference.GRPCInferenceService/SystemSharedMemoryRegister`.
    SystemSharedMemoryRegister,
    /// `inference.GRPCInferenceService/SystemSharedMemoryUnregister`.
    SystemSharedMemoryUnregister,
    /// `inference.GRPCInferenceService/CudaSharedMemoryStatus`.
    CudaSharedMemoryStatus,
    /// `inference.GRPCInferenceService/CudaSharedMemoryRegister`.
    CudaSharedMemoryRegister,
    /// `inference.GRPCInferenceService/CudaSharedMemoryUnregister`.
    CudaSharedMemoryUnregister,
    /// `inference.GRPCInferenceService/TraceSetting`.
    TraceSetting,
    /// `inference.GRPCInferenceService/LogSettings`.
    LogSettings,
    /// `grpc.health.v1.Health/Check`.
    HealthCheck,
    /// `grpc.health.v1.Health/List`.
    HealthList,
    /// `grpc.health.v1.Health/Watch`.
    HealthWatch,
    /// `grpc.reflection.v1.ServerReflection/ServerReflectionInfo`.
    Reflection,
    /// `grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo`.
    ReflectionAlpha,
}

impl Method {
    /// Every RPC.
    pub const ALL: [Method; 25] = [
        Method::ServerLive,
        Method::ServerReady,
        Method::ModelReady,
        Method::ServerMetadata,
        Method::ModelMetadata,
        Method::ModelInfer,
        Method::ModelStreamInfer,
        Method::ModelConfig,
        Method::ModelStatistics,
        Method::RepositoryIndex,
        Method::RepositoryModelLoad,
        Method::RepositoryModelUnload,
        Method::SystemSharedMemoryStatus,
        Method::SystemSharedMemoryRegister,
        Method::SystemSharedMemoryUnregister,
        Method::CudaSharedMemoryStatus,
        Method::CudaSharedMemoryRegister,
        Method::CudaSharedMemoryUnregister,
        Method::TraceSetting,
        Method::LogSettings,
        Method::HealthCheck,
        Method::HealthList,
        Method::HealthWatch,
        Method::Reflection,
        Method::ReflectionAlpha,
    ];

    /// The path of the RPC.
    pub const fn path(self) -> &'static str {
        match self {
            Method::ServerLive => "/inference.GRPCInferenceService/ServerLive",
            Method::ServerReady => "/inference.GRPCInferenceService/ServerReady",
            Method::ModelReady => "/inference.GRPCInferenceService/ModelReady",
            Method::ServerMetadata => "/inference.GRPCInferenceService/ServerMetadata",
            Method::ModelMetadata => "/inference.GRPCInferenceService/ModelMetadata",
            Method::ModelInfer => "/inference.GRPCInferenceService/ModelInfer",
            Method::ModelStreamInfer => "/inference.GRPCInferenceService/ModelStreamInfer",
            Method::ModelConfig => "/inference.GRPCInferenceService/ModelConfig",
            Method::ModelStatistics => "/inference.GRPCInferenceService/ModelStatistics",
            Method::RepositoryIndex => "/inference.GRPCInferenceService/RepositoryIndex",
            Method::RepositoryModelLoad => "/inference.GRPCInferenceService/RepositoryModelLoad",
            Method::RepositoryModelUnload => "/inference.GRPCInferenceService/RepositoryModelUnload",
            Method::SystemSharedMemoryStatus => "/inference.GRPCInferenceService/SystemSharedMemoryStatus",
            Method::SystemSharedMemoryRegister => {
                "/inference.GRPCInferenceService/SystemSharedMemoryRegister"
            }
            Method::SystemSharedMemoryUnregister => {
                "/inference.GRPCInferenceService/SystemSharedMemoryUnregister"
            }
            Method::CudaSharedMemoryStatus => "/inference.GRPCInferenceService/CudaSharedMemoryStatus",
            Method::CudaSharedMemoryRegister => "/inference.GRPCInferenceService/CudaSharedMemoryRegister",
            Method::CudaSharedMemoryUnregister => {
                "/inference.GRPCInferenceService/CudaSharedMemoryUnregister"
            }
            Method::TraceSetting => "/inference.GRPCInferenceService/TraceSetting",
            Method::LogSettings => "/inference.GRPCInferenceService/LogSettings",
            Method::HealthCheck => "/grpc.health.v1.Health/Check",
            Method::HealthList => "/grpc.health.v1.Health/List",
            Method::HealthWatch => "/grpc.health.v1.Health/Watch",
            Method::Reflection => "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
            Method::ReflectionAlpha => "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        }
    }

    /// The RPC with this path.
    pub fn from_path(path: &str) -> Option<Method> {
        Method::ALL.into_iter().find(|method| method.path() == path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_is_its_methods_own() {
        for method in Method::ALL {
            assert_eq!(Method::from_path(method.path()), Some(method));
        }
        assert_eq!(Method::from_path("/inference.GRPCInferenceService/"), None);
    }
}
