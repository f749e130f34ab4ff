//! Development mode: everything works at once, without a configuration file, for everybody who can reach the port.
//!
//! Its certificate and secrets live in a state folder ([`StateFolder`]), so that pins, keys and tokens survive a
//! restart. The certificate is of the kind a browser accepts by its hash ([`Certificates`]), the demo page
//! ([`page::asset`]) shows what a client sees, and the banner ([`Banner`]) says how to get there.
//!
//! What development mode allows (channels, anonymous clients, origins) is configuration and not decided here.

mod banner;
mod certificate;
mod endpoints;
mod mode;
pub mod page;
mod state;

pub use banner::Banner;
pub use certificate::{
    CertificateError, CertificateHash, Certificates, Change, PinnedCertificate, hashes_document,
};
pub use endpoints::Endpoints;
pub use mode::{Development, DevelopmentError, run_clock};
pub use state::{Secrets, StateFolder, StateLocations, StateWarning};
