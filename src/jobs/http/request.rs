//! From params to the request that is sent.

use bytes::Bytes;

use super::params::{Basic, HttpParams};
use crate::jobs::ports::http::{
    HeaderMap, HeaderName, HeaderValue, Method, Reach, Request, header, masked,
};
use crate::jobs::secret::{Secret, SecretError, SecretRef};
use crate::model::JobId;

/// A request, and the secrets in it, so that they can be blacked out wherever the server echoes them.
pub(super) struct Prepared {
    pub(super) request: Request,
    pub(super) secrets: Vec<Secret>,
}

/// Why the request could not be put together.
#[derive(Debug, thiserror::Error)]
pub(super) enum PrepareError {
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error("the value of header {0} has characters that a header field cannot carry")]
    Header(String),
}

impl Prepared {
    /// Reads the secrets and puts the request together.
    pub(super) fn new(params: &HttpParams, job: JobId) -> Result<Self, PrepareError> {
        let mut headers = Headers::default();
        for (name, value) in &params.headers {
            match value.parse::<SecretRef>() {
                Ok(reference) => headers.secret(name, &reference.resolve()?, str::to_owned)?,
                Err(_plain) => headers.plain(name, value)?,
            }
        }
        if let Some(token) = &params.bearer {
            headers
                .secret("authorization", &token.resolve()?, |token| format!("Bearer {token}"))?;
        }
        if let Some(Basic { username, password }) = &params.basic {
            let credentials = |password: &str| {
                format!("Basic {}", base64(format!("{username}:{password}").as_bytes()))
            };
            headers.secret("authorization", &password.resolve()?, credentials)?;
        }
        let method = params.method.method();
        if method != Method::GET {
            // So that a server can recognise a second attempt of the same job.
            headers.unless_set("idempotency-key", &format!("sexton-{job}"))?;
        }
        let body = match (&params.json, &params.body) {
            (Some(json), _) => {
                headers.unless_set(header::CONTENT_TYPE.as_str(), "application/json")?;
                Some(Bytes::from(json.to_string()))
            }
            (None, body) => body.clone().map(Bytes::from),
        };
        let request = Request {
            method,
            url: params.url.clone(),
            headers: headers.map,
            body,
            reach: Reach::Public,
            idle_timeout: params.idle_timeout.get(),
        };
        Ok(Self { request, secrets: headers.secrets })
    }

    /// Method and masked URL, as messages show it.
    pub(super) fn subject(&self) -> String {
        format!("{} {}", self.request.method, masked(&self.request.url))
    }
}

#[derive(Default)]
struct Headers {
    map: HeaderMap,
    secrets: Vec<Secret>,
}

impl Headers {
    fn plain(&mut self, name: &str, value: &str) -> Result<(), PrepareError> {
        let (name, value) = field(name, value)?;
        self.map.insert(name, value);
        Ok(())
    }

    fn unless_set(&mut self, name: &str, value: &str) -> Result<(), PrepareError> {
        if self.map.contains_key(name) { Ok(()) } else { self.plain(name, value) }
    }

    fn secret(
        &mut self,
        name: &str,
        secret: &Secret,
        write: impl FnOnce(&str) -> String,
    ) -> Result<(), PrepareError> {
        let written = write(secret.expose());
        let (name, mut value) = field(name, &written)?;
        value.set_sensitive(true);
        self.map.insert(name, value);
        // Longest first, so that blacking out a part does not keep the whole from being found.
        self.secrets.push(Secret::new(written.rsplit(' ').next().unwrap_or_default()));
        self.secrets.push(secret.clone());
        Ok(())
    }
}

fn field(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), PrepareError> {
    let refuse = || PrepareError::Header(name.to_owned());
    Ok((name.parse().map_err(|_bad| refuse())?, value.parse().map_err(|_bad| refuse())?))
}

/// Base64 with padding (RFC 4648 §4). Basic authentication is the only place that needs it.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let group = chunk.iter().fold(0_u32, |group, byte| (group << 8) | u32::from(*byte));
        let group = group << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let index = (group >> (18 - 6 * place)) & 63;
            let letter = if place > chunk.len() { b'=' } else { ALPHABET[index as usize] };
            text.push(char::from(letter));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::jobs::parse_params;

    fn prepare(params: &serde_json::Value) -> Prepared {
        Prepared::new(&parse_params(params).unwrap(), JobId(7)).unwrap()
    }

    #[test]
    fn base64_is_that_of_the_standard() {
        for (plain, encoded) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(plain.as_bytes()), encoded);
        }
    }

    #[test]
    fn a_writing_request_names_its_job_so_that_a_second_attempt_is_recognised() {
        let key = |params| prepare(&params).request.headers.get("idempotency-key").cloned();
        assert_eq!(key(json!({"url": "https://h/"})), None);
        let post = key(json!({"url": "https://h/", "method": "POST"}));
        assert_eq!(post.unwrap(), "sexton-7");
        let own =
            json!({"url": "https://h/", "method": "PUT", "headers": {"Idempotency-Key": "mine"}});
        assert_eq!(key(own).unwrap(), "mine");
    }

    #[test]
    fn j11_secrets_are_sent_and_do_not_print() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "canary\n").unwrap();
        let reference = format!("file:{}", path.display());
        let prepared = prepare(&json!({
            "url": "https://h/", "basic": {"username": "joe", "password": reference},
            "headers": {"X-Key": reference},
        }));
        let headers = &prepared.request.headers;
        assert_eq!(headers["x-key"], "canary");
        assert_eq!(headers["authorization"], "Basic am9lOmNhbmFyeQ==");
        let printed = format!("{:?}", prepared.request);
        assert!(!printed.contains("canary") && !printed.contains("am9lOmNh"), "{printed}");
        assert!(prepared.secrets.iter().any(|secret| secret.expose() == "am9lOmNhbmFyeQ=="));
    }
}
