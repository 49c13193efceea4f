//! The configurations that suites of NATS clients start their server with,
//! in small, and what is refused.

use proptest::prelude::*;

use super::{Entry, Value, parse};

fn text(value: &str) -> Value {
    Value::Text(value.into())
}

fn map(entries: &[(&str, usize, Value)]) -> Value {
    let entry = |(key, line, value): &(&str, usize, Value)| Entry {
        key: (*key).into(),
        line: *line,
        value: value.clone(),
    };
    Value::Map(entries.iter().map(entry).collect())
}

#[test]
fn the_forms_of_a_value() {
    let read = parse(
        "# comment\nport: 4443\nnet: localhost # interface\n// more\ntls {\n  cert_file:  \"./a b.pem\"\n  \
         verify :    true\n timeout: 2s }\nmax_payload = 128KB\nlist: [a, 'b' \n {c: 1}]\nservers nats://h:1",
    )
    .expect("well formed");
    let expected = map(&[
        ("port", 2, Value::Number(4443)),
        ("net", 3, text("localhost")),
        (
            "tls",
            5,
            map(&[
                ("cert_file", 6, text("./a b.pem")),
                ("verify", 7, Value::Switch(true)),
                ("timeout", 8, text("2s")),
            ]),
        ),
        ("max_payload", 9, Value::Number(131_072)),
        ("list", 10, Value::List(vec![text("a"), text("b"), map(&[("c", 11, Value::Number(1))])])),
        ("servers", 12, text("nats://h:1")),
    ]);
    assert_eq!(Value::Map(read), expected);
}

#[test]
fn numbers_and_words_that_look_like_them() {
    let of = |word: &str| parse(&format!("a: {word}")).expect("well formed").remove(0).value;
    assert_eq!(of("1K"), Value::Number(1000));
    assert_eq!(of("-1"), Value::Number(-1));
    assert_eq!(of("2mib"), Value::Number(2 << 20));
    assert_eq!(of("127.0.0.1"), text("127.0.0.1"));
    assert_eq!(of("300ms"), text("300ms"));
    assert_eq!(of("99999999999999999999"), text("99999999999999999999"));
    assert_eq!(of("off"), Value::Switch(false));
}

#[test]
fn what_is_refused_names_its_line() {
    let of = |text: &str| parse(text).expect_err("refused").to_string();
    assert_eq!(
        of("a: 1\ninclude 'b.conf'"),
        "line 2: `include` is not supported: put everything into one file"
    );
    assert!(of("a: {\nb: 1").starts_with("line 2: the file ends inside a map"));
    assert!(of("a: [1").contains("inside a list"));
    assert!(of("a: \"x").contains("inside quotes"));
    assert!(of("a: $B").contains("variables"));
    assert!(of("a:").contains("value is missing"));
    assert!(of("}").contains("not open"));
    assert!(of(&"a [".repeat(40)).contains("nested deeper"));
}

proptest! {
    #[test]
    fn it_never_panics(text in "[a{}\\[\\]:=,;\"'# /\\\\\n0-9kB$-]{0,60}") {
        let _ = parse(&text);
    }
}
