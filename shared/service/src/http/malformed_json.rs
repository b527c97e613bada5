//! What is wrong with a body that is not JSON, in the words of those who wrote it. The parser's own words are those of its
//! grammar: a byte order mark is "expected value", half of a surrogate pair an "unexpected end of hex escape".

use self::place::{Place, is_word};

mod place;

/// Returns what is wrong and where, and what to do unless that is obvious.
pub(super) fn explain(body: &[u8], error: &serde_json::Error) -> String {
    if body.trim_ascii().is_empty() {
        return "the body is empty; send a JSON object".to_owned();
    }
    match body {
        [0xef, 0xbb, 0xbf, ..] => {
            return "the body begins with a byte order mark (BOM), which JSON does not allow; send \
                    it without one"
                .to_owned();
        }
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [0, _, ..] | [_, 0, ..] => {
            return "the body is not UTF-8 but UTF-16 or UTF-32; send UTF-8".to_owned();
        }
        [0x1f, 0x8b, ..] => {
            return "the body is compressed with gzip; send it uncompressed".to_owned();
        }
        _ => {}
    }
    if let Err(invalid) = std::str::from_utf8(body) {
        let at = Place::of_offset(body, invalid.valid_up_to());
        return format!("the body is not UTF-8: the byte 0x{:02x} {at}", body[at.offset]);
    }
    let at = Place::of_error(body, error);
    // The parser tells its errors apart by their text only; the tests notice if that changes.
    let text = error.to_string();
    let is = |start: &str| text.starts_with(start);
    // The parser sees none at the end of the body, either.
    if (is("invalid escape") || is("EOF while parsing a string"))
        && let Some(offset) = short_hex_escape(body, at.offset)
    {
        let at = Place::of_offset(body, offset);
        return format!("the body is not valid JSON {at}: \\u must have four hexadecimal digits");
    }
    if is("EOF") {
        let within = match &text {
            _ if is("EOF while parsing a string") => "a string",
            _ if is("EOF while parsing a list") => "an array",
            _ => "an object",
        };
        let (length, s) = (body.len(), if body.len() == 1 { "" } else { "s" });
        return format!("the body ends within {within}, after {length} byte{s}; send all of it");
    }
    if is("lone leading surrogate") || is("unexpected end of hex escape") {
        let at = at.of_surrogate(body);
        return format!(
            "a string has half of a surrogate pair, {}, {at}; escape both halves, or send the \
             character itself",
            at.found(body)
        );
    }
    // The parser notices that a word has ended too early at what follows it.
    let at = if is("expected ident") || is("invalid number") { at.of_word(body) } else { at };
    let mistake = mistake_around(&is, body, at).unwrap_or_else(|| mistake(&is, &at.found(body)));
    format!("the body is not valid JSON {at}: {mistake}")
}

/// Returns the mistake that the parser's text stands for where what is around the place tells more.
fn mistake_around(is: &impl Fn(&str) -> bool, body: &[u8], at: Place) -> Option<String> {
    let (before, here) = body.split_at(at.offset);
    // What is within a string is not a mistake in the syntax around it.
    if is("control character") || is("invalid escape") {
        return None;
    }
    if matches!(here, [b'#', ..] | [b'/', b'/' | b'*', ..]) {
        return Some("JSON has no comments; there is one".to_owned());
    }
    if here.starts_with(b",") && (is("expected value") || is("key must be")) {
        return match before.trim_ascii_end() {
            [.., b','] => Some("there are two commas, and nothing between them".to_owned()),
            [.., bracket @ (b'[' | b'{')] => {
                Some(format!("a comma must not stand behind `{}`", char::from(*bracket)))
            }
            _ => None,
        };
    }
    let within_word = before.last().is_some_and(|byte| is_word(*byte)) && is_word(*here.first()?);
    if within_word && (is("expected `,` or") || is("trailing characters")) {
        let found = at.found(body);
        return Some(match found.as_bytes() {
            [_, b'-' | b'0'..=b'9', ..] => not_a_number(&found),
            _ => not_a_value(&found),
        });
    }
    None
}

