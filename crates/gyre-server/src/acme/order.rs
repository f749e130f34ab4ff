//! One certificate: order, proof, signing.

use std::time::Duration;

use gyre_transport::tls::{NamedCertificates, TlsError};
use instant_acme::{
    Account, AuthorizationStatus, ChallengeType, Error, Identifier, NewOrder, Order, OrderStatus, Problem,
    RetryPolicy,
};
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};

use super::Tokens;
use crate::secret::Secret;

/// How long an authority may look at a proof, or sign.
const PATIENCE: RetryPolicy = RetryPolicy::new().timeout(Duration::from_secs(90));

/// A certificate with its key, as PEM.
pub(super) struct Obtained {
    pub(super) chain: String,
    pub(super) key: Secret<String>,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub(super) enum ObtainError {
    /// The authority could not be talked to, or refused something.
    #[error("{0}")]
    Authority(#[from] Error),
    /// It does not accept the proof.
    #[error("the proof was refused: {0}")]
    Proof(Box<Problem>),
    /// It does not offer this kind of proof.
    #[error("the authority does not offer {0:?}")]
    NotOffered(ChallengeType),
    /// An order is in a state that leads nowhere.
    #[error("the order became {0:?}")]
    Order(OrderStatus),
    /// A key or a request cannot be made.
    #[error("cannot make the request: {0}")]
    Make(#[from] rcgen::Error),
    /// The proof cannot be shown.
    #[error("cannot show the proof: {0}")]
    Show(#[from] TlsError),
    /// What came is no certificate.
    #[error("the authority's certificate cannot be used")]
    Unusable,
}

impl ObtainError {
    /// True if another kind of proof may do.
    pub(super) fn is_about_proof(&self) -> bool {
        matches!(self, Self::Proof(_) | Self::NotOffered(_) | Self::Order(_))
    }

    /// What to do about it.
    pub(super) fn fix(&self) -> &'static str {
        let problem = match self {
            Self::Proof(problem) => problem,
            Self::Authority(Error::Api(problem)) => problem,
            Self::Authority(_) => {
                return "check that directory_url can be reached from here and its certificate is trusted";
            }
            Self::NotOffered(_) => return "set tls_autocert.http to true, or use another authority",
            Self::Order(_) | Self::Make(_) | Self::Show(_) | Self::Unusable => return "it is tried again",
        };
        match problem.r#type.as_deref().and_then(|kind| kind.rsplit(':').next()).unwrap_or_default() {
            "connection" | "tls" | "unauthorized" | "incorrectResponse" => {
                "let the authority reach this server, and no other, at port 443 of the name (or at port 80 with \
                 tls_autocert.http)"
            }
            "dns" => "let the name's A and AAAA records in the DNS point to this server",
            "caa" => "let the name's CAA records in the DNS allow this authority",
            "rateLimited" => {
                "wait as long as it says, and set cache_dir so that certificates survive restarts"
            }
            "rejectedIdentifier" => "remove the name from host_whitelist: the authority gives none for it",
            "externalAccountRequired" => "set eab_key_id and eab_hmac_key as the authority gave them",
            "invalidContact" | "unsupportedContact" => "correct tls_autocert.email",
            _ => "do what the authority says",
        }
    }
}

/// Obtains a certificate for a name, with that kind of proof.
///
/// # Cancel safety
/// Dropping the future leaves nothing shown; the authority forgets the order in time.
pub(super) async fn obtain(
    account: &Account,
    name: &str,
    kind: ChallengeType,
    named: &NamedCertificates,
    tokens: &Tokens,
) -> Result<Obtained, ObtainError> {
    let names = [Identifier::Dns(name.into())];
    let mut order = account.new_order(&NewOrder::new(&names)).await?;
    let mut proofs = Proofs { named, tokens, name, shown: Vec::new() };
    proofs.show(&mut order, &kind).await?;
    await_proof(&mut order).await?;
    drop(proofs);
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new([name.to_owned()])?;
    params.distinguished_name = DistinguishedName::new();
    order.finalize_csr(params.serialize_request(&key)?.der()).await?;
    let chain = order.poll_certificate(&PATIENCE).await?;
    Ok(Obtained { chain, key: Secret::new(key.serialize_pem()) })
}

/// What is shown to the authority; hidden again with the value.
struct Proofs<'a> {
    named: &'a NamedCertificates,
    tokens: &'a Tokens,
    name: &'a str,
    shown: Vec<String>,
}

impl Proofs<'_> {
    /// Shows what the order asks for, and tells the authority to look.
    async fn show(&mut self, order: &mut Order, kind: &ChallengeType) -> Result<(), ObtainError> {
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization?;
            if authorization.status == AuthorizationStatus::Valid {
                continue;
            }
            let Some(mut challenge) = authorization.challenge(kind.clone()) else {
                return Err(ObtainError::NotOffered(kind.clone()));
            };
            let proof = challenge.key_authorization();
            match kind {
                ChallengeType::Http01 => {
                    self.tokens.show(&challenge.token, proof.as_str());
                    self.shown.push(challenge.token.clone());
                }
                _ => {
                    let (chain, key) = challenge_certificate(self.name, proof.digest().as_ref())?;
                    self.named.answer_challenge(self.name, chain.as_bytes(), key.as_bytes())?;
                }
            }
            challenge.set_ready().await?;
        }
        Ok(())
    }
}

impl Drop for Proofs<'_> {
    fn drop(&mut self) {
        self.named.end_challenge(self.name);
        for token in &self.shown {
            self.tokens.hide(token);
        }
    }
}

/// Spec: RFC 8737 section 3
fn challenge_certificate(name: &str, digest: &[u8]) -> Result<(String, String), ObtainError> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new([name.to_owned()])?;
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    Ok((params.self_signed(&key)?.pem(), key.serialize_pem()))
}

/// Waits until the authority has looked.
async fn await_proof(order: &mut Order) -> Result<(), ObtainError> {
    let error = match order.poll_ready(&PATIENCE).await {
        Ok(OrderStatus::Ready) => return Ok(()),
        Ok(status) => ObtainError::Order(status),
        Err(Error::Api(problem)) => ObtainError::Proof(Box::new(problem)),
        Err(error) => return Err(error.into()),
    };
    // What exactly is wrong stands at the proof.
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        let state = authorization.refresh().await?;
        if let Some(problem) = state.challenges.iter().find_map(|challenge| challenge.error.clone()) {
            return Err(ObtainError::Proof(Box::new(problem)));
        }
    }
    Err(error)
}
