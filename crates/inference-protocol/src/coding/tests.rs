use http::HeaderValue;
use proptest::prelude::*;

use super::*;

const TEXT: &[u8] = br#"{"inputs":[{"name":"x","shape":[2],"datatype":"FP32","data":[1.5,2.5]}]}"#;

#[test]
fn data_of_other_encoders_is_read() {
    // Python: gzip.compress(b"hello", mtime=0), zlib.compress(b"hello"), and the latter without its frame.
    let gzip = b"\x1f\x8b\x08\0\0\0\0\0\x02\xff\xcbH\xcd\xc9\xc9\x07\0\x86\xa6\x106\x05\0\0\0";
    let zlib = b"x\x9c\xcbH\xcd\xc9\xc9\x07\0\x06,\x02\x15";
    assert_eq!(Coding::Gzip.decompress(gzip, 5).unwrap(), "hello");
    assert_eq!(Coding::Deflate.decompress(zlib, 5).unwrap(), "hello");
    assert_eq!(Coding::Deflate.decompress(&zlib[2..9], 5).unwrap(), "hello");
    let twice = [gzip.as_slice(), gzip].concat();
    assert_eq!(Coding::Gzip.decompress(&twice, 10).unwrap(), "hellohello");
}

#[test]
fn what_expands_beyond_the_limit_is_refused_without_the_memory() {
    for coding in Coding::ALL {
        let bomb = coding.compress(&vec![0; 4 << 20]);
        assert!(bomb.len() < 40 << 10, "{}", bomb.len());
        let limit = 1 << 20;
        assert_eq!(
            coding.decompress(&bomb, limit),
            Err(ProtocolError::BodyTooLarge { limit })
        );
        assert_eq!(coding.decompress(&bomb, 4 << 20).unwrap().len(), 4 << 20);
    }
}

#[test]
fn cut_changed_and_extended_data_is_refused() {
    for coding in Coding::ALL {
        let good = coding.compress(TEXT);
        for cut in 0..good.len() {
            assert!(
                coding.decompress(&good[..cut], 1 << 10).is_err(),
                "{coding:?} cut at {cut}"
            );
        }
        let longer = [&good[..], b"x"].concat();
        assert_eq!(coding.decompress(&longer, 1 << 10), Err(coding.malformed()));
        // The last bytes are a checksum or a length.
        let mut changed = good.to_vec();
        *changed.last_mut().unwrap() ^= 1;
        assert_eq!(coding.decompress(&changed, 1 << 10), Err(coding.malformed()));
        assert_eq!(coding.decompress(TEXT, 1 << 10), Err(coding.malformed()));
    }
}

#[test]
fn one_coding_is_read_and_several_or_others_are_named() {
    let of = |values: &[&'static str]| {
        let values: Vec<HeaderValue> = values
            .iter()
            .map(|value| HeaderValue::from_static(value))
            .collect();
        Coding::of_content(&values).map_err(|error| error.to_string())
    };
    assert_eq!(of(&[]), Ok(None));
    assert_eq!(of(&["identity"]), Ok(None));
    assert_eq!(of(&["GZIP"]), Ok(Some(Coding::Gzip)));
    assert_eq!(of(&[" deflate , identity"]), Ok(Some(Coding::Deflate)));
    for several in [&["gzip, gzip"][..], &["gzip", "deflate"], &["br"], &["gzip, br"]] {
        assert!(
            of(several).unwrap_err().contains("gzip, deflate or identity"),
            "{several:?}"
        );
    }
}

#[test]
fn weights_choose_the_coding_of_a_reply() {
    let of = |value: &'static str| {
        let value = HeaderValue::from_static(value);
        Accepted::parse([&value]).map(|accepted| (accepted.coding, accepted.always))
    };
    let (gzip, deflate) = (Coding::Gzip, Coding::Deflate);
    assert_eq!(of("gzip, deflate"), Some((gzip, false)));
    assert_eq!(of("deflate, gzip"), Some((gzip, false)));
    assert_eq!(of("deflate;q=1.0, gzip;q=0.5"), Some((deflate, false)));
    assert_eq!(of("gzip;q=0, deflate"), Some((deflate, false)));
    assert_eq!(of("gzip ; Q=0.001"), Some((gzip, false)));
    assert_eq!(of("identity;q=0, *"), Some((gzip, true)));
    assert_eq!(of("*;q=0, deflate"), Some((deflate, true)));
    for plain in [
        "",
        "identity",
        "*",
        "br, zstd",
        "gzip;q=0",
        "gzip;q=x",
        "gzip;q=2",
        "identity, gzip;q=0.5",
        "*;q=0",
    ] {
        assert_eq!(of(plain), None, "{plain}");
    }
}

proptest! {
    #[test]
    fn what_is_compressed_comes_back(bytes in prop::collection::vec(any::<u8>(), 0..4_096)) {
        for coding in Coding::ALL {
            let back = coding.decompress(&coding.compress(&bytes), bytes.len()).unwrap();
            prop_assert_eq!(&back[..], &bytes[..]);
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        for coding in Coding::ALL {
            if let Ok(whole) = coding.decompress(&bytes, 1 << 16) {
                prop_assert!(whole.len() <= 1 << 16);
            }
        }
    }
}
