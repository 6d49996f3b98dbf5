use super::*;

fn check(text: &str) -> Result<(), Fault> {
    let mut reader = Reader::over(text, Mode::Strict);
    reader.skip()?;
    reader.end()
}

#[test]
fn accepts_what_rfc_8259_accepts_and_refuses_the_rest() {
    for good in [
        "{}",
        "[]",
        " [ 1 , -0 , 1.5e+3 , \"\\u00e9\\n\" ] ",
        "{\"a\":{\"b\":[null,true,false]}}",
        "\"\\ud83d\\ude00\"",
        "0",
        "-1.0E-2",
        "\"\u{7f}\u{e9}\"",
    ] {
        assert_eq!(check(good), Ok(()), "{good}");
    }
    for bad in [
        "",
        "{",
        "[1,]",
        "{\"a\":1,}",
        "[1 2]",
        "{\"a\" 1}",
        "{a:1}",
        "01",
        "1.",
        ".5",
        "-",
        "+1",
        "1e",
        "1e+",
        "NaN",
        "Infinity",
        "nul",
        "truth",
        "[1]x",
        "\"\\x\"",
        "\"\\u12\"",
        "\"\\ud800\"",
        "\"\\udc00\"",
        "\"a\nb\"",
        "\"",
        "[,1]",
        "{,}",
        "'a'",
    ] {
        assert!(check(bad).is_err(), "{bad}");
    }
}

#[test]
fn agrees_with_serde_json_on_what_is_json() {
    for text in [
        "[1,{\"a\":[]}]",
        "[1,{\"a\":[}]",
        "\"\\/\"",
        "{\"a\":1}{",
        "\u{feff}1",
        "1 ",
        "\t1",
        "[-]",
    ] {
        let theirs = serde_json::from_str::<serde_json::Value>(text).is_ok();
        assert_eq!(check(text).is_ok(), theirs, "{text}");
    }
}

#[test]
fn depth_is_limited_to_100() {
    let nested = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
    assert_eq!(check(&nested(100)), Ok(()));
    assert_eq!(check(&nested(101)), Err(Fault::Depth { at: 100 }));
    assert!(check(&"[".repeat(1_000_000)).is_err());
}

#[test]
fn escapes_are_undone() {
    let mut reader = Reader::over(r#""a\"\\\/\b\f\n\r\t\u0041\ud83d\ude00é""#, Mode::Strict);
    assert_eq!(reader.string().unwrap(), "a\"\\/\u{8}\u{c}\n\r\tA\u{1f600}é");
}

#[test]
fn excerpts_are_short_and_on_one_line() {
    let long = format!("\"{}\"", "é".repeat(100));
    let reader = Reader::over(&long, Mode::Strict);
    let excerpt = reader.excerpt(0);
    assert!(
        excerpt.chars().count() < 40 && excerpt.ends_with("…`"),
        "{excerpt}"
    );
}
