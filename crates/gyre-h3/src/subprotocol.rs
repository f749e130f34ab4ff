//! Application protocols of a session, offered in `WT-Available-Protocols`.
//!
//! Spec: draft-ietf-webtrans-http3, "Application Protocol Negotiation"; RFC 9651 section 4.2 for the syntax

use crate::{headers::RequestHead, settings::Dialect};

const OFFER: &[u8] = b"wt-available-protocols";
const ANSWER: &[u8] = b"wt-protocol";

/// An application protocol both sides know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Negotiated<'a> {
    /// Its name.
    pub protocol: &'a str,
    /// Name and value of the field that tells the client.
    pub field: (Vec<u8>, Vec<u8>),
}

/// Picks the first protocol in the client's order that is in `known`, and gives the field that tells the client, for
/// [`crate::Connection::accept_session`]. `None` if there is no such protocol, no offer, or a malformed one: the
/// session is accepted without.
///
/// The offer is a list of strings; in drafts 07 to 12 it may be of tokens, and the answer is one.
pub fn negotiate_protocol<'a>(
    head: &RequestHead,
    dialect: Dialect,
    known: &[&'a str],
) -> Option<Negotiated<'a>> {
    let takes_tokens = dialect == Dialect::Draft07;
    let offered = List { input: &join(head), takes_tokens }.parse()?;
    let chosen = offered.iter().find_map(|offer| known.iter().find(|known| **known == offer).copied())?;
    let value = match takes_tokens && is_token(chosen.as_bytes()) {
        true => chosen.to_owned(),
        false => format!("\"{}\"", chosen.replace('\\', "\\\\").replace('"', "\\\"")),
    };
    Some(Negotiated { protocol: chosen, field: (ANSWER.to_vec(), value.into_bytes()) })
}

/// Several lines of a list are one list.
fn join(head: &RequestHead) -> Vec<u8> {
    head.fields(OFFER).collect::<Vec<_>>().join(&b',')
}

/// A list of strings, as a parser over what is left of it. Parameters are checked and dropped.
struct List<'a> {
    input: &'a [u8],
    takes_tokens: bool,
}

impl List<'_> {
    fn parse(mut self) -> Option<Vec<String>> {
        let mut members = Vec::new();
        self.skip(b" ");
        while !self.input.is_empty() {
            members.push(self.member()?);
            self.skip(b" \t");
            if self.input.is_empty() {
                break;
            }
            self.expect(b',')?;
            self.skip(b" \t");
            // A comma has a member behind it.
            self.input.first()?;
        }
        Some(members)
    }

    fn member(&mut self) -> Option<String> {
        let value = match self.input.first()? {
            b'"' => self.string()?,
            _ if self.takes_tokens => self.token()?,
            _ => return None,
        };
        while self.input.first() == Some(&b';') {
            self.input = &self.input[1..];
            self.skip(b" ");
            self.key()?;
            if self.input.first() == Some(&b'=') {
                self.input = &self.input[1..];
                self.bare_item()?;
            }
        }
        Some(value)
    }

    fn string(&mut self) -> Option<String> {
        self.expect(b'"')?;
        let mut text = String::new();
        loop {
            match self.byte()? {
                b'"' => return Some(text),
                b'\\' => match self.byte()? {
                    escaped @ (b'"' | b'\\') => text.push(char::from(escaped)),
                    _ => return None,
                },
                byte @ 0x20..0x7f => text.push(char::from(byte)),
                _ => return None,
            }
        }
    }

    fn token(&mut self) -> Option<String> {
        let text = self.take_while(|byte| is_token_byte(byte) || matches!(byte, b':' | b'/'));
        is_token(text).then(|| text.iter().copied().map(char::from).collect())
    }

    fn key(&mut self) -> Option<()> {
        let key = self
            .take_while(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-.*".contains(&byte));
        let first = key.first()?;
        (first.is_ascii_lowercase() || *first == b'*').then_some(())
    }

    /// The value of a parameter. What it is does not matter, only where it ends.
    fn bare_item(&mut self) -> Option<()> {
        match self.input.first()? {
            b'"' => self.string().map(drop),
            b':' => {
                self.expect(b':')?;
                self.take_while(|byte| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte));
                self.expect(b':')
            }
            b'?' | b'@' | b'-' | b'0'..=b'9' => {
                self.byte()?;
                self.take_while(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'-'));
                Some(())
            }
            _ => self.token().map(drop),
        }
    }

    fn byte(&mut self) -> Option<u8> {
        let (&first, rest) = self.input.split_first()?;
        self.input = rest;
        Some(first)
    }

    fn expect(&mut self, wanted: u8) -> Option<()> {
        (self.byte()? == wanted).then_some(())
    }

    fn skip(&mut self, bytes: &[u8]) {
        self.take_while(|byte| bytes.contains(&byte));
    }

    fn take_while(&mut self, is_wanted: impl Fn(u8) -> bool) -> &[u8] {
        let size = self.input.iter().take_while(|byte| is_wanted(**byte)).count();
        let (taken, rest) = self.input.split_at(size);
        self.input = rest;
        taken
    }
}