/// Returns where an escape begins that lacks some of its four digits, if one is at most as long as one before `end`.
fn short_hex_escape(body: &[u8], end: usize) -> Option<usize> {
    let start = end.saturating_sub("\\u0000".len());
    let at = start + body[start..=end].windows(2).rposition(|it| it == b"\\u")?;
    let backslashes = body[..at].iter().rev().take_while(|byte| **byte == b'\\').count();
    let rest = &body[at + 2..];
    let digits = rest.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    // Without anything behind it, the body ends here.
    (backslashes % 2 == 0 && digits < 4 && digits < rest.len()).then_some(at)
}

fn not_a_number(found: &str) -> String {
    format!("{found} is not a JSON number")
}

fn not_a_value(found: &str) -> String {
    format!(
        "{found} is not a value (a string in double quotes, a number, an object, an array, true, false \
         or null)"
    )
}

/// Returns the mistake that the parser's text stands for, given what is there.
fn mistake(is: &impl Fn(&str) -> bool, found: &str) -> String {
    let word = found.trim_matches(['`', '-', '+']).to_ascii_lowercase();
    let not_finite = matches!(word.as_str(), "nan" | "inf" | "infinity");
    if not_finite {
        return format!("{found} is not a number; JSON has no NaN and no Infinity");
    }
    if is("expected value") || is("expected ident") {
        not_a_value(found)
    } else if is("key must be a string") || is("expected `\"`") {
        format!("a member's name in double quotes should stand in place of {found}")
    } else if is("trailing comma") {
        format!("a comma must not stand before {found}")
    } else if is("expected `:`") {
        format!("a colon should stand after the member's name, before {found}")
    } else if is("expected `,` or") {
        format!("a comma or a closing bracket is missing before {found}")
    } else if is("trailing characters") {
        format!("nothing may follow the JSON text, but there is {found}")
    } else if is("invalid number") {
        not_a_number(found)
    } else if is("number out of range") {
        format!("the number {found} is too large")
    } else if is("recursion limit exceeded") {
        "arrays and objects are nested more than 127 levels deep".to_owned()
    } else if is("invalid escape") {
        "a string has an invalid escape (a backslash itself is written \\\\)".to_owned()
    } else if is("control character") {
        "a string has a control character that is not escaped (a line break is written \\n)"
            .to_owned()
    } else {
        format!("there is an unexpected {found}")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn explained(body: &[u8]) -> String {
        explain(body, &serde_json::from_slice::<Value>(body).unwrap_err())
    }

    #[test]
    fn a_body_that_is_no_text_of_json_is_explained() {
        for (body, expected) in [
            (&b""[..], "the body is empty; send a JSON object"),
            (b" \n", "the body is empty; send a JSON object"),
            (
                b"\xef\xbb\xbf{}",
                "the body begins with a byte order mark (BOM), which JSON does not allow; send it without one",
            ),
            (b"\xff\xfe{\0}\0", "the body is not UTF-8 but UTF-16 or UTF-32; send UTF-8"),
            (b"{\0}\0", "the body is not UTF-8 but UTF-16 or UTF-32; send UTF-8"),
            (b"\x1f\x8b\x08\0", "the body is compressed with gzip; send it uncompressed"),
            (b"{\n\"a\":\"\xe4\"}", "the body is not UTF-8: the byte 0xe4 at line 2, column 6"),
            (
                br#"{"a":"\ud800"}"#,
                r"a string has half of a surrogate pair, `\ud800`, at line 1, column 7; escape both halves, or send the character itself",
            ),
            (
                br#"{"a":"x\uDC00y"}"#,
                r"a string has half of a surrogate pair, `\uDC00y`, at line 1, column 8; escape both halves, or send the character itself",
            ),
            (
                br#"{"a":"\ud83d\u0041"}"#,
                r"a string has half of a surrogate pair, `\ud83d`, at line 1, column 7; escape both halves, or send the character itself",
            ),
            (
                br#"{"a":"\ud83d\n"}"#,
                r"a string has half of a surrogate pair, `\ud83d`, at line 1, column 7; escape both halves, or send the character itself",
            ),
        ] {
            assert_eq!(explained(body), expected, "{}", body.escape_ascii());
        }
    }

    #[test]
    fn a_mistake_in_the_syntax_is_explained_with_its_place() {
        for (body, expected) in [
            (
                &br#"{"a":NaN}"#[..],
                "the body is not valid JSON at line 1, column 6: `NaN` is not a number; JSON has no NaN and no Infinity",
            ),
            (
                br#"{"a":nan}"#,
                "the body is not valid JSON at line 1, column 7: `nan` is not a number; JSON has no NaN and no Infinity",
            ),
            (
                br#"{"a":-Infinity}"#,
                "the body is not valid JSON at line 1, column 7: `-Infinity` is not a number; JSON has no NaN and no Infinity",
            ),
            (
                br#"{"a":None}"#,
                "the body is not valid JSON at line 1, column 6: `None` is not a value (a string in double quotes, a number, an object, an array, true, false or null)",
            ),
            (
                b"{\"a\":'b'}",
                "the body is not valid JSON at line 1, column 6: `'` is not a value (a string in double quotes, a number, an object, an array, true, false or null)",
            ),
            (
                b"{'a':1}",
                "the body is not valid JSON at line 1, column 2: a member's name in double quotes should stand in place of `'`",
            ),
            (
                b"{a:1}",
                "the body is not valid JSON at line 1, column 2: a member's name in double quotes should stand in place of `a`",
            ),
            (
                b"{\"a\":1,}",
                "the body is not valid JSON at line 1, column 8: a comma must not stand before `}`",
            ),
            (
                b"{\"a\":[1,]}",
                "the body is not valid JSON at line 1, column 9: a comma must not stand before `]`",
            ),
            (
                b"{\"a\" 1}",
                "the body is not valid JSON at line 1, column 6: a colon should stand after the member's name, before `1`",
            ),
            (
                b"{\"a\":1\n\"b\":2}",
                "the body is not valid JSON at line 2, column 1: a comma or a closing bracket is missing before `\"`",
            ),
            (
                b"{} {}",
                "the body is not valid JSON at line 1, column 4: nothing may follow the JSON text, but there is `{`",
            ),
            (
                b"{\"a\":01}",
                "the body is not valid JSON at line 1, column 7: `01` is not a JSON number",
            ),
            (
                b"{\"a\":1e400}",
                "the body is not valid JSON at line 1, column 10: the number `1e400` is too large",
            ),
            (
                b"{\"a\":\"x\ny\"}",
                "the body is not valid JSON at line 1, column 8: a string has a control character that is not escaped (a line break is written \\n)",
            ),
            (
                b"{\"a\":\"\\x\"}",
                "the body is not valid JSON at line 1, column 8: a string has an invalid escape (a backslash itself is written \\\\)",
            ),
            (
                b"{ // a\n}",
                "the body is not valid JSON at line 1, column 3: JSON has no comments; there is one",
            ),
            (b"{\"a\":\"b", "the body ends within a string, after 7 bytes; send all of it"),
            (b"{\"a\":", "the body ends within an object, after 5 bytes; send all of it"),
            (b"{\"a\":[1", "the body ends within an array, after 7 bytes; send all of it"),
        ] {
            assert_eq!(explained(body), expected, "{}", body.escape_ascii());
        }
    }

    #[test]
    fn the_words_at_fault_are_named() {
        let number = |word, column| (column, format!("`{word}` is not a JSON number"));
        let value = |word: &str, column| (column, not_a_value(&format!("`{word}`")));
        let comment = |column| (column, "JSON has no comments; there is one".to_owned());
        let commas = |column| (column, "there are two commas, and nothing between them".to_owned());
        let other = |text: &str, column| (column, text.to_owned());
        let digits = r"\u must have four hexadecimal digits";
        let escape = r"a string has an invalid escape (a backslash itself is written \\)";
        for (body, (column, expected)) in [
            (r#"{"a":nu}"#, value("nu", 7)),
            (r#"{"a":nul,"b":1}"#, value("nul", 8)),
            (r#"{"a":t }"#, value("t", 6)),
            (r#"{"a":falsy}"#, value("falsy", 10)),
            (r#"{"a":true_}"#, value("true_", 10)),
            (r#"["a",nullx]"#, value("nullx", 10)),
            (r#"{"a":1.}"#, number("1.", 7)),
            (r#"{"a":1e}"#, number("1e", 7)),
            (r#"{"a":-}"#, number("-", 6)),
            (r#"{"a":1.e5}"#, number("1.e5", 8)),
            (r#"{"a":12abc}"#, number("12abc", 8)),
            (r#"{"a":0x10}"#, number("0x10", 7)),
            (r#"{"a":-1_000}"#, number("-1_000", 8)),
            (r#"{"a":1.2.3}"#, number("1.2.3", 9)),
            ("12abc", number("12abc", 3)),
            (r#"{"a":1,,"b":2}"#, commas(8)),
            (r#"{"a":1 , ,}"#, commas(10)),
            ("[1,,2]", commas(4)),
            ("[,1]", other("a comma must not stand behind `[`", 2)),
            (r#"{ ,"a":1}"#, other("a comma must not stand behind `{`", 3)),
            (r#"{"a":,"b":1}"#, value(",", 6)),
            (r#"{"a":1} //c"#, comment(9)),
            (r#"{"a":1} # c"#, comment(9)),
            (r#"{"a":1 /* c */}"#, comment(8)),
            (r#"{"a" # c"#, comment(6)),
            (r#"{"a":#"#, comment(6)),
            ("{#", comment(2)),
            (r#"{"a":1 / 2}"#, other("a comma or a closing bracket is missing before `/`", 8)),
            (r#"{"a":"\u12"}"#, other(digits, 7)),
            (r#"{"a":"\u1"}"#, other(digits, 7)),
            (r#"{"a":"\u"}  "#, other(digits, 7)),
            (r#"{"a":"\u12g4"}"#, other(digits, 7)),
            (r#"{"a":"\ud83d\u12"}"#, other(digits, 13)),
            (r#"{"a":"\u0041\u""#, other(digits, 13)),
            (r#"{"a":"\u0041\x"}"#, other(escape, 14)),
            (r#"{"a":"\\u12\x"}"#, other(escape, 13)),
        ] {
            let expected =
                format!("the body is not valid JSON at line 1, column {column}: {expected}");
            assert_eq!(explained(body.as_bytes()), expected, "{body}");
        }
        let one = "the body ends within an object, after 1 byte; send all of it";
        assert_eq!(explained(b"{"), one);
        for cut in [&br#"{"a":"\u1"#[..], br#"{"a":"\u"#, br#"{"a":"\\u1 "#] {
            assert!(explained(cut).starts_with("the body ends within a string"), "{cut:?}");
        }
    }

    #[test]
    fn nesting_has_a_limit_and_so_has_what_is_quoted() {
        let nested = |levels: usize| ["[".repeat(levels), "]".repeat(levels)].concat();
        assert!(serde_json::from_str::<Value>(&nested(127)).is_ok());
        assert!(explained(nested(128).as_bytes()).contains("more than 127 levels deep"));
        let long = explained(format!("{{\"a\":x{}}}", "y".repeat(60_000)).as_bytes());
        assert!(long.contains("`xyyyyyyyyyyyyyyyyyyy…`"), "{long}");
        let digits = explained(format!("[1{}]", "0".repeat(60_000)).as_bytes());
        assert!(digits.len() < 120, "{digits}");
    }
}
