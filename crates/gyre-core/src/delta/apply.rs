//! A reader of patches, for tests.

/// Applies a patch as a strict reader does: every number, bound, length and the checksum is looked at.
pub(crate) fn apply(base: &[u8], patch: &[u8]) -> Result<Vec<u8>, &'static str> {
    let mut rest = patch;
    let length = take_number(&mut rest)?;
    if take(&mut rest)? != b'\n' {
        return Err("no line feed after the length");
    }
    let mut out = Vec::new();
    loop {
        let number = take_number(&mut rest)? as usize;
        match take(&mut rest)? {
            b'@' => {
                let from = take_number(&mut rest)? as usize;
                if take(&mut rest)? != b',' {
                    return Err("no comma after the offset");
                }
                out.extend_from_slice(base.get(from..from + number).ok_or("copy outside the base")?);
            }
            b':' => {
                let (literal, after) = rest.split_at_checked(number).ok_or("literal outside the patch")?;
                out.extend_from_slice(literal);
                rest = after;
            }
            b';' if !rest.is_empty() => return Err("bytes after the end"),
            b';' if out.len() != length as usize => return Err("another length"),
            b';' if slow_checksum(&out) != number as u32 => return Err("another checksum"),
            b';' => return Ok(out),
            _ => return Err("no operation"),
        }
    }
}

fn take(rest: &mut &[u8]) -> Result<u8, &'static str> {
    let (&first, after) = rest.split_first().ok_or("end of patch")?;
    *rest = after;
    Ok(first)
}

fn take_number(rest: &mut &[u8]) -> Result<u32, &'static str> {
    let mut number: Option<u32> = None;
    while let Some(&byte) = rest.first() {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'A'..=b'Z' => byte - b'A' + 10,
            b'_' => 36,
            b'a'..=b'z' => byte - b'a' + 37,
            b'~' => 63,
            _ => break,
        };
        number = Some(number.unwrap_or(0).checked_mul(64).ok_or("number too large")? + u32::from(digit));
        *rest = &rest[1..];
    }
    number.ok_or("no number")
}

/// The checksum by its definition, byte by byte.
fn slow_checksum(bytes: &[u8]) -> u32 {
    let place = |(i, &byte): (usize, &u8)| u32::from(byte) << (24 - 8 * (i % 4));
    bytes.iter().enumerate().map(place).fold(0, u32::wrapping_add)
}
