use proptest::prelude::*;

use super::*;
use crate::delta::apply::apply;

/// The patch, applied and compared; its length.
fn checked(base: &[u8], target: &[u8]) -> Option<usize> {
    let patch = patch(base, target)?;
    assert_eq!(apply(base, &patch).as_deref(), Ok(target), "{}", String::from_utf8_lossy(&patch));
    assert!(patch.len() < target.len());
    if std::str::from_utf8(target).is_ok() {
        assert!(std::str::from_utf8(&patch).is_ok(), "{patch:?}");
    }
    Some(patch.len())
}

/// A patch whose decoding is known, written as other writers of the format write it.
#[test]
fn known_patch() {
    let base = br#"{"room":"lobby-main","temp":21,"unit":"C"}"#;
    let target = br#"{"room":"lobby-main","temp":22,"unit":"C"}"#;
    assert_eq!(patch(base, target).as_deref(), Some(&b"f\nT@0,1:2C@U,1MnEtI;"[..]));
}

/// What does not get shorter is not patched: nothing, next to nothing, and data without anything in common.
#[test]
fn patches_are_shorter_or_not_made() {
    for (base, target) in [
        ("", ""),
        ("", "a"),
        ("abc", ""),
        ("{\"a\":1}", "{\"b\":2}"),
        ("xyz".repeat(9).as_str(), "0123456789"),
    ] {
        assert_eq!(patch(base.as_bytes(), target.as_bytes()), None, "{base} {target}");
    }
    assert!(checked(b"equal data of some length", b"equal data of some length").unwrap() < 16);
}

/// Parts that moved, were repeated or cut out are found wherever they are: sizes are compared with what remains new.
#[test]
fn moved_parts_are_found() {
    let text: String = (0..400).map(|i| format!("{i} bottles, ")).collect();
    let (head, tail) = text.split_at(text.len() / 2);
    assert!(checked(text.as_bytes(), format!("{tail}{head}").as_bytes()).unwrap() < 30, "halves swapped");
    assert!(checked(head.as_bytes(), format!("{head}new{head}").as_bytes()).unwrap() < 40, "repeated");
    assert!(checked(text.as_bytes(), format!("[{}", &text[1000..3000]).as_bytes()).unwrap() < 200, "cut out");
    let fields = |n: u32| -> String { (0..50).map(|i| format!("\"constant{i}\":{},", i * n)).collect() };
    let (before, after) = (fields(7919), fields(104_729));
    let length = checked(before.as_bytes(), after.as_bytes()).unwrap();
    assert!(length < after.len() * 4 / 5, "{length} of {}", after.len());
}

/// Bytes in common that are a part of two different characters stay out of copies: every pair of characters with one
/// byte or more in common, between equal texts.
#[test]
fn characters_are_never_split() {
    let letters = ["а", "б", "р", "ё", "€", "₭", "😀", "😁", "🤀", "é", "a"];
    for before in letters {
        for after in letters {
            let text =
                |letter| format!("constant text around {letter} and behind it more constant text {letter}");
            checked(text(before).as_bytes(), text(after).as_bytes()).unwrap();
        }
    }
}

/// Data that invites the worst case takes no longer than other data: one byte repeated, and windows that all hash alike.
/// A quadratic search would not end.
#[test]
fn repetition_does_not_take_long() {
    let size = 1 << 20;
    let base = vec![b'a'; size];
    let mut target = vec![b'a'; size];
    (0..size).step_by(50).for_each(|at| target[at] = b'b');
    checked(&base, &target).unwrap();
    let hardly: Vec<u8> = (0..size).map(|i| if i % 9 == 8 { (i / 9) as u8 } else { b'a' }).collect();
    checked(&base, &hardly);
    checked(&hardly, &target);
}

fn edited() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    let piece = prop_oneof![
        "[ab]{0,40}".prop_map(String::into_bytes),
        "\\PC{0,30}".prop_map(String::into_bytes),
        prop::collection::vec(any::<u8>(), 0..40),
    ];
    let pieces = prop::collection::vec(piece, 1..12);
    let order = prop::collection::vec(any::<prop::sample::Index>(), 0..16);
    (pieces, order).prop_map(|(pieces, order)| {
        let target = order.iter().flat_map(|at| at.get(&pieces).clone()).collect();
        (pieces.concat(), target)
    })
}

proptest! {
    /// Applying a patch gives the target, whatever both are.
    #[test]
    fn applied_patch_is_the_target(base in prop::collection::vec(any::<u8>(), 0..300), target in prop::collection::vec(any::<u8>(), 0..300)) {
        checked(&base, &target);
    }

    /// Likewise for targets made of parts of the base in another order, text and bytes mixed.
    #[test]
    fn applied_patch_is_the_rearranged_target((base, target) in edited()) {
        checked(&base, &target);
    }

    /// Likewise for texts over few bytes and few characters, where everything matches something; these patches are text.
    #[test]
    fn patches_of_text_are_text(base in "[aаб€😀]{0,120}", target in "[aаб€😀]{0,120}") {
        checked(base.as_bytes(), target.as_bytes());
    }
}
