//! The contracts of the core's ports as tests. They run unchanged against every engine: what they do not ask for is
//! not promised.
//!
//! An engine's test calls [`engine_suite!`](crate::engine_suite) with a function that makes a [`Fixture`]: the engine,
//! a way to let time pass, and the [`RecordingSink`] it delivers into. Cases wait for what must be delivered, and know
//! that nothing else was by a marker that comes after it, so engines that deliver later than they answer are no
//! different from those that do not.

pub mod broker;
pub mod expiry;
mod fixture;
pub mod history;
pub mod map;
pub mod model;
pub mod presence;
pub mod suppression;

pub use fixture::{Fixture, RecordingSink, VirtualClock, answered};

/// Makes a `#[test]` of every case, each with a fixture of its own from `$fixture`, a function without arguments.
#[macro_export]
macro_rules! engine_suite {
    ($fixture:expr) => {
        $crate::engine_suite! { $fixture,
            broker {
                subscribed_channel_delivers,
                publication_arrives_as_it_was_made,
                publication_without_history_has_no_position,
                concurrent_publications_have_one_order,
                wish_for_delta_arrives,
                joins_and_leaves_keep_their_order,
            }
            history {
                reading_makes_the_stream_known,
                newest_publications_are_kept,
                filters_select,
                foreign_epoch_is_refused,
                removed_history_keeps_the_position,
            }
            expiry {
                publications_end_together,
                position_outlives_the_publications,
                publishing_and_reading_keep_the_position,
                position_ends_with_its_publications,
                reading_does_not_keep_publications,
            }
            suppression {
                key_makes_one_publication,
                key_works_without_history,
                keys_of_channels_are_apart,
                key_ends,
                version_must_rise,
                version_needs_history,
                suppressed_publication_keeps_nothing_alive,
            }
            presence {
                members_come_and_go,
                renewal_replaces_the_information,
                stats_count_distinct_users,
                members_end_unless_renewed,
                presence_delivers_nothing,
            }
            map {
                changes_are_in_state_and_stream,
                pages_cover_the_state,
                pages_follow_scores,
                pages_survive_changes,
                conditions_suppress,
                keys_end,
                maps_begin_anew,
                bases_come_along,
                concurrent_changes_have_one_order,
            }
            model {
                any_history_equals_the_model,
                any_presence_equals_the_model,
            }
        }
    };
    ($fixture:expr, $($suite:ident { $($case:ident,)* })*) => {
        $(mod $suite {
            #[allow(unused_imports, reason = "the fixture may be a full path")]
            use super::*;
            $(#[test]
            fn $case() {
                $crate::suites::$suite::$case($fixture);
            })*
        })*
    };
}
