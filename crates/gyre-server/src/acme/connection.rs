//! Requests to the authority.

use std::{future::Future, pin::Pin, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};

use crate::hooks::{
    dial::Dialer,
    tls::{ClientTls, ClientTlsError, Connector, Version, configured},
};

/// Time for an answer.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of an answer at most: a chain of certificates has some thousands.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// Why no connection can be made.
#[derive(Debug, thiserror::Error)]
#[error("{0} (set directory_ca_pem, or install the certificate authorities of the system)")]
pub struct ConnectionError(#[from] ClientTlsError);

/// A client of HTTP over TLS. Clones share connections.
#[derive(Clone)]
pub(super) struct Connection(Client<Connector, BodyWrapper<Bytes>>);

impl Connection {
    /// Believes the system's authorities, or those.
    ///
    /// # Errors
    /// If there are none.
    pub(super) fn new(authorities: Option<Vec<u8>>) -> Result<Self, ConnectionError> {
        let settings = ClientTls { authorities, ..ClientTls::default() };
        let connector = configured(&settings, Version::Http1, Dialer::tcp())?;
        Ok(Self(Client::builder(TokioExecutor::new()).build(connector)))
    }
}

impl HttpClient for Connection {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let call = self.0.request(request);
        Box::pin(async move {
            let exchange = async {
                let (parts, body) =
                    call.await.map_err(|error| Error::Other(with_sources(&error).into()))?.into_parts();
                let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await.map_err(Error::Other)?;
                Ok(BytesResponse::from(Response::from_parts(parts, Full::new(body.to_bytes()))))
            };
            match tokio::time::timeout(TIMEOUT, exchange).await {
                Ok(outcome) => outcome,
                Err(elapsed) => Err(Error::Other(Box::new(elapsed))),
            }
        })
    }
}

/// What went wrong, and what that came from: the outermost error says only where.
fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text += &format!(": {error}");
        source = error.source();
    }
    text
}
