//! Statuses of gRPC.

/// Status of a gRPC call; the numbers are those of the `grpc-status` trailer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum GrpcCode {
    /// Success.
    Ok = 0,
    /// The caller gave up.
    Cancelled = 1,
    /// None of the others.
    Unknown = 2,
    /// The request is wrong, whatever the server's state.
    InvalidArgument = 3,
    /// The time is over.
    DeadlineExceeded = 4,
    /// No such model.
    NotFound = 5,
    /// It is there already.
    AlreadyExists = 6,
    /// Not allowed.
    PermissionDenied = 7,
    /// Too much of something: queue, bytes.
    ResourceExhausted = 8,
    /// The server's state does not allow it.
    FailedPrecondition = 9,
    /// Given up halfway.
    Aborted = 10,
    /// Past the end.
    OutOfRange = 11,
    /// No such RPC, or no such feature.
    Unimplemented = 12,
    /// The server's fault.
    Internal = 13,
    /// Not now.
    Unavailable = 14,
    /// Data are lost.
    DataLoss = 15,
    /// Nobody said who asks.
    Unauthenticated = 16,
}

impl GrpcCode {
    /// Every status, by number.
    pub const ALL: [GrpcCode; 17] = [
        GrpcCode::Ok,
        GrpcCode::Cancelled,
        GrpcCode::Unknown,
        GrpcCode::InvalidArgument,
        GrpcCode::DeadlineExceeded,
        GrpcCode::NotFound,
        GrpcCode::AlreadyExists,
        GrpcCode::PermissionDenied,
        GrpcCode::ResourceExhausted,
        GrpcCode::FailedPrecondition,
        GrpcCode::Aborted,
        GrpcCode::OutOfRange,
        GrpcCode::Unimplemented,
        GrpcCode::Internal,
        GrpcCode::Unavailable,
        GrpcCode::DataLoss,
        GrpcCode::Unauthenticated,
    ];

    /// The number.
    pub const fn as_i32(self) -> i32 {
        self as i32
    }

    /// The number as the `grpc-status` trailer has it.
    pub const fn as_str(self) -> &'static str {
        const NUMBERS: [&str; 17] = [
            "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15", "16",
        ];
        NUMBERS[self as usize]
    }

    /// The status with this number; those that gRPC does not define are [`GrpcCode::Unknown`].
    pub fn from_i32(number: i32) -> GrpcCode {
        usize::try_from(number)
            .ok()
            .and_then(|at| GrpcCode::ALL.get(at).copied())
            .unwrap_or(GrpcCode::Unknown)
    }

    /// The status that a `grpc-status` trailer tells.
    pub fn from_trailer(value: &[u8]) -> GrpcCode {
        let number = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
        number.map_or(GrpcCode::Unknown, GrpcCode::from_i32)
    }

    /// The name, e.g. `INVALID_ARGUMENT`.
    pub const fn name(self) -> &'static str {
        match self {
            GrpcCode::Ok => "OK",
            GrpcCode::Cancelled => "CANCELLED",
            GrpcCode::Unknown => "UNKNOWN",
            GrpcCode::InvalidArgument => "INVALID_ARGUMENT",
            GrpcCode::DeadlineExceeded => "DEADLINE_EXCEEDED",
            GrpcCode::NotFound => "NOT_FOUND",
            GrpcCode::AlreadyExists => "ALREADY_EXISTS",
            GrpcCode::PermissionDenied => "PERMISSION_DENIED",
            GrpcCode::ResourceExhausted => "RESOURCE_EXHAUSTED",
            GrpcCode::FailedPrecondition => "FAILED_PRECONDITION",
            GrpcCode::Aborted => "ABORTED",
            GrpcCode::OutOfRange => "OUT_OF_RANGE",
            GrpcCode::Unimplemented => "UNIMPLEMENTED",
            GrpcCode::Internal => "INTERNAL",
            GrpcCode::Unavailable => "UNAVAILABLE",
            GrpcCode::DataLoss => "DATA_LOSS",
            GrpcCode::Unauthenticated => "UNAUTHENTICATED",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_back() {
        for (number, code) in GrpcCode::ALL.into_iter().enumerate() {
            assert_eq!(code.as_i32(), number as i32);
            assert_eq!(GrpcCode::from_trailer(code.as_str().as_bytes()), code);
        }
        assert_eq!(GrpcCode::from_i32(17), GrpcCode::Unknown);
        assert_eq!(GrpcCode::from_i32(-1), GrpcCode::Unknown);
        assert_eq!(GrpcCode::from_trailer(b"x"), GrpcCode::Unknown);
    }
}