fn is_token(text: &[u8]) -> bool {
    text.first().is_some_and(|first| first.is_ascii_alphabetic() || *first == b'*')
        && text.iter().all(|&byte| is_token_byte(byte) || matches!(byte, b':' | b'/'))
}

fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(dialect: Dialect, offers: &[&str]) -> Option<String> {
        let fields = offers.iter().map(|offer| (OFFER.to_vec(), offer.as_bytes().to_vec())).collect();
        let head = RequestHead { fields, ..RequestHead::default() };
        let (name, value) = negotiate_protocol(&head, dialect, &["b", "a", "q\"\\"])?.field;
        assert_eq!(name, ANSWER);
        Some(String::from_utf8(value).unwrap())
    }

    /// The client's order decides; parameters mean nothing; several lines are one list.
    #[test]
    fn first_known_offer_is_chosen() {
        let draft13 = |offers: &[&str]| chosen(Dialect::Draft13, offers);
        assert_eq!(
            draft13(&[r#""x", "a";p=1;q;r="s,\"";s=:aGk=:;t=?1;u=-1.5, "b""#]).as_deref(),
            Some(r#""a""#)
        );
        assert_eq!(draft13(&[r#""x""#, r#""b""#]).as_deref(), Some(r#""b""#));
        assert_eq!(draft13(&[r#""q\"\\""#]).as_deref(), Some(r#""q\"\\""#));
        assert_eq!(draft13(&[r#""x""#]), None);
        assert_eq!(draft13(&[]), None);
    }

    /// One member that is no string voids the offer, as does any error of syntax.
    #[test]
    fn malformed_offers_are_no_offers() {
        for offer in [
            r#""a", b"#,
            r#""a", 1"#,
            r#""a", ("b")"#,
            r#""a","#,
            r#""a" "b""#,
            r#""a"#,
            r#""\a", "a""#,
            r#""a";P=1"#,
            r#""a";=1"#,
            r#""a";p="#,
            "\"a\", \"\u{e4}\"",
            r#","a""#,
        ] {
            assert_eq!(chosen(Dialect::Draft13, &[offer]), None, "{offer}");
        }
    }

    /// Drafts 07 to 12 speak in tokens, no others.
    #[test]
    fn tokens_belong_to_one_dialect() {
        assert_eq!(chosen(Dialect::Draft07, &["x, a"]).as_deref(), Some("a"));
        assert_eq!(chosen(Dialect::Draft07, &[r#""a""#]).as_deref(), Some("a"));
        assert_eq!(chosen(Dialect::Draft13, &["x, a"]), None);
        assert_eq!(chosen(Dialect::Draft02, &["x, a"]), None);
        assert_eq!(chosen(Dialect::Draft02, &[r#""a""#]).as_deref(), Some(r#""a""#));
    }
}
