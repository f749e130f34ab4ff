//! Tags filters: which publications of a channel a subscriber wants, by their tags.
//!
//! A filter is checked and compiled when a client subscribes; looking at a publication then allocates nothing.
//!
//! Spec: centrifugal.dev, "Channel publication filtering"

mod decimal;

use std::cmp::Ordering;

use gyre_protocol::{FilterNode, Tags};

use decimal::Decimal;

/// A compiled filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filter {
    /// `and`.
    All(Box<[Self]>),
    /// `or`.
    Any(Box<[Self]>),
    /// `not`.
    Not(Box<Self>),
    /// A leaf: what is asked of the tag with this key.
    Tag(Box<str>, Test),
}

/// What is asked of a tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Test {
    /// `eq`.
    Equal(Box<str>),
    /// `neq`: also if there is no such tag.
    NotEqual(Box<str>),
    /// `in`: sorted values. A tag that is not there counts as empty.
    In(Box<[Box<str>]>),
    /// `nin`: the opposite.
    NotIn(Box<[Box<str>]>),
    /// `ex`.
    Exists,
    /// `nex`.
    Missing,
    /// `sw`.
    StartsWith(Box<str>),
    /// `ew`.
    EndsWith(Box<str>),
    /// `ct`.
    Contains(Box<str>),
    /// `gt`, `gte`, `lt`, `lte`: the tag compared with a number. False if either is no number.
    Number(Relation, Box<str>),
}

/// How two numbers are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each says what it is")]
pub enum Relation {
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
}

/// A filter that makes no sense, or is larger than a subscription may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the tags filter is not valid")]
pub struct InvalidFilter;

/// Operators around a leaf, at most.
pub const DEPTH_MAX: usize = 16;
/// Operators, leaves and values of one filter, at most: they are looked at for every publication.
pub const TERMS_MAX: usize = 1024;

impl Filter {
    /// Checks and compiles a filter.
    ///
    /// # Errors
    /// If an operator or comparison is not known or has not the operands it needs, or the filter exceeds
    /// [`DEPTH_MAX`] or [`TERMS_MAX`].
    pub fn compile(node: &FilterNode<'_>) -> Result<Self, InvalidFilter> {
        let mut terms = TERMS_MAX;
        compile(node, DEPTH_MAX, &mut terms)
    }

    /// True if a publication with these tags is wanted.
    pub fn matches(&self, tags: &Tags) -> bool {
        match self {
            Self::All(nodes) => nodes.iter().all(|node| node.matches(tags)),
            Self::Any(nodes) => nodes.iter().any(|node| node.matches(tags)),
            Self::Not(node) => !node.matches(tags),
            Self::Tag(key, test) => {
                test.holds(tags.iter().find(|(known, _)| known == key).map(|(_, value)| &**value))
            }
        }
    }
}

impl Test {
    fn holds(&self, tag: Option<&str>) -> bool {
        match self {
            Self::Equal(value) => tag == Some(value),
            Self::NotEqual(value) => tag != Some(value),
            Self::In(values) => is_in(values, tag),
            Self::NotIn(values) => !is_in(values, tag),
            Self::Exists => tag.is_some(),
            Self::Missing => tag.is_none(),
            Self::StartsWith(value) => tag.is_some_and(|tag| tag.starts_with(&**value)),
            Self::EndsWith(value) => tag.is_some_and(|tag| tag.ends_with(&**value)),
            Self::Contains(value) => tag.is_some_and(|tag| tag.contains(&**value)),
            Self::Number(relation, value) => {
                let numbers = tag.and_then(Decimal::parse).zip(Decimal::parse(value));
                numbers.is_some_and(|(tag, value)| relation.holds(tag.cmp(&value)))
            }
        }
    }
}

impl Relation {
    fn holds(self, ordering: Ordering) -> bool {
        match self {
            Self::Greater => ordering.is_gt(),
            Self::GreaterOrEqual => ordering.is_ge(),
            Self::Less => ordering.is_lt(),
            Self::LessOrEqual => ordering.is_le(),
        }
    }
}

fn is_in(sorted: &[Box<str>], tag: Option<&str>) -> bool {
    let tag = tag.unwrap_or_default();
    sorted.binary_search_by(|value| (**value).cmp(tag)).is_ok()
}

fn compile(node: &FilterNode<'_>, depth: usize, terms: &mut usize) -> Result<Filter, InvalidFilter> {
    *terms = terms.checked_sub(1 + node.vals.len()).ok_or(InvalidFilter)?;
    if node.op.is_empty() {
        return leaf(node);
    }
    let depth = depth.checked_sub(1).ok_or(InvalidFilter)?;
    let mut children = node.nodes.iter().map(|node| compile(node, depth, terms));
    match (&*node.op, node.nodes.len()) {
        ("and", 1..) => Ok(Filter::All(children.collect::<Result<_, _>>()?)),
        ("or", 1..) => Ok(Filter::Any(children.collect::<Result<_, _>>()?)),
        ("not", 1) => Ok(Filter::Not(Box::new(children.next().ok_or(InvalidFilter)??))),
        _ => Err(InvalidFilter),
    }
}

fn leaf(node: &FilterNode<'_>) -> Result<Filter, InvalidFilter> {
    let (has_key, has_value, has_values) =
        (!node.key.is_empty(), !node.val.is_empty(), !node.vals.is_empty());
    let value = || Box::<str>::from(&*node.val);
    let values = || {
        let mut values: Box<[Box<str>]> = node.vals.iter().map(|value| (&**value).into()).collect();
        values.sort_unstable();
        values
    };
    let (test, is_valid) = match &*node.cmp {
        "ex" => (Test::Exists, !has_value && !has_values),
        "nex" => (Test::Missing, !has_value && !has_values),
        "in" => (Test::In(values()), has_key && !has_value && has_values),
        "nin" => (Test::NotIn(values()), has_key && !has_value && has_values),
        cmp => {
            let test = match cmp {
                "eq" => Test::Equal(value()),
                "neq" => Test::NotEqual(value()),
                "sw" => Test::StartsWith(value()),
                "ew" => Test::EndsWith(value()),
                "ct" => Test::Contains(value()),
                "gt" => Test::Number(Relation::Greater, value()),
                "gte" => Test::Number(Relation::GreaterOrEqual, value()),
                "lt" => Test::Number(Relation::Less, value()),
                "lte" => Test::Number(Relation::LessOrEqual, value()),
                _ => return Err(InvalidFilter),
            };
            (test, has_key && has_value && !has_values)
        }
    };
    if is_valid { Ok(Filter::Tag((&*node.key).into(), test)) } else { Err(InvalidFilter) }
}

#[cfg(test)]
mod tests;
