//! Channel patterns: a namespace for names like paths, of which some segments vary.
//!
//! Spec: Centrifugo PRO documentation, "Channel patterns".

/// The form of a channel's name: `/users/:name`, or `/users/id_:user/news`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelPattern(Box<[Segment]>);

/// What stands between two slashes.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Segment {
    /// The segment, or what it begins with if it varies.
    text: Box<str>,
    /// Name of the part that varies, which takes one character at least.
    variable: Option<Box<str>>,
}

/// Why a text is no pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// It does not begin with a slash.
    #[error("a pattern begins with \"/\"")]
    Start,
    /// Nothing between two slashes, or behind the last one.
    #[error("a segment is empty")]
    EmptySegment,
    /// A colon without a name of ASCII letters, digits and underscores behind it, up to the end of the segment.
    #[error("a variable is \":\" and a name of letters, digits and \"_\" at the end of a segment")]
    Variable,
    /// Two variables have one name.
    #[error("a variable occurs twice")]
    RepeatedVariable,
    /// Other characters than ASCII.
    #[error("only ASCII characters are allowed")]
    NotAscii,
}

impl ChannelPattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// If the text is none.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        if !text.is_ascii() {
            return Err(PatternError::NotAscii);
        }
        let segments = text.strip_prefix('/').ok_or(PatternError::Start)?.split('/');
        let segments: Box<[Segment]> = segments.map(Segment::parse).collect::<Result<_, _>>()?;
        for (i, segment) in segments.iter().enumerate() {
            if segment.variable.is_some()
                && segments[..i].iter().any(|other| other.variable == segment.variable)
            {
                return Err(PatternError::RepeatedVariable);
            }
        }
        Ok(Self(segments))
    }

    /// True if no segment varies.
    pub fn is_static(&self) -> bool {
        self.0.iter().all(|segment| segment.variable.is_none())
    }

    /// True if the channel's name has this form, as a whole.
    pub fn matches(&self, channel: &str) -> bool {
        let Some(rest) = channel.strip_prefix('/') else { return false };
        let mut parts = rest.split('/');
        self.0.iter().all(|segment| parts.next().is_some_and(|part| segment.matches(part)))
            && parts.next().is_none()
    }

    /// True if some channel has the form of both.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.0.len() == other.0.len() && self.0.iter().zip(&other.0).all(|(a, b)| a.overlaps(b))
    }
}

impl Segment {
    fn parse(text: &str) -> Result<Self, PatternError> {
        let Some((before, name)) = text.split_once(':') else {
            return match text {
                "" => Err(PatternError::EmptySegment),
                _ => Ok(Self { text: text.into(), variable: None }),
            };
        };
        let is_name =
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        match is_name {
            true => Ok(Self { text: before.into(), variable: Some(name.into()) }),
            false => Err(PatternError::Variable),
        }
    }

    fn matches(&self, part: &str) -> bool {
        match self.variable {
            Some(_) => part.len() > self.text.len() && part.starts_with(&*self.text),
            None => *part == *self.text,
        }
    }

    fn overlaps(&self, other: &Self) -> bool {
        match (&self.variable, &other.variable) {
            (None, _) => other.matches(&self.text),
            (_, None) => self.matches(&other.text),
            _ => self.text.starts_with(&*other.text) || other.text.starts_with(&*self.text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> ChannelPattern {
        ChannelPattern::parse(text).unwrap()
    }

    /// A variable takes one whole segment, or the rest of one, and never nothing.
    #[test]
    fn variables_take_one_segment() {
        let cases = [
            ("/users/:name", "/users/mary", true),
            ("/users/:name", "/users/mary/profile", false),
            ("/users/:name", "/users/", false),
            ("/users/:name", "users/mary", false),
            ("/news/:type/:subtype", "/news/sport/football", true),
            ("/news/:type/:subtype", "/news/sport", false),
            ("/personal/user_:user", "/personal/user_mary", true),
            ("/personal/user_:user", "/personal/user_", false),
            ("/a", "/a", true),
            ("/a", "/a/", false),
            ("/a", "/b", false),
        ];
        for (text, channel, expected) in cases {
            assert_eq!(pattern(text).matches(channel), expected, "{text} {channel}");
        }
    }

    /// What is no pattern is told apart.
    #[test]
    fn what_is_no_pattern() {
        let cases = [
            ("users/:name", PatternError::Start),
            ("/", PatternError::EmptySegment),
            ("/a//b", PatternError::EmptySegment),
            ("/a/:", PatternError::Variable),
            ("/a/:b:c", PatternError::Variable),
            ("/:user/:user", PatternError::RepeatedVariable),
            ("/ü", PatternError::NotAscii),
        ];
        for (text, error) in cases {
            assert_eq!(ChannelPattern::parse(text), Err(error), "{text}");
        }
    }

    /// Two patterns overlap exactly if one channel matches both.
    #[test]
    fn overlapping_is_found() {
        let cases = [
            ("/users/:name", "/users/mary", true),
            ("/users/:name", "/:any/mary", true),
            ("/users/a:x", "/users/:y", true),
            ("/users/a:x", "/users/b:y", false),
            ("/users/a:x", "/users/a", false),
            ("/users/:x", "/users/:x/:y", false),
            ("/a/b", "/a/b", true),
        ];
        for (a, b, expected) in cases {
            assert_eq!(pattern(a).overlaps(&pattern(b)), expected, "{a} {b}");
            assert_eq!(pattern(b).overlaps(&pattern(a)), expected, "{b} {a}");
        }
    }
}
