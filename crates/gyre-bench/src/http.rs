//! The server API and health over HTTP.

use std::time::Duration;

use http::{Request, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde_json::{Value, value::RawValue};
use tokio::{net::TcpStream, time::timeout};

use crate::{ClientError, target::Trust};

/// How long a request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest answer that is read.
const ANSWER_MAX: usize = 16 << 20;

/// Status and body of an answer.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// The body.
    pub body: Bytes,
}

/// Asks `http://` or `https://`.
///
/// # Errors
/// [`ClientError`] if there is no answer within ten seconds; any status is an answer.
pub async fn get(url: &str, trust: &Trust) -> Result<Answer, ClientError> {
    request(url, trust, |builder| builder.method("GET").body(Full::default())).await
}

/// Publishes JSON through the server API at `url`, which ends in `/api`.
///
/// # Errors
/// [`ClientError::Refused`] with the server's code, or what [`get`] fails with.
pub async fn publish(
    url: &str,
    key: &str,
    channel: &str,
    data: &RawValue,
    trust: &Trust,
) -> Result<(), ClientError> {
    #[derive(serde::Serialize)]
    struct Body<'a> {
        channel: &'a str,
        data: &'a RawValue,
    }
    let body = serde_json::to_string(&Body { channel, data }).unwrap_or_default();
    let url = format!("{}/publish", url.trim_end_matches('/'));
    let answer = request(&url, trust, |builder| {
        let builder = builder.method("POST").header(header::CONTENT_TYPE, "application/json");
        builder.header("X-API-Key", key).body(Full::from(body))
    })
    .await?;
    let reply: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    match (&reply["error"], answer.status) {
        (Value::Null, 200) => Ok(()),
        (Value::Null, status) => Err(ClientError::Transport(format!("{url} answers {status}"))),
        (error, _) => Err(ClientError::Refused {
            command: "publish",
            code: error["code"].as_u64().and_then(|code| u32::try_from(code).ok()).unwrap_or(0),
            message: error["message"].as_str().unwrap_or_default().to_owned(),
        }),
    }
}

async fn request(
    url: &str,
    trust: &Trust,
    build: impl FnOnce(http::request::Builder) -> http::Result<Request<Full<Bytes>>>,
) -> Result<Answer, ClientError> {
    let fail = |problem| ClientError::Target { url: url.to_owned(), problem };
    let uri: Uri = url.parse().map_err(|_| fail("is not an address"))?;
    let is_secure = match uri.scheme_str() {
        Some("http") => false,
        Some("https") => true,
        _ => return Err(fail("begins with neither http:// nor https://")),
    };
    let authority = uri.authority().ok_or_else(|| fail("has no host"))?.clone();
    let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    let builder = Request::builder().uri(path).header(header::HOST, authority.as_str());
    let request = build(builder).map_err(|_| fail("makes no request"))?;
    let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
    let port = authority.port_u16().unwrap_or(if is_secure { 443 } else { 80 });
    let exchange = async {
        let unreachable = |error| ClientError::Unreachable { address: format!("{host}:{port}"), error };
        let stream = TcpStream::connect((&*host, port)).await.map_err(unreachable)?;
        if !is_secure {
            return exchange(stream, request).await;
        }
        let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(trust.tls(&[b"http/1.1"])?));
        let name = host.clone().try_into().map_err(transport)?;
        exchange(connector.connect(name, stream).await.map_err(transport)?, request).await
    };
    timeout(REQUEST_TIMEOUT, exchange).await.map_err(|_| ClientError::Silent(REQUEST_TIMEOUT))?
}

async fn exchange<S>(stream: S, request: Request<Full<Bytes>>) -> Result<Answer, ClientError>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(transport)?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(transport)?;
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), ANSWER_MAX).collect().await.map_err(transport)?;
        Ok(Answer { status, body: body.to_bytes() })
    };
    tokio::pin!(answer, connection);
    tokio::select! {
        answer = &mut answer => answer,
        end = &mut connection => {
            end.map_err(transport)?;
            // What came before the end is still there.
            answer.await
        }
    }
}

fn transport(error: impl std::fmt::Display) -> ClientError {
    ClientError::Transport(error.to_string())
}
