use std::borrow::Cow;

use super::*;

fn tags(pairs: &[(&str, &str)]) -> Tags {
    pairs.iter().map(|&(key, value)| (key.into(), value.into())).collect()
}

fn test<'a>(key: &'a str, cmp: &'a str, val: &'a str, vals: &[&'a str]) -> FilterNode<'a> {
    let [key, cmp, val] = [key, cmp, val].map(Cow::Borrowed);
    let vals = vals.iter().copied().map(Cow::Borrowed).collect();
    FilterNode { key, cmp, val, vals, ..FilterNode::default() }
}

fn operator<'a>(op: &'a str, nodes: Vec<FilterNode<'a>>) -> FilterNode<'a> {
    FilterNode { op: op.into(), nodes, ..FilterNode::default() }
}

/// The values of tag `k` (`-` for none) that pass, of a fixed list.
fn passing(filter: &FilterNode<'_>) -> Vec<&'static str> {
    let filter = Filter::compile(filter).unwrap();
    let matches = |value: &&str| match *value {
        "-" => filter.matches(&tags(&[("other", "a")])),
        value => filter.matches(&tags(&[("other", "a"), ("k", value)])),
    };
    ["a", "abc", "11", "10.5", "9", "", "-"].into_iter().filter(matches).collect()
}

/// Every comparison, against every kind of value: present, other, numeric, empty and absent.
///
/// Spec: centrifugal.dev, "Channel publication filtering", comparison operators
#[test]
fn comparisons() {
    let table: [(&str, &str, &[&str], &[&str]); 18] = [
        ("eq", "a", &[], &["a"]),
        ("neq", "a", &[], &["abc", "11", "10.5", "9", "", "-"]),
        ("in", "", &["abc", "a"], &["a", "abc"]),
        ("in", "", &["9", ""], &["9", "", "-"]),
        ("nin", "", &["a", "abc"], &["11", "10.5", "9", "", "-"]),
        ("nin", "", &["a", ""], &["abc", "11", "10.5", "9"]),
        ("ex", "", &[], &["a", "abc", "11", "10.5", "9", ""]),
        ("nex", "", &[], &["-"]),
        ("sw", "ab", &[], &["abc"]),
        ("ew", "c", &[], &["abc"]),
        ("ct", "b", &[], &["abc"]),
        ("gt", "9", &[], &["11", "10.5"]),
        ("gte", "10.50", &[], &["11", "10.5"]),
        ("lt", "10.5", &[], &["9"]),
        ("lte", "10.5", &[], &["10.5", "9"]),
        ("gt", "none", &[], &[]),
        ("lt", "none", &[], &[]),
        ("gt", "-1", &[], &["11", "10.5", "9"]),
    ];
    for (cmp, val, vals, expected) in table {
        let filter = test("k", cmp, val, vals);
        assert_eq!(passing(&filter), expected, "{cmp} {val} {vals:?}");
        let not: Vec<&str> = passing(&operator("not", vec![filter]));
        assert_eq!(not.len() + expected.len(), 7, "not {cmp} {val} {vals:?}");
    }
}

/// Operators combine, also nested in each other.
#[test]
fn operators() {
    let a = || test("k", "sw", "a", &[]);
    let b = || test("k", "ct", "b", &[]);
    let missing = || test("k", "nex", "", &[]);
    assert_eq!(passing(&operator("and", vec![a(), b()])), ["abc"]);
    assert_eq!(passing(&operator("and", vec![a()])), ["a", "abc"]);
    assert_eq!(passing(&operator("or", vec![b(), missing()])), ["abc", "-"]);
    assert_eq!(passing(&operator("and", vec![a(), operator("not", vec![b()])])), ["a"]);
    let number = operator("or", vec![test("k", "lt", "10", &[]), test("k", "gt", "10.9", &[])]);
    assert_eq!(
        passing(&operator("or", vec![operator("and", vec![number, test("other", "eq", "a", &[])]), b()])),
        ["abc", "11", "9"]
    );
}

/// Whatever lacks an operand, has one too many, or is not known, is refused, on its own and inside of a good filter.
#[test]
fn malformed_filters_are_refused() {
    let good = || test("k", "ex", "", &[]);
    let mut bad = vec![
        test("k", "", "v", &[]),
        test("k", "like", "v", &[]),
        test("k", "EQ", "v", &[]),
        test("k", "ex", "v", &[]),
        test("k", "nex", "", &["v"]),
        operator("xor", vec![good()]),
        operator("and", vec![]),
        operator("or", vec![]),
        operator("not", vec![]),
        operator("not", vec![good(), good()]),
    ];
    for cmp in ["eq", "neq", "sw", "ew", "ct", "gt", "gte", "lt", "lte"] {
        bad.extend([test("k", cmp, "", &[]), test("", cmp, "1", &[]), test("k", cmp, "1", &["2"])]);
    }
    for cmp in ["in", "nin"] {
        bad.extend([test("k", cmp, "", &[]), test("", cmp, "", &["v"]), test("k", cmp, "v", &["v"])]);
    }
    for filter in bad {
        assert_eq!(Filter::compile(&filter), Err(InvalidFilter), "{filter:?}");
        let nested = operator("and", vec![good(), operator("not", vec![filter])]);
        assert_eq!(Filter::compile(&nested), Err(InvalidFilter), "{nested:?}");
    }
    assert!(Filter::compile(&test("", "ex", "", &[])).is_ok(), "existence may be asked of the empty key");
}

/// Depth and number of terms are bounded, exactly at the limits.
#[test]
fn size_is_bounded() {
    let nested = |depth| (0..depth).fold(test("k", "ex", "", &[]), |filter, _| operator("not", vec![filter]));
    assert!(Filter::compile(&nested(DEPTH_MAX)).is_ok());
    assert_eq!(Filter::compile(&nested(DEPTH_MAX + 1)), Err(InvalidFilter));
    let wide = |leaves| operator("or", vec![test("k", "ex", "", &[]); leaves]);
    assert!(Filter::compile(&wide(TERMS_MAX - 1)).is_ok());
    assert_eq!(Filter::compile(&wide(TERMS_MAX)), Err(InvalidFilter));
    let values = |count| test("k", "in", "", &vec!["v"; count]);
    assert!(Filter::compile(&values(TERMS_MAX - 1)).is_ok());
    assert_eq!(Filter::compile(&values(TERMS_MAX)), Err(InvalidFilter));
}
