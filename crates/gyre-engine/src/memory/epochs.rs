//! Names for new incarnations of streams.

use std::sync::{Mutex, PoisonError};

use gyre_protocol::Epoch;
use rand::{
    distr::{Alphabetic, SampleString},
    rngs::StdRng,
};

/// Letters of an epoch, upper and lower case; as many as Centrifugo's own memory engine uses.
const EPOCH_LETTERS: usize = 8;

/// Makes epochs. Asked only when a stream begins, so one lock serves all stripes; a stripe's lock may be held while it
/// is taken, never the other way round.
#[derive(Debug)]
pub(super) struct Epochs(Mutex<StdRng>);

impl Epochs {
    pub(super) fn new(generator: StdRng) -> Self {
        Self(Mutex::new(generator))
    }

    pub(super) fn next(&self) -> Epoch {
        // A generator has no half-made state that a panic could leave.
        let mut generator = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Epoch::new(&Alphabetic.sample_string(&mut *generator, EPOCH_LETTERS))
    }
}
