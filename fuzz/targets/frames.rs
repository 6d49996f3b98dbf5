//! gRPC streams: the first byte chooses coding and size of the chunks, the rest is the stream.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use plumbline_inference_protocol::coding::Coding;
use plumbline_inference_protocol::grpc;

const LIMIT: usize = 1 << 12;

fuzz_target!(|input: &[u8]| {
    let Some((&choice, stream)) = input.split_first() else {
        return;
    };
    let coding = [None, Some(Coding::Gzip), Some(Coding::Deflate)][usize::from(choice % 3)];
    let mut messages: Option<Vec<Bytes>> = None;
    // Where the chunks fall changes nothing.
    for size in [usize::from(choice / 3) + 1, stream.len().max(1)] {
        let mut parser = grpc::FrameParser::with_coding(LIMIT, coding);
        let mut read = Vec::new();
        'stream: for chunk in stream.chunks(size) {
            parser.push(Bytes::copy_from_slice(chunk));
            loop {
                match parser.next_message() {
                    Ok(Some(message)) => {
                        assert!(message.len() <= LIMIT);
                        read.push(message);
                    }
                    Ok(None) => break,
                    Err(_) => break 'stream,
                }
            }
        }
        match &messages {
            Some(before) => assert_eq!(*before, read),
            None => messages = Some(read),
        }
    }
    let body = Bytes::copy_from_slice(stream);
    if let Ok(plain) = grpc::expand_frame(body, coding, LIMIT) {
        let _ = grpc::message_of(plain);
    }
    let _ = grpc::message_coding(Some(stream));
    let _ = grpc::StreamedRequest::peek(Bytes::copy_from_slice(stream));
});
